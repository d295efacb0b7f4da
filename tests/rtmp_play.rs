//! Playing by RTMP over real sockets: ffmpeg, rtmpdump and `rml_rtmp` get what was published, frame by frame; the late,
//! the slow and the dead are each dealt with, and nobody else notices.

#[path = "common/media.rs"]
mod media;
#[path = "common/rtmp.rs"]
mod rtmp;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytesize::ByteSize;
use grandstand::ingest::rtmp::Settings;
use grandstand::live::Publisher;
use grandstand::media::demux::Demuxer;
use grandstand::media::flv::{Tag, TagKind};
use grandstand::media::{Event, Frame, Span, Ticks, Track};
use grandstand::publish::FlvFile;
use rml_rtmp::sessions::ClientSessionEvent;
use tokio::task::JoinHandle;

use media::{Media, Unit};
use rtmp::{Client, Origin, run_process, until};

/// 25 pictures per second with B-frames, closed GOP of 50, AAC.
const MATCH: &str = "match.flv";
const NAME: &str = "live/mark";

fn fixture(name: &str) -> FlvFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    FlvFile::read(&fs::read(path).unwrap().into()).unwrap()
}

/// What a publisher of these tags is to the hub.
fn events(tags: &[Tag]) -> Vec<Event> {
    let mut demuxer = Demuxer::new();
    let mut events = Vec::new();
    for tag in tags {
        demuxer.push(tag.clone());
        events.extend(std::iter::from_fn(|| demuxer.poll_event()));
    }
    demuxer.finish();
    events.extend(std::iter::from_fn(|| demuxer.poll_event()));
    events
}

fn push(publisher: &Publisher, events: &[Event]) {
    for event in events {
        publisher.push(event);
    }
}

/// Audio and video messages as a player got them.
type Messages = Vec<(TagKind, u32, Bytes)>;

async fn play(origin: &Origin, name: &str) -> Client {
    let mut client = Client::connect(origin, "live").await;
    let accepted = |event: &ClientSessionEvent| *event == ClientSessionEvent::ConnectionRequestAccepted;
    client.event(accepted).await.unwrap();
    let request = client.session.request_playback(name.into()).unwrap();
    client.send(request).await;
    client
}

/// A player that has been joined to the broadcast.
async fn joined(origin: &Origin) -> Client {
    let mut client = play(origin, "mark").await;
    let started = |event: &ClientSessionEvent| *event == ClientSessionEvent::PlaybackRequestAccepted;
    client.event(started).await.expect("the play is accepted");
    client
}

fn message(event: ClientSessionEvent) -> Option<(TagKind, u32, Bytes)> {
    match event {
        ClientSessionEvent::VideoDataReceived { timestamp, data } => {
            Some((TagKind::Video, timestamp.value, data))
        }
        ClientSessionEvent::AudioDataReceived { timestamp, data } => {
            Some((TagKind::Audio, timestamp.value, data))
        }
        _ => None,
    }
}

/// All there is up to the end of the broadcast.
async fn watch(client: &mut Client) -> Messages {
    let mut messages = Vec::new();
    loop {
        match client.next().await.expect("the end is told before it comes") {
            ClientSessionEvent::UnhandleableOnStatusCode { code }
                if code == "NetStream.Play.UnpublishNotify" =>
            {
                return messages;
            }
            event => messages.extend(message(event)),
        }
    }
}

fn is_config(kind: TagKind, body: &[u8]) -> bool {
    match kind {
        TagKind::Video => body.get(1) == Some(&0),
        TagKind::Audio => body.starts_with(&[0xaf, 0]),
        TagKind::Data => false,
    }
}

/// Neither a config nor the end of a sequence, which is a file's.
fn is_frame(kind: TagKind, body: &[u8]) -> bool {
    !is_config(kind, body) && (kind != TagKind::Video || body.get(1) == Some(&1))
}

/// One track's bodies, with times from the first on.
fn track<'a>(
    kind: TagKind,
    messages: impl Iterator<Item = (TagKind, u32, &'a Bytes)>,
) -> Vec<(u32, &'a Bytes)> {
    let mut first = None;
    messages
        .filter(|(of, _, body)| *of == kind && is_frame(kind, body))
        .map(|(_, at, body)| (at - *first.get_or_insert(at), body))
        .collect()
}

fn tags(file: &FlvFile) -> impl Iterator<Item = (TagKind, u32, &Bytes)> {
    file.tags().iter().map(|tag| (tag.kind, tag.timestamp_ms, &tag.body))
}

fn borrowed(messages: &Messages) -> impl Iterator<Item = (TagKind, u32, &Bytes)> {
    messages.iter().map(|(kind, at, body)| (*kind, *at, body))
}

/// Frame by frame, byte by byte, to the millisecond: AVC with and without B-frames, AAC, MP3, one track and both.
#[tokio::test]
async fn a_player_gets_what_was_published() {
    let origin = Origin::start(Settings::default()).await;
    for name in [MATCH, "baseline.flv", "audio-only.flv", "video-only.flv", "mp3.flv"] {
        let file = fixture(name);
        let publisher = origin.hub.publish(&NAME.parse().unwrap()).unwrap();
        let mut client = joined(&origin).await;
        push(&publisher, &events(file.tags()));
        publisher.say_goodbye();
        let messages = watch(&mut client).await;
        for kind in [TagKind::Video, TagKind::Audio] {
            let (sent, got) = (track(kind, tags(&file)), track(kind, borrowed(&messages)));
            assert_eq!(sent.len(), got.len(), "{name} {kind:?}");
            for (n, (sent, got)) in sent.iter().zip(&got).enumerate() {
                assert_eq!(sent.1, got.1, "{name} {kind:?} {n}");
                // Audio goes by its sample clock, which the file's milliseconds round.
                let room = u32::from(kind == TagKind::Audio);
                assert!(sent.0.abs_diff(got.0) <= room, "{name} {kind:?} {n}: {} {}", sent.0, got.0);
            }
            let config = |(of, _, body): (TagKind, u32, &Bytes)| {
                (of == kind && is_config(kind, body)).then(|| body.clone())
            };
            let (sent, got): (Vec<_>, Vec<_>) =
                (tags(&file).filter_map(config).collect(), borrowed(&messages).filter_map(config).collect());
            assert_eq!(sent, got, "{name} {kind:?}");
        }
        assert!(messages.iter().all(|(_, at, _)| *at < 20_000), "{name}: near zero");
    }
    origin.stop().await;
}

/// Each in its own form as a file, read again: the same frames at the same distances.
async fn records(name: &str, player: impl AsyncFn(String, String) -> (bool, String)) {
    let origin = Origin::start(Settings::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out.flv");
    let file = fixture(name);
    let publisher = origin.hub.publish(&NAME.parse().unwrap()).unwrap();
    let broadcast = async {
        until(|| origin.metrics.rtmp_players.get() == 1).await;
        push(&publisher, &events(file.tags()));
        publisher.say_goodbye();
    };
    let ((), (success, log)) =
        tokio::join!(broadcast, player(origin.url(NAME), out.to_str().unwrap().to_owned()));
    assert!(success, "{log}");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    let sent = Media::of_flv(&fs::read(path).unwrap());
    let got = Media::of_flv(&fs::read(&out).unwrap_or_else(|error| panic!("{error}: {log}")));
    assert_eq!(from_first(&sent.video), from_first(&got.video), "{log}");
    assert_eq!(sent.audio.len(), got.audio.len(), "{log}");
    assert!(sent.audio.iter().zip(&got.audio).all(|(sent, got)| sent.sha256 == got.sha256));
    until(|| origin.metrics.rtmp_players.get() == 0).await;
    origin.stop().await;
}

fn from_first(units: &[Unit]) -> Vec<Unit> {
    let first = units.first().map_or(0, |unit| unit.dts);
    let moved = |unit: &Unit| Unit { pts: unit.pts - first, dts: unit.dts - first, ..unit.clone() };
    units.iter().map(moved).collect()
}

#[tokio::test]
async fn ffmpeg_records_what_was_published() {
    for name in [MATCH, "baseline.flv"] {
        records(name, async |url, out| {
            run_process("ffmpeg", &["-v", "error", "-i", &url, "-c", "copy", "-y", &out]).await
        })
        .await;
    }
}

#[tokio::test]
async fn rtmpdump_records_what_was_published() {
    for name in [MATCH, "baseline.flv"] {
        records(name, async |url, out| {
            run_process("rtmpdump", &["--live", "--rtmp", &url, "--flv", &out]).await
        })
        .await;
    }
}

/// ffmpeg stops by itself, in the middle, and leaves nothing behind.
#[tokio::test]
async fn ffmpeg_goes_when_it_has_seen_enough() {
    let origin = Origin::start(Settings::default()).await;
    let publisher = origin.hub.publish(&NAME.parse().unwrap()).unwrap();
    push(&publisher, &events(fixture(MATCH).tags()));
    let url = origin.url(NAME);
    let args = ["-v", "error", "-i", &url, "-t", "1", "-c", "copy", "-f", "null", "-"];
    let (success, log) = run_process("ffmpeg", &args).await;
    assert!(success && log.is_empty(), "{log}");
    until(|| origin.metrics.rtmp_players.get() == 0).await;
    assert!(origin.is_live(NAME));
    publisher.say_goodbye();
    origin.stop().await;
}

/// The newest group of pictures at once, and nothing of those before; live behind it.
#[tokio::test]
async fn a_late_joiner_gets_a_key_frame_first() {
    let origin = Origin::start(Settings::default()).await;
    let publisher = origin.hub.publish(&NAME.parse().unwrap()).unwrap();
    let file = fixture(MATCH);
    let events = events(file.tags());
    let (before, after) = events.split_at(events.len() / 2);
    push(&publisher, before);
    let mut client = joined(&origin).await;
    push(&publisher, after);
    publisher.say_goodbye();
    let messages = watch(&mut client).await;
    let kinds: Vec<_> =
        messages.iter().map(|(kind, _, body)| (*kind, is_config(*kind, body))).take(2).collect();
    assert_eq!(kinds, [(TagKind::Video, true), (TagKind::Audio, true)]);
    let (kind, at, body) = &messages[2];
    assert_eq!((*kind, *at, body[0]), (TagKind::Video, 100, 0x17));
    let (sent, got) = (track(TagKind::Video, tags(&file)), track(TagKind::Video, borrowed(&messages)));
    let missed = sent.len() - got.len();
    assert_eq!(missed % 50, 0, "whole groups are left out");
    assert!((100..=200).contains(&missed), "{missed}");
    assert!(sent[missed..].iter().zip(&got).all(|(sent, got)| sent.1 == got.1));
    origin.stop().await;
}

/// A broadcast of 10 kB pictures, a random access point every tenth, each with its number: `pushed` so far.
struct Numbered {
    publisher: Publisher,
    tracks: Event,
    pushed: u32,
}

impl Numbered {
    fn start(origin: &Origin) -> Self {
        let publisher = origin.hub.publish(&NAME.parse().unwrap()).unwrap();
        let mut tracks = events(fixture("video-only.flv").tags()).into_iter();
        let tracks = tracks.find(|event| matches!(event, Event::Tracks(_))).unwrap();
        publisher.push(&tracks);
        Self { publisher, tracks, pushed: 0 }
    }

    fn push(&mut self) {
        let at = Ticks(0) + Span::from_ms(i64::from(self.pushed) * 40);
        let mut payload = self.pushed.to_be_bytes().to_vec();
        payload.resize(10_000, 0);
        let random_access = self.pushed.is_multiple_of(10);
        let frame = Frame { track: Track::Video, dts: at, pts: at, random_access, payload: payload.into() };
        self.publisher.push(&Event::Frame(Arc::new(frame)));
        self.pushed += 1;
    }

    /// Until `met`, as fast as nobody would send.
    async fn push_until(&mut self, mut met: impl FnMut() -> bool) {
        let deadline = Instant::now() + rtmp::SOON;
        while !met() {
            assert!(Instant::now() < deadline, "what is waited for does not come");
            (0..10).for_each(|_| self.push());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Another publisher under the same name.
    fn reconnect(self, origin: &Origin) -> Self {
        let Self { publisher, tracks, pushed } = self;
        drop(publisher);
        let publisher = origin.hub.publish(&NAME.parse().unwrap()).unwrap();
        publisher.push(&tracks);
        Self { publisher, tracks, pushed: pushed.next_multiple_of(10) }
    }
}

fn numbers(messages: &Messages) -> Vec<(u32, u32)> {
    let pictures = messages.iter().filter(|(kind, _, body)| is_frame(*kind, body));
    pictures.map(|(_, at, body)| (u32::from_be_bytes(body[5..9].try_into().unwrap()), *at)).collect()
}

fn watching(mut client: Client) -> JoinHandle<Vec<(u32, u32)>> {
    tokio::spawn(async move { numbers(&watch(&mut client).await) })
}

/// What the slow one could not take is skipped, whole groups of it; who reads loses nothing meanwhile.
#[tokio::test]
async fn a_slow_player_skips_to_a_random_access_point_alone() {
    let settings = Settings { play_queue: ByteSize::kib(512), ..Settings::default() };
    let origin = Origin::start(settings).await;
    let mut broadcast = Numbered::start(&origin);
    let mut slow = joined(&origin).await;
    broadcast.push_until(|| origin.metrics.queue_drops.get() > 100).await;
    let healthy = joined(&origin).await;
    let healthy = watching(healthy);
    let slow_reads = tokio::spawn(async move { numbers(&watch(&mut slow).await) });
    let dropped = origin.metrics.queue_drops.get();
    // Both at a pace that a reader takes.
    for _ in 0..100 {
        broadcast.push();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let pushed = broadcast.pushed;
    broadcast.publisher.say_goodbye();
    let (slow, healthy) = (slow_reads.await.unwrap(), healthy.await.unwrap());
    assert!(healthy.windows(2).all(|pair| pair[1] == (pair[0].0 + 1, pair[0].1 + 40)), "{healthy:?}");
    assert_eq!(healthy.last().unwrap().0, pushed - 1);
    let lost: Vec<_> = slow.windows(2).filter(|pair| pair[1].0 != pair[0].0 + 1).collect();
    assert!(!lost.is_empty() && lost.iter().all(|pair| pair[1].0 % 10 == 0), "{lost:?}");
    assert!(slow.windows(2).all(|pair| pair[1].1 == pair[0].1 + 40), "no hole for a player to wait in");
    assert_eq!(slow.last().unwrap().0, pushed - 1, "it is back at the live edge");
    assert_eq!(
        slow.len() as u64 + origin.metrics.queue_drops.get(),
        u64::from(pushed),
        "nothing is lost uncounted"
    );
    assert!(dropped > 0 && origin.refusals("timeout") == 0);
    origin.stop().await;
}

#[tokio::test]
async fn a_dead_player_is_closed() {
    let write_timeout = Duration::from_millis(300);
    let origin = Origin::start(Settings { write_timeout, ..Settings::default() }).await;
    let mut broadcast = Numbered::start(&origin);
    let dead = joined(&origin).await;
    assert_eq!(origin.metrics.rtmp_players.get(), 1);
    broadcast.push_until(|| origin.refusals("timeout") == 1).await;
    assert_eq!(origin.metrics.rtmp_players.get(), 0);
    assert!(origin.is_live(NAME));
    drop(dead);
    broadcast.publisher.say_goodbye();
    origin.stop().await;
}

/// And a player that says nothing for long is no one to be closed.
#[tokio::test]
async fn a_player_stays_while_publishers_come_and_go() {
    let short = Duration::from_millis(200);
    let settings = Settings { publish_timeout: short, publish_idle: short, ..Settings::default() };
    let origin = Origin::start(settings).await;
    let mut broadcast = Numbered::start(&origin);
    let client = watching(joined(&origin).await);
    (0..5).for_each(|_| broadcast.push());
    let began = Instant::now();
    until(|| began.elapsed() > short * 3).await;
    for _ in 0..3 {
        broadcast = broadcast.reconnect(&origin);
        (0..12).for_each(|_| broadcast.push());
    }
    broadcast.publisher.say_goodbye();
    let got = client.await.unwrap();
    let expected: Vec<u32> = [0..5, 10..22, 30..42, 50..62].into_iter().flatten().collect();
    assert_eq!(got.iter().map(|(number, _)| *number).collect::<Vec<_>>(), expected);
    assert!(got.windows(2).all(|pair| pair[1].1 == pair[0].1 + 40), "{got:?}");
    origin.stop().await;
}

#[tokio::test]
async fn a_name_that_is_not_live_is_refused() {
    let origin = Origin::start(Settings::default()).await;
    let mut client = play(&origin, "nobody").await;
    let told =
        |event: &ClientSessionEvent| matches!(event, ClientSessionEvent::UnhandleableOnStatusCode { .. });
    let code = "NetStream.Play.StreamNotFound".to_owned();
    assert_eq!(client.event(told).await, Some(ClientSessionEvent::UnhandleableOnStatusCode { code }));
    client.until_closed().await;
    let url = origin.url("live/nobody");
    let (success, log) = run_process("ffmpeg", &["-v", "error", "-i", &url, "-f", "null", "-"]).await;
    assert!(!success && log.contains("no broadcast of this name is live"), "{log}");
    let folder = tempfile::tempdir().unwrap();
    // A file of its own: rtmpdump removes what it could not fill, and /dev/null with it if it is root.
    let out = folder.path().join("none.flv").display().to_string();
    let (success, log) = run_process("rtmpdump", &["--live", "--rtmp", &url, "--flv", &out]).await;
    assert!(!success && log.contains("NetStream.Play.StreamNotFound"), "{log}");
    assert_eq!(origin.refusals("not_live"), 3);
    origin.stop().await;
}

#[tokio::test]
async fn playing_can_be_switched_off() {
    let origin = Origin::start(Settings { play: false, ..Settings::default() }).await;
    let broadcast = Numbered::start(&origin);
    let mut client = play(&origin, "mark").await;
    let told =
        |event: &ClientSessionEvent| matches!(event, ClientSessionEvent::UnhandleableOnStatusCode { .. });
    let code = "NetStream.Play.Failed".to_owned();
    assert_eq!(client.event(told).await, Some(ClientSessionEvent::UnhandleableOnStatusCode { code }));
    client.until_closed().await;
    assert_eq!(origin.refusals("play"), 1);
    broadcast.publisher.say_goodbye();
    origin.stop().await;
}
