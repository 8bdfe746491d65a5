//! `mint`: a token for a user whom a service has signed in, made with the secret of the nodes.

use super::{Caller, Ops};
use crate::{
    auth::AuthError,
    protocol::{
        Answer, ErrorCode, Outcome, Refused,
        ask::{Mint, Minted},
    },
};

pub(super) fn perform(ops: &Ops, caller: &Caller, ask: Mint) -> Outcome {
    let user = caller.name();
    let not_allowed = |text: String| Err(Refused::new(ErrorCode::NotAllowed, text));
    // Nobody may connect under the name of a service: what it writes is the service's word.
    if ops.services.knows(user) {
        return not_allowed(format!("from: {user} is a service, and no user"));
    }
    match ops.minter.mint(user, ask.ttl) {
        None => not_allowed(
            "the nodes have no secret to sign with (auth.hs256_secret, auth.hs256_secret_file): ask your identity provider for \
             tokens"
                .to_owned(),
        ),
        Some(Ok((token, exp))) => Ok(Answer::Minted(Minted { user: user.clone(), token, exp })),
        Some(Err(error @ AuthError::NotEscaped(_))) => not_allowed(format!("from: {error}")),
        Some(Err(error)) => {
            tracing::error!(%user, %error, "no token could be made");
            Err(Refused::new(ErrorCode::Unavailable, "no token could be made, the node's log says why"))
        }
    }
}
