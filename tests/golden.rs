//! Golden files: each fixture gives exactly these playlists and these segment bytes, whatever machine and time it is.
//!
//! The whole pipeline behind RTMP runs: demuxer, hub, packager, store; with a clock that stands still. After an
//! intended change, `GRANDSTAND_BLESS=1 cargo test --test golden` writes the files anew; read the difference.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use grandstand::clock::{Clock, WallTime};
use grandstand::live::{self, Hub};
use grandstand::media::demux::Demuxer;
use grandstand::metrics::Metrics;
use grandstand::name::StreamName;
use grandstand::package::{self, Board};
use grandstand::publish::flv_file::FlvFile;
use grandstand::store::layout::playlist_path;
use grandstand::store::{SegmentKey, Store};
use object_store::memory::InMemory;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// What one fixture becomes: both playlists, and a line for each segment's length and digest.
async fn package(flv: Bytes) -> String {
    let clock = Clock::manual(WallTime::from_unix_us(1_795_716_584_000_000));
    let metrics = Metrics::new();
    let settings = package::Settings::default();
    let store = Store::over(Arc::new(InMemory::new()), settings.memory, clock.clone(), metrics.clone());
    let shared = package::Shared {
        settings,
        board: Board::default(),
        store: store.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
    };
    let (hub, started) = Hub::new(live::Settings::default(), clock, metrics);
    let stop = CancellationToken::new();
    let packager = tokio::spawn(package::run(started, shared, stop.clone()));

    let name: StreamName = "live/mark".parse().unwrap();
    let publisher = hub.publish(&name).unwrap();
    let mut demuxer = Demuxer::new();
    for tag in FlvFile::read(&flv).unwrap().tags() {
        demuxer.push(tag.clone());
        while let Some(event) = demuxer.poll_event() {
            publisher.push(&event);
        }
    }
    demuxer.finish();
    while let Some(event) = demuxer.poll_event() {
        publisher.push(&event);
    }
    publisher.say_goodbye();
    stop.cancel();
    packager.await.unwrap();
    describe(&store, &name).await
}

async fn describe(store: &Store, name: &StreamName) -> String {
    let playlist = async |file: &str| {
        let text =
            store.read_playlist(&playlist_path(name, file)).await.unwrap().expect("the playlist is stored");
        String::from_utf8(text.to_vec()).unwrap()
    };
    let multivariant = playlist("index.m3u8").await;
    let file = m3u8_rs::parse_master_playlist_res(multivariant.as_bytes()).unwrap().variants[0].uri.clone();
    let media = playlist(&file).await;
    let mut text = format!("{multivariant}---\n{media}---\n");
    for segment in m3u8_rs::parse_media_playlist_res(media.as_bytes()).unwrap().segments {
        let (epoch, file) = segment.uri.split_once('/').unwrap();
        let key = SegmentKey::parse(name, epoch, file).unwrap();
        let bytes = store.read(&key).await.unwrap().expect("what is listed can be read").bytes;
        write!(text, "{} {} ", segment.uri, bytes.len()).unwrap();
        Sha256::digest(&bytes).iter().for_each(|byte| write!(text, "{byte:02x}").unwrap());
        text.push('\n');
    }
    text
}

async fn check(fixture: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let flv = std::fs::read(folder.join(fixture).with_extension("flv")).unwrap();
    let golden: PathBuf = folder.join("golden").join(fixture).with_extension("txt");
    let made = package(flv.into()).await;
    if std::env::var_os("GRANDSTAND_BLESS").is_some() {
        std::fs::write(&golden, &made).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap();
    assert!(made == expected, "{fixture} became\n{made}\ninstead of\n{expected}");
}

#[tokio::test]
async fn pictures_that_are_reordered_and_sound() {
    check("match").await;
}

#[tokio::test]
async fn baseline_pictures_and_sound_at_44100() {
    check("baseline").await;
}

#[tokio::test]
async fn sound_alone() {
    check("audio-only").await;
}

#[tokio::test]
async fn pictures_alone() {
    check("video-only").await;
}

#[tokio::test]
async fn mp3() {
    check("mp3").await;
}
