//! The directory of broadcasts: one publisher per name at a time, and the window in which it may come back.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::clock::{Clock, sleep_until};
use crate::media::{Epoch, Event};
use crate::metrics::Metrics;
use crate::name::StreamName;

use super::Settings;
use super::queue::Subscription;
use super::stream::Stream;

/// Hands out publishers and finds broadcasts. Cheap to clone; clones share the directory.
#[derive(Debug, Clone)]
pub struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    clock: Clock,
    metrics: Metrics,
    directory: Mutex<Directory>,
    /// A deadline was added, or the origin stops.
    changed: Notify,
    /// A broadcast has begun.
    opened: Notify,
    started: mpsc::UnboundedSender<Started>,
}

#[derive(Debug, Default)]
struct Directory {
    entries: HashMap<StreamName, Entry>,
    newest_epoch: u64,
    /// The origin stops: no publisher is taken, and none is waited for.
    stopping: bool,
}

#[derive(Debug)]
struct Entry {
    stream: Arc<Stream>,
    /// Until when a publisher is waited for; `None` while one is connected.
    waits_until: Option<Instant>,
}

/// A broadcast that has just begun, with every event of it, for the packager.
#[derive(Debug)]
pub struct Started {
    /// The broadcast.
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
    /// An empty directory, and the receiving end on which every broadcast that starts is announced. At most
    /// `settings.broadcasts_max` announcements can wait. [`Hub::run`] has to run for reconnect windows to end.
    pub fn new(
        settings: Settings,
        clock: Clock,
        metrics: Metrics,
    ) -> (Self, mpsc::UnboundedReceiver<Started>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let shared = Shared {
            settings,
            clock,
            metrics,
            directory: Mutex::default(),
            changed: Notify::new(),
            opened: Notify::new(),
            started: sender,
        };
        (Self(Arc::new(shared)), receiver)
    }

    /// Claims a name until the publisher is dropped. Within its reconnect window the broadcast of before goes on.
    pub fn publish(&self, name: &StreamName) -> Result<Publisher, PublishError> {
        let Shared { settings, clock, .. } = &*self.0;
        let mut directory = self.directory();
        if directory.stopping {
            return Err(PublishError::Stopping);
        }
        let epoch = directory.next_epoch(clock.wall().unix_us() / 1000);
        let count = directory.entries.len();
        let stream = match directory.entries.get_mut(name) {
            Some(Entry { waits_until: None, .. }) => return Err(PublishError::Taken),
            Some(entry) => {
                entry.waits_until = None;
                Arc::clone(&entry.stream)
            }
            None if count >= settings.broadcasts_max => {
                return Err(PublishError::Full { limit: settings.broadcasts_max });
            }
            None => self.open(&mut directory, name)?,
        };
        // Under the directory's lock, so that the end of the window can't come in between.
        stream.push(&Event::Start(epoch));
        drop(directory);
        self.0.opened.notify_waiters();
        self.0.metrics.broadcasts.inc();
        Ok(Publisher { hub: self.clone(), stream, epoch, said_goodbye: false })
    }

    fn open(&self, directory: &mut Directory, name: &StreamName) -> Result<Arc<Stream>, PublishError> {
        let Shared { settings, clock, started, .. } = &*self.0;
        let bytes = |size: bytesize::ByteSize| usize::try_from(size.as_u64()).unwrap_or(usize::MAX);
        let stream = Stream::new(name.clone(), clock.now(), clock.wall(), bytes(settings.gop_cache));
        let stream = Arc::new(stream);
        let events = stream.join(bytes(settings.queue));
        let announcement = Started { stream: Arc::clone(&stream), events };
        started.send(announcement).map_err(|_| PublishError::Stopping)?;
        directory.entries.insert(name.clone(), Entry { stream: Arc::clone(&stream), waits_until: None });
        Ok(stream)
    }

    /// The broadcast of this name, also while its publisher is waited for.
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.directory().entries.get(name).map(|entry| Arc::clone(&entry.stream))
    }

    /// Waits until there is a broadcast of this name.
    pub async fn opened(&self, name: &StreamName) -> Arc<Stream> {
        loop {
            let mut opened = pin!(self.0.opened.notified());
            // From here on, so that a broadcast that begins after the look is not missed.
            opened.as_mut().enable();
            if let Some(stream) = self.get(name) {
                return stream;
            }
            opened.await;
        }
    }

    /// Every broadcast, ordered by name, also those whose publisher is waited for.
    pub fn list(&self) -> Vec<Arc<Stream>> {
        let mut list: Vec<_> =
            self.directory().entries.values().map(|entry| Arc::clone(&entry.stream)).collect();
        list.sort_by(|a, b| a.name.cmp(&b.name));
        list
    }

    /// Ends broadcasts whose reconnect window has passed, until `stop`; then those that still wait, and from then on
    /// each with its publisher.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let changed = self.0.changed.notified();
            let next = self.end_overdue();
            tokio::select! {
                () = changed => {}
                () = sleep_until(next) => {}
                () = stop.cancelled() => break,
            }
        }
        self.directory().stopping = true;
        self.end_overdue();
    }

    /// Ends what is overdue; answers when something is next.
    fn end_overdue(&self) -> Option<Instant> {
        let now = self.0.clock.now();
        let mut directory = self.directory();
        let stopping = directory.stopping;
        directory.entries.retain(|name, entry| {
            let overdue = entry.waits_until.is_some_and(|until| until <= now || stopping);
            if overdue {
                entry.stream.push(&Event::End);
                info!(stream = %name, "broadcast ended, nobody came back");
            }
            !overdue
        });
        directory.entries.values().filter_map(|entry| entry.waits_until).min()
    }

    /// A publisher is gone.
    fn leave(&self, stream: &Arc<Stream>, said_goodbye: bool) {
        let Shared { settings, clock, metrics, .. } = &*self.0;
        metrics.broadcasts.dec();
        let mut directory = self.directory();
        stream.push(&Event::Stop);
        let ends =
            directory.stopping || settings.reconnect.is_zero() || (said_goodbye && settings.end_on_unpublish);
        if ends {
            stream.push(&Event::End);
            directory.entries.remove(&stream.name);
        } else if let Some(entry) = directory.entries.get_mut(&stream.name) {
            entry.waits_until = Some(clock.now() + settings.reconnect);
        }
        drop(directory);
        self.0.changed.notify_one();
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        self.0.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory {
    /// Milliseconds since 1970, but always above the one before, whatever the clock does.
    fn next_epoch(&mut self, unix_ms: i64) -> Epoch {
        self.newest_epoch = (self.newest_epoch + 1).max(u64::try_from(unix_ms).unwrap_or(0));
        Epoch(self.newest_epoch)
    }
}

/// The right to push one broadcast's events, for one publishing session. Dropping it leaves the broadcast to wait for
/// the next publisher.
#[derive(Debug)]
pub struct Publisher {
    hub: Hub,
    stream: Arc<Stream>,
    epoch: Epoch,
    said_goodbye: bool,
}

impl Publisher {
    /// The broadcast it feeds.
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// This publishing session.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Hands on tracks, a frame or a discontinuity. Never waits.
    pub fn push(&self, event: &Event) {
        let metrics = &self.hub.0.metrics;
        if let Event::Frame(frame) = event {
            metrics.ingest_bytes.inc_by(frame.payload.len() as u64);
        }
        metrics.queue_drops.inc_by(self.stream.push(event) as u64);
    }

    /// The publisher has said that it stops, rather than being cut off: `[live] end_on_unpublish` decides what that
    /// means.
    pub fn say_goodbye(mut self) {
        self.said_goodbye = true;
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.hub.leave(&self.stream, self.said_goodbye);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::WallTime;

    struct Bench {
        hub: Hub,
        started: mpsc::UnboundedReceiver<Started>,
        clock: Clock,
        name: StreamName,
    }

    fn bench(settings: Settings) -> Bench {
        let clock = Clock::manual(WallTime::from_unix_us(5_000_000));
        let (hub, started) = Hub::new(settings, clock.clone(), Metrics::new());
        Bench { hub, started, clock, name: "live/mark".parse().unwrap() }
    }

    async fn all(events: &mut Subscription) -> Vec<Event> {
        Vec::from(events.next().await)
    }

    #[tokio::test]
    async fn a_name_has_one_publisher_and_is_free_after_it() {
        let mut bench = bench(Settings { reconnect: Duration::ZERO, ..Settings::default() });
        let first = bench.hub.publish(&bench.name).unwrap();
        assert_eq!(bench.hub.publish(&bench.name).unwrap_err(), PublishError::Taken);
        let epoch = first.epoch();
        drop(first);
        assert!(bench.hub.get(&bench.name).is_none());
        let second = bench.hub.publish(&bench.name).unwrap();
        assert!(second.epoch() > epoch, "an epoch is never used twice, even when the clock stands");
        let mut start = bench.started.recv().await.unwrap();
        assert_eq!(all(&mut start.events).await, [Event::Start(epoch), Event::Stop, Event::End]);
    }

    /// Promises, fault 7: the broadcast goes on for whoever takes it.
    #[tokio::test]
    async fn who_comes_back_in_time_goes_on_with_the_same_broadcast() {
        let mut bench = bench(Settings::default());
        let first = bench.hub.publish(&bench.name).unwrap().epoch();
        bench.clock.advance(Duration::from_secs(59));
        bench.hub.end_overdue();
        let second = bench.hub.publish(&bench.name).unwrap().epoch();
        bench.clock.advance(Duration::from_secs(61));
        bench.hub.end_overdue();
        let mut start = bench.started.try_recv().unwrap();
        let events = [Event::Start(first), Event::Stop, Event::Start(second), Event::Stop, Event::End];
        assert_eq!(all(&mut start.events).await, events);
        assert!(bench.started.try_recv().is_err() && bench.hub.list().is_empty());
    }

    #[tokio::test]
    async fn a_goodbye_ends_the_broadcast_if_the_settings_say_so() {
        for end_on_unpublish in [true, false] {
            let bench = bench(Settings { end_on_unpublish, ..Settings::default() });
            bench.hub.publish(&bench.name).unwrap().say_goodbye();
            assert_eq!(bench.hub.get(&bench.name).is_none(), end_on_unpublish);
        }
    }

    #[tokio::test]
    async fn a_stop_ends_what_waits_and_takes_nobody() {
        let bench = bench(Settings::default());
        let publisher = bench.hub.publish(&bench.name).unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        bench.hub.clone().run(stop).await;
        assert_eq!(bench.hub.publish(&"live/b".parse().unwrap()).unwrap_err(), PublishError::Stopping);
        drop(publisher);
        assert!(bench.hub.list().is_empty());
    }

    #[test]
    fn one_broadcast_too_many_is_refused() {
        let bench = bench(Settings { broadcasts_max: 1, ..Settings::default() });
        let _one = bench.hub.publish(&bench.name).unwrap();
        let refused = bench.hub.publish(&"live/b".parse().unwrap()).unwrap_err();
        assert_eq!(refused, PublishError::Full { limit: 1 });
    }
}
