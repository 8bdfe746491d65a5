//! Configuration: one struct per concern, file < environment < flags, every fault listed at once.
