//! Live streams: one publisher in, any number of subscribers out, and nobody waits for anybody.
//!
//! ```text
//! hub::Hub::publish ─► Publisher ─push(Event)─► Stream ─► queue per Subscription ─► packager
//!                                                └► meter (bitrate, fps)
//! ```

pub mod hub;
pub mod meter;
pub mod queue;
pub mod stream;

use std::fmt;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub use hub::{Hub, PublishError, Publisher};
pub use queue::Subscription;
pub use stream::Stream;

/// One publishing session of one name. Part of every segment's key, never used twice: milliseconds since 1970 at
/// the publish, moved up where two would be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// `[live]`: how many broadcasts, and how much of one may wait for its packager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Broadcasts at one time; one more is refused.
    pub broadcasts_max: usize,
    /// Bytes of one broadcast that may wait for its packager. Beyond it the packager loses what waits, with a
    /// discontinuity, an error in the log and a counter; the publisher notices nothing.
    pub queue: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { broadcasts_max: 1000, queue: ByteSize::mib(32) }
    }
}
