//! Live broadcasts: one publisher in at a time, any number of subscribers out, and nobody waits for anybody.
//!
//! ```text
//! hub::Hub::publish ─► Publisher ─push(Event)─► Stream ─┬► queue per Subscription ─► packager, viewers
//!                                                       ├► gop (what a joiner is given first)
//!                                                       └► meter (bitrate, fps)
//! ```
//! A broadcast outlives its publisher by the reconnect window: whoever takes it notices a `Stop` and a `Start`, and an
//! `End` only if nobody came back.

pub mod gop;
pub mod hub;
pub mod meter;
pub mod queue;
pub mod stream;

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

pub use hub::{Hub, PublishError, Publisher};
pub use queue::Subscription;
pub use stream::Stream;

pub use crate::media::Epoch;

/// `[live]`: how many broadcasts, and how much of one may wait for its packager.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Broadcasts at one time; one more is refused.
    pub broadcasts_max: usize,
    /// Bytes of one broadcast that may wait for its packager. Beyond it the packager loses what waits, with a
    /// discontinuity, an error in the log and a counter; the publisher notices nothing.
    pub queue: ByteSize,
    /// How long a broadcast goes on without a publisher, if that one was cut off: who comes back under the name within
    /// this is still the same broadcast. Up to half an hour; zero ends a broadcast with its publisher.
    #[serde(with = "humantime_serde")]
    pub reconnect: Duration,
    /// A publisher that says goodbye (an encoder that is stopped, rather than one that lost its network) ends its
    /// broadcast at once.
    pub end_on_unpublish: bool,
    /// Bytes of the newest group of pictures kept per broadcast, so that a joiner sees a picture at once. It is the
    /// same memory that the segment in the making holds. A larger one is not kept: joiners wait for the next.
    pub gop_cache: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            broadcasts_max: 1000,
            queue: ByteSize::mib(32),
            reconnect: Duration::from_mins(1),
            end_on_unpublish: true,
            gop_cache: ByteSize::mib(16),
        }
    }
}
