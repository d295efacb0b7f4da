//! What is published: the newest playlists of every broadcast, for whoever delivers them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::clock::WallTime;
use crate::media::Span;
use crate::name::StreamName;

/// One version of one playlist. Never changes: a newer version is another document.
#[derive(Debug)]
pub struct Document {
    /// The playlist, UTF-8 text.
    pub text: Bytes,
    /// A strong validator of `text`, without quotes: the same text has the same tag on every origin.
    pub etag: String,
    /// When this version was made.
    pub modified: WallTime,
    /// What a cache may assume about its future.
    pub life: Life,
    gzip: OnceLock<Bytes>,
}

/// How long a playlist stays true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// A new version comes about every target duration.
    Live {
        /// The playlist's target duration.
        target: Span,
    },
    /// It has ENDLIST and will not change, until it is removed.
    Ended,
}

impl Document {
    /// A document over `text`.
    pub fn new(text: String, modified: WallTime, life: Life) -> Self {
        let digest = Sha256::digest(text.as_bytes());
        let mut etag = String::with_capacity(32);
        for byte in digest.iter().take(16) {
            // Writing to a String does not fail.
            let _ = write!(etag, "{byte:02x}");
        }
        Self { text: text.into(), etag, modified, life, gzip: OnceLock::new() }
    }

    /// The same, compressed: once per version, at the first request that asks for it.
    pub fn gzip(&self) -> Bytes {
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::with_capacity(self.text.len() / 4), Compression::default());
            encoder
                .write_all(&self.text)
                .and_then(|()| encoder.finish())
                .expect("a Vec takes every write")
                .into()
        };
        self.gzip.get_or_init(compress).clone()
    }
}

/// A broadcast's playlists at one moment, by file name. All of one version: they name the same segments.
#[derive(Debug, Clone, Default)]
pub struct Published {
    documents: Vec<(Arc<str>, Arc<Document>)>,
}

impl Published {
    /// From file names and documents.
    pub fn new(documents: Vec<(Arc<str>, Arc<Document>)>) -> Self {
        Self { documents }
    }

    /// The playlist with this file name.
    pub fn document(&self, file: &str) -> Option<&Arc<Document>> {
        self.documents.iter().find(|(name, _)| &**name == file).map(|(_, document)| document)
    }
}

/// Every broadcast's newest playlists. Cheap to clone; clones share it. Whoever wants to wait for the next version
/// keeps the receiver.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<HashMap<StreamName, watch::Sender<Arc<Published>>>>>);

impl Board {
    /// Replaces a broadcast's playlists and wakes who waits for them.
    pub fn publish(&self, name: &StreamName, published: Published) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let published = Arc::new(published);
        match board.get(name) {
            Some(sender) => drop(sender.send_replace(published)),
            None => drop(board.insert(name.clone(), watch::Sender::new(published))),
        }
    }

    /// Takes a broadcast's playlists down.
    pub fn remove(&self, name: &StreamName) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// The newest playlists of a broadcast, and the channel on which newer ones come. `None` before its first
    /// segment, and after it was taken down.
    pub fn get(&self, name: &StreamName) -> Option<watch::Receiver<Arc<Published>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).map(watch::Sender::subscribe)
    }
}
