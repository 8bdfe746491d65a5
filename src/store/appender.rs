//! Gathers sends per conversation. Called by the router.
