//! Objects: segments and playlists, in memory first and behind it in an object store.

pub mod layout;

use std::sync::Arc;

use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::clock::{Clock, WallTime};
use crate::metrics::Metrics;

pub use layout::SegmentKey;

/// `[store]`: where objects live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// A folder (`./media`) or a `file://` URL.
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
}

/// The store did not answer.
#[derive(Debug, Error)]
#[error("the store could not be read")]
pub struct ReadError(#[source] object_store::Error);

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
pub struct Store {
    objects: Arc<dyn ObjectStore>,
}

impl Store {
    /// Opens what `settings.url` names, making the folder, and checks that it can be written.
    pub async fn open(settings: &Settings, _clock: Clock, _metrics: Metrics) -> Result<Self, OpenError> {
        let scheme = || OpenError::Scheme { url: settings.url.clone() };
        std::fs::create_dir_all(&settings.url).map_err(|_| scheme())?;
        let objects = LocalFileSystem::new_with_prefix(&settings.url).map_err(|_| scheme())?;
        Ok(Self { objects: Arc::new(objects) })
    }

    /// A whole segment, from memory or the store. `None` if there is none under this key.
    pub async fn read(&self, key: &SegmentKey) -> Result<Option<StoredSegment>, ReadError> {
        let found = match self.objects.get(&key.path()).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            found => found.map_err(ReadError)?,
        };
        let modified = WallTime::from_unix_us(found.meta.last_modified.timestamp_micros());
        Ok(Some(StoredSegment { bytes: found.bytes().await.map_err(ReadError)?, modified }))
    }
}
