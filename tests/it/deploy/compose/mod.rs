//! docker-compose.yml and deploy/: what they promise, and every service that can be had here run by hand with the
//! very files and variables.

mod files;
mod promises;
mod stack_on_scylla;
