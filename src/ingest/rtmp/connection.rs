//! One peer's connection: its socket, its task, and the publisher it feeds or the broadcast it plays.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::session::Session;
use super::{Close, Output, Refusal, Settings};
use crate::clock::Clock;
use crate::live::{Hub, PublishError, Publisher, Subscription};
use crate::media::Event;
use crate::metrics::{Metrics, Reason};
use crate::name::StreamName;

/// Bytes of one read at most: what 200 Mbit/s bring in 2.6 ms. One buffer per thread, for all its connections.
const READ_LEN: usize = 64 << 10;

/// Bytes of a broadcast that a player's connection takes at once. What it can't send waits in the subscription, under
/// its bound and policy.
const PLAY_LEN: usize = 64 << 10;

/// Pieces of one vectored write: a group of some 30 pictures.
const PIECES_MAX: usize = 64;

/// How long a refused peer may take to read why and to hang up. Closing with its bytes unread would reset the
/// connection and take our last words with it.
const FAREWELL: Duration = Duration::from_secs(1);

thread_local! {
    /// Connections own no read buffer: the session copies what it keeps, and a thread reads one socket at a time.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_LEN]);
}

/// A connection and all it needs.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    session: Session,
    publisher: Option<Publisher>,
    subscription: Option<Subscription>,
    hub: Hub,
    clock: Clock,
    metrics: Metrics,
    write_timeout: Duration,
    play_queue: usize,
    /// To be sent. No piece is empty.
    out: VecDeque<Bytes>,
    /// Sending has failed.
    is_mute: bool,
    started: Instant,
    /// Received and sent.
    bytes: u64,
    sent: u64,
    events: u64,
    dropped: u64,
    /// Of the last publish or play, for the log.
    name: Option<StreamName>,
}

/// What the session wants after it was drained.
enum Next {
    Wait(Option<Instant>),
    Close(Close),
}

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        settings: &Settings,
        hub: &Hub,
        clock: &Clock,
        metrics: &Metrics,
    ) -> Self {
        let started = clock.now();
        Self {
            stream,
            session: Session::new(settings, started),
            publisher: None,
            subscription: None,
            hub: hub.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            write_timeout: settings.write_timeout,
            play_queue: usize::try_from(settings.play_queue.as_u64()).unwrap_or(usize::MAX),
            out: VecDeque::new(),
            is_mute: false,
            started,
            bytes: 0,
            sent: 0,
            events: 0,
            dropped: 0,
            name: None,
        }
    }

    /// Until the connection ends.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut timer = pin!(sleep(Duration::ZERO));
        let mut armed: Option<Instant> = None;
        let reason = loop {
            let next = self.drain();
            if let Err(reason) = self.send(&stop).await {
                self.session.handle_end(reason);
                continue;
            }
            let deadline = match next {
                Next::Wait(deadline) => deadline,
                Next::Close(reason) => break reason,
            };
            // A deadline that moves on with every frame is looked at when the timer fires, not re-armed each time.
            if let Some(deadline) = deadline
                && armed.is_none_or(|armed| deadline < armed)
            {
                let left = deadline.saturating_duration_since(self.clock.now());
                timer.as_mut().reset(tokio::time::Instant::now() + left);
                armed = Some(deadline);
            }
            tokio::select! {
                read = poll_fn(|cx| {
                    let take = |bytes: &[u8]| self.session.handle_bytes(bytes, self.clock.now());
                    poll_read(&mut self.stream, cx, take)
                }) => match read {
                    Ok(0) => self.session.handle_end(Close::Ended),
                    Ok(len) => self.bytes += len as u64,
                    Err(error) => self.session.handle_end(Close::Socket(error.kind())),
                },
                events = next_events(self.subscription.as_mut()) => {
                    let now = self.clock.now();
                    for event in events {
                        self.session.handle_event(&event, now);
                    }
                }
                () = &mut timer, if armed.is_some() => {
                    armed = None;
                    self.session.handle_timeout(self.clock.now());
                }
                () = stop.cancelled() => self.session.handle_end(Close::Stopping),
            }
        };
        self.report(&reason);
        drop((self.publisher.take(), self.leave()));
        if matches!(reason, Close::Name(_) | Close::Refused(_) | Close::Order(_) | Close::Play) {
            tokio::select! {
                _ = timeout(FAREWELL, self.hang_up()) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Does what the session wants, up to where it waits.
    fn drain(&mut self) -> Next {
        loop {
            match self.session.poll_output() {
                Output::Transmit(bytes) => self.out.push_back(bytes),
                Output::Publish(name) => self.publish(name),
                Output::Play(name) => self.play(name),
                Output::Leave => drop(self.leave()),
                Output::Media(event) => {
                    self.events += 1;
                    if let Some(publisher) = &self.publisher {
                        publisher.push(&event);
                    }
                }
                Output::Unpublish => {
                    if let Some(publisher) = self.publisher.take()
                        && !self.session.is_closing()
                    {
                        publisher.say_goodbye();
                    }
                }
                Output::Drop { reason, count } => {
                    self.dropped += count;
                    self.metrics.media_drops.get_or_create(&Reason { reason }).inc_by(count);
                }
                Output::Unsupported(codec) => {
                    warn!(%codec, "the publisher sends a codec that is not carried");
                }
                Output::Wait(deadline) => return Next::Wait(deadline),
                Output::Close(reason) => return Next::Close(reason),
            }
        }
    }

    fn publish(&mut self, name: StreamName) {
        let verdict = match self.hub.publish(&name) {
            Ok(publisher) => {
                info!(stream = %name, epoch = %publisher.epoch(), "publishing");
                self.publisher = Some(publisher);
                Ok(())
            }
            Err(PublishError::Taken) => Err(Refusal::Taken),
            Err(PublishError::Full { .. } | PublishError::Stopping) => Err(Refusal::Full),
        };
        self.name = Some(name);
        self.session.decide(verdict, self.clock.now());
    }

    fn play(&mut self, name: StreamName) {
        let verdict = match self.hub.get(&name) {
            Some(stream) => {
                info!(stream = %name, "playing");
                if let Err(error) = limit_unsent(&self.stream) {
                    debug!(%error, "cannot set socket options");
                }
                self.subscription = Some(stream.join(self.play_queue));
                self.metrics.rtmp_players.inc();
                Ok(())
            }
            None => Err(Refusal::NotLive),
        };
        self.name = Some(name);
        self.session.decide(verdict, self.clock.now());
    }

    fn leave(&mut self) -> Option<Subscription> {
        self.subscription.take().inspect(|_| {
            self.metrics.rtmp_players.dec();
        })
    }

    /// Until all is sent.
    async fn send(&mut self, stop: &CancellationToken) -> Result<(), Close> {
        while !self.is_mute && !self.out.is_empty() {
            let mut slices = [IoSlice::new(&[]); PIECES_MAX];
            for (slice, piece) in slices.iter_mut().zip(&self.out) {
                *slice = IoSlice::new(piece);
            }
            let count = self.out.len().min(PIECES_MAX);
            let written = tokio::select! {
                biased;
                written = timeout(self.write_timeout, self.stream.write_vectored(&slices[..count])) => {
                    written.map_err(|_| Close::Timeout { waited_for: "the peer does not read" })
                }
                () = stop.cancelled() => Err(Close::Stopping),
            };
            // A peer that has closed its side may have left media behind: it is read to its end before this counts.
            // And behind a message that was cut off nothing can be said any more.
            self.is_mute = !matches!(written, Ok(Ok(_)));
            self.advance(written?.unwrap_or(0));
        }
        self.out.clear();
        Ok(())
    }

    fn advance(&mut self, mut len: usize) {
        self.sent += len as u64;
        if self.subscription.is_some() {
            self.metrics.rtmp_play_bytes.inc_by(len as u64);
        }
        while let Some(piece) = self.out.front_mut()
            && len > 0
        {
            let taken = len.min(piece.len());
            piece.advance(taken);
            len -= taken;
            if piece.is_empty() {
                self.out.pop_front();
            }
        }
    }

    fn report(&self, reason: &Close) {
        let duration_ms = self.clock.now().saturating_duration_since(self.started).as_millis() as u64;
        let &Self { bytes, sent, events, dropped, .. } = self;
        let stream = self.name.as_ref().map(tracing::field::display);
        let word = reason.word().unwrap_or("peer");
        if let Some(reason) = reason.word() {
            self.metrics.rtmp_refusals.get_or_create(&Reason { reason }).inc();
        }
        info!(stream, reason = word, error = %reason, duration_ms, bytes, sent, events, dropped, "connection ended");
    }

    async fn hang_up(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        // What still comes is read and forgotten.
        while poll_fn(|cx| poll_read(&mut self.stream, cx, |_| {})).await? > 0 {}
        debug!("the peer has hung up");
        Ok(())
    }
}

/// Reads once and hands on what came. Answers how much; 0 at the end.
fn poll_read(
    stream: &mut TcpStream,
    cx: &mut Context<'_>,
    take: impl FnOnce(&[u8]),
) -> Poll<io::Result<usize>> {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut read = ReadBuf::new(scratch);
        ready!(Pin::new(stream).poll_read(cx, &mut read))?;
        take(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
}

/// What is played, as far as it can be sent now; for ever nothing where nothing is.
async fn next_events(subscription: Option<&mut Subscription>) -> VecDeque<Event> {
    match subscription {
        Some(subscription) => subscription.next_within(PLAY_LEN).await,
        None => pending().await,
    }
}

#[cfg(target_os = "linux")]
fn limit_unsent(stream: &TcpStream) -> io::Result<()> {
    /// What may wait in the kernel for a player, unsent. Left alone it is some megabytes: seconds of a broadcast that
    /// can't be skipped any more.
    const UNSENT_MAX: u32 = 128 << 10;
    socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_MAX)
}

/// Elsewhere a slow player is more seconds behind before it skips.
#[cfg(not(target_os = "linux"))]
fn limit_unsent(_: &TcpStream) -> io::Result<()> {
    Ok(())
}
