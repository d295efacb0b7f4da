//! What can go wrong with a request, and how it is answered.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, StatusCode};
use thiserror::Error;
use tracing::warn;

use super::caching;
use crate::store::ReadError;

/// A request that gets no resource.
#[derive(Debug, Error)]
pub(super) enum HttpError {
    /// No such path, broadcast, playlist or segment; or not yet.
    #[error("not found")]
    NotFound,
    /// Not GET, HEAD or OPTIONS.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// A WebSocket handshake without what RFC 6455 §4.2.1 asks for.
    #[error("not a WebSocket handshake")]
    Handshake,
    /// A WebSocket handshake of another version than 13.
    #[error("unsupported WebSocket version")]
    WebSocketVersion,
    /// `If-Match` or `If-Unmodified-Since` was false.
    #[error("precondition failed")]
    PreconditionFailed,
    /// The range asked for lies outside the representation.
    #[error("range not satisfiable")]
    RangeNotSatisfiable {
        /// Its length in bytes.
        len: u64,
    },
    /// The store did not answer. hls.js tries again after a 5xx, never after a 4xx.
    #[error("the store is not answering, try again")]
    Store(#[from] ReadError),
}

impl HttpError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Handshake => StatusCode::BAD_REQUEST,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
            Self::RangeNotSatisfiable { .. } => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let text = format!("{self}\n");
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, caching::ERROR);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(CONTENT_LENGTH, text.len().into());
        match &self {
            Self::NotFound | Self::Handshake | Self::PreconditionFailed => {}
            Self::WebSocketVersion => {
                headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            }
            Self::MethodNotAllowed => {
                headers.insert(ALLOW, super::METHODS);
            }
            Self::RangeNotSatisfiable { len } => {
                let range = format!("bytes */{len}");
                headers
                    .insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("digits are a header value"));
            }
            Self::Store(error) => {
                warn!(error = error as &dyn std::error::Error, "a segment could not be read");
                headers.insert(CACHE_CONTROL, caching::NEVER);
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
        }
        *response.body_mut() = Body::from(text);
        response
    }
}
