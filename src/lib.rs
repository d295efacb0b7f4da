//! grandstand: an HLS-first live origin.
//!
//! RTMP comes in; MPEG-TS media segments and rolling playlists come out, on disk and over HTTP, ready for a CDN.
//!
//! ```text
//! RTMP bytes ─► ingest ─► Event ─► live ─► package: segmenter ─► TS ─► playlist
//!                                            │          │        │
//!                                            │        store (memory first, then object_store)
//! deliver (HTTP) reads: the board of playlists, the hot window in memory, then the store
//! ```
//!
//! A *core* module decides (bytes, events and times in; verdicts out: no async, socket, file, clock or
//! randomness); a *shell* does (one task, one loop, no `if` about media). `ARCHITECTURE.md` says which is which.

#![warn(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

pub mod app;
pub mod clock;
pub mod config;
pub mod deliver;
pub mod ingest;
pub mod live;
pub mod media;
pub mod metrics;
pub mod name;
pub mod package;
pub mod publish;
pub mod store;

/// The order of layers: a module imports only from those before it. Held by `tests/layers.rs`.
pub const LAYERS: [&str; 11] = [
    "name", "clock", "media", "metrics", "live", "store", "package", "ingest", "deliver", "publish", "config",
];
