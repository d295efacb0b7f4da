//! The RTMP listener and one task per connection.

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Settings;
use crate::clock::Clock;
use crate::live::Hub;
use crate::metrics::Metrics;

/// Accepts encoders until `stop` is cancelled, then closes every connection and returns when all are gone.
pub async fn run(
    listener: TcpListener,
    _settings: Settings,
    _hub: Hub,
    _clock: Clock,
    _metrics: Metrics,
    stop: CancellationToken,
) {
    stop.cancelled().await;
    drop(listener);
}
