//! Many publishers in one thread: one write per publisher and tick, of bytes that were cut up beforehand.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::Failure;
use crate::common::feed::Feed;
use crate::common::publisher::Publisher;

/// Messages that are due within one tick go out in one write. An encoder writes each frame by itself, which at 25
/// pictures and 47 audio frames a second is hardly more often.
const TICK: Duration = Duration::from_millis(10);
/// How often what the servers say is read: acknowledgements and pings.
const LISTEN: Duration = Duration::from_secs(1);

/// All publishers.
pub(crate) struct Swarm<'a> {
    feed: &'a Feed,
    publishers: Vec<Publisher>,
    listened: Instant,
    /// The longest that any publisher could not write what was due, and the longest that a tick came late.
    pub(crate) blocked_max: Duration,
    pub(crate) late_max: Duration,
}

impl<'a> Swarm<'a> {
    /// Connects `count` publishers of `live/load-N`, their starts spread evenly over one GOP.
    pub(crate) fn connect(
        to: SocketAddr,
        count: u32,
        feed: &'a Feed,
        chunk_bytes: usize,
    ) -> Result<Self, Failure> {
        let mut publishers = Vec::new();
        for number in 0..count {
            publishers.push(Publisher::connect(to, number, chunk_bytes)?);
        }
        let start = Instant::now();
        for (number, publisher) in publishers.iter_mut().enumerate() {
            publisher.start = start + Duration::from_secs(2) * number as u32 / count;
        }
        let none = Duration::ZERO;
        Ok(Self { feed, publishers, listened: start, blocked_max: none, late_max: none })
    }

    /// Publishes for `time`. Returns the bytes that were written.
    pub(crate) fn run(&mut self, time: Duration) -> Result<u64, Failure> {
        let before = self.written();
        let end = Instant::now() + time;
        let mut tick = Instant::now();
        while tick < end {
            let now = Instant::now();
            self.late_max = self.late_max.max(now.saturating_duration_since(tick));
            for publisher in &mut self.publishers {
                publisher.write_due(self.feed, now, |_, _| {})?;
                if let Some(since) = publisher.blocked_since {
                    self.blocked_max = self.blocked_max.max(now - since);
                }
            }
            if now - self.listened > LISTEN {
                self.listened = now;
                for publisher in &mut self.publishers {
                    publisher.listen()?;
                }
            }
            tick = (tick + TICK).max(Instant::now());
            thread::sleep(tick.saturating_duration_since(Instant::now()));
        }
        Ok(self.written() - before)
    }

    /// Bytes written by all.
    fn written(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.written_all).sum()
    }
}
