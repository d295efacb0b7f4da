//! Packaging: events in; media segments and playlists out.

//!
//! ```text
//! live ─Event─► assembler: segmenter ─Step─► ts muxer ─► bytes ─► store
//!                                                        └► playlist::Window ─► board ─► deliver
//! ```
//! `segmenter`, `playlist`, `rendition`, `continuity` and `ts` are cores; `packager` is the shell of one name.

pub mod assembler;
pub mod board;
pub mod continuity;
pub mod packager;
pub mod playlist;
pub mod rendition;
pub mod segmenter;
pub mod ts;

use std::collections::HashMap;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::live::hub::Started;
use crate::name::StreamName;

pub use board::{Board, Document, Life, Published};
use packager::Packager;
pub use packager::Shared;

/// `[hls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A segment ends at the first random access point at or after this.
    #[serde(with = "humantime_serde")]
    pub segment: Duration,
    /// `EXT-X-TARGETDURATION`, in whole seconds. 4 s hold every segment of encoders with a key frame at least each
    /// 2 s, and of those with one exactly each 3 or 4 s. For longer GOPs a broadcast gets a longer one by itself.
    #[serde(with = "humantime_serde")]
    pub target_duration: Duration,
    /// A segment that finds no random access point for this long is ended by force, and media is lost up to the next
    /// one.
    #[serde(with = "humantime_serde")]
    pub gop_max: Duration,
    /// The same, in bytes.
    pub segment_max: ByteSize,
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
            segment_max: ByteSize::mib(64),
            window: Duration::from_mins(1),
            memory: ByteSize::mib(128),
        }
    }
}

/// Packages every stream announced on `started`, one task per name, until `stop`; then finishes what runs and waits
/// until it is in the store. Publishers must be gone by then.
pub async fn run(mut started: mpsc::UnboundedReceiver<Started>, shared: Shared, stop: CancellationToken) {
    let mut tasks = JoinSet::new();
    let mut sessions: HashMap<StreamName, mpsc::UnboundedSender<Started>> = HashMap::new();
    loop {
        tokio::select! {
            biased;
            Some(start) = started.recv() => {
                let name = start.stream.name.clone();
                let unsent = match sessions.get(&name) {
                    Some(sender) => sender.send(start).err().map(|refused| refused.0),
                    None => Some(start),
                };
                if let Some(start) = unsent {
                    let (sender, receiver) = mpsc::unbounded_channel();
                    // The receiver is in this scope, so this can't fail.
                    let _ = sender.send(start);
                    sessions.insert(name.clone(), sender);
                    tasks.spawn(package(shared.clone(), name, receiver));
                }
            }
            Some(ended) = tasks.join_next() => {
                if let Err(problem) = ended {
                    error!(error = %problem, "a packager failed, its broadcast has no HLS until it is published anew");
                }
                sessions.retain(|_, sender| !sender.is_closed());
            }
            () = stop.cancelled() => break,
        }
    }
    drop(sessions);
    while tasks.join_next().await.is_some() {}
}

/// Packages one name's broadcasts in turn. Ends when nothing of the name is left, or at a stop when the last session is
/// in the store.
async fn package(shared: Shared, name: StreamName, mut sessions: mpsc::UnboundedReceiver<Started>) {
    let mut packager = Packager::start(shared, name).await;
    loop {
        tokio::select! {
            biased;
            next = sessions.recv() => match next {
                Some(started) => packager.package(started).await,
                None => return packager.drained().await,
            },
            // A session that slips in while the channel closes is still taken by the branch above.
            () = packager.linger() => sessions.close(),
        }
    }
}
