//! One GET of a key set over HTTPS, small and bounded, on a connection of its own. Called by [`super::remote`].

use std::path::Path;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{
    Request, StatusCode,
    body::Bytes,
    header::{ACCEPT, HOST, USER_AGENT},
};

pub(super) use crate::outgoing::Reason;
use crate::outgoing::{AGENT, Place, no_answer};

/// The largest set: hundreds of keys, and nothing that could fill the memory.
const MAX_BYTES: usize = 256 << 10;

/// Fetches from one URL.
pub(super) struct Fetcher(Place);

impl Fetcher {
    /// Trusts the authorities in `ca_file`, or those of the system.
    ///
    /// # Errors
    /// When the URL or the authorities cannot be used.
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, Reason> {
        Place::new(url, ca_file, "auth.jwks_ca_file").map(Self)
    }

    /// The text that the URL serves. The caller limits the time.
    pub(super) async fn get(&self) -> Result<String, Reason> {
        let mut connection = self.0.connect().await?;
        let request = Request::get(self.0.path())
            .header(HOST, self.0.authority())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, AGENT)
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        let answer = connection.sender.send_request(request).await.map_err(|error| no_answer(&error))?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => {
                return Err(format!("it answers {status}, and redirects are not followed: give the final address"));
            }
            status => return Err(format!("it answers {status}")),
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let body = body.map_err(|error| format!("its answer cannot be read: {error} (at most {MAX_BYTES} bytes)"))?;
        String::from_utf8(body.to_bytes().into()).map_err(|_| "its answer is not UTF-8 text".to_owned())
    }
}
