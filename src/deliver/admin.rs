//! For people and machines that watch over the origin: what is live, health, counters.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;

use super::{Site, caching, flv};
use crate::live::Stream;
use crate::store::layout::MULTIVARIANT_FILE;

/// The answer of `/api/v1/streams`.
#[derive(Debug, Serialize)]
struct Streams {
    /// Ordered by name.
    streams: Vec<View>,
}

/// One live broadcast. A figure that is not known (yet) is `null`.
#[derive(Debug, Serialize)]
struct View {
    name: String,
    app: String,
    stream: String,
    /// RFC 3339.
    started: String,
    uptime_s: u64,
    width: Option<u32>,
    height: Option<u32>,
    /// RFC 6381, as in CODECS.
    video_codec: Option<String>,
    audio_codec: Option<String>,
    /// Pictures per second, measured over the last seconds of media time.
    fps: Option<f64>,
    bitrate_bps: u64,
    /// Those of HTTP-FLV, and an estimate of those of HLS: see `viewers.rs`.
    viewers: usize,
    /// Its multivariant playlist's path.
    hls: String,
    /// Its path over HTTP-FLV and WebSocket; `null` where `[flv]` is off.
    flv: Option<String>,
    /// The playlist is there: the first segment has been published.
    ready: bool,
    /// A publisher is connected; if not, it is waited for.
    live: bool,
}

/// `/api/v1/streams`.
pub(super) async fn streams(State(site): State<Arc<Site>>) -> Response {
    let streams = site.context.hub.list().iter().map(|stream| view(&site, stream)).collect();
    ([(CACHE_CONTROL, caching::NEVER)], Json(Streams { streams })).into_response()
}

/// `/healthz`: the process runs and answers.
pub(super) async fn health() -> Response {
    ([(CACHE_CONTROL, caching::NEVER)], "ok\n").into_response()
}

/// `/metrics`.
pub(super) async fn metrics(State(site): State<Arc<Site>>) -> Response {
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    let headers = [(CACHE_CONTROL, caching::NEVER), (CONTENT_TYPE, content_type)];
    (headers, site.context.metrics.render()).into_response()
}

fn view(site: &Site, stream: &Stream) -> View {
    let figures = stream.figures();
    let (video, audio) = match &figures.tracks {
        Some(tracks) => (tracks.video.as_deref(), tracks.audio.as_deref()),
        None => (None, None),
    };
    let name = &stream.name;
    let published = site.context.board.get(name);
    View {
        name: name.to_string(),
        app: name.app().to_owned(),
        stream: name.stream().to_owned(),
        started: stream.started_wall.to_string(),
        uptime_s: site.context.clock.now().saturating_duration_since(stream.started).as_secs(),
        width: video.map(|video| video.width),
        height: video.map(|video| video.height),
        video_codec: video.map(|video| video.codec.clone()),
        audio_codec: audio.map(crate::media::AudioConfig::codec),
        fps: video.map(|_| (figures.pictures_per_second * 100.0).round() / 100.0),
        bitrate_bps: figures.bits_per_second,
        viewers: site.viewers(name),
        hls: format!("/{name}/{MULTIVARIANT_FILE}"),
        flv: site.context.flv.enabled.then(|| format!("/{name}{}", flv::SUFFIX)),
        ready: published.is_some_and(|published| published.borrow().document(MULTIVARIANT_FILE).is_some()),
        live: figures.epoch.is_some(),
    }
}
