//! What the benches share that run a server: a broadcast, its publisher, the server's process.

pub(crate) mod broadcast;
pub(crate) mod feed;
pub(crate) mod process;
pub(crate) mod publisher;

/// Nothing here is acted on but by a person who reads it.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
