//! What is deployed: docker-compose.yml and deploy/, and a service written in another language.

mod compose;
mod helm;
mod nats_py;
mod services_doc;
mod systemd;
