//! HTTP-FLV and WebSocket-FLV over real sockets: what viewers of every kind are given, and what they cost.

#[path = "common/showing.rs"]
mod showing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use bytesize::ByteSize;
use grandstand::deliver::Settings;
use grandstand::deliver::flv::Start;
use grandstand::live::Publisher;
use grandstand::media::aac::AacConfig;
use grandstand::media::h264::VideoConfig;
use grandstand::media::{AudioConfig, Event, Frame, Span, Ticks, Track, TrackSet};
use grandstand::metrics::Reason;
use showing::{Serving, Showing};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// How long anything that should be quick may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn video() -> Arc<VideoConfig> {
    Arc::new(VideoConfig {
        record: Bytes::from_static(b"record"),
        sps: Vec::new(),
        pps: Vec::new(),
        nal_length_size: 4,
        codec: "avc1.42C01E".to_owned(),
        width: 640,
        height: 360,
        frame_rate: Some((25, 1)),
        reorder: Some(0),
    })
}

fn audio() -> Arc<AudioConfig> {
    Arc::new(AudioConfig::Aac(AacConfig::parse(Bytes::from_static(&[0x12, 0x10])).unwrap()))
}

/// A publisher of numbered pictures.
struct Encoder {
    publisher: Publisher,
    number: u32,
}

impl Encoder {
    fn start(showing: &Showing, tracks: TrackSet) -> Self {
        let publisher = showing.context.hub.publish(&"live/mark".parse().unwrap()).unwrap();
        publisher.push(&Event::Tracks(Arc::new(tracks)));
        Self { publisher, number: 0 }
    }

    fn with_video(showing: &Showing) -> Self {
        Self::start(showing, TrackSet { video: Some(video()), audio: None })
    }

    fn frame(&self, track: Track, random_access: bool, payload: Bytes) {
        let dts = Ticks(0) + Span::from_ms(i64::from(self.number) * 40);
        let frame = Frame { track, dts, pts: dts, random_access, payload };
        self.publisher.push(&Event::Frame(Arc::new(frame)));
    }

    /// `count` pictures of `len` bytes and some; every 25th is a random access point.
    fn pictures(&mut self, count: u32, len: usize) {
        for _ in 0..count {
            let mut payload = self.number.to_be_bytes().to_vec();
            payload.resize(4 + len, 0);
            self.frame(Track::Video, self.number.is_multiple_of(25), payload.into());
            self.number += 1;
        }
    }
}

/// A raw connection.
struct Client {
    stream: TcpStream,
    /// Read and not yet used.
    rest: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr, receive_buffer: Option<u32>) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        Self { stream: socket.connect(address).await.unwrap(), rest: Vec::new() }
    }

    async fn ask(&mut self, method: &str, path: &str, headers: &str) -> String {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n{headers}\r\n");
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.until(b"\r\n\r\n").await
    }

    /// Reads more; false at the end.
    async fn more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.rest);
        timeout(SOON, read).await.expect("more comes soon").is_ok_and(|len| len > 0)
    }

    async fn until(&mut self, mark: &[u8]) -> String {
        loop {
            if let Some(at) = self.rest.windows(mark.len()).position(|found| found == mark) {
                let rest = self.rest.split_off(at + mark.len());
                let text = std::mem::replace(&mut self.rest, rest);
                return String::from_utf8(text).unwrap();
            }
            assert!(self.more().await, "cut off: {:?}", String::from_utf8_lossy(&self.rest));
        }
    }

    async fn exactly(&mut self, len: usize) -> Vec<u8> {
        while self.rest.len() < len {
            assert!(self.more().await, "cut off");
        }
        let rest = self.rest.split_off(len);
        std::mem::replace(&mut self.rest, rest)
    }

    /// One chunk of the body; empty at its end (RFC 9112 §7.1).
    async fn chunk(&mut self) -> Vec<u8> {
        let size = self.until(b"\r\n").await;
        let len = usize::from_str_radix(size.trim_end(), 16).unwrap();
        let mut chunk = self.exactly(len + 2).await;
        assert_eq!(chunk.split_off(len), b"\r\n");
        chunk
    }
}

/// Someone who watches, and fails on what cannot be decoded.
struct Viewer {
    client: Client,
    flv: Vec<u8>,
    begun: bool,
    flags: u8,
    metadata: usize,
    record: bool,
    config: bool,
    pictures: Vec<u32>,
    sounds: usize,
    last_ms: u32,
}

impl Viewer {
    async fn join(serving: &Serving, receive_buffer: Option<u32>) -> Self {
        let mut client = Client::connect(serving.address, receive_buffer).await;
        let head = client.ask("GET", "/live/mark.flv", "").await;
        for line in [
            "HTTP/1.1 200 OK",
            "content-type: video/x-flv",
            "cache-control: no-store",
            "x-accel-buffering: no",
            "access-control-allow-origin: *",
            "transfer-encoding: chunked",
        ] {
            assert!(head.contains(line), "{line} in {head}");
        }
        Self::of(client)
    }

    fn of(client: Client) -> Self {
        Self {
            client,
            flv: Vec::new(),
            begun: false,
            flags: 0,
            metadata: 0,
            record: false,
            config: false,
            pictures: Vec::new(),
            sounds: 0,
            last_ms: 0,
        }
    }

    /// Watches until `enough`, or to the end; true if that is the end.
    async fn watch(&mut self, enough: impl Fn(&Self) -> bool) -> bool {
        while !enough(self) {
            let chunk = self.client.chunk().await;
            if chunk.is_empty() {
                assert!(self.flv.is_empty(), "a tag is cut off");
                return true;
            }
            self.take(&chunk);
        }
        false
    }

    async fn see(&mut self, number: u32) {
        let over = self.watch(|viewer| viewer.pictures.last() == Some(&number)).await;
        assert!(!over, "picture {number} before the end");
    }

    /// A block is whole tags.
    fn take(&mut self, chunk: &[u8]) {
        let mut rest = chunk;
        if !self.begun {
            assert_eq!(&rest[..4], b"FLV\x01");
            self.flags = rest[4];
            self.begun = true;
            rest = &rest[13..];
        }
        while !rest.is_empty() {
            let len = usize::from(rest[1]) << 16 | usize::from(rest[2]) << 8 | usize::from(rest[3]);
            let ms = u32::from_be_bytes([rest[7], rest[4], rest[5], rest[6]]);
            let body = &rest[11..11 + len];
            match (rest[0], body[0], body[1]) {
                (18, ..) => self.metadata += 1,
                (9, 0x17, 0) => self.record = true,
                (8, _, 0) => self.config = true,
                (9, kind, 1) => {
                    self.picture(kind == 0x17, u32::from_be_bytes(body[5..9].try_into().unwrap()), ms);
                }
                (8, _, 1) => {
                    assert!(self.config);
                    self.sounds += 1;
                }
                other => panic!("a tag {other:?}"),
            }
            rest = &rest[15 + len..];
        }
    }

    fn picture(&mut self, random_access: bool, number: u32, ms: u32) {
        assert!(self.record, "parameters before pictures");
        let follows = self.pictures.last().is_some_and(|last| last + 1 == number);
        assert!(random_access || follows, "{number} after {:?}", self.pictures.last());
        assert!(ms >= self.last_ms, "time goes on");
        self.last_ms = ms;
        self.pictures.push(number);
    }
}

/// Waits for what has no event of its own here.
async fn poll(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn ends(showing: &Showing, reason: &'static str) -> u64 {
    showing.context.metrics.flv_ends.get_or_create(&Reason { reason }).get()
}

fn viewers(showing: &Showing) -> i64 {
    showing.context.metrics.flv_viewers.get()
}

#[tokio::test]
async fn a_late_joiner_begins_with_the_newest_group() {
    let showing = Showing::new().await;
    let serving = showing.serve(Settings::default()).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(60, 500);
    for _ in 0..2 {
        let mut viewer = Viewer::join(&serving, None).await;
        viewer.see(encoder.number - 1).await;
        assert_eq!((viewer.pictures[0], viewer.flags, viewer.metadata), (50, 1, 1));
        encoder.pictures(3, 500);
        viewer.see(encoder.number - 1).await;
        assert!(viewer.pictures.is_sorted_by(|a, b| a + 1 == *b), "nothing is lost");
    }
    poll("both have left", || viewers(&showing) == 0 && ends(&showing, "left") == 2).await;
}

#[tokio::test]
async fn a_low_latency_start_has_nothing_of_the_past() {
    let mut showing = Showing::new().await;
    showing.context.flv.start = Start::LowLatency;
    let serving = showing.serve(Settings::default()).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(60, 500);
    let mut viewer = Viewer::join(&serving, None).await;
    poll("it has a seat", || viewers(&showing) == 1).await;
    encoder.pictures(30, 500);
    viewer.see(89).await;
    assert_eq!(viewer.pictures[0], 75);
}

/// 40 MB to a viewer who takes 4: it costs the others nothing, and what it is given can be decoded.
#[tokio::test]
async fn a_slow_viewer_skips_and_delays_nobody() {
    let mut showing = Showing::new().await;
    showing.context.flv.queue = ByteSize::mib(1);
    let serving = showing.serve(Settings::default()).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(1, 20_000);
    let mut quick = Viewer::join(&serving, None).await;
    let mut slow = Viewer::join(&serving, Some(16 * 1024)).await;
    slow.see(0).await;
    for turn in 0..200 {
        encoder.pictures(10, 20_000);
        quick.see(encoder.number - 1).await;
        if turn % 10 == 0 {
            let chunk = slow.client.chunk().await;
            slow.take(&chunk);
        }
    }
    assert_eq!(quick.pictures.len(), 2001, "nothing is lost");
    encoder.publisher.say_goodbye();
    assert!(slow.watch(|_| false).await, "the end is seen");
    assert!(slow.pictures.len() < 1000, "{} pictures", slow.pictures.len());
    assert!(showing.context.metrics.flv_skips.get() > 0);
    assert!(quick.watch(|_| false).await);
    poll("both were told of the end", || ends(&showing, "ended") == 2).await;
}

#[tokio::test]
async fn a_dead_viewer_is_closed() {
    let showing = Showing::new().await;
    let write_timeout = Duration::from_millis(400);
    let serving = showing.serve(Settings { write_timeout, ..Settings::default() }).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(1, 100);
    let dead = Viewer::join(&serving, Some(4096)).await;
    encoder.pictures(300, 20_000);
    poll("it is closed", || viewers(&showing) == 0).await;
    assert_eq!(ends(&showing, "stalled"), 1);
    drop(dead);
}

#[tokio::test]
async fn an_end_of_broadcast_is_a_clean_end_of_the_response() {
    let showing = Showing::new().await;
    let serving = showing.serve(Settings::default()).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(3, 100);
    let mut viewer = Viewer::join(&serving, None).await;
    viewer.see(2).await;
    encoder.pictures(1, 100);
    encoder.publisher.say_goodbye();
    assert!(viewer.watch(|_| false).await);
    assert_eq!(viewer.pictures, [0, 1, 2, 3], "up to the last picture");
    let head = viewer.client.ask("GET", "/live/mark.flv", "").await;
    assert!(head.starts_with("HTTP/1.1 404"), "the connection is of use for more: {head}");
}

/// While the publisher is away, for longer than any timeout, and after.
#[tokio::test]
async fn a_viewer_stays_over_a_reconnect() {
    let showing = Showing::new().await;
    let short = Duration::from_millis(150);
    let settings =
        Settings { write_timeout: short, idle_timeout: short, header_timeout: short, ..Settings::default() };
    let serving = showing.serve(settings).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(30, 100);
    let mut viewer = Viewer::join(&serving, None).await;
    viewer.see(29).await;
    drop(encoder);
    let nothing = timeout(short * 6, viewer.client.chunk()).await;
    assert!(nothing.is_err(), "neither bytes nor an end");
    let mut newcomer = Viewer::join(&serving, None).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.number = 1000;
    encoder.pictures(10, 100);
    for viewer in [&mut viewer, &mut newcomer] {
        viewer.see(1009).await;
        assert!(viewer.pictures.ends_with(&[1000, 1001, 1002, 1003, 1004, 1005, 1006, 1007, 1008, 1009]));
    }
    assert!(viewer.last_ms < 30 * 40 + 11 * 40 + 200, "no hole: {}", viewer.last_ms);
    assert_eq!(newcomer.pictures.len(), 10, "nothing of before");
}

#[tokio::test]
async fn a_late_track_comes_on_the_same_response() {
    let showing = Showing::new().await;
    let serving = showing.serve(Settings::default()).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(3, 100);
    let mut viewer = Viewer::join(&serving, None).await;
    viewer.see(2).await;
    let both = TrackSet { video: Some(video()), audio: Some(audio()) };
    encoder.publisher.push(&Event::Tracks(Arc::new(both)));
    encoder.frame(Track::Audio, true, Bytes::from_static(b"sound"));
    encoder.pictures(1, 100);
    viewer.see(3).await;
    assert_eq!((viewer.flags, viewer.metadata, viewer.sounds), (0b001, 2, 1));
    let mut joiner = Viewer::join(&serving, None).await;
    joiner.see(3).await;
    assert_eq!((joiner.flags, joiner.metadata, joiner.sounds), (0b101, 1, 1));
}

#[tokio::test]
async fn head_says_what_get_would_and_takes_no_seat() {
    let showing = Showing::new().await;
    let serving = showing.serve(Settings::default()).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(1, 100);
    let mut client = Client::connect(serving.address, None).await;
    let head = client.ask("HEAD", "/live/mark.flv", "").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: video/x-flv"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    assert_eq!(viewers(&showing), 0);
    let next = client.ask("HEAD", "/healthz", "").await;
    assert!(next.starts_with("HTTP/1.1 200"), "there was no body: {next}");
}

#[tokio::test]
async fn a_name_that_is_not_live_is_not_found_for_a_second() {
    let showing = Showing::new().await;
    let serving = showing.serve(Settings::default()).await;
    let mut client = Client::connect(serving.address, None).await;
    let head = client.ask("GET", "/live/mark.flv", "").await;
    for line in ["HTTP/1.1 404", "cache-control: public, max-age=1\r", "access-control-allow-origin: *"] {
        assert!(head.contains(line), "{line} in {head}");
    }
}

#[tokio::test]
async fn a_request_may_wait_for_its_publisher() {
    let mut showing = Showing::new().await;
    showing.context.flv.wait = SOON;
    let serving = showing.serve(Settings::default()).await;
    let mut client = Client::connect(serving.address, None).await;
    let (head, mut encoder) = tokio::join!(client.ask("GET", "/live/mark.flv", ""), async {
        let asked = showing.context.metrics.http_connections.clone();
        poll("it has connected", || asked.get() == 1).await;
        Encoder::with_video(&showing)
    });
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    encoder.pictures(1, 100);
    Viewer::of(client).see(0).await;
}

#[tokio::test]
async fn a_wait_ends() {
    let mut showing = Showing::new().await;
    showing.context.flv.wait = Duration::from_millis(50);
    let serving = showing.serve(Settings::default()).await;
    let mut client = Client::connect(serving.address, None).await;
    assert!(client.ask("GET", "/live/mark.flv", "").await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn what_is_switched_off_is_not_there() {
    let mut showing = Showing::new().await;
    showing.context.flv.enabled = false;
    let serving = showing.serve(Settings::default()).await;
    let _encoder = Encoder::with_video(&showing);
    let mut client = Client::connect(serving.address, None).await;
    assert!(client.ask("GET", "/live/mark.flv", "").await.starts_with("HTTP/1.1 404"));
    client.exactly("not found\n".len()).await;
    let streams = client.ask("GET", "/api/v1/streams", "").await;
    assert!(streams.starts_with("HTTP/1.1 200"));
    assert!(client.until(b"\"flv\":null").await.contains("live/mark"));
}

const HANDSHAKE: &str = "Connection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

impl Client {
    /// One frame of the server: opcode and payload (RFC 6455 §5.2).
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let head = self.exactly(2).await;
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let len = match head[1] {
            126 => self.exactly(2).await.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
            127 => self.exactly(8).await.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)),
            len => len.into(),
        };
        (head[0], self.exactly(len).await)
    }
}

#[tokio::test]
async fn the_same_comes_over_a_websocket() {
    let showing = Showing::new().await;
    let short = Duration::from_millis(150);
    let settings = Settings { write_timeout: short, idle_timeout: short, ..Settings::default() };
    let serving = showing.serve(settings).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(30, 9000);
    let mut client = Client::connect(serving.address, None).await;
    let head = client.ask("GET", "/live/mark.flv", HANDSHAKE).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
    assert!(!head.contains("content-length"), "{head}");
    let mut viewer = Viewer::of(client);
    while viewer.pictures.last() != Some(&29) {
        let (opcode, payload) = viewer.client.frame().await;
        assert_eq!(opcode, 0x82);
        viewer.take(&payload);
    }
    assert_eq!(viewer.pictures[0], 25);
    assert!(
        timeout(short * 5, viewer.client.frame()).await.is_err(),
        "nothing to send is no reason to close"
    );
    viewer.client.stream.write_all(&[0x89, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    assert_eq!(viewer.client.frame().await, (0x8a, b"hi".to_vec()));
    encoder.publisher.say_goodbye();
    assert_eq!(viewer.client.frame().await, (0x88, 1000_u16.to_be_bytes().to_vec()));
    assert!(!viewer.client.more().await, "closed");
    poll("it has left", || ends(&showing, "ended") == 1 && viewers(&showing) == 0).await;
}

#[tokio::test]
async fn a_websocket_viewer_who_says_goodbye_or_takes_nothing_goes() {
    let showing = Showing::new().await;
    let write_timeout = Duration::from_millis(400);
    let serving = showing.serve(Settings { write_timeout, ..Settings::default() }).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(1, 100);
    let mut polite = Client::connect(serving.address, None).await;
    polite.ask("GET", "/live/mark.flv", HANDSHAKE).await;
    polite.frame().await;
    polite.stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.unwrap();
    while polite.frame().await.0 != 0x88 {}
    poll("it has left", || ends(&showing, "left") == 1).await;
    let mut dead = Client::connect(serving.address, Some(4096)).await;
    dead.ask("GET", "/live/mark.flv", HANDSHAKE).await;
    encoder.pictures(300, 20_000);
    poll("it is closed", || ends(&showing, "stalled") == 1).await;
}

#[tokio::test]
async fn a_bad_handshake_is_told_why() {
    let showing = Showing::new().await;
    let serving = showing.serve(Settings::default()).await;
    let _encoder = Encoder::with_video(&showing);
    for (handshake, status) in [
        (HANDSHAKE.replace("13", "8"), "HTTP/1.1 426"),
        (HANDSHAKE.replace("dGhl", ""), "HTTP/1.1 400"),
        (HANDSHAKE.replace("keep-alive, Upgrade", "keep-alive"), "HTTP/1.1 400"),
    ] {
        let mut client = Client::connect(serving.address, None).await;
        let head = client.ask("GET", "/live/mark.flv", &handshake).await;
        assert!(head.starts_with(status), "{head}");
    }
    assert_eq!(viewers(&showing), 0);
}

/// A viewer with nothing to take and one with much: neither holds up a stop.
#[tokio::test]
async fn a_stop_ends_every_response() {
    let showing = Showing::new().await;
    let settings = Settings { drain_timeout: Duration::from_millis(300), ..Settings::default() };
    let serving = showing.serve(settings).await;
    let mut encoder = Encoder::with_video(&showing);
    encoder.pictures(1, 100);
    let mut viewer = Viewer::join(&serving, None).await;
    let dead = Viewer::join(&serving, Some(4096)).await;
    encoder.pictures(300, 20_000);
    encoder.publisher.say_goodbye();
    serving.stop.cancel();
    assert!(viewer.watch(|_| false).await, "a clean end");
    timeout(SOON, serving.task).await.unwrap().unwrap();
    drop(dead);
}
