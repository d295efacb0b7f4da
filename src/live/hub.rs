//! The directory of live streams: one publisher per name.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;
use tokio::sync::mpsc;
use tracing::error;

use crate::clock::Clock;
use crate::media::Event;
use crate::metrics::Metrics;
use crate::name::StreamName;

use super::queue::Subscription;
use super::stream::Stream;
use super::{Epoch, Settings};

/// Hands out publishers and finds streams. Cheap to clone; clones share the directory.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    streams: Mutex<HashMap<StreamName, Arc<Stream>>>,
    epoch: AtomicU64,
    starts: mpsc::UnboundedSender<Started>,
}

/// A stream that has just begun, with every event of it, for the packager.
#[derive(Debug)]
pub struct Started {
    /// The stream.
    pub stream: Arc<Stream>,
    /// Its events from the first on.
    pub events: Subscription,
}

/// Why a publish was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PublishError {
    /// Somebody else publishes under this name. Answered as `NetStream.Publish.BadName`.
    #[error("the name is already being published")]
    Taken,
    /// The limit of `[live] broadcasts_max` is reached.
    #[error("{limit} broadcasts are live, the most allowed")]
    Full {
        /// The limit.
        limit: usize,
    },
    /// The origin is stopping.
    #[error("the origin is stopping")]
    Stopping,
}

impl Hub {
    /// An empty directory, and the receiving end on which every stream that starts is announced. At most
    /// `settings.broadcasts_max` announcements can wait.
    pub fn new(
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
    ) -> (Self, mpsc::UnboundedReceiver<Started>) {
        let (starts, started) = mpsc::unbounded_channel();
        let shared =
            Shared { settings, clock, metrics, streams: Mutex::default(), epoch: AtomicU64::new(0), starts };
        (Self(Arc::new(shared)), started)
    }

    /// Claims a name until the publisher is dropped.
    pub fn publish(&self, name: &StreamName) -> Result<Publisher, PublishError> {
        let mut streams = self.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let count = streams.len();
        let Entry::Vacant(entry) = streams.entry(name.clone()) else { return Err(PublishError::Taken) };
        let limit = self.0.settings.broadcasts_max;
        if count >= limit {
            return Err(PublishError::Full { limit });
        }
        let clock = &self.0.clock;
        let stream = Arc::new(Stream::new(name.clone(), self.next_epoch(), clock.now(), clock.wall()));
        let events = stream.subscribe(self.0.settings.queue.as_u64() as usize);
        let started = Started { stream: Arc::clone(&stream), events };
        self.0.starts.send(started).map_err(|_| PublishError::Stopping)?;
        entry.insert(Arc::clone(&stream));
        self.0.metrics.broadcasts.inc();
        Ok(Publisher { hub: self.clone(), stream })
    }

    /// The stream that is live under this name.
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Every live stream, ordered by name.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        let streams = self.0.streams.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<_> = streams.values().cloned().collect();
        drop(streams);
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Milliseconds since 1970, but always above the one before.
    fn next_epoch(&self) -> Epoch {
        let now = u64::try_from(self.0.clock.wall().unix_us() / 1000).unwrap_or(0);
        let previous = self.0.epoch.fetch_max(now, Ordering::Relaxed);
        if previous < now { Epoch(now) } else { Epoch(self.0.epoch.fetch_add(1, Ordering::Relaxed) + 1) }
    }
}

/// The right to push one stream's events. Dropping it ends the stream and frees the name.
#[derive(Debug)]
pub struct Publisher {
    hub: Hub,
    stream: Arc<Stream>,
}

impl Publisher {
    /// The stream it feeds.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Hands an event on. Never waits. [`Event::End`] is sent by the drop, not by the caller.
    pub fn push(&self, event: &Event) {
        let metrics = &self.hub.0.metrics;
        if let Event::Frame(frame) = event {
            metrics.ingest_bytes.inc_by(frame.payload.len() as u64);
        }
        let lost = self.stream.push(event);
        if lost > 0 && metrics.packager_drops.inc_by(lost as u64) == 0 {
            error!(stream = %self.stream.name, events = lost, "packager fell behind, media was lost");
        }
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.stream.push(&Event::End);
        self.hub.0.streams.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.stream.name);
        self.hub.0.metrics.broadcasts.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::WallTime;

    fn hub(broadcasts_max: usize) -> (Hub, mpsc::UnboundedReceiver<Started>) {
        let settings = Settings { broadcasts_max, ..Settings::default() };
        Hub::new(settings, Clock::manual(WallTime::from_unix_us(5_000_000)), Metrics::new())
    }

    #[tokio::test]
    async fn a_name_has_one_publisher_and_is_free_after_it() {
        let (hub, mut started) = hub(10);
        let name = "live/mark".parse().unwrap();
        let first = hub.publish(&name).unwrap();
        assert_eq!(hub.publish(&name).unwrap_err(), PublishError::Taken);
        let epoch = first.stream().epoch;
        drop(first);
        assert!(hub.get(&name).is_none());
        let second = hub.publish(&name).unwrap();
        assert!(second.stream().epoch > epoch, "an epoch is never used twice, even when the clock stands");
        let mut start = started.recv().await.unwrap();
        assert_eq!(start.events.next().await, [Event::End]);
    }

    #[test]
    fn one_broadcast_too_many_is_refused() {
        let (hub, _started) = hub(1);
        let _one = hub.publish(&"live/a".parse().unwrap()).unwrap();
        assert_eq!(hub.publish(&"live/b".parse().unwrap()).unwrap_err(), PublishError::Full { limit: 1 });
    }
}
