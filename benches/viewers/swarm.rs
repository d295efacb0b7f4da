//! Many viewers in one thread: each frame that arrives is found among those that were published.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::common::Failure;
use crate::published::Published;
use crate::viewer::{Frames, Viewer};

/// How many viewers, spread over the order in which they join, hold each body as a whole against the published one.
const WITNESSES: usize = 50;
/// More than a socket holds in the ordinary case, less than a processor's cache.
const READ_BYTES: usize = 256 << 10;

/// All viewers.
pub(crate) struct Swarm<'a> {
    poll: Poll,
    events: Events,
    published: &'a Published,
    viewers: Vec<Viewer>,
    buffer: Vec<u8>,
    /// All that was read from the sockets.
    pub(crate) read_bytes: u64,
    frames: Frames,
}

/// What the viewers got.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Of the bytes of all frames published since a viewer joined, the share that it got: the least, the mean.
    pub(crate) share_min: f64,
    pub(crate) share_mean: f64,
    /// In microseconds, rising.
    pub(crate) latencies_us: Vec<u32>,
    /// How many have no connection at the end.
    pub(crate) lost: usize,
    /// What was wrong with what viewers got, each by the first thing.
    pub(crate) troubles: Vec<String>,
}

impl<'a> Swarm<'a> {
    pub(crate) fn new(published: &'a Published) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            published,
            viewers: Vec::new(),
            buffer: vec![0; READ_BYTES],
            read_bytes: 0,
            frames: Frames { measured_from_us: u64::MAX, latencies_us: Vec::new() },
        })
    }

    /// Joins `count` viewers at an even pace.
    pub(crate) fn join(&mut self, to: SocketAddr, count: u32, over: Duration) -> Result<(), Failure> {
        let start = Instant::now();
        let between = (count as usize / WITNESSES).max(1);
        for number in 0..count {
            self.run_until(start + over * number / count)?;
            let mut socket = TcpStream::connect(to)?;
            let token = Token(self.viewers.len());
            // A server that is behind makes connections wait: the others go on meanwhile.
            self.poll.registry().register(&mut socket, token, Interest::WRITABLE)?;
            let witness = (number as usize).is_multiple_of(between);
            self.viewers.push(Viewer::new(socket, witness));
        }
        self.run_until(start + over)
    }

    /// Measures the frames that are sent from now on.
    pub(crate) fn measure(&mut self) {
        self.frames.measured_from_us = self.published.now_us();
    }

    /// Reads until `end`.
    pub(crate) fn run_until(&mut self, end: Instant) -> Result<(), Failure> {
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            match self.poll.poll(&mut self.events, Some(left)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            for event in &self.events {
                let viewer = &mut self.viewers[event.token().0];
                if viewer.joined_us.is_none() {
                    viewer.ask(self.published.now_us());
                    let registry = self.poll.registry();
                    registry.reregister(&mut viewer.socket, event.token(), Interest::READABLE)?;
                    continue;
                }
                self.read_bytes += viewer.read(&mut self.buffer, self.published, &mut self.frames);
            }
        }
    }

    /// What they got of the frames that were sent up to `end_us`.
    pub(crate) fn seen(self, end_us: u64) -> Seen {
        let mut seen = Seen { share_min: 1.0, latencies_us: self.frames.latencies_us, ..Seen::default() };
        seen.latencies_us.sort_unstable();
        let count = self.viewers.len() as f64;
        for (number, viewer) in self.viewers.into_iter().enumerate() {
            let published_bytes = self.published.bytes(&(viewer.joined_us.unwrap_or(0)..end_us));
            let share = viewer.frame_bytes as f64 / published_bytes.max(1) as f64;
            seen.share_min = seen.share_min.min(share);
            seen.share_mean += share / count;
            seen.lost += usize::from(viewer.lost || viewer.joined_us.is_none());
            seen.troubles.extend(viewer.trouble.map(|trouble| format!("viewer {number}: {trouble}")));
        }
        seen
    }
}
