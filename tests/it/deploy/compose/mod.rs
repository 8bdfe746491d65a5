//! docker-compose.yml and deploy/: what they promise, and every service that is available here, run by hand with the
//! very same files and variables.

mod added;
pub mod files;
mod monitoring;
mod promises;
mod stack_on_scylla;
mod upgrade_on_scylla;
