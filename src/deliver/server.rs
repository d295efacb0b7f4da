//! The HTTP listener: accepts, limits, and drains.
//!
//! An own loop rather than `axum::serve`, which has no limit of connections, no timeouts, no deadline for the drain,
//! and leaves Nagle's algorithm on: that alone makes a playlist take 40 ms.

use std::convert::Infallible;
use std::io::{self, Write};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as TaskContext, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http::header::UPGRADE;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;
use tracing::{debug, info, warn};

use super::flv::{self, Live, Seat, Switch};
use super::pace::{Limits, Pace};
use super::{Context, Peer, Settings, descriptors, router};
use crate::clock::Clock;
use crate::metrics::Kind;

/// The most that one request's head may have, and what one connection buffers. Browsers and CDNs stay under 8 KiB.
const BUFFER_BYTES: usize = 16 * 1024;

/// The most that the kernel takes of a live response before it has been sent: above what is sent at once to a full
/// broadcast (15 KiB at 1.5 Mbit/s and 80 ms), so that a viewer who keeps up is woken once.
const LIVE_UNSENT_BYTES: u32 = 64 * 1024;

/// Pause after a failed accept: with no file descriptor left it fails at once, again and again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one connection too many is told.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nCache-Control: no-store\r\n\
    Access-Control-Allow-Origin: *\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// Serves until `stop` is cancelled, then lets running responses finish, for a bounded time.
pub async fn run(listener: TcpListener, settings: Settings, context: Context, stop: CancellationToken) {
    let connections_max = descriptors::connections_max(settings.connections_max);
    if connections_max < settings.connections_max {
        let asked = settings.connections_max;
        warn!(connections_max, asked, "the limit of open files (ulimit -n) allows fewer connections");
    }
    let permits = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
    let connections = TaskTracker::new();
    let server = Server {
        limits: Limits {
            header: settings.header_timeout,
            idle: settings.idle_timeout,
            write: settings.write_timeout,
        },
        clock: context.clock.clone(),
        router: router(context.clone()),
        stop: stop.clone(),
        abort: CancellationToken::new(),
    };
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
            if !full {
                warn!(connections_max, "no more connections, refusing");
            }
            full = true;
            context.metrics.http_responses.get_or_create(&Kind { kind: "refused" }).inc();
            refuse(stream);
            continue;
        };
        full = false;
        context.metrics.http_connections.inc();
        let server = server.clone();
        connections.spawn(async move {
            server.serve(stream, Peer(peer.ip())).await;
            drop(permit);
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(settings.drain_timeout, connections.wait()).await.is_err() {
        info!(connections = connections.len(), "closing connections that did not finish in time");
        server.abort.cancel();
        connections.wait().await;
    }
}

/// Best effort: the answer fits the empty send buffer of a new connection, and nobody waits for it.
fn refuse(stream: TcpStream) {
    if let Ok(mut stream) = stream.into_std() {
        drop(stream.write(REFUSAL));
    }
}

/// What every connection's task holds.
#[derive(Clone)]
struct Server {
    limits: Limits,
    clock: Clock,
    router: Router,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Server {
    async fn serve(self, stream: TcpStream, peer: Peer) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "TCP_NODELAY could not be set");
        }
        let pace = Arc::new(Mutex::new(Pace::new(self.clock.now())));
        let watch = Watch { pace, live: Live::default(), clock: self.clock };
        let switched = Switched::default();
        let service = service_fn(|mut request: Request<Incoming>| {
            watch.note(Pace::requested);
            let upgrade = request.headers().contains_key(UPGRADE).then(|| hyper::upgrade::on(&mut request));
            let switched = &switched;
            request.extensions_mut().insert(peer);
            request.extensions_mut().insert(watch.live.clone());
            let answer = self.router.clone().oneshot(request);
            let watch = watch.clone();
            async move {
                let mut response = answer.await?;
                let seat = response.extensions_mut().remove::<Switch>().and_then(|switch| switch.take());
                switched.put(upgrade.zip(seat));
                Ok::<_, Infallible>(response.map(|body| Watched { body, watch }))
            }
        });
        let io = TokioIo::new(WatchedStream { stream, watch: watch.clone(), tuned: false });
        // hyper's own timer is off: see `pace`.
        let connection = http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = pin!(connection);
        let mut expired = pin!(watch.expired(self.limits));
        let mut draining = false;
        loop {
            tokio::select! {
                served = connection.as_mut() => {
                    if let Err(error) = served {
                        debug!(peer = %peer.0, %error, "connection ended");
                    }
                    break;
                }
                () = &mut expired => {
                    debug!(peer = %peer.0, "connection timed out");
                    watch.live.stalled();
                    return;
                }
                () = self.stop.cancelled(), if !draining => {
                    // hyper would wait for the first request of a connection that has sent none.
                    if watch.pace().is_idle() {
                        return;
                    }
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                () = self.abort.cancelled() => return,
            }
        }
        let Some((upgrade, seat)) = switched.take() else { return };
        // Not within the select, which would drop it, and the seat, before its reason is known.
        let mut talk = pin!(talk(upgrade, seat, watch.clone()));
        tokio::select! {
            () = talk.as_mut() => {}
            () = &mut expired => {
                debug!(peer = %peer.0, "WebSocket timed out");
                watch.live.stalled();
            }
            () = self.abort.cancelled() => {}
        }
    }
}

/// The viewer of a connection that changes to WebSocket with its next, and last, response.
#[derive(Default)]
struct Switched(Mutex<Option<(OnUpgrade, Seat)>>);

impl Switched {
    fn put(&self, viewer: Option<(OnUpgrade, Seat)>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = viewer;
    }

    fn take(&self) -> Option<(OnUpgrade, Seat)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// What is left of a connection whose protocol has changed, up to its end.
async fn talk(upgrade: OnUpgrade, seat: Seat, watch: Watch) {
    match upgrade.await.map(Upgraded::downcast::<TokioIo<WatchedStream>>) {
        Ok(Ok(parts)) => flv::run_websocket(parts.io.into_inner(), parts.read_buf, seat, watch).await,
        Ok(Err(_)) => unreachable!("every connection is a WatchedStream"),
        Err(error) => debug!(%error, "a connection could not be upgraded"),
    }
}

/// One connection's pace, shared by its socket, its responses and its timer.
#[derive(Clone)]
pub(super) struct Watch {
    pace: Arc<Mutex<Pace>>,
    live: Live,
    clock: Clock,
}

impl Watch {
    /// Something happened just now.
    pub(super) fn note(&self, event: fn(&mut Pace, std::time::Instant)) {
        let now = self.clock.now();
        event(&mut self.pace(), now);
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once the deadline has passed. Looks now and then rather than being told of each event, so a deadline
    /// that was brought forward is kept up to half a timeout late; requests cost no timer.
    async fn expired(&self, limits: Limits) {
        let look = limits.header.min(limits.write) / 2;
        loop {
            let deadline = self.pace().deadline(limits);
            let left = deadline.map_or(look, |deadline| deadline.saturating_duration_since(self.clock.now()));
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(look)).await;
        }
    }
}

/// A response body that tells when it is done with.
struct Watched {
    body: Body,
    watch: Watch,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.watch.note(Pace::answered);
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        self.watch.note(if frame.is_pending() { Pace::drained } else { Pace::queued });
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A socket that tells what it moves.
struct WatchedStream {
    stream: TcpStream,
    watch: Watch,
    /// Its options are those of a live response.
    tuned: bool,
}

impl WatchedStream {
    /// Before each write, as it is only now known what the response is. Live bytes wait in the ring, where they can be
    /// skipped, rather than in the kernel, which would take some MiB of them for each viewer.
    fn tune(&mut self) {
        if self.tuned || !self.watch.live.is_live() {
            return;
        }
        self.tuned = true;
        if let Err(error) = SockRef::from(&self.stream).set_tcp_notsent_lowat(LIVE_UNSENT_BYTES) {
            debug!(%error, "TCP_NOTSENT_LOWAT could not be set");
        }
    }
}

impl AsyncRead for WatchedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.watch.note(Pace::read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for WatchedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.tune();
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.watch.note(Pace::wrote);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.tune();
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.watch.note(Pace::wrote);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        // hyper flushes its stream once its own queue is empty.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.watch.note(Pace::flushed);
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
