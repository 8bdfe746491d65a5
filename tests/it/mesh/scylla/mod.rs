//! Several `natter serve` on one keyspace of a real CQL server: what only they can show together. Processes, NATS
//! servers and CQL servers are killed, frozen and cut off under traffic; the checker ([`people::check`]) then compares
//! the stored logs with what senders were told and what every client received.

mod absences;
mod figures;
mod fleet;
mod homes;
mod hook;
mod kinds;
mod late;
mod logins;
mod outage;
mod people;
mod queue;
mod repair;
mod rooms;
mod routes;
mod sealing;
mod storm;
mod traffic;
mod two;
