//! The RTMP listener and one task per connection.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, info_span, warn};

use super::Settings;
use super::connection::Connection;
use crate::clock::Clock;
use crate::live::Hub;
use crate::metrics::{Metrics, Reason};

/// After an accept that failed for want of descriptors or memory, which trying at once would only repeat.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Refused connections are told at most so often, with their number.
const REPORT_EVERY: Duration = Duration::from_secs(1);

/// Finds peers that are gone without a word while no timer of ours runs, as behind a firewall that forgot.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(30)).with_interval(Duration::from_secs(10));

/// Accepts encoders until `stop` is cancelled, then closes every connection and returns when all are gone.
pub async fn run(
    listener: TcpListener,
    settings: Settings,
    hub: Hub,
    clock: Clock,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    let mut crowd = Crowd::default();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => report_panic(ended),
            accepted = listener.accept() => match accepted {
                Ok(_) if connections.len() >= settings.connections_max => {
                    metrics.rtmp_refusals.get_or_create(&Reason { reason: "connections" }).inc();
                    crowd.refused(settings.connections_max, clock.now());
                }
                Ok((stream, peer)) => {
                    metrics.rtmp_connections.inc();
                    prepare(&stream, peer);
                    let connection = Connection::new(stream, &settings, &hub, &clock, &metrics);
                    let span = info_span!("rtmp", %peer);
                    connections.spawn(connection.run(stop.clone()).instrument(span));
                }
                Err(error) if is_of_one_peer(&error) => {}
                Err(error) => {
                    warn!(%error, "cannot accept RTMP connections");
                    tokio::select! {
                        () = stop.cancelled() => break,
                        () = sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report_panic(ended);
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "an RTMP connection's task failed");
    }
}

/// Without `TCP_NODELAY` each answer of a handshake waits 40 ms for an acknowledgement.
fn prepare(stream: &TcpStream, peer: SocketAddr) {
    let set = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE));
    if let Err(error) = set {
        // The peer is gone already; reading will tell.
        tracing::debug!(%peer, %error, "cannot set socket options");
    }
}

/// The connection failed before it was accepted; the next one may be fine (accept(2)).
fn is_of_one_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// Connections refused since they were last told.
#[derive(Debug, Default)]
struct Crowd {
    refused: u64,
    told_at: Option<Instant>,
}

impl Crowd {
    fn refused(&mut self, connections_max: usize, now: Instant) {
        self.refused += 1;
        if self.told_at.is_none_or(|at| now.saturating_duration_since(at) >= REPORT_EVERY) {
            warn!(refused = self.refused, connections_max, "too many RTMP connections");
            *self = Self { refused: 0, told_at: Some(now) };
        }
    }
}
