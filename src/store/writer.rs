//! One broadcast's writer: the only task that writes and deletes its objects.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tokio::sync::Notify;
use tracing::{error, warn};

use crate::metrics::Kind;

use super::schedule::{Job, Next, Schedule};
use super::{SegmentKey, Store, StoredSegment};

/// Puts one broadcast's objects into the store, behind the media path: every call returns at once. Dropping it lets
/// what waits be written; [`Writer::drained`] tells when.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    schedule: Mutex<Schedule>,
    /// Something was pushed, or the writer was dropped.
    pushed: Notify,
    idle: Notify,
    /// The writer was dropped: the task ends when everything is done.
    closed: AtomicBool,
}

impl Writer {
    pub(super) fn spawn(store: Store) -> Self {
        let shared = Arc::new(Shared::default());
        tokio::spawn(run(store.clone(), Arc::clone(&shared)));
        Self { store, shared }
    }

    /// A new segment: readable from memory when this returns, in the store later.
    pub fn put_segment(&self, key: SegmentKey, bytes: Bytes) {
        let segment = StoredSegment { bytes: bytes.clone(), modified: self.store.clock().wall() };
        self.store.with_hot(|hot| hot.insert(key.clone(), segment));
        self.push(Job::Segment(key, bytes));
    }

    /// A playlist's newest text; written after every segment put before it.
    pub fn put_playlist(&self, path: Path, text: Bytes) {
        self.push(Job::Playlist(path, text));
    }

    /// No playlist lists the segment any more: it leaves the memory as soon as it is in the store, and is read from
    /// there by whoever still holds an older playlist.
    pub fn retire_segment(&self, key: &SegmentKey) {
        self.store.with_hot(|hot| hot.retire(key));
    }

    /// The segment is gone for readers when this returns, from the store later.
    pub fn delete_segment(&self, key: SegmentKey) {
        self.store.with_hot(|hot| hot.remove(&key));
        self.push(Job::DeleteSegment(key));
    }

    /// Deletes a playlist.
    pub fn delete_playlist(&self, path: Path) {
        self.push(Job::DeletePlaylist(path));
    }

    /// Waits until nothing is left to do.
    pub async fn drained(&self) {
        loop {
            let idle = self.shared.idle.notified();
            if self.shared.lock().is_idle() {
                return;
            }
            idle.await;
        }
    }

    fn push(&self, job: Job) {
        self.shared.lock().push(job);
        self.shared.pushed.notify_one();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.pushed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, now: Instant) -> Next {
        self.lock().next(now)
    }
}

async fn run(store: Store, shared: Arc<Shared>) {
    loop {
        match shared.next(store.clock().now()) {
            Next::Do(job) => {
                let outcome = perform(&store, &job).await;
                settle(&store, &shared, &job, &outcome);
            }
            Next::WaitUntil(at) => tokio::time::sleep_until(at.into()).await,
            Next::Idle => {
                shared.idle.notify_waiters();
                if shared.closed.load(Ordering::Acquire) {
                    return;
                }
                shared.pushed.notified().await;
            }
        }
    }
}

async fn perform(store: &Store, job: &Job) -> object_store::Result<()> {
    let objects = store.objects();
    match job {
        Job::Segment(key, bytes) => {
            let create = PutOptions::from(PutMode::Create);
            match objects.put_opts(&key.path(), PutPayload::from(bytes.clone()), create).await {
                // An attempt whose answer was lost has written it.
                Err(object_store::Error::AlreadyExists { .. }) => Ok(()),
                other => other.map(drop),
            }
        }
        Job::Playlist(path, text) => objects.put(path, PutPayload::from(text.clone())).await.map(drop),
        Job::DeleteSegment(key) => gone(objects.delete(&key.path()).await),
        Job::DeletePlaylist(path) => gone(objects.delete(path).await),
    }
}

/// To delete what isn't there is no failure.
fn gone(outcome: object_store::Result<()>) -> object_store::Result<()> {
    match outcome {
        Err(object_store::Error::NotFound { .. }) => Ok(()),
        other => other,
    }
}

fn settle(store: &Store, shared: &Shared, job: &Job, outcome: &object_store::Result<()>) {
    let kind = Kind { kind: job.kind() };
    let metrics = store.metrics();
    match outcome {
        Ok(()) => {
            metrics.store_writes.get_or_create(&kind).inc();
            if let Job::Segment(key, _) = job {
                store.with_hot(|hot| hot.written(key));
            }
        }
        Err(problem) => {
            metrics.store_failures.get_or_create(&kind).inc();
            warn!(error = %problem, kind = kind.kind, "store refused a write, it is tried again");
        }
    }
    let mut schedule = shared.lock();
    if !schedule.done(outcome.is_ok(), store.clock().now()) {
        metrics.store_drops.get_or_create(&kind).inc();
        error!(kind = kind.kind, "store write given up");
    }
}
