//! The store over real folders, and over one that fails.

#[path = "common/faulty_store.rs"]
mod faulty_store;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use bytesize::ByteSize;
use faulty_store::FaultyStore;
use grandstand::clock::Clock;
use grandstand::live::Epoch;
use grandstand::metrics::Metrics;
use grandstand::store::layout::playlist_path;
use grandstand::store::{OpenError, SegmentKey, Settings, Store};

fn key(sequence: u64) -> SegmentKey {
    SegmentKey { name: "live/mark".parse().unwrap(), epoch: Epoch(17), sequence }
}

async fn open(url: &str) -> Result<Store, OpenError> {
    Store::open(&Settings { url: url.to_owned() }, ByteSize(100), Clock::system(), Metrics::new()).await
}

#[tokio::test]
async fn a_segment_is_readable_at_once_and_from_disk_when_memory_has_let_it_go() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("deep/media");
    let store = open(root.to_str().unwrap()).await.unwrap();
    let writer = store.writer();
    for sequence in 1..=3 {
        writer.put_segment(key(sequence), Bytes::from(vec![sequence as u8; 80]));
        assert_eq!(store.read(&key(sequence)).await.unwrap().unwrap().bytes.len(), 80);
    }
    writer.drained().await;
    let first = store.read(&key(1)).await.unwrap().unwrap();
    assert_eq!(first.bytes, vec![1; 80], "memory holds 100 bytes, so this came from disk");
    assert_eq!(std::fs::read(root.join("live/mark/17/1.ts")).unwrap(), vec![1; 80]);

    (1..=3).for_each(|sequence| writer.delete_segment(key(sequence)));
    writer.drained().await;
    assert!(store.read(&key(1)).await.unwrap().is_none());
    assert!(!root.join("live/mark/17").exists(), "an epoch's folder goes with its last segment");
}

/// A reader of the folder sees a playlist only after the segments it names, also when writes fail in between.
#[tokio::test]
async fn what_fails_is_tried_again_in_order() {
    let objects = FaultyStore::default();
    let store = Store::over(Arc::new(objects.clone()), ByteSize::mib(1), Clock::system(), Metrics::new());
    let writer = store.writer();
    let list = playlist_path(&"live/mark".parse().unwrap(), "media-4s.m3u8");
    objects.failing_puts.store(2, Ordering::SeqCst);
    for sequence in 1..=2 {
        writer.put_segment(key(sequence), Bytes::from_static(b"segment"));
        writer.put_playlist(list.clone(), Bytes::from(format!("list {sequence}")));
    }
    writer.delete_segment(key(1));
    writer.drained().await;
    let journal = objects.journal();
    let place = |what: &str| {
        journal.iter().rposition(|line| line == what).unwrap_or_else(|| panic!("{what}: {journal:?}"))
    };
    assert!(place("put live/mark/17/2.ts") < place("put live/mark/media-4s.m3u8"));
    assert_eq!(store.read_playlist(&list).await.unwrap().unwrap(), "list 2");
    assert!(store.read(&key(1)).await.unwrap().is_none());
    assert_eq!(objects.failing_puts.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_store_that_cannot_be_used_says_so_in_one_line() {
    assert!(matches!(open("s3://bucket/prefix").await, Err(OpenError::Scheme { .. })));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").unwrap();
    let problem = open(file.join("media").to_str().unwrap()).await.unwrap_err();
    assert!(problem.to_string().contains("cannot be made"), "{problem}");
    let url = format!("file://{}", folder.path().display());
    open(&url).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "the probe leaves nothing behind");
}
