//! Delivery over HTTP: what players, caches and the page are given.
//!
//! ```text
//! server (sockets, limits, drain) ─► gate (methods, CORS) ─► hls: Board, Store ─► respond ─► conditional, encoding
//!         pace (when to give up)                         ├─► flv: live::Stream        └► caching (how long it is true)
//!                                                        ├─► admin: figures
//!                                                        └─► page: files in the binary
//! ```
//! Cores: `pace`, `conditional`, `encoding`, `caching`, `viewers`. The rest are shells.

mod admin;
mod caching;
mod conditional;
mod descriptors;
mod encoding;
mod error;
pub mod flv;
mod gate;
mod hls;
mod pace;
mod page;
mod respond;
mod server;
mod viewers;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Extension, Path, State};
use axum::response::Response;
use axum::routing::get;
use axum::{Router, middleware};
use http::{HeaderMap, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::live::Hub;
use crate::metrics::{Kind, Metrics};
use crate::name::StreamName;
use crate::package::Board;
use crate::store::Store;

use error::HttpError;
use flv::{Channels, Live};
use viewers::Viewers;

pub use server::run;

/// What a client may do here.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where viewers and CDNs connect.
    pub listen: SocketAddr,
    /// Connections at one time, and at most three quarters of the open files that the system allows. One more is
    /// answered 503 and closed, so that descriptors and memory are left for publishers. An idle one costs 13 KiB
    /// (measured over 2,000).
    pub connections_max: usize,
    /// From the first byte of a request until its last header.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How long a connection is kept without a request. Above the 60 s for which CDNs keep theirs: whoever closes
    /// first while the other sends loses that request.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long a client may take nothing of a response that is being sent.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How long responses may take to finish when the origin stops. At most 3 s, so that a stop takes less than 10 s.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8000)),
            connections_max: 10_000,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(20),
            drain_timeout: Duration::from_secs(3),
        }
    }
}

/// What every handler sees. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// Live streams and their figures.
    pub hub: Hub,
    /// Playlists.
    pub board: Board,
    /// Segments.
    pub store: Store,
    /// Clocks.
    pub clock: Clock,
    /// Counters.
    pub metrics: Metrics,
    /// `[flv]`.
    pub flv: flv::Settings,
}

/// Everything that is served, as a service of requests. A request may carry its [`Peer`] as an extension.
pub fn router(context: Context) -> Router {
    let Context { flv, clock, metrics, .. } = context.clone();
    let channels = Channels::new(flv, clock, metrics);
    let site = Arc::new(Site { context, channels, viewers: Mutex::default(), visitors: RandomState::new() });
    Router::new()
        .route("/", get(page::index))
        .route("/play/{app}/{stream}", get(page::player))
        .route("/assets/{file}", get(page::asset))
        .route("/api/v1/streams", get(admin::streams))
        .route("/healthz", get(admin::health))
        .route("/metrics", get(admin::metrics))
        .route("/{app}/{file}", get(named))
        .route("/{app}/{stream}/{file}", get(hls::playlist))
        .route("/{app}/{stream}/{epoch}/{file}", get(hls::segment))
        .fallback(gate::not_found)
        .layer(middleware::from_fn_with_state(Arc::clone(&site), gate::pass))
        .with_state(site)
}

/// `/live/mark.flv` and `/live/mark.m3u8`: what the broadcast is given as stands behind its name.
async fn named(
    State(site): State<Arc<Site>>,
    Path((app, file)): Path<(String, String)>,
    method: Method,
    live: Option<Extension<Live>>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let name = |stream: &str| StreamName::new(&app, stream).map_err(|_| HttpError::NotFound);
    if let Some(stream) = file.strip_suffix(flv::SUFFIX) {
        flv::watch(&site, name(stream)?, &method, &headers, live.unwrap_or_default().0).await
    } else {
        let stream = file.strip_suffix(hls::ALIAS_SUFFIX).ok_or(HttpError::NotFound)?;
        hls::alias(&site, &name(stream)?, &method, &headers)
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The context, and what delivery itself remembers.
#[derive(Debug)]
struct Site {
    context: Context,
    channels: Channels,
    viewers: Mutex<Viewers>,
    /// Keyed afresh in each process, so that nobody can choose visitors that collide.
    visitors: RandomState,
}

impl Site {
    fn count(&self, kind: &'static str) {
        self.context.metrics.http_responses.get_or_create(&Kind { kind }).inc();
    }

    fn saw_viewer(&self, name: &StreamName, peer: Option<Peer>, user_agent: &[u8], stay: Duration) {
        let visitor = self.visitors.hash_one((peer.map(|peer| peer.0), user_agent));
        let now = self.context.clock.now();
        self.viewers.lock().unwrap_or_else(PoisonError::into_inner).saw(name, visitor, now, stay);
    }

    fn viewers(&self, name: &StreamName) -> usize {
        let now = self.context.clock.now();
        let hls = self.viewers.lock().unwrap_or_else(PoisonError::into_inner).count(name, now);
        hls + self.channels.viewers(name)
    }
}
