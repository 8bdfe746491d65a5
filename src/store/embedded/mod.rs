//! The embedded store on fjall: one process, any number of nodes in it.
