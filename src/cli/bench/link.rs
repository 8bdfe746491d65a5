//! Opens the bench's connections. Called by the lanes and by the idle run.

use std::time::Duration;

use super::plan::Plan;
use crate::{
    client::{ConnectError, Connection, Endpoint},
    protocol::client::Outgoing,
};

const CONNECT_TIME: Duration = Duration::from_secs(20);

/// Connects `user`, with a buffer that suits the expected traffic.
pub(super) async fn open(
    plan: &Plan,
    url: &str,
    user: &str,
    attempt: u64,
    read_buffer: usize,
) -> Result<Connection, ConnectError> {
    let token = plan.token(user).map_err(|error| ConnectError::Token(error.to_string()))?;
    let authorities = plan.authorities.clone();
    let endpoint = Endpoint { authorities, read_buffer, ..Endpoint::new(url, plan.encoding) };
    let opening = async {
        let mut connection = Connection::open(&endpoint).await?;
        let hello =
            Outgoing::Hello { token: Some(&token), device: "bench", client: "natter-bench", attempt, since: None };
        connection.hello(&hello).await?;
        Ok(connection)
    };
    tokio::time::timeout(CONNECT_TIME, opening).await.unwrap_or(Err(ConnectError::Timeout))
}
