//! HTTP-FLV from an origin with everything around it: where a viewer begins, what it is told, and what it goes through
//! together with the publisher.

mod common;
#[path = "common/flv_viewer.rs"]
mod flv_viewer;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Origin, SOON, grandstand, poll};
use flv_viewer::{Next, Tag, Viewer};
use serde_json::Value;
use tokio::time::timeout;

const PATH: &str = "/live/match.flv";

/// A publisher that does not outlive its test.
struct Publisher(Child);

impl Publisher {
    /// Publishes a fixture over and over as `live/match`, and waits until it is live.
    fn start(origin: &Origin, fixture: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
        let mut command = grandstand();
        command.args(["publish", "--loop"]).arg(file).arg(origin.rtmp_url("live/match"));
        let publisher = Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        wait_for(origin, |stream| stream["live"] == true && stream["bitrate_bps"].as_u64() > Some(0));
        publisher
    }

    /// Stops it as its owner would: it says goodbye.
    fn stop(mut self) {
        let id = self.0.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -s TERM \"$0\"", &id]).status().unwrap();
        assert!(sent.success(), "the publisher has run to the end");
        poll(SOON, || self.0.try_wait().unwrap()).expect("the publisher stops");
    }

    /// Cuts it off, as a power cut would.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// Waits until the API's entry of the only broadcast is so.
fn wait_for(origin: &Origin, is_so: impl Fn(&Value) -> bool) {
    let found = poll(SOON, || {
        let answer: Value = serde_json::from_slice(&origin.get("/api/v1/streams").body).ok()?;
        answer["streams"].get(0).filter(|stream| is_so(stream)).map(|_| ())
    });
    assert!(found.is_some(), "{}", origin.get("/api/v1/streams").text());
}

async fn next(viewer: &mut Viewer) -> Next {
    timeout(SOON, viewer.next()).await.expect("something comes")
}

async fn tag(viewer: &mut Viewer) -> Tag {
    match next(viewer).await {
        Next::Tag(tag) => tag,
        over => panic!("the body goes on: {over:?}"),
    }
}

/// Reads until the newest frame is there, which comes in real time: what was kept for joiners has been read.
async fn catch_up(viewer: &mut Viewer) -> u32 {
    let mut last_ms = 0;
    while let Ok(Next::Tag(tag)) = timeout(Duration::from_millis(15), viewer.next()).await {
        last_ms = tag.timestamp_ms;
    }
    last_ms
}

/// A late joiner: first what says what follows, then the cached group of pictures.
#[tokio::test(flavor = "multi_thread")]
async fn a_late_joiner_is_given_headers_and_the_cached_pictures_at_once() {
    let origin = Origin::start();
    let _publisher = Publisher::start(&origin, "match.flv");
    wait_for(&origin, |stream| stream["uptime_s"].as_u64() >= Some(3));
    let mut viewer = Viewer::join(origin.http(), PATH, None).await;
    let metadata = tag(&mut viewer).await;
    assert_eq!((metadata.kind, &metadata.body[..13]), (18, &b"\x02\x00\x0aonMetaData"[..]));
    let configs = [tag(&mut viewer).await, tag(&mut viewer).await];
    assert!(configs.iter().all(Tag::is_config));
    assert_eq!(configs.map(|config| config.kind), [9, 8]);
    assert_eq!(viewer.flags, Some(5));
    let picture = loop {
        let tag = tag(&mut viewer).await;
        if tag.kind == 9 {
            break tag;
        }
    };
    assert!(picture.is_key_picture());
}

/// The file header tells the truth, and so do the sequence headers.
#[tokio::test(flavor = "multi_thread")]
async fn the_header_tells_which_tracks_there_are() {
    for (fixture, flags, kinds) in [("audio-only.flv", 4, &[8][..]), ("video-only.flv", 1, &[9])] {
        let origin = Origin::start();
        let _publisher = Publisher::start(&origin, fixture);
        let mut viewer = Viewer::join(origin.http(), PATH, None).await;
        let mut seen = Vec::new();
        while seen.len() < 20 {
            let tag = tag(&mut viewer).await;
            if tag.kind != 18 {
                seen.push(tag);
            }
        }
        assert_eq!(viewer.flags, Some(flags), "{fixture}");
        assert!(seen[0].is_config(), "{fixture}");
        assert!(seen.iter().all(|tag| kinds.contains(&tag.kind)), "{fixture}");
    }
}

/// The same response goes on with the publisher that came back, at times that never go back, from a picture that can be
/// decoded, and ends when the publisher says goodbye.
#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_stays_over_a_publisher_that_is_killed_and_comes_back() {
    let origin = Origin::builder().env("GRANDSTAND_HTTP_WRITE_TIMEOUT", "2s").start();
    let publisher = Publisher::start(&origin, "match.flv");
    let mut viewer = Viewer::join(origin.http(), PATH, None).await;
    while !tag(&mut viewer).await.is_key_picture() {}
    publisher.kill();
    wait_for(&origin, |stream| stream["live"] == false);
    let before_ms = catch_up(&mut viewer).await;
    let silence = timeout(Duration::from_secs(4), viewer.next()).await;
    assert!(silence.is_err(), "who is sent nothing is not one that takes nothing: {silence:?}");

    let publisher = Publisher::start(&origin, "match.flv");
    let mut first_picture = None;
    let mut frames = 0;
    let mut last_ms = before_ms;
    while frames < 200 {
        let tag = tag(&mut viewer).await;
        if !tag.is_frame() {
            continue;
        }
        frames += 1;
        // Audio and video may cross by some milliseconds.
        assert!(tag.timestamp_ms + 100 >= last_ms, "{} ms after {last_ms} ms", tag.timestamp_ms);
        last_ms = last_ms.max(tag.timestamp_ms);
        if tag.kind == 9 {
            first_picture.get_or_insert(tag);
        }
    }
    let first = first_picture.expect("there are pictures");
    assert!(first.is_key_picture(), "the encoder began anew");
    let gap_ms = first.timestamp_ms.saturating_sub(before_ms);
    assert!(gap_ms < 1000, "no hole in time for players to stop at, but one of {gap_ms} ms");

    publisher.stop();
    let end = async {
        loop {
            match viewer.next().await {
                Next::Tag(_) => {}
                over => return over,
            }
        }
    };
    assert_eq!(timeout(SOON, end).await.expect("the body ends"), Next::End);
}

/// Other parameter sets, and a track that was not there before: the sequence headers come again before what needs them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_publisher_changes_is_told_on_the_same_response() {
    for (first, second) in [("match.flv", "baseline.flv"), ("audio-only.flv", "match.flv")] {
        let origin = Origin::start();
        let publisher = Publisher::start(&origin, first);
        let mut viewer = Viewer::join(origin.http(), PATH, None).await;
        let mut before = Vec::new();
        let mut frames = 0;
        while frames < 20 {
            let tag = tag(&mut viewer).await;
            frames += usize::from(tag.is_frame());
            before.extend(tag.is_config().then_some(tag.body));
        }
        publisher.kill();
        wait_for(&origin, |stream| stream["live"] == false);
        catch_up(&mut viewer).await;

        let _publisher = Publisher::start(&origin, second);
        let mut told = Vec::new();
        let mut pictures = 0;
        while pictures < 5 {
            let tag = tag(&mut viewer).await;
            if tag.is_config() {
                assert!(
                    !before.contains(&tag.body) || tag.kind == 8,
                    "{second}: the first publisher's picture"
                );
                told.push(tag.kind);
            } else if tag.kind == 9 {
                assert!(told.contains(&9), "{second}: a picture comes before its sequence header");
                assert!(pictures > 0 || tag.is_key_picture());
                pictures += 1;
            }
        }
        if first == "match.flv" {
            assert!(told.contains(&8), "{second}: sound at another rate has another sequence header");
        }
    }
}

/// `[flv] start = "low-latency"`: nothing from the past.
#[tokio::test(flavor = "multi_thread")]
async fn a_low_latency_start_sends_nothing_from_the_past() {
    let origin = Origin::builder().env("GRANDSTAND_FLV_START", "low-latency").start();
    let _publisher = Publisher::start(&origin, "match.flv");
    // Its viewers find each other's frames, not the cache's.
    let mut first = Viewer::join(origin.http(), PATH, None).await;
    while !tag(&mut first).await.is_frame() {}
    let now_ms = catch_up(&mut first).await;
    let mut second = Viewer::join(origin.http(), PATH, None).await;
    let frame = loop {
        let tag = tag(&mut second).await;
        if tag.is_frame() {
            break tag;
        }
    };
    assert!(frame.timestamp_ms + 100 >= now_ms, "{} ms, when {now_ms} ms had been sent", frame.timestamp_ms);
}

/// A 404 that caches keep for a second only, readable by pages of other origins; HEAD without a body.
#[test]
fn names_that_are_not_live_are_not_found() {
    let origin = Origin::start();
    for method in ["GET", "HEAD"] {
        let response = common::http::request(origin.http(), method, PATH, &[]);
        assert_eq!(response.status, 404, "{method}");
        assert_eq!(response.header("cache-control"), Some("public, max-age=1"));
        assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    }
    let _publisher = Publisher::start(&origin, "match.flv");
    let head = common::http::request(origin.http(), "HEAD", PATH, &[]);
    assert_eq!((head.status, head.header("content-type")), (200, Some("video/x-flv")));
    assert_eq!(head.header("x-accel-buffering"), Some("no"));
}

#[test]
fn an_origin_may_serve_no_flv() {
    let origin = Origin::builder().env("GRANDSTAND_FLV_ENABLED", "false").start();
    let _publisher = Publisher::start(&origin, "match.flv");
    assert_eq!(origin.get(PATH).status, 404);
    wait_for(&origin, |stream| stream["flv"].is_null());
}

/// `[flv] wait`: the request comes first, the publisher after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_may_wait_for_its_publisher() {
    let origin = Origin::builder().env("GRANDSTAND_FLV_WAIT", "15s").start();
    let to = origin.http();
    let viewer = tokio::spawn(async move {
        let mut viewer = Viewer::join(to, PATH, None).await;
        tag(&mut viewer).await
    });
    let _publisher = Publisher::start(&origin, "match.flv");
    assert_eq!(timeout(SOON, viewer).await.expect("it is answered").unwrap().kind, 18);
}
