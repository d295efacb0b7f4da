//! Delivery as clients see it: every header rule through the router, limits and timeouts over real sockets.

#[path = "common/showing.rs"]
mod showing;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::Extension;
use axum::response::Response;
use grandstand::deliver::{Peer, Settings, router};
use grandstand::name::StreamName;
use grandstand::package::Life;
use http::{Request, StatusCode};
use http_body_util::BodyExt;
use showing::{EPOCH, Showing, live};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::ServiceExt;

const MULTIVARIANT: &str =
    "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-STREAM-INF:BANDWIDTH=1000000,CODECS=\"avc1.42C01E\"\nmedia.m3u8\n";
const SEGMENT: &str = "/live/mark/1795716584125/7.ts";
const MEDIA: &str = "/live/mark/media.m3u8";
const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";

fn mark() -> StreamName {
    "live/mark".parse().unwrap()
}

fn media() -> String {
    format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n#EXTINF:2.0,\n{EPOCH}/7.ts\n")
}

/// A live `live/mark` with one segment of ten bytes, and an ended `live/over`.
async fn showing() -> Showing {
    let showing = Showing::new().await;
    showing.put(&mark(), 7, b"0123456789");
    let playlists = [("index.m3u8", MULTIVARIANT.to_owned()), ("media.m3u8", media())];
    showing.publish(&mark(), live(4), &playlists);
    showing.publish(&"live/over".parse().unwrap(), Life::Ended, &playlists);
    showing
}

async fn ask(
    showing: &Showing,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> (Response<()>, Vec<u8>) {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let router = router(showing.context.clone());
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes().to_vec())
}

fn header<'a>(response: &'a Response<()>, name: &str) -> Option<&'a str> {
    response.headers().get(name).map(|value| value.to_str().unwrap())
}

/// Method, path, status, and headers by name; `None`: the header must not be there.
type Row = (&'static str, &'static str, u16, &'static [(&'static str, Option<&'static str>)]);

const FOREVER: Option<&str> = Some("public, max-age=31536000, immutable");
const SHORT: Option<&str> = Some("public, max-age=1");

/// A5, row by row.
const ROWS: &[Row] = &[
    (
        "GET",
        SEGMENT,
        200,
        &[
            ("content-type", Some("video/mp2t")),
            ("content-length", Some("10")),
            ("accept-ranges", Some("bytes")),
            ("etag", Some("\"1795716584125-7-10\"")),
            ("cache-control", FOREVER),
            ("content-encoding", None),
            ("vary", None),
        ],
    ),
    ("HEAD", SEGMENT, 200, &[("content-length", Some("10")), ("cache-control", FOREVER)]),
    ("GET", "/live/mark/1795716584125/7.ts?CMCD=br%3D900&x=%2e%2e", 200, &[("cache-control", FOREVER)]),
    (
        "GET",
        MEDIA,
        200,
        &[
            ("content-type", Some(PLAYLIST_TYPE)),
            ("cache-control", Some("public, max-age=2")),
            ("vary", Some("Accept-Encoding")),
            ("content-encoding", None),
        ],
    ),
    ("HEAD", MEDIA, 200, &[("content-type", Some(PLAYLIST_TYPE))]),
    ("GET", "/live/mark/index.m3u8", 200, &[("content-type", Some(PLAYLIST_TYPE))]),
    ("GET", "/live/mark.m3u8", 200, &[("content-type", Some(PLAYLIST_TYPE)), ("location", None)]),
    ("GET", "/live/over/media.m3u8", 200, &[("cache-control", Some("public, max-age=1"))]),
    (
        "GET",
        "/",
        200,
        &[("content-type", Some("text/html; charset=utf-8")), ("cache-control", Some("no-cache"))],
    ),
    ("GET", "/play/live/mark", 200, &[("content-type", Some("text/html; charset=utf-8"))]),
    ("GET", "/play/live/not-yet", 200, &[("content-type", Some("text/html; charset=utf-8"))]),
    ("GET", "/assets/app.css", 200, &[("content-type", Some("text/css; charset=utf-8"))]),
    ("GET", "/assets/player.js", 200, &[("content-type", Some("text/javascript; charset=utf-8"))]),
    (
        "GET",
        "/api/v1/streams",
        200,
        &[("content-type", Some("application/json")), ("cache-control", Some("no-store"))],
    ),
    ("GET", "/healthz", 200, &[("cache-control", Some("no-store"))]),
    ("GET", "/metrics", 200, &[("cache-control", Some("no-store"))]),
    ("GET", "/live/unknown/index.m3u8", 404, &[("cache-control", SHORT)]),
    ("HEAD", "/live/unknown/index.m3u8", 404, &[("cache-control", SHORT)]),
    ("GET", "/live/mark/1795716584125/8.ts", 404, &[("cache-control", SHORT)]),
    ("GET", "/live/mark/1795716584125/07.ts", 404, &[("cache-control", SHORT)]),
    ("GET", "/live/mark/other.m3u8", 404, &[("cache-control", SHORT)]),
    ("GET", "/live/unknown.m3u8", 404, &[]),
    ("GET", "/live/mark.flv", 404, &[]),
    ("GET", "/assets/unknown.js", 404, &[]),
    ("GET", "/nowhere", 404, &[("cache-control", SHORT)]),
    ("POST", MEDIA, 405, &[("allow", Some("GET, HEAD, OPTIONS")), ("cache-control", SHORT)]),
    ("DELETE", SEGMENT, 405, &[("allow", Some("GET, HEAD, OPTIONS"))]),
    ("PUT", "/nowhere", 405, &[]),
    (
        "OPTIONS",
        SEGMENT,
        204,
        &[
            ("access-control-allow-methods", Some("GET, HEAD, OPTIONS")),
            ("access-control-max-age", Some("86400")),
            ("content-length", None),
        ],
    ),
    ("OPTIONS", "/live/unknown/index.m3u8", 204, &[]),
];

/// A5: every answer, errors too, has its type, its life, and may be read from any page.
#[tokio::test]
async fn every_kind_of_response_says_what_it_is_and_how_long_it_is_true() {
    let showing = showing().await;
    for (method, path, status, expected) in ROWS {
        let (response, body) = ask(&showing, method, path, &[]).await;
        assert_eq!(response.status(), *status, "{method} {path}");
        for (name, value) in *expected {
            assert_eq!(header(&response, name), *value, "{method} {path} {name}");
        }
        // Any page may read any answer, errors too: hls.js sees status 0 else. And no answer sets state.
        assert_eq!(header(&response, "access-control-allow-origin"), Some("*"), "{method} {path}");
        assert_eq!(header(&response, "timing-allow-origin"), Some("*"), "{method} {path}");
        assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"), "{method} {path}");
        assert!(header(&response, "access-control-expose-headers").unwrap().contains("Age, Date"));
        assert_eq!(header(&response, "set-cookie"), None);
        if *method == "HEAD" {
            assert!(body.is_empty(), "{path}");
        } else if let Some(length) = header(&response, "content-length") {
            assert_eq!(length, body.len().to_string(), "{method} {path}");
        }
        if response.status().is_success() && *method == "GET" {
            let (head, _) = ask(&showing, "HEAD", path, &[]).await;
            if !path.starts_with("/metrics") {
                assert_eq!(head.headers(), response.headers(), "HEAD {path}");
            }
        }
    }
    let (response, _) = ask(&showing, "OPTIONS", SEGMENT, &[]).await;
    let allowed = header(&response, "access-control-allow-headers").unwrap();
    for name in ["Range", "CMCD-Request", "CMCD-Object", "CMCD-Status", "CMCD-Session"] {
        assert!(allowed.contains(name), "{name}");
    }
}

/// Node-Media-Server #689, MediaMTX #5602, xiu 81dcc8e: a path is never a way out, nor a second name.
#[tokio::test]
async fn tricks_with_paths_are_not_found() {
    let showing = showing().await;
    for path in [
        "/live/../live/mark/index.m3u8",
        "/live/mark/../mark/index.m3u8",
        "/live/%2e%2e/index.m3u8",
        "/live/mark/%2e%2e%2findex.m3u8",
        "/live/mark/%69ndex.m3u8",
        "/live%2fmark/index.m3u8",
        "/live/mark/%00.m3u8",
        "/live/mark/%ff.m3u8",
        "/live/mark/%",
        "//live/mark/index.m3u8",
        "/live//mark/index.m3u8",
        "/live/mark/",
        "/live/mark/index.m3u8/",
        "/LIVE/mark/index.m3u8",
        "/play/live/%3Cscript%3E",
        "/play/live/..",
        "/play/api/x",
        "/assets/../Cargo.toml",
        "/assets/page/app.js",
    ] {
        let (response, body) = ask(&showing, "GET", path, &[]).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND, "{path}");
        assert_eq!(body, b"not found\n", "a refused name is not repeated: {path}");
    }
    let long = format!("/live/{}/index.m3u8", "a".repeat(5000));
    assert_eq!(ask(&showing, "GET", &long, &[]).await.0.status(), StatusCode::NOT_FOUND);
}

/// A5 (H.RANGE, H.304): ranges of a segment, conditionals of everything.
#[tokio::test]
async fn ranges_and_conditionals() {
    let showing = showing().await;
    let (response, body) = ask(&showing, "GET", SEGMENT, &[("range", "bytes=2-4")]).await;
    assert_eq!((response.status(), &body[..]), (StatusCode::PARTIAL_CONTENT, &b"234"[..]));
    assert_eq!(header(&response, "content-range"), Some("bytes 2-4/10"));
    assert_eq!(header(&response, "content-length"), Some("3"));

    let (response, _) = ask(&showing, "GET", SEGMENT, &[("range", "bytes=10-")]).await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(header(&response, "content-range"), Some("bytes */10"));
    assert_eq!(header(&response, "access-control-allow-origin"), Some("*"));

    let (response, body) = ask(&showing, "GET", SEGMENT, &[("range", "bytes=0-1,3-4")]).await;
    assert_eq!((response.status(), body.len()), (StatusCode::OK, 10), "several ranges: everything");

    let (response, _) = ask(&showing, "GET", MEDIA, &[("range", "bytes=0-1")]).await;
    assert_eq!(response.status(), StatusCode::OK, "a playlist is read whole");

    let paths = [SEGMENT, MEDIA, "/live/mark.m3u8", "/live/over/index.m3u8", "/", "/assets/app.js"];
    for path in paths {
        let (first, _) = ask(&showing, "GET", path, &[]).await;
        let tag = header(&first, "etag").unwrap();
        let conditions = [("if-none-match", tag.to_owned()), ("if-none-match", format!("\"x\", W/{tag}"))];
        for (name, value) in conditions {
            let (response, body) = ask(&showing, "GET", path, &[(name, &value)]).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{path} {value}");
            assert!(body.is_empty());
            assert_eq!(header(&response, "content-length"), None, "RFC 9110 §8.6: it would be the 200's");
            for same in ["etag", "cache-control", "vary", "access-control-allow-origin"] {
                assert_eq!(header(&response, same), header(&first, same), "{path} {same}");
            }
        }
        if let Some(date) = header(&first, "last-modified") {
            let (response, _) = ask(&showing, "GET", path, &[("if-modified-since", date)]).await;
            assert_eq!(response.status(), StatusCode::NOT_MODIFIED, "{path}");
        }
    }
}

/// A5 (H.GZIP): compressed when allowed, with its own tag; never a segment.
#[tokio::test]
async fn texts_are_compressed_and_media_is_not() {
    let showing = showing().await;
    let (plain, text) = ask(&showing, "GET", MEDIA, &[]).await;
    let (zip, bytes) = ask(&showing, "GET", MEDIA, &[("accept-encoding", "br, gzip;q=0.5")]).await;
    assert_eq!(header(&zip, "content-encoding"), Some("gzip"));
    assert_ne!(header(&zip, "etag"), header(&plain, "etag"));
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, text);
    let (refused, _) = ask(&showing, "GET", MEDIA, &[("accept-encoding", "gzip;q=0")]).await;
    assert_eq!(header(&refused, "content-encoding"), None);
    let (segment, _) = ask(&showing, "GET", SEGMENT, &[("accept-encoding", "gzip")]).await;
    assert_eq!(header(&segment, "content-encoding"), None);
}

/// The alias resolves to the same media playlist as the multivariant in the stream's folder, by an independent
/// reading of both.
#[tokio::test]
async fn the_alias_resolves_to_the_same_media_playlist() {
    let showing = showing().await;
    let mut resolved = Vec::new();
    for path in ["/live/mark.m3u8", "/live/mark/index.m3u8"] {
        let (_, body) = ask(&showing, "GET", path, &[]).await;
        let playlist = m3u8_rs::parse_master_playlist_res(&body).unwrap();
        let base = url::Url::parse("http://origin").unwrap().join(path).unwrap();
        resolved.push(base.join(&playlist.variants[0].uri).unwrap().path().to_owned());
    }
    assert_eq!(resolved, [MEDIA, MEDIA]);
}

/// A2: a stream without a first segment has no playlist, and the API says that it is there but not ready.
#[tokio::test]
async fn a_broadcast_is_listed_at_once_and_playable_with_its_first_segment() {
    let mut showing = Showing::new().await;
    let publisher = showing.go_live(&mark());
    let (response, _) = ask(&showing, "GET", "/live/mark/index.m3u8", &[]).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let listed =
        |body: Vec<u8>| serde_json::from_slice::<serde_json::Value>(&body).unwrap()["streams"].clone();
    let (_, body) = ask(&showing, "GET", "/api/v1/streams", &[]).await;
    let streams = listed(body);
    let expected = serde_json::json!({
        "name": "live/mark", "app": "live", "stream": "mark", "hls": "/live/mark/index.m3u8", "ready": false,
        "width": 640, "height": 360, "video_codec": "avc1.42C01E", "audio_codec": "mp4a.40.2", "fps": 25.0,
        "bitrate_bps": 1_600_000, "viewers": 0, "uptime_s": 0, "live": true,
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(streams[0][field], *value, "{field}");
    }
    chrono::DateTime::parse_from_rfc3339(streams[0]["started"].as_str().unwrap()).unwrap();

    showing.publish(&mark(), live(4), &[("index.m3u8", MULTIVARIANT.to_owned())]);
    let (_, body) = ask(&showing, "GET", "/api/v1/streams", &[]).await;
    assert_eq!(listed(body)[0]["ready"], true);
    drop(publisher);
    let (_, body) = ask(&showing, "GET", "/api/v1/streams", &[]).await;
    assert_eq!(listed(body)[0]["live"], false, "cut off, so it is waited for");
    showing.context.hub.publish(&mark()).unwrap().say_goodbye();
    let (_, body) = ask(&showing, "GET", "/api/v1/streams", &[]).await;
    assert_eq!(listed(body), serde_json::json!([]));
}

#[tokio::test]
async fn whoever_asks_for_a_media_playlist_is_a_viewer() {
    let mut showing = showing().await;
    let _publisher = showing.go_live(&mark());
    let router = router(showing.context.clone());
    let ask = async |path: &str, peer: [u8; 4], agent: &str| {
        let request = Request::builder().uri(path).header("user-agent", agent).body(Body::empty()).unwrap();
        let asking = router.clone().layer(Extension(Peer(peer.into())));
        asking.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes()
    };
    for (path, peer, agent) in [
        (MEDIA, [192, 0, 2, 1], "a"),
        (MEDIA, [192, 0, 2, 1], "a"),
        (MEDIA, [192, 0, 2, 1], "b"),
        (MEDIA, [192, 0, 2, 2], "a"),
        ("/live/mark/index.m3u8", [192, 0, 2, 3], "a"),
        (SEGMENT, [192, 0, 2, 4], "a"),
        ("/live/over/media.m3u8", [192, 0, 2, 5], "a"),
    ] {
        ask(path, peer, agent).await;
    }
    let body = ask("/api/v1/streams", [192, 0, 2, 9], "").await;
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer["streams"][0]["viewers"], 3);
}

/// The page runs no code but its own files, and says so to the browser.
#[tokio::test]
async fn pages_have_a_strict_policy_and_no_inline_code() {
    let showing = showing().await;
    for path in ["/", "/play/live/mark"] {
        let (response, body) = ask(&showing, "GET", path, &[]).await;
        let policy = header(&response, "content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let html = String::from_utf8(body).unwrap();
        for inline in ["<style", "style=", "onclick", "onload", "javascript:"] {
            assert!(!html.contains(inline), "{path} has {inline}");
        }
        for script in html.split("<script").skip(1) {
            assert!(script.starts_with(" src=\"/assets/"), "{path}");
        }
    }
}

/// Sends bytes, reads until the peer closes; `None` if that takes longer than `deadline`.
async fn exchange(address: SocketAddr, bytes: &[u8], deadline: Duration) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(deadline, stream.read_to_end(&mut answer)).await;
    // A reset after the answer is an end, too.
    read.ok().map(|_| String::from_utf8_lossy(&answer).into_owned())
}

const DEADLINE: Duration = Duration::from_secs(20);

fn quick() -> Settings {
    let brief = Duration::from_millis(300);
    Settings { header_timeout: brief, write_timeout: brief, ..Settings::default() }
}

/// Fault 11: a request that comes byte by byte ends after `header_timeout`; an idle connection outlives it.
#[tokio::test]
async fn dripping_headers_are_cut_off_and_idle_connections_are_kept() {
    let serving = showing().await.serve(quick()).await;
    let mut idle = TcpStream::connect(serving.address).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();

    let mut slow = TcpStream::connect(serving.address).await.unwrap();
    let begun = Instant::now();
    let mut closed = false;
    while !closed && begun.elapsed() < DEADLINE {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(20), slow.read(&mut byte)).await;
        closed = read.is_ok() || slow.write_all(b"a").await.is_err();
    }
    assert!(closed && begun.elapsed() < DEADLINE);

    idle.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut rest = String::new();
    idle.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest.matches("HTTP/1.1 200 OK").count(), 1, "{rest}");
}

/// Fault 11: a client that asks for more than its socket holds and reads nothing is dropped.
#[tokio::test]
async fn a_client_that_takes_nothing_is_dropped() {
    let showing = showing().await;
    showing.put(&mark(), 8, &vec![0; 32 << 20]);
    let serving = showing.serve(quick()).await;
    let mut stream = TcpStream::connect(serving.address).await.unwrap();
    stream.write_all(b"GET /live/mark/1795716584125/8.ts HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let begun = Instant::now();
    // The drop shows as an error of a write, or as an end before all has come.
    while stream.write_all(b" ").await.is_ok() {
        assert!(begun.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Fault 11: above `connections_max` a connection is told so and closed, and the ones before it go on.
#[tokio::test]
async fn one_connection_too_many_is_refused() {
    let settings = Settings { connections_max: 1, ..Settings::default() };
    let serving = showing().await.serve(settings).await;
    let mut first = TcpStream::connect(serving.address).await.unwrap();
    first.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut status_line = [0; 12];
    first.read_exact(&mut status_line).await.unwrap();
    let refused = exchange(serving.address, b"", DEADLINE).await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("Retry-After: 1"), "{refused}");
    drop(first);
    let request = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let begun = Instant::now();
    while !exchange(serving.address, request, DEADLINE).await.unwrap().starts_with("HTTP/1.1 200 ") {
        assert!(begun.elapsed() < DEADLINE, "the freed place is not given out");
    }
}

/// Fault 13: what is not HTTP ends its own connection.
#[tokio::test]
async fn garbage_is_answered_or_closed_and_others_are_served() {
    let serving = showing().await.serve(quick()).await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5_000));
    for bytes in [
        &b"\x03\0\0\0\0"[..],
        b"\x16\x03\x01\x02\0\x01",
        b"GET",
        b"\r\n\r\n",
        long.as_bytes(),
        many.as_bytes(),
    ] {
        let answer = exchange(serving.address, bytes, DEADLINE).await.expect("closed in time");
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    let request = b"GET /live/mark/index.m3u8 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let answer = exchange(serving.address, request, DEADLINE).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    for request in ["OPTIONS / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nif-none-match: *\r\n"] {
        let bytes = format!("{request}host: a\r\nconnection: close\r\n\r\n");
        let answer = exchange(serving.address, bytes.as_bytes(), DEADLINE).await.unwrap();
        assert!(!answer.contains("content-length") && !answer.contains("transfer-encoding"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    }
    let headers: BTreeMap<_, _> = head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
    assert_eq!(body, MULTIVARIANT);
    assert!(headers.contains_key("date"), "a cache computes an age from it: {head}");
    assert_eq!(headers["content-length"], MULTIVARIANT.len().to_string());
}

/// Fault 14: a response in progress is finished, idle connections are closed, and a client that takes nothing does
/// not hold the origin up.
#[tokio::test]
async fn a_stop_drains_for_a_bounded_time() {
    let showing = showing().await;
    showing.put(&mark(), 8, &vec![0; 32 << 20]);
    let settings = Settings { drain_timeout: Duration::from_secs(2), ..Settings::default() };
    let serving = showing.serve(settings).await;
    let request = b"GET /live/mark/1795716584125/8.ts HTTP/1.1\r\nhost: a\r\n\r\n";
    let _idle = TcpStream::connect(serving.address).await.unwrap();
    let mut stuck = TcpStream::connect(serving.address).await.unwrap();
    stuck.write_all(request).await.unwrap();
    let mut reading = TcpStream::connect(serving.address).await.unwrap();
    reading.write_all(request).await.unwrap();
    for stream in [&mut stuck, &mut reading] {
        stream.read_exact(&mut [0; 12]).await.unwrap();
    }
    serving.stop.cancel();
    let mut body = Vec::new();
    reading.read_to_end(&mut body).await.unwrap();
    assert!(body.len() > 32 << 20, "the running response was cut: {}", body.len());
    tokio::time::timeout(DEADLINE, serving.task).await.expect("drained in time").unwrap();
    assert!(TcpStream::connect(serving.address).await.is_err());
}
