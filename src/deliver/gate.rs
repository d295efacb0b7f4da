//! What holds for every request and response, whatever it asks for.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CONTENT_LENGTH, Entry,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use http_body::{Body as _, Frame};

use super::Site;
use super::error::HttpError;

/// Takes GET and HEAD, answers everything else itself, and lets every answer be read from any page.
///
/// A path with `%` is nothing of ours: no name needs escaping, and one resource shall have one URL. So what the
/// router sees is what was sent, and no decoding can turn into a `..` or a `/`.
pub(super) async fn pass(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let mut response = if method == Method::OPTIONS {
        preflight()
    } else if method != Method::GET && method != Method::HEAD {
        HttpError::MethodNotAllowed.into_response()
    } else if request.uri().path().contains('%') {
        HttpError::NotFound.into_response()
    } else {
        next.run(request).await
    };
    if response.status().is_client_error() || response.status().is_server_error() {
        site.count("error");
    }
    if method == Method::HEAD {
        // The GET's length, before the body that tells it is gone.
        let len = response.body().size_hint().exact();
        if let (Some(len), Entry::Vacant(entry)) = (len, response.headers_mut().entry(CONTENT_LENGTH))
            && len > 0
        {
            entry.insert(len.into());
        }
        *response.body_mut() = if len.is_some() { Body::empty() } else { Body::new(NoBody) };
    }
    if let StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED =
        response.status()
    {
        *response.body_mut() = Body::new(NoBody);
    }
    // A constant, not the request's Origin: that would need `Vary: Origin`, and so one copy per page in each cache.
    // On errors too, or hls.js sees status 0 and no 404.
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.insert(TIMING_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// No such path.
pub(super) async fn not_found() -> HttpError {
    HttpError::NotFound
}

const TIMING_ALLOW_ORIGIN: HeaderName = HeaderName::from_static("timing-allow-origin");

/// hls.js reads Age to find the live edge behind a cache.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("Age, Date, Content-Length, Content-Range, ETag, Last-Modified");

/// What players send beside the plain headers: ranges, and CMCD (CTA-5004). `*` alone would do for browsers of
/// today, not for those before 2019.
const ALLOWED: HeaderValue = HeaderValue::from_static(
    "Range, If-None-Match, If-Modified-Since, CMCD-Request, CMCD-Object, CMCD-Status, CMCD-Session, *",
);

fn preflight() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ALLOW, super::METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, super::METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// The body of an answer that can have none. Its length is not 0 but unsaid: RFC 9110 §8.6 forbids Content-Length in
/// a 101 and a 204, and in a 304 it would be the length of the 200, for HEAD that of the GET, which may have none. axum adds one to
/// every body of a known length.
pub(super) struct NoBody;

impl http_body::Body for NoBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }
}
