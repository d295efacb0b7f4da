//! The page: static files in the binary.

use std::io::Write;
use std::sync::{Arc, LazyLock, OnceLock};

use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY};
use http::{HeaderMap, HeaderValue, Method};
use sha2::{Digest, Sha256};

use super::error::HttpError;
use super::respond::{Forms, Resource, respond};
use super::{Site, caching};
use crate::name::StreamName;

// `const HLS_JS: Option<&[u8]>` and `MPEGTS_JS`, by build.rs.
include!(concat!(env!("OUT_DIR"), "/libraries.rs"));

/// Script and style are files of ours and nothing else: no inline code, so what a publisher can name or send never
/// runs. hls.js and mpegts.js demux in workers made from blobs, and feed the video element by a blob.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     media-src 'self' blob:; worker-src 'self' blob:; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'self'",
);

const HTML: &str = "text/html; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";

static INDEX: File = File::new(HTML, include_bytes!("page/index.html"));
static PLAYER: File = File::new(HTML, include_bytes!("page/player.html"));
static APP_CSS: File = File::new("text/css; charset=utf-8", include_bytes!("page/app.css"));
static APP_JS: File = File::new(JS, include_bytes!("page/app.js"));
static PLAYER_JS: File = File::new(JS, include_bytes!("page/player.js"));
static ENGINES_JS: File = File::new(JS, include_bytes!("page/engines.js"));
static ICON_SVG: File = File::new("image/svg+xml", include_bytes!("page/icon.svg"));
static HLS_MIN_JS: LazyLock<Option<File>> = LazyLock::new(|| HLS_JS.map(|bytes| File::new(JS, bytes)));
static MPEGTS_MIN_JS: LazyLock<Option<File>> = LazyLock::new(|| MPEGTS_JS.map(|bytes| File::new(JS, bytes)));

/// One file, and what is made of it at its first request.
struct File {
    content_type: &'static str,
    bytes: &'static [u8],
    etag: OnceLock<String>,
    gzip: OnceLock<Bytes>,
}

impl File {
    const fn new(content_type: &'static str, bytes: &'static [u8]) -> Self {
        Self { content_type, bytes, etag: OnceLock::new(), gzip: OnceLock::new() }
    }

    fn etag(&self) -> &str {
        let digest = || Sha256::digest(self.bytes).first_chunk().map_or(0, |head| u128::from_be_bytes(*head));
        self.etag.get_or_init(|| format!("{:032x}", digest()))
    }

    fn gzip(&self) -> Bytes {
        let compress = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            let done = encoder.write_all(self.bytes).and_then(|()| encoder.finish());
            done.expect("a Vec takes every write").into()
        };
        self.gzip.get_or_init(compress).clone()
    }

    fn answer(
        &self,
        cache_control: HeaderValue,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<Response, HttpError> {
        let resource = Resource {
            content_type: self.content_type,
            cache_control,
            etag: self.etag(),
            modified: None,
            bytes: Bytes::from_static(self.bytes),
            forms: Forms::Gzip(&|| self.gzip()),
        };
        let mut response = respond(method, headers, resource)?;
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, POLICY);
        response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
        Ok(response)
    }
}

/// `/`: what is live.
pub(super) async fn index(method: Method, headers: HeaderMap) -> Result<Response, HttpError> {
    INDEX.answer(caching::PAGE, &method, &headers)
}

/// `/play/live/mark`: the player, whether or not the broadcast is live yet.
pub(super) async fn player(
    Path((app, stream)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    StreamName::new(&app, &stream).map_err(|_| HttpError::NotFound)?;
    PLAYER.answer(caching::PAGE, &method, &headers)
}

/// `/assets/app.js` and its like.
pub(super) async fn asset(
    State(site): State<Arc<Site>>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let (file, cache_control) = match file.as_str() {
        "app.css" => (&APP_CSS, caching::PAGE),
        "app.js" => (&APP_JS, caching::PAGE),
        "player.js" => (&PLAYER_JS, caching::PAGE),
        "engines.js" => (&ENGINES_JS, caching::PAGE),
        "icon.svg" => (&ICON_SVG, caching::PAGE),
        "hls.min.js" => (HLS_MIN_JS.as_ref().ok_or(HttpError::NotFound)?, caching::LIBRARY),
        "mpegts.min.js" => (MPEGTS_MIN_JS.as_ref().ok_or(HttpError::NotFound)?, caching::LIBRARY),
        _ => return Err(HttpError::NotFound),
    };
    site.count("asset");
    file.answer(cache_control, &method, &headers)
}
