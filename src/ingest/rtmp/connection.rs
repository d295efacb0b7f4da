//! One encoder's connection: its socket, its task, and the publisher it feeds.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::session::Session;
use super::{Close, Output, Refusal, Settings};
use crate::clock::Clock;
use crate::live::{Hub, PublishError, Publisher};
use crate::metrics::{Metrics, Reason};
use crate::name::StreamName;

/// Bytes of one read at most: what 200 Mbit/s bring in 2.6 ms. One buffer per thread, for all its connections.
const READ_LEN: usize = 64 << 10;

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
    hub: Hub,
    clock: Clock,
    metrics: Metrics,
    write_timeout: Duration,
    /// To be sent.
    out: Vec<u8>,
    /// Sending has failed.
    is_mute: bool,
    started: Instant,
    bytes: u64,
    events: u64,
    dropped: u64,
    /// Of the last publish, for the log.
    name: Option<StreamName>,
}

/// What the session wants after it was drained.
enum Next {
    Wait(Instant),
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
            hub: hub.clone(),
            clock: clock.clone(),
            metrics: metrics.clone(),
            write_timeout: settings.write_timeout,
            out: Vec::new(),
            is_mute: false,
            started,
            bytes: 0,
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
            if armed.is_none_or(|armed| deadline < armed) {
                let left = deadline.saturating_duration_since(self.clock.now());
                timer.as_mut().reset(tokio::time::Instant::now() + left);
                armed = Some(deadline);
            }
            tokio::select! {
                read = poll_fn(|cx| self.poll_read(cx)) => match read {
                    Ok(0) => self.session.handle_end(Close::Ended),
                    Ok(_) => {}
                    Err(error) => self.session.handle_end(Close::Socket(error.kind())),
                },
                () = &mut timer, if armed.is_some() => {
                    armed = None;
                    self.session.handle_timeout(self.clock.now());
                }
                () = stop.cancelled() => self.session.handle_end(Close::Stopping),
            }
        };
        self.report(&reason);
        drop(self.publisher.take());
        if matches!(reason, Close::Name(_) | Close::Refused(_) | Close::Order(_) | Close::Play) {
            tokio::select! {
                _ = timeout(FAREWELL, self.hang_up()) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Reads once and hands the session what came. Answers how much; 0 at the end.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut read = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
            let bytes = read.filled();
            self.bytes += bytes.len() as u64;
            self.session.handle_bytes(bytes, self.clock.now());
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// Does what the session wants, up to where it waits.
    fn drain(&mut self) -> Next {
        loop {
            match self.session.poll_output() {
                Output::Transmit(bytes) => self.out.extend_from_slice(&bytes),
                Output::Publish(name) => self.publish(name),
                Output::Media(event) => {
                    self.events += 1;
                    if let Some(publisher) = &self.publisher {
                        publisher.push(&event);
                    }
                }
                Output::Unpublish => {
                    if let Some(publisher) = self.publisher.take() {
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

    async fn send(&mut self, stop: &CancellationToken) -> Result<(), Close> {
        let out = std::mem::take(&mut self.out);
        if out.is_empty() || self.is_mute {
            return Ok(());
        }
        let written = tokio::select! {
            biased;
            written = timeout(self.write_timeout, self.stream.write_all(&out)) => written,
            () = stop.cancelled() => return Err(Close::Stopping),
        };
        // A peer that has closed its side may have left media behind: it is read to its end before this counts.
        self.is_mute = matches!(written, Ok(Err(_)));
        written.map(|_| ()).map_err(|_| Close::Timeout { waited_for: "the peer does not read" })
    }

    fn report(&self, reason: &Close) {
        let duration_ms = self.clock.now().saturating_duration_since(self.started).as_millis() as u64;
        let &Self { bytes, events, dropped, .. } = self;
        let stream = self.name.as_ref().map(tracing::field::display);
        let word = reason.word().unwrap_or("peer");
        if let Some(reason) = reason.word() {
            self.metrics.rtmp_refusals.get_or_create(&Reason { reason }).inc();
        }
        info!(stream, reason = word, error = %reason, duration_ms, bytes, events, dropped, "connection ended");
    }

    async fn hang_up(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        // What still comes is read and forgotten.
        while poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut read = ReadBuf::new(scratch);
                ready!(Pin::new(&mut self.stream).poll_read(cx, &mut read))?;
                Poll::Ready(io::Result::Ok(read.filled().len()))
            })
        })
        .await?
            > 0
        {}
        debug!("the peer has hung up");
        Ok(())
    }
}
