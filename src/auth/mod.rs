//! Who a connection is: tokens, keys, and how they are checked. Called by the gateway's greeting.
