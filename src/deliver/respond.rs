//! The responder for bytes: conditionals, ranges, HEAD and codings, the same for every resource.
//!
//! Bytes go from where they lie into the socket without a copy: a response, a part of it, and what the window holds
//! are slices of one allocation.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    LAST_MODIFIED, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::conditional::{Validators, Verdict, judge};
use super::encoding::takes_gzip;
use super::error::HttpError;
use crate::clock::WallTime;

/// One resource at one moment.
pub(super) struct Resource<'a> {
    /// `video/mp2t` and the like.
    pub content_type: &'static str,
    /// From [`caching`](super::caching).
    pub cache_control: HeaderValue,
    /// A strong validator of the plain bytes, without quotes: visible ASCII without `"`.
    pub etag: &'a str,
    /// For `Last-Modified`.
    pub modified: Option<WallTime>,
    /// The plain bytes.
    pub bytes: Bytes,
    /// What else it can be.
    pub forms: Forms<'a>,
}

/// How else than whole and plain a resource is given.
pub(super) enum Forms<'a> {
    /// Parts of it: a segment.
    Ranges,
    /// Compressed, by this: a text. No parts of it, as they would be of one coding or the other.
    Gzip(&'a dyn Fn() -> Bytes),
}

/// Answers a GET or HEAD.
pub(super) fn respond(
    method: &Method,
    request: &HeaderMap,
    resource: Resource<'_>,
) -> Result<Response, HttpError> {
    let mut headers = HeaderMap::with_capacity(16);
    let mut bytes = resource.bytes;
    let mut etag = format!("\"{}\"", resource.etag);
    let ranges = match resource.forms {
        Forms::Ranges => {
            headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
            true
        }
        Forms::Gzip(gzip) => {
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
            if takes_gzip(request) {
                bytes = gzip();
                // Another representation, so another strong tag (RFC 9110 §8.8.3.3).
                etag = format!("\"{}-gzip\"", resource.etag);
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            false
        }
    };
    let validators = Validators { etag: &etag, modified: resource.modified, len: bytes.len() as u64, ranges };
    let (status, bytes) = match judge(request, method == Method::HEAD, validators) {
        Verdict::Whole => (StatusCode::OK, bytes),
        Verdict::Part { first, last } => {
            let range = format!("bytes {first}-{last}/{}", bytes.len());
            headers.insert(CONTENT_RANGE, HeaderValue::try_from(range).expect("digits are a header value"));
            (StatusCode::PARTIAL_CONTENT, bytes.slice(first as usize..=last as usize))
        }
        Verdict::NotModified => (StatusCode::NOT_MODIFIED, Bytes::new()),
        Verdict::Failed => return Err(HttpError::PreconditionFailed),
        Verdict::Unsatisfiable => return Err(HttpError::RangeNotSatisfiable { len: bytes.len() as u64 }),
    };
    headers.insert(CACHE_CONTROL, resource.cache_control);
    headers.insert(ETAG, HeaderValue::try_from(etag).expect("an entity tag is visible ASCII"));
    if let Some(modified) = resource.modified {
        let date = httpdate::fmt_http_date(modified.into());
        headers.insert(LAST_MODIFIED, HeaderValue::try_from(date).expect("a date is visible ASCII"));
    }
    if status == StatusCode::NOT_MODIFIED {
        // RFC 9110 §15.4.5: what a cache updates, and nothing about a body that is not sent.
        headers.remove(CONTENT_ENCODING);
    } else {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(resource.content_type));
        headers.insert(CONTENT_LENGTH, bytes.len().into());
    }
    let body = if method == Method::HEAD { Body::empty() } else { Body::from(bytes) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT_ENCODING, IF_NONE_MATCH, RANGE};
    use http::{HeaderName, Method};
    use http_body_util::BodyExt;

    use super::*;

    async fn segment(method: Method, name: HeaderName, value: &'static str) -> (Response<()>, Bytes) {
        let request = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let resource = Resource {
            content_type: "video/mp2t",
            cache_control: HeaderValue::from_static("public"),
            etag: "7-10",
            modified: Some(WallTime::from_unix_us(1_795_716_584_500_000)),
            bytes: Bytes::from_static(b"0123456789"),
            forms: Forms::Ranges,
        };
        split(respond(&method, &request, resource).unwrap()).await
    }

    async fn text(name: HeaderName, value: &'static str) -> (Response<()>, Bytes) {
        let request = HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
        let resource = Resource {
            content_type: "text/plain",
            cache_control: HeaderValue::from_static("public"),
            etag: "t",
            modified: None,
            bytes: Bytes::from_static(b"plain"),
            forms: Forms::Gzip(&|| Bytes::from_static(b"zip")),
        };
        split(respond(&Method::GET, &request, resource).unwrap()).await
    }

    async fn split(response: Response) -> (Response<()>, Bytes) {
        let (parts, body) = response.into_parts();
        (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn a_part_is_exact() {
        let (response, body) = segment(Method::GET, RANGE, "bytes=2-4").await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
        assert_eq!(response.headers()[CONTENT_RANGE], "bytes 2-4/10");
        assert_eq!(response.headers()[CONTENT_LENGTH], "3");
        assert_eq!(body, "234");
    }

    /// RFC 9110 §9.3.2: the headers of the GET, without its body; §14.2: no ranges.
    #[tokio::test]
    async fn head_is_get_without_the_body() {
        let (head, body) = segment(Method::HEAD, RANGE, "bytes=2-4").await;
        let (get, _) = segment(Method::GET, ACCEPT_ENCODING, "gzip").await;
        assert_eq!(head.headers(), get.headers());
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(get.headers()[CONTENT_LENGTH], "10");
        assert_eq!(get.headers()[LAST_MODIFIED], "Thu, 26 Nov 2026 18:09:44 GMT");
        assert!(body.is_empty());
    }

    #[tokio::test]
    async fn each_coding_has_its_own_tag_and_says_that_it_varies() {
        let (plain, body) = text(ACCEPT_ENCODING, "br").await;
        assert_eq!(body, "plain");
        assert_eq!(plain.headers()[ETAG], "\"t\"");
        let (zip, body) = text(ACCEPT_ENCODING, "gzip").await;
        assert_eq!(body, "zip");
        assert_eq!(zip.headers()[ETAG], "\"t-gzip\"");
        assert_eq!(zip.headers()[CONTENT_LENGTH], "3");
        for response in [&plain, &zip] {
            assert_eq!(response.headers()[VARY], "Accept-Encoding");
        }
        let (other, _) = text(IF_NONE_MATCH, "\"t-gzip\"").await;
        assert_eq!(other.status(), StatusCode::OK, "a tag of the other coding is no match");
    }

    #[tokio::test]
    async fn not_modified_says_what_a_cache_updates_and_no_more() {
        let (response, body) = segment(Method::GET, IF_NONE_MATCH, "\"7-10\"").await;
        assert_eq!(response.status(), StatusCode::NOT_MODIFIED);
        assert!(response.headers().contains_key(CACHE_CONTROL) && response.headers().contains_key(ETAG));
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
        assert!(!response.headers().contains_key(CONTENT_TYPE));
        assert!(body.is_empty());
    }
}
