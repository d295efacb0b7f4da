//! Objects: segments and playlists, in memory first and behind it in an object store.
//!
//! ```text
//! packager ─► Writer ─► hot (readable at once) ─► schedule ─► object_store
//! deliver  ◄─ Store::read ◄─ hot, else object_store
//! ```
//! Memory: the hot window holds at most `[hls] memory` of written segments for all broadcasts together. What waits to
//! be written is held as well: at most the media of each broadcast's window and retention.

pub mod hot;
pub mod layout;
pub mod schedule;
pub mod writer;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use bytesize::ByteSize;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::{Clock, WallTime};
use crate::metrics::Metrics;

use hot::Hot;
pub use layout::SegmentKey;
pub use writer::Writer;

/// `[store]`: where objects live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A folder (`./media`) or a `file://` URL. Made if it is missing.
    pub url: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: "./media".to_owned() }
    }
}

/// The store could not be opened; the text is for the operator.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The URL's scheme has no backend here.
    #[error("[store] url {url:?}: only a folder or a file:// URL can be used")]
    Scheme {
        /// The URL from the settings.
        url: String,
    },
    /// The folder can't be made.
    #[error("[store] url: the folder {} cannot be made", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A first object can't be written and deleted again.
    #[error("[store] url {url:?} cannot be written")]
    Unwritable {
        /// The URL from the settings.
        url: String,
        /// What the store said.
        #[source]
        source: object_store::Error,
    },
}

/// The store did not answer.
#[derive(Debug, Error)]
#[error("the store could not be read")]
pub struct ReadError(#[from] object_store::Error);

/// A whole segment as it was written.
#[derive(Debug, Clone)]
pub struct StoredSegment {
    /// Its bytes.
    pub bytes: Bytes,
    /// When it was written.
    pub modified: WallTime,
}

/// The origin's objects. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    objects: Arc<dyn ObjectStore>,
    hot: Mutex<Hot>,
    clock: Clock,
    metrics: Metrics,
}

impl Store {
    /// Opens what `settings.url` names and checks that it can be written. `memory` bounds the hot window.
    pub async fn open(
        settings: &Settings,
        memory: ByteSize,
        clock: Clock,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let url = &settings.url;
        let folder = folder_of(url).ok_or_else(|| OpenError::Scheme { url: url.clone() })?;
        tokio::fs::create_dir_all(&folder)
            .await
            .map_err(|source| OpenError::Folder { folder: folder.clone(), source })?;
        let objects = LocalFileSystem::new_with_prefix(&folder)
            .map_err(|source| OpenError::Unwritable { url: url.clone(), source })?
            // An epoch's folder goes with its last segment.
            .with_automatic_cleanup(true);
        let store = Self::over(Arc::new(objects), memory, clock, metrics);
        store.probe().await.map_err(|source| OpenError::Unwritable { url: url.clone(), source })?;
        Ok(store)
    }

    /// A store over any backend.
    pub fn over(objects: Arc<dyn ObjectStore>, memory: ByteSize, clock: Clock, metrics: Metrics) -> Self {
        let hot = Mutex::new(Hot::new(usize::try_from(memory.as_u64()).unwrap_or(usize::MAX)));
        Self(Arc::new(Shared { objects, hot, clock, metrics }))
    }

    /// A whole segment, from memory or the store. `None` if there is none under this key.
    pub async fn read(&self, key: &SegmentKey) -> Result<Option<StoredSegment>, ReadError> {
        if let Some(segment) = self.with_hot(|hot| hot.get(key)) {
            return Ok(Some(segment));
        }
        let found = match self.0.objects.get(&key.path()).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            other => other?,
        };
        let modified = WallTime::from_unix_us(found.meta.last_modified.timestamp_micros());
        Ok(Some(StoredSegment { bytes: found.bytes().await?, modified }))
    }

    /// The text of a stored playlist. `None` if there is none.
    pub async fn read_playlist(&self, path: &Path) -> Result<Option<Bytes>, ReadError> {
        match self.0.objects.get(path).await {
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            other => Ok(Some(other?.bytes().await?)),
        }
    }

    /// A writer for one broadcast, with a task of its own.
    pub fn writer(&self) -> Writer {
        Writer::spawn(self.clone())
    }

    async fn probe(&self) -> object_store::Result<()> {
        let path = Path::from(".grandstand-probe");
        self.0.objects.put(&path, Bytes::from_static(b"grandstand").into()).await?;
        self.0.objects.delete(&path).await
    }

    fn with_hot<T>(&self, act: impl FnOnce(&mut Hot) -> T) -> T {
        let mut hot = self.0.hot.lock().unwrap_or_else(PoisonError::into_inner);
        let result = act(&mut hot);
        self.0.metrics.hot_bytes.set(i64::try_from(hot.bytes()).unwrap_or(i64::MAX));
        result
    }

    fn objects(&self) -> &dyn ObjectStore {
        &*self.0.objects
    }

    fn clock(&self) -> &Clock {
        &self.0.clock
    }

    fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}

/// The folder that a URL names: a plain path, or `file:///…`.
fn folder_of(url: &str) -> Option<PathBuf> {
    match url::Url::parse(url) {
        Ok(parsed) if parsed.scheme() == "file" => parsed.to_file_path().ok(),
        Ok(_) => None,
        Err(_) => (!url.is_empty()).then(|| PathBuf::from(url)),
    }
}
