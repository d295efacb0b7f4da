//! Packaging: events in; media segments and playlists out.

pub mod board;
pub mod ts;

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::live::hub::Started;
use crate::metrics::Metrics;
use crate::store::Store;

pub use board::{Board, Document, Life, Published};

/// `[hls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A segment ends at the first random access point at or after this.
    #[serde(with = "humantime_serde")]
    pub segment: Duration,
    /// `EXT-X-TARGETDURATION` of a new broadcast, in whole seconds: at least `segment` and the longest GOP.
    #[serde(with = "humantime_serde")]
    pub target_duration: Duration,
    /// A GOP longer than this is not packaged.
    #[serde(with = "humantime_serde")]
    pub gop_max: Duration,
    /// How much media a live playlist lists.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Bytes of segments kept in memory, over all broadcasts together, newest first.
    pub memory: ByteSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            segment: Duration::from_secs(2),
            target_duration: Duration::from_secs(4),
            gop_max: Duration::from_secs(20),
            window: Duration::from_secs(60),
            memory: ByteSize::mib(128),
        }
    }
}

/// Packages every stream announced on `started`, one task each, until the sender is gone or `stop` is cancelled and
/// every running broadcast has been finished and written.
pub async fn run(
    mut started: mpsc::UnboundedReceiver<Started>,
    _settings: Settings,
    _board: Board,
    _store: Store,
    _clock: Clock,
    _metrics: Metrics,
    stop: CancellationToken,
) {
    stop.cancelled().await;
    started.close();
}
