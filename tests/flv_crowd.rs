//! Five hundred viewers of one broadcast over HTTP-FLV, and among them one that is slow, one that is dead, and one that
//! comes late: nobody costs anybody anything.

mod common;
#[path = "common/flv_viewer.rs"]
mod flv_viewer;
#[path = "common/media.rs"]
mod media;
#[path = "common/ts_reader.rs"]
mod ts_reader;

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Origin, grandstand, poll};
use flv_viewer::{Next, Tag, Viewer};
use media::{Media, TICKS_PER_MS, Unit};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use ts_reader::TsReader;

const MATCH_FLV: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/match.flv");
const PATH: &str = "/live/match.flv";
const CROWD: usize = 500;
/// How long all of them watch, at least.
const WATCHED: Duration = Duration::from_secs(20);
/// After which a viewer that takes nothing is closed, and how far behind one may be: more than a busy machine makes of a
/// healthy one, less than the test takes.
const WRITE_TIMEOUT: &str = "12s";
const LAG: &str = "10s";
/// Bytes per second of match.flv: 1,055,555 bytes in 16 s.
const BYTES_PER_SECOND: usize = 65_972;
/// What the origin may grow by: 30 KiB per healthy viewer, the broadcast's shared bytes, and what an allocator keeps.
const GROWTH_KIB_MAX: u64 = CROWD as u64 * 30 + 24 * 1024;

/// A publisher that does not outlive its test.
struct Publisher(Child);

impl Publisher {
    fn start(origin: &Origin) -> Self {
        let mut command = grandstand();
        command.args(["publish", "--loop", MATCH_FLV]).arg(origin.rtmp_url("live/match"));
        let publisher = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        let ready = poll(common::SOON, || {
            let answer: Value = serde_json::from_slice(&origin.get("/api/v1/streams").body).ok()?;
            (answer["streams"].get(0)?["live"] == true).then_some(())
        });
        ready.expect("the broadcast is live");
        publisher
    }

    /// Stops it as its owner would: it says goodbye.
    fn stop(&mut self) {
        let id = self.0.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &id]).status().unwrap();
        assert!(sent.success(), "the publisher has run to the end");
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// A tag of audio or video, small enough to be kept for each of five hundred viewers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    kind: u8,
    timestamp_ms: u32,
    key_picture: bool,
    hash: u64,
}

impl Seen {
    fn of(tag: &Tag) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(&tag.body);
        let key_picture = tag.is_key_picture();
        Self { kind: tag.kind, timestamp_ms: tag.timestamp_ms, key_picture, hash: hasher.finish() }
    }
}

/// What must hold for every viewer, wherever it joined: a true header, metadata, both sequence headers, then frames, of
/// which the first picture can be decoded, and times that never go back within a track.
#[derive(Default)]
struct Watched {
    seen: Vec<Seen>,
    configs: Vec<u8>,
    metadata: usize,
    last_ms: HashMap<u8, u32>,
}

impl Watched {
    fn push(&mut self, viewer: &Viewer, tag: &Tag) {
        assert_eq!(viewer.flags, Some(5), "the header tells of audio and video");
        if tag.kind == 18 {
            self.metadata += 1;
        } else if tag.is_config() {
            assert!(self.metadata > 0, "metadata comes first");
            self.configs.push(tag.kind);
        } else {
            assert!(tag.is_frame(), "{tag:?}");
            assert!(
                self.configs.contains(&8) && self.configs.contains(&9),
                "sequence headers come before frames"
            );
            let first_picture = tag.kind == 9 && !self.seen.iter().any(|seen| seen.kind == 9);
            assert!(!first_picture || tag.is_key_picture(), "the first picture can be decoded");
            let before = self.last_ms.insert(tag.kind, tag.timestamp_ms).unwrap_or(0);
            assert!(tag.timestamp_ms >= before, "{} ms comes after {before} ms", tag.timestamp_ms);
            self.seen.push(Seen::of(tag));
        }
    }
}

/// Watches to the end, and shows each tag to `keep`.
async fn watch_all(to: SocketAddr, mut keep: impl FnMut(&Tag)) -> Watched {
    let mut viewer = Viewer::join(to, PATH, None).await;
    let mut watched = Watched::default();
    loop {
        match viewer.next().await {
            Next::Tag(tag) => {
                watched.push(&viewer, &tag);
                keep(&tag);
            }
            Next::End => return watched,
            Next::Cut => {
                panic!("the body of a healthy viewer is cut off after {} frames", watched.seen.len())
            }
        }
    }
}

/// Reads 10 % of the broadcast's bitrate until told that it's enough, and then whatever still comes. It need not live to
/// the end, but what it was given is in one piece.
async fn watch_slowly(to: SocketAddr, mut enough: watch::Receiver<bool>) -> Watched {
    const TICK: Duration = Duration::from_millis(100);
    let mut viewer = Viewer::join(to, PATH, Some(4096)).await;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    while !*enough.borrow_and_update() {
        ticks.tick().await;
        // Nothing there is nothing read.
        let _elapsed = timeout(TICK / 2, viewer.fill(BYTES_PER_SECOND / 10 / 10)).await;
    }
    let mut watched = Watched::default();
    while let Next::Tag(tag) = viewer.next().await {
        watched.push(&viewer, &tag);
    }
    watched
}

/// Asks and reads nothing until told; then how much there was, and what came after it.
async fn watch_nothing(to: SocketAddr, mut look: watch::Receiver<bool>) -> (usize, Next) {
    let mut viewer = Viewer::join(to, PATH, Some(4096)).await;
    look.wait_for(|look| *look).await.unwrap();
    loop {
        match viewer.next().await {
            Next::Tag(_) => {}
            over => return (viewer.bytes, over),
        }
    }
}

/// How many viewers were closed because they took nothing, as the origin counts.
fn stalled(origin: &Origin) -> u64 {
    let metrics = origin.get("/metrics");
    let mut lines = metrics.text().lines();
    let count = lines.find_map(|line| line.strip_prefix("grandstand_flv_ends_total{reason=\"stalled\"} "));
    count.map_or(0, |count| count.parse().unwrap())
}

fn resident_kib(origin: &Origin) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", origin.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// What was published, over and over, as far as `found` goes: every unit once, in order, unchanged, at its time but for
/// FLV's rounding. `found` may begin anywhere.
fn assert_loops(name: &str, found: &[Unit], fixture: &[Unit], period_ms: i64) {
    let begin =
        fixture.iter().position(|unit| unit.sha256 == found[0].sha256).expect("a unit of the fixture");
    for (n, found_unit) in found.iter().enumerate() {
        let at = begin + n;
        let round = (at / fixture.len()) as i64;
        let pushed = &fixture[at % fixture.len()];
        assert_eq!(found_unit.sha256, pushed.sha256, "{name} {n}");
        let expected = pushed.dts - fixture[begin].dts + round * period_ms * TICKS_PER_MS;
        let off = found_unit.dts - found[0].dts - expected;
        assert!(off.abs() <= 2 * TICKS_PER_MS, "{name} {n} is {off} ticks from its time");
    }
}

/// The segments of the media playlist, which must have no discontinuity.
fn assert_hls_never_noticed(origin: &Origin, fixture: &Media) {
    let playlist = |path: &str| m3u8_rs::parse_playlist_res(&origin.get(path).body).expect("a playlist");
    let m3u8_rs::Playlist::MasterPlaylist(multivariant) = playlist("/live/match/index.m3u8") else {
        panic!("no multivariant playlist");
    };
    let path = format!("/live/match/{}", multivariant.variants[0].uri);
    let m3u8_rs::Playlist::MediaPlaylist(list) = playlist(&path) else { panic!("no media playlist") };
    let listed_s: f32 = list.segments.iter().map(|segment| segment.duration).sum();
    assert!(listed_s >= WATCHED.as_secs_f32() - 6.0, "{listed_s} s of HLS");
    let mut reader = TsReader::default();
    let mut pictures = Vec::new();
    for segment in &list.segments {
        assert!(!segment.discontinuity, "nothing broke");
        pictures.extend(reader.read(&origin.get(&format!("/live/match/{}", segment.uri)).body).video);
    }
    assert_loops("HLS picture", &pictures, &fixture.video, 16_000);
}

/// Fan-out: 500 healthy viewers get every frame in order, whatever one slow and one dead viewer do; ingest and HLS never
/// notice; the origin's memory is bounded.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_gets_every_frame_whatever_single_viewers_do() {
    let origin = Origin::builder()
        .env("GRANDSTAND_HTTP_WRITE_TIMEOUT", WRITE_TIMEOUT)
        .env("GRANDSTAND_FLV_LAG", LAG)
        .start();
    let to = origin.http();
    let mut publisher = Publisher::start(&origin);
    let before_kib = resident_kib(&origin);
    let (done, is_done) = watch::channel(false);

    let witness = tokio::spawn(async move {
        let mut file = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
        let watched = watch_all(to, |tag| tag.write(&mut file)).await;
        (watched, file)
    });
    let slow = tokio::spawn(watch_slowly(to, is_done.clone()));
    let dead = tokio::spawn(watch_nothing(to, is_done));
    let crowd: Vec<JoinHandle<Watched>> = (1..CROWD).map(|_| tokio::spawn(watch_all(to, |_| {}))).collect();

    let begun = Instant::now();
    let mut peak_kib = 0;
    let mut every_second = interval(Duration::from_secs(1));
    while begun.elapsed() < WATCHED || stalled(&origin) == 0 {
        assert!(begun.elapsed() < 3 * WATCHED, "the dead viewer is closed");
        every_second.tick().await;
        peak_kib = peak_kib.max(resident_kib(&origin));
    }
    let late = tokio::spawn(watch_all(to, |_| {}));
    let fixture = Media::of_flv(&fs::read(MATCH_FLV).unwrap());
    assert_hls_never_noticed(&origin, &fixture);

    // Before the broadcast ends: it is the origin that has closed this one.
    let asked = Instant::now();
    done.send(true).unwrap();
    let (bytes, over) = timeout(Duration::from_secs(5), dead).await.expect("no more comes").unwrap();
    assert_eq!(
        over,
        Next::Cut,
        "the dead viewer was closed, after {bytes} bytes, {:?} later",
        asked.elapsed()
    );
    assert!(bytes < 4 * BYTES_PER_SECOND, "a viewer that reads nothing was sent {bytes} bytes");

    publisher.stop();
    let ends = async {
        let (witness, file) = witness.await.unwrap();
        let mut others = Vec::new();
        for viewer in crowd {
            others.push(viewer.await.unwrap());
        }
        (witness, file, others, slow.await.unwrap(), late.await.unwrap())
    };
    let (witness, file, others, slow, late) = timeout(common::SOON, ends).await.expect("all bodies end");

    // In real time, every frame, unchanged.
    let media = Media::of_flv(&file);
    assert_loops("picture", &media.video, &fixture.video, 16_000);
    assert_loops("sound", &media.audio, &fixture.audio, 16_000);
    let span_ms = witness.seen.last().unwrap().timestamp_ms - witness.seen[0].timestamp_ms;
    let watched_ms = begun.elapsed().as_millis() as u32;
    assert!(span_ms >= watched_ms - 3000, "{span_ms} ms in {watched_ms} ms");
    for (n, other) in others.iter().enumerate() {
        let missed = witness.seen.len().checked_sub(other.seen.len()).expect("nothing was made up");
        assert!(missed < 500, "viewer {n} has {} frames of {}", other.seen.len(), witness.seen.len());
        assert!(other.seen == witness.seen[missed..], "viewer {n} has each frame that the witness has");
    }
    let missed = witness.seen.len() - late.seen.len();
    assert!(missed > 1000, "the late one joined late");
    assert!(late.seen == witness.seen[missed..], "and has each frame from there on");

    // Whatever was left out, it goes on with a picture that can be decoded.
    let place: HashMap<(u8, u32), usize> =
        witness.seen.iter().enumerate().map(|(n, seen)| ((seen.kind, seen.timestamp_ms), n)).collect();
    let mut skips = 0;
    let mut last = None;
    let pictures: Vec<usize> = (0..witness.seen.len()).filter(|n| witness.seen[*n].kind == 9).collect();
    for seen in &slow.seen {
        let at = place[&(seen.kind, seen.timestamp_ms)];
        assert_eq!(witness.seen[at].hash, seen.hash, "what the slow viewer has is unchanged");
        if seen.kind == 9 {
            let nth = pictures.binary_search(&at).unwrap();
            let gap = last.is_some_and(|last| nth != last + 1);
            assert!(!gap || seen.key_picture, "after a gap comes a random access point");
            skips += usize::from(gap);
            last = Some(nth);
        }
    }
    assert!(skips > 0, "the slow viewer was spared what it could not take: {} frames", slow.seen.len());

    let growth_kib = peak_kib.saturating_sub(before_kib);
    println!("{CROWD} viewers: {growth_kib} KiB more than before; the slow one skipped {skips} times");
    assert!(growth_kib <= GROWTH_KIB_MAX, "{growth_kib} KiB for {CROWD} viewers");
}
