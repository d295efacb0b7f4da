//! HTTP-FLV: a broadcast as one response that does not end before it does.
//!
//! ```text
//! live::Stream ─► channel (one task per broadcast with viewers) ─► framer: tags, once ─► ring: blocks
//!                    merge: when to send                                                  │ a cursor per viewer
//!                                                                                         └► body (HTTP), ws (WebSocket)
//! ```
//! Cores: `framer`, `ring`, `merge`, `websocket`. The rest are shells.

mod body;
mod channel;
mod framer;
mod merge;
mod ring;
mod websocket;
mod ws;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytesize::ByteSize;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::error::HttpError;
use super::gate::NoBody;
use super::{Site, caching};
use crate::live::Stream;
use crate::name::StreamName;

use body::FlvBody;
pub(super) use channel::{Channels, Live, Seat};
pub(super) use ws::{Switch, run as run_websocket};

/// `[flv]`: HTTP-FLV and WebSocket-FLV beside HLS.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Serve it. If not, its paths are not found.
    pub enabled: bool,
    /// Where a viewer begins.
    pub start: Start,
    /// The longest that frames wait to be sent together. The wait grows with the viewers of all broadcasts, 40 us each, so
    /// that few viewers get each frame at once and thousands cost one core no more than it has. Zero sends each frame at
    /// once.
    #[serde(with = "humantime_serde")]
    pub merge_max: Duration,
    /// Bytes kept for the viewers of one broadcast, all together. A viewer further behind skips to the newest random access
    /// point. A group of pictures that is larger is not kept: joiners wait for the next.
    pub queue: ByteSize,
    /// A viewer further behind than this skips, too: who wants a second of delay does not want the past.
    #[serde(with = "humantime_serde")]
    pub lag: Duration,
    /// How long a request for a name that is not live waits for its publisher before it is answered 404. Shorter than
    /// `[http] write_timeout`.
    #[serde(with = "humantime_serde")]
    pub wait: Duration,
}

/// Where a viewer begins in a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// With the newest group of pictures so far: a picture at once, and what came since its random access point (on average
    /// half a group) as delay, until the player catches up.
    Gop,
    /// At the next random access point as it comes: the least delay, and no picture for half a group on average.
    LowLatency,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            start: Start::Gop,
            merge_max: Duration::from_millis(100),
            queue: ByteSize::mib(8),
            lag: Duration::from_secs(5),
            wait: Duration::ZERO,
        }
    }
}

/// What follows a broadcast's name in its path.
pub(super) const SUFFIX: &str = ".flv";

/// nginx and what is built on it would collect the response before passing it on.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// `/live/mark.flv`, also as a WebSocket.
pub(super) async fn watch(
    site: &Site,
    name: StreamName,
    method: &Method,
    headers: &HeaderMap,
    live: Live,
) -> Result<Response, HttpError> {
    let key = if ws::asks(headers) { Some(ws::key(headers)?) } else { None };
    let stream = find(site, &name).await?;
    site.count("flv");
    if let Some(key) = key {
        return Ok(ws::response(key, site.channels.sit(&stream, live)));
    }
    let mut response = Response::new(Body::new(NoBody));
    if method != Method::HEAD {
        *response.body_mut() = Body::new(FlvBody(site.channels.sit(&stream, live)));
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("video/x-flv"));
    headers.insert(CACHE_CONTROL, caching::NEVER);
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// The broadcast, if it is live or begins within the time for which it is waited.
async fn find(site: &Site, name: &StreamName) -> Result<Arc<Stream>, HttpError> {
    let settings = site.channels.settings();
    if !settings.enabled {
        return Err(HttpError::NotFound);
    }
    let hub = &site.context.hub;
    match hub.get(name) {
        Some(stream) => Ok(stream),
        None if settings.wait.is_zero() => Err(HttpError::NotFound),
        None => timeout(settings.wait, hub.opened(name)).await.map_err(|_| HttpError::NotFound),
    }
}
