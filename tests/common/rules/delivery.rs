//! Rules of responses: A5, RFC 9110, RFC 9111.

use std::io::Read as _;
use std::net::SocketAddr;

use chrono::DateTime;

use super::Report;
use crate::common::http::{Response, request};

/// What every response says, whatever it is: `H.CORS`, constant so that `Origin` splits no cache; `H.LENGTH`; no cookie.
fn any(path: &str, response: &Response, report: &mut Report) {
    let header = |name| response.header(name).unwrap_or("");
    report.claim("H.CORS", path, header("access-control-allow-origin") == "*", || {
        format!("{:?}", response.headers)
    });
    let exposed = header("access-control-expose-headers").to_ascii_lowercase();
    let all = ["age", "date", "content-length", "content-range", "etag"]
        .iter()
        .all(|name| exposed.split(',').any(|exposed| exposed.trim() == *name));
    report.claim("H.CORS", path, all && header("timing-allow-origin") == "*", || exposed.clone());
    report.claim("H.NO_COOKIE", path, response.header("set-cookie").is_none(), || "a cookie".to_owned());
    report.claim("H.DATE", path, date(response, "date").is_some(), || format!("{:?}", response.headers));
    let varies = header("vary");
    report.claim(
        "H.VARY",
        path,
        ["", "accept-encoding"].contains(&varies.to_ascii_lowercase().as_str()),
        || varies.to_owned(),
    );
}

/// A playlist's response. `target_s` is of a media playlist.
pub fn playlist(path: &str, response: &Response, target_s: Option<u64>, live: bool, report: &mut Report) {
    any(path, response, report);
    let header = |name| response.header(name).unwrap_or("");
    // AS 8.18: no redirects.
    report.claim("H.STATUS", path, response.status == 200, || response.status.to_string());
    report.claim("H.TYPE", path, header("content-type") == "application/vnd.apple.mpegurl", || {
        header("content-type").to_owned()
    });
    length(path, response, report);
    report.claim("H.ETAG", path, strong(header("etag")), || header("etag").to_owned());
    report.claim("H.VARY", path, header("vary").eq_ignore_ascii_case("accept-encoding"), || {
        header("vary").to_owned()
    });
    let age = max_age(response);
    let longest = target_s.map_or(300, |target| (target / 2).max(1));
    let kept =
        age.is_some_and(|age| (1..=longest).contains(&age)) && !header("cache-control").contains("no-store");
    report.claim("H.CACHE_PLAYLIST", path, kept, || {
        format!("{}, at most {longest} s", header("cache-control"))
    });
    if let (true, Some(target)) = (live, target_s) {
        // AS 8.24: within three target durations of Date.
        let fresh = date(response, "date").zip(date(response, "last-modified"));
        let fresh = fresh.is_some_and(|(date, modified)| date - modified <= 3 * target as i64);
        report.claim("H.LM_FRESH", path, fresh, || format!("{:?}", response.headers));
    }
}

/// A segment's response.
pub fn segment(path: &str, response: &Response, report: &mut Report) {
    any(path, response, report);
    let header = |name| response.header(name).unwrap_or("");
    report.claim("H.STATUS", path, response.status == 200, || response.status.to_string());
    report
        .claim("H.TYPE", path, header("content-type") == "video/mp2t", || header("content-type").to_owned());
    length(path, response, report);
    report.claim("H.ETAG", path, strong(header("etag")), || header("etag").to_owned());
    let cache = header("cache-control");
    let long = max_age(response).is_some_and(|age| age >= 3600) && cache.contains("public");
    report.claim("H.CACHE_SEGMENT", path, long && cache.contains("immutable"), || cache.to_owned());
    report.claim("H.RANGE", path, header("accept-ranges") == "bytes", || header("accept-ranges").to_owned());
    let plain = response.header("content-encoding").is_none();
    report.claim("H.GZIP", path, plain, || "a segment is compressed".to_owned());
    report.claim("H.LM", path, date(response, "last-modified").is_some(), || "no Last-Modified".to_owned());
}

/// What is not there: 404 for at most a target duration, readable by a script of another site.
pub fn missing(path: &str, response: &Response, report: &mut Report) {
    any(path, response, report);
    let short = max_age(response).is_some_and(|age| age <= 1);
    report.claim("H.NOT_FOUND", path, response.status == 404 && short, || {
        format!("{} {:?}", response.status, response.header("cache-control"))
    });
}

/// Asks a playlist and a segment in all the ways that players and caches do.
pub fn probe(to: SocketAddr, media: &str, file: &str, report: &mut Report) {
    codings(to, media, report);
    for path in [media, file] {
        conditions(to, path, report);
        methods(to, path, report);
    }
    ranges(to, file, report);
    let (folder, _) = media.rsplit_once('/').expect("a path has a folder");
    for path in [
        format!("{folder}/1/1.ts"),
        format!("{folder}/none.m3u8"),
        "/live/nobody/index.m3u8".to_owned(),
        "/live/nobody.m3u8".to_owned(),
        format!("{folder}/../../etc/passwd"),
    ] {
        missing(&path, &request(to, "GET", &path, &[]), report);
    }
    // A query is never part of what is asked for (A5, CMCD).
    let asked = request(to, "GET", &format!("{file}?CMCD=br%3D1"), &[]);
    let plain = request(to, "GET", file, &[]);
    report
        .claim("H.QUERY", file, asked.body == plain.body && asked.status == 200, || asked.status.to_string());
    let alias = request(to, "GET", &format!("{folder}.m3u8"), &[]);
    playlist(&format!("{folder}.m3u8"), &alias, None, true, report);
}

/// `H.GZIP` (AS 10.1): compressed for who asks, with a tag of its own, and the same text.
fn codings(to: SocketAddr, path: &str, report: &mut Report) {
    let plain = request(to, "GET", path, &[]);
    let zipped = request(to, "GET", path, &[("Accept-Encoding", "gzip, deflate, br")]);
    let again = request(to, "GET", path, &[]);
    let mut text = String::new();
    let unzipped = flate2::read::GzDecoder::new(zipped.body.as_slice()).read_to_string(&mut text).is_ok();
    let coded = zipped.header("content-encoding") == Some("gzip") && unzipped;
    report.claim("H.GZIP", path, coded, || format!("{:?}", zipped.headers));
    let same = text == plain.text() || text == again.text();
    report.claim("H.GZIP", path, same, || format!("{text} is not {}", plain.text()));
    let apart =
        zipped.header("etag") != plain.header("etag") && zipped.header("etag") != again.header("etag");
    report.claim("H.ETAG", path, apart, || "both codings have one tag".to_owned());
    playlist(path, &zipped, None, true, report);
    let refused = request(to, "GET", path, &[("Accept-Encoding", "gzip;q=0")]);
    let plain = refused.header("content-encoding").is_none();
    report.claim("H.GZIP", path, plain, || "compressed for one who refused".to_owned());
}

/// `H.NOT_MODIFIED`: 304 without a body for the tag; an old date or another tag gets all.
fn conditions(to: SocketAddr, path: &str, report: &mut Report) {
    // A live playlist may change in between: then the tag is not the same, and that is right.
    for _ in 0..3 {
        let first = request(to, "GET", path, &[]);
        let tag = first.header("etag").unwrap_or("").to_owned();
        let second = request(to, "GET", path, &[("If-None-Match", &tag)]);
        if second.header("etag") != Some(tag.as_str()) {
            continue;
        }
        let empty = second.status == 304 && second.body.is_empty();
        report.claim("H.NOT_MODIFIED", path, empty, || format!("{} for its own tag", second.status));
        let kept = second.header("cache-control") == first.header("cache-control");
        report.claim("H.NOT_MODIFIED", path, kept, || format!("{:?}", second.headers));
        any(path, &second, report);
        let modified = first.header("last-modified").unwrap_or("").to_owned();
        let third = request(to, "GET", path, &[("If-Modified-Since", &modified)]);
        let right = third.status == 304 || third.header("etag") != Some(tag.as_str());
        report.claim("H.NOT_MODIFIED", path, right, || format!("{} for its own date", third.status));
        let other = request(to, "GET", path, &[("If-None-Match", "\"other\"")]);
        report.claim("H.NOT_MODIFIED", path, other.status == 200, || other.status.to_string());
        return;
    }
    report.claim("H.NOT_MODIFIED", path, false, || "changes between any two requests".to_owned());
}

/// `H.METHODS`: HEAD is GET without its body; OPTIONS is allowed; all else is 405.
fn methods(to: SocketAddr, path: &str, report: &mut Report) {
    let head = request(to, "HEAD", path, &[]);
    let get = request(to, "GET", path, &[]);
    let names = |response: &Response| {
        let names = response.headers.iter().map(|(name, _)| name.clone());
        names.collect::<std::collections::BTreeSet<_>>()
    };
    let same = head.status == get.status && head.body.is_empty() && names(&head) == names(&get);
    report.claim("H.METHODS", path, same, || format!("HEAD {:?}, GET {:?}", head.headers, get.headers));
    let asks = [("Origin", "http://a.example"), ("Access-Control-Request-Method", "GET")];
    let options =
        request(to, "OPTIONS", path, &[asks[0], asks[1], ("Access-Control-Request-Headers", "range")]);
    let allowed = options.header("access-control-allow-headers").is_some()
        && options.header("access-control-allow-origin") == Some("*");
    report.claim("H.METHODS", path, options.status == 204 && allowed, || format!("{options:?}"));
    let post = request(to, "POST", path, &[("Content-Length", "0")]);
    let refused = post.status == 405 && post.header("allow").is_some_and(|allow| allow.contains("GET"));
    report.claim("H.METHODS", path, refused, || format!("{} {:?}", post.status, post.header("allow")));
}

/// `H.RANGE`: 206 with exactly these bytes, 416 with the length, and everything for a condition that failed.
fn ranges(to: SocketAddr, path: &str, report: &mut Report) {
    let whole = request(to, "GET", path, &[]);
    let len = whole.body.len();
    let rows = [
        ("bytes=0-187", 0, 187),
        ("bytes=188-", 188, len - 1),
        ("bytes=-376", len - 376, len - 1),
        ("bytes=376-99999999", 376, len - 1),
    ];
    for (range, first, last) in rows {
        let part = request(to, "GET", path, &[("Range", range)]);
        let said = part.header("content-range") == Some(&format!("bytes {first}-{last}/{len}"));
        let exact = part.status == 206 && part.body == whole.body[first..=last];
        report
            .claim("H.RANGE", path, said && exact, || format!("{range}: {} {:?}", part.status, part.headers));
    }
    let outside = request(to, "GET", path, &[("Range", "bytes=99999999-")]);
    let said = outside.header("content-range") == Some(&format!("bytes */{len}"));
    report.claim("H.RANGE", path, outside.status == 416 && said, || format!("{outside:?}"));
    let stale = request(to, "GET", path, &[("Range", "bytes=0-1"), ("If-Range", "\"other\"")]);
    report
        .claim("H.RANGE", path, stale.status == 200 && stale.body == whole.body, || stale.status.to_string());
}

fn length(path: &str, response: &Response, report: &mut Report) {
    let said = response.header("content-length");
    report.claim("H.LENGTH", path, said == Some(&response.body.len().to_string()), || {
        format!("{said:?}, {} bytes came", response.body.len())
    });
}

fn strong(tag: &str) -> bool {
    tag.len() > 2 && tag.starts_with('"') && tag.ends_with('"')
}

fn max_age(response: &Response) -> Option<u64> {
    let directives = response.header("cache-control")?.split(',');
    directives
        .filter_map(|directive| directive.trim().strip_prefix("max-age="))
        .find_map(|age| age.parse().ok())
}

/// In seconds since 1970.
fn date(response: &Response, name: &str) -> Option<i64> {
    DateTime::parse_from_rfc2822(response.header(name)?).ok().map(|date| date.timestamp())
}
