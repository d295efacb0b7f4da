//! RTMP over real sockets: encoders that are right, peers that are wrong, and the origin's stop.

#[path = "common/rtmp.rs"]
mod rtmp;

use std::time::{Duration, Instant};

use grandstand::ingest::rtmp::Settings;
use grandstand::live::hub::Started;
use grandstand::media::{Event, Track};
use rml_rtmp::sessions::{ClientSessionEvent, PublishRequestType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use rtmp::{ACCEPTED, Client, Origin, SOON, run_process};

async fn ffmpeg(url: &str) -> (bool, String) {
    let input = ["-v", "error", "-f", "lavfi", "-i", "testsrc2=s=320x180:r=25", "-f", "lavfi", "-i", "sine"];
    let coding =
        ["-t", "2", "-c:v", "libx264", "-g", "25", "-preset", "ultrafast", "-c:a", "aac", "-f", "flv", url];
    run_process("ffmpeg", &[&input[..], &coding[..]].concat()).await
}

/// How many video and audio frames a whole stream has.
async fn frames(mut started: Started) -> (usize, usize) {
    let (mut video, mut audio) = (0, 0);
    loop {
        for event in timeout(SOON, started.events.next()).await.unwrap() {
            match event {
                Event::Frame(frame) if frame.track == Track::Video => video += 1,
                Event::Frame(_) => audio += 1,
                Event::End => return (video, audio),
                Event::Start(_) | Event::Tracks(_) | Event::Discontinuity | Event::Stop => {}
            }
        }
    }
}

/// Twice in a row: the name is free when the encoder is gone. The key after the name is not part of it.
#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_publishes() {
    let mut origin = Origin::start(Settings::default()).await;
    for _ in 0..2 {
        let (success, log) = ffmpeg(&origin.url("live/mark?key=secret")).await;
        assert!(success, "{log}");
        let started = timeout(SOON, origin.started.recv()).await.unwrap().unwrap();
        assert_eq!(started.stream.name.as_str(), "live/mark");
        let (video, audio) = frames(started).await;
        // Two seconds of 25 pictures, and of 1024 samples at 44.1 kHz with the encoder's delay.
        assert_eq!(video, 50);
        assert!((86..=88).contains(&audio), "{audio} audio frames");
        origin.until_gone("live/mark").await;
    }
    origin.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_is_told_why_it_is_refused() {
    let origin = Origin::start(Settings::default()).await;
    let (success, log) = ffmpeg(&origin.url("app/inst/stream")).await;
    assert!(!success && log.contains("the app name may hold only"), "{log}");
    let (success, log) = ffmpeg(&origin.url("live/..")).await;
    assert!(!success && log.contains("the stream name may hold only"), "{log}");
    let mut first = Client::connect(&origin, "live").await;
    assert_eq!(first.publish("mark").await, ACCEPTED);
    let (success, log) = ffmpeg(&origin.url("live/mark")).await;
    assert!(!success && log.contains("the name is already being published"), "{log}");
    assert!(origin.is_live("live/mark"), "the first publisher notices nothing");
    assert_eq!((origin.refusals("name"), origin.refusals("taken")), (2, 1));
    origin.stop().await;
}

/// It says goodbye by `FCUnpublish` and the end of the connection, and keeps chunk size 128.
#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_publishes() {
    let mut origin = Origin::start(Settings::default()).await;
    let location = format!("location={}", origin.url("live/mark"));
    let pipeline = "videotestsrc num-buffers=50 ! x264enc tune=zerolatency key-int-max=25 ! h264parse ! \
                    flvmux streamable=true ! rtmp2sink sync=false";
    let args: Vec<_> = pipeline.split_whitespace().chain([location.as_str()]).collect();
    let (success, log) = run_process("gst-launch-1.0", &args).await;
    assert!(success, "{log}");
    let started = timeout(SOON, origin.started.recv()).await.unwrap().unwrap();
    assert_eq!(started.stream.name.as_str(), "live/mark");
    assert_eq!(frames(started).await, (50, 0));
    origin.until_gone("live/mark").await;
    origin.stop().await;
}

#[tokio::test]
async fn a_client_publishes_stops_and_publishes_again() {
    let origin = Origin::start(Settings::default()).await;
    let mut client = Client::connect(&origin, "live/?key=k").await;
    assert_eq!(client.publish("one?key=k").await, ACCEPTED);
    assert!(origin.is_live("live/one"));
    client.audio(0).await;
    for result in client.session.stop_publishing().unwrap() {
        client.send(result).await;
    }
    origin.until_gone("live/one").await;
    let request = client.session.request_publishing("two".into(), PublishRequestType::Live).unwrap();
    client.send(request).await;
    assert_eq!(client.event(|event| Some(event) == ACCEPTED.as_ref()).await, ACCEPTED);
    assert!(origin.is_live("live/two"));
    drop(client);
    origin.until_gone("live/two").await;
    origin.stop().await;
}

/// Issue: names with `..`, `/`, NUL or 5,000 characters get a status and a close.
#[tokio::test]
async fn bad_names_get_a_status_and_a_close() {
    let origin = Origin::start(Settings::default()).await;
    for name in ["..", "a/b", "a\0b", &"x".repeat(5000)] {
        let mut client = Client::connect(&origin, "live").await;
        let code = "NetStream.Publish.BadName".to_owned();
        assert_eq!(client.publish(name).await, Some(ClientSessionEvent::UnhandleableOnStatusCode { code }));
        client.until_closed().await;
    }
    let first = Client::connect(&origin, "a/b").await;
    first.until_closed().await;
    assert_eq!(origin.refusals("name"), 5);
    origin.stop().await;
}

/// Garbage, half a handshake, silence, chunks that are none, silence after connect, a publisher without media: all
/// closed within their timers, while a healthy publisher beside them goes on.
#[tokio::test]
async fn bad_peers_are_gone_in_time_and_bother_nobody() {
    let short = Duration::from_millis(300);
    let settings = Settings {
        handshake_timeout: short,
        publish_timeout: short,
        publish_idle: short * 3,
        ..Settings::default()
    };
    let origin = Origin::start(settings).await;
    let mut healthy = Client::connect(&origin, "live").await;
    assert_eq!(healthy.publish("healthy").await, ACCEPTED);
    let started = Instant::now();
    for first in [&b""[..], &[3], &[3; 1537], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &[0x16, 3, 1], &[3; 5000]]
    {
        let mut peer = TcpStream::connect(origin.address).await.unwrap();
        peer.write_all(first).await.unwrap();
        let mut answer = Vec::new();
        // A reset is a close too.
        let _ = timeout(SOON, peer.read_to_end(&mut answer)).await.expect("the origin closes");
        assert!(answer.len() <= 3073);
        healthy.audio(started.elapsed().as_millis() as u32).await;
    }
    let connected = Client::connect(&origin, "live").await;
    connected.until_closed().await;
    healthy.audio(started.elapsed().as_millis() as u32).await;
    let mut silent = Client::connect(&origin, "live").await;
    assert_eq!(silent.publish("silent").await, ACCEPTED);
    while origin.is_live("live/silent") {
        assert!(started.elapsed() < SOON);
        healthy.audio(started.elapsed().as_millis() as u32).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    silent.until_closed().await;
    assert!(origin.is_live("live/healthy"));
    assert_eq!(origin.refusals("handshake"), 2);
    assert_eq!(origin.refusals("chunk"), 1);
    origin.stop().await;
}

#[tokio::test]
async fn one_connection_too_many_is_closed() {
    let origin = Origin::start(Settings { connections_max: 1, ..Settings::default() }).await;
    let mut first = Client::connect(&origin, "live").await;
    assert_eq!(first.publish("mark").await, ACCEPTED);
    for _ in 0..3 {
        let mut second = TcpStream::connect(origin.address).await.unwrap();
        let read = timeout(SOON, second.read(&mut [0; 1])).await.expect("the origin closes");
        assert!(matches!(read, Ok(0) | Err(_)));
    }
    assert_eq!(origin.refusals("connections"), 3);
    drop(first);
    origin.until_gone("live/mark").await;
    let mut third = Client::connect(&origin, "live").await;
    assert_eq!(third.publish("mark").await, ACCEPTED);
    origin.stop().await;
}

/// Pings that are never read back fill the socket; the origin does not wait for ever.
#[tokio::test]
async fn a_peer_that_does_not_read_is_closed() {
    let write_timeout = Duration::from_millis(300);
    let origin = Origin::start(Settings { write_timeout, ..Settings::default() }).await;
    let mut client = Client::connect(&origin, "live").await;
    assert_eq!(client.publish("mark").await, ACCEPTED);
    let (ping, _) = client.session.send_ping_request().unwrap();
    let pings = ping.bytes.repeat(1000);
    let fill = async { while client.stream.write_all(&pings).await.is_ok() {} };
    timeout(SOON, fill).await.expect("the origin closes");
    origin.until_gone("live/mark").await;
    assert_eq!(origin.refusals("timeout"), 1);
    origin.stop().await;
}

#[tokio::test]
async fn a_stop_closes_every_connection() {
    let origin = Origin::start(Settings::default()).await;
    let mut publisher = Client::connect(&origin, "live").await;
    assert_eq!(publisher.publish("mark").await, ACCEPTED);
    let _silent = TcpStream::connect(origin.address).await.unwrap();
    let started = Instant::now();
    origin.stop().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    publisher.until_closed().await;
}
