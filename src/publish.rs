//! `grandstand publish`: a real-time RTMP publisher over an FLV file.

use std::path::PathBuf;

use thiserror::Error;

/// What to push, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// The FLV file.
    pub file: PathBuf,
    /// `rtmp://HOST[:PORT]/APP/NAME`.
    pub url: String,
    /// Start again at the end of the file.
    pub repeat: bool,
    /// How many broadcasts to push.
    pub count: u32,
}

/// The push ended early.
#[derive(Debug, Error)]
pub enum Error {}

/// Pushes until the file ends, or for ever.
pub async fn run(_options: Options) -> Result<(), Error> {
    Ok(())
}
