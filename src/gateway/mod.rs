//! Connections: a task per socket, the registry of local users, the router of stored messages.
