//! What a request's validators and `Range` ask of a representation (RFC 9110 §13, §14).

use http::header::{IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE};
use http::{HeaderMap, HeaderName};

use crate::clock::WallTime;

/// What a representation is judged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validators<'a> {
    /// A strong entity tag, with its quotes.
    pub etag: &'a str,
    /// When it last changed; whole seconds count.
    pub modified: Option<WallTime>,
    /// Its length in bytes.
    pub len: u64,
    /// Parts of it may be asked for.
    pub ranges: bool,
}

/// What to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// 200 with everything.
    Whole,
    /// 206 with the bytes `first..=last`.
    Part {
        /// First byte.
        first: u64,
        /// Last byte, below the length.
        last: u64,
    },
    /// 304.
    NotModified,
    /// 412.
    Failed,
    /// 416: the one range asked for lies outside.
    Unsatisfiable,
}

/// Judges the headers of a GET (or a HEAD, which has no ranges: RFC 9110 §14.2) in the order of §13.2.2.
pub(super) fn judge(headers: &HeaderMap, head: bool, of: Validators<'_>) -> Verdict {
    if headers.contains_key(IF_MATCH) {
        if !matches(headers, IF_MATCH, |tag| tag == of.etag) {
            return Verdict::Failed;
        }
    } else if let (Some(since), Some(modified)) = (date(headers, &IF_UNMODIFIED_SINCE), of.modified)
        && modified.unix_s() > since
    {
        return Verdict::Failed;
    }
    if headers.contains_key(IF_NONE_MATCH) {
        // Weak comparison: a cache may have weakened our tag (nginx does when it compresses).
        if matches(headers, IF_NONE_MATCH, |tag| tag.strip_prefix("W/").unwrap_or(tag) == of.etag) {
            return Verdict::NotModified;
        }
    } else if let (Some(since), Some(modified)) = (date(headers, &IF_MODIFIED_SINCE), of.modified)
        && modified.unix_s() <= since
    {
        return Verdict::NotModified;
    }
    let mut ranges = headers.get_all(RANGE).iter();
    match (ranges.next(), ranges.next()) {
        (Some(range), None) if of.ranges && !head && range_still_holds(headers, of) => {
            range.to_str().map_or(Verdict::Whole, |range| range_of(range, of.len))
        }
        _ => Verdict::Whole,
    }
}

/// RFC 9110 §14.1.2: one range of bytes. What is malformed, in another unit, or more than one range is ignored,
/// as §14.2 allows: many small overlapping ranges of one segment are a known way to make a server work.
fn range_of(value: &str, len: u64) -> Verdict {
    let Some((unit, range)) = value.split_once('=') else { return Verdict::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return Verdict::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || range.contains(',') {
        return Verdict::Whole;
    }
    match (position(first), position(last)) {
        (Position::At(first), Position::At(last)) if first > last => Verdict::Whole,
        (Position::At(first), _) if first >= len => match position(last) {
            Position::Malformed => Verdict::Whole,
            _ => Verdict::Unsatisfiable,
        },
        (Position::At(first), Position::At(last)) => Verdict::Part { first, last: last.min(len - 1) },
        (Position::At(first), Position::None) => Verdict::Part { first, last: len - 1 },
        (Position::None, Position::At(suffix)) if suffix == 0 || len == 0 => Verdict::Unsatisfiable,
        (Position::None, Position::At(suffix)) => {
            Verdict::Part { first: len.saturating_sub(suffix), last: len - 1 }
        }
        _ => Verdict::Whole,
    }
}

/// One end of a range as written.
enum Position {
    None,
    At(u64),
    Malformed,
}

fn position(text: &str) -> Position {
    if text.is_empty() {
        Position::None
    } else if text.bytes().all(|byte| byte.is_ascii_digit()) {
        // Past u64 is past the end of anything that is kept here.
        Position::At(text.parse().unwrap_or(u64::MAX))
    } else {
        Position::Malformed
    }
}

/// RFC 9110 §13.1.5: a range is of use only to a client that holds the same bytes; else it gets everything.
fn range_still_holds(headers: &HeaderMap, of: Validators<'_>) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    let Ok(value) = value.to_str() else { return false };
    if value.contains('"') {
        return value.trim() == of.etag;
    }
    let (Some(date), Some(modified)) = (parse_date(value), of.modified) else { return false };
    modified.unix_s() == date
}

/// Whether a tag that `same` accepts, or `*`, stands in any of the lists.
fn matches(headers: &HeaderMap, name: HeaderName, same: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).any(|mut rest| {
        // A tag may hold a comma, so the list is read tag by tag.
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.starts_with('*') {
                return true;
            }
            let weak = if rest.starts_with("W/") { 2 } else { 0 };
            let Some(inner) = rest.get(weak..).and_then(|tag| tag.strip_prefix('"')) else { return false };
            let Some(end) = inner.find('"') else { return false };
            let (tag, after) = rest.split_at(weak + 1 + end + 1);
            if same(tag) {
                return true;
            }
            rest = after;
        }
    })
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<i64> {
    parse_date(headers.get(name)?.to_str().ok()?)
}

/// Seconds since 1970, from any of the three forms of RFC 9110 §5.6.7.
fn parse_date(text: &str) -> Option<i64> {
    httpdate::parse_http_date(text.trim()).ok().map(|time| WallTime::from(time).unix_s())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const MODIFIED: &str = "Thu, 26 Nov 2026 18:09:44 GMT";
    const BEFORE: &str = "Thu, 26 Nov 2026 18:09:43 GMT";

    fn verdict(pairs: &[(HeaderName, &str)], len: u64) -> Verdict {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        // Half a second past the date that Last-Modified shows: the fraction must not count.
        let modified = Some(WallTime::from_unix_us(1_795_716_584_500_000));
        judge(&headers, false, Validators { etag: "\"a\"", modified, len, ranges: true })
    }

    fn part(first: u64, last: u64) -> Verdict {
        Verdict::Part { first, last }
    }

    /// RFC 9110 §14.1.2 and §14.2: what each form of Range means for 100 bytes.
    #[test]
    fn one_range_is_a_part_and_anything_odd_is_the_whole() {
        for (range, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=0-49", part(0, 49)),
            ("Bytes= 10-19", part(10, 19)),
            ("bytes=50-", part(50, 99)),
            ("bytes=-10", part(90, 99)),
            ("bytes=-1000", part(0, 99)),
            ("bytes=90-1000", part(90, 99)),
            ("bytes=90-99999999999999999999999", part(90, 99)),
            ("bytes=100-", Verdict::Unsatisfiable),
            ("bytes=100-200", Verdict::Unsatisfiable),
            ("bytes=99999999999999999999999-", Verdict::Unsatisfiable),
            ("bytes=-0", Verdict::Unsatisfiable),
            ("bytes=50-49", Verdict::Whole),
            ("bytes=0-1,4-5", Verdict::Whole),
            ("bytes=0-,0-", Verdict::Whole),
            ("bytes=200-,1-", Verdict::Whole),
            ("bytes=200-x", Verdict::Whole),
            ("bytes=-", Verdict::Whole),
            ("bytes=", Verdict::Whole),
            ("bytes=--5", Verdict::Whole),
            ("bytes=+1-5", Verdict::Whole),
            ("bytes=a-b", Verdict::Whole),
            ("items=0-5", Verdict::Whole),
            ("0-5", Verdict::Whole),
        ] {
            assert_eq!(verdict(&[(RANGE, range)], 100), expected, "{range}");
        }
        assert_eq!(verdict(&[(RANGE, "bytes=0-1"), (RANGE, "bytes=3-4")], 100), Verdict::Whole);
        assert_eq!(verdict(&[(RANGE, "bytes=0-")], 0), Verdict::Unsatisfiable);
        assert_eq!(verdict(&[(RANGE, "bytes=-1")], 0), Verdict::Unsatisfiable);
    }

    /// RFC 9110 §13.1.1 to §13.1.5 and the order of §13.2.2.
    #[test]
    fn preconditions_are_judged_in_the_order_of_the_rfc() {
        let range = (RANGE, "bytes=0-1");
        let rows: &[(&[(HeaderName, &str)], Verdict)] = &[
            (&[], Verdict::Whole),
            (&[(IF_NONE_MATCH, "\"a\"")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "W/\"a\"")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "*")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "\"x\", \"y,z\" , W/\"a\"")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "\"x\""), (IF_NONE_MATCH, "\"a\"")], Verdict::NotModified),
            (&[(IF_NONE_MATCH, "\"x,\"a\"")], Verdict::Whole),
            (&[(IF_NONE_MATCH, "a")], Verdict::Whole),
            (&[(IF_NONE_MATCH, "")], Verdict::Whole),
            (&[(IF_NONE_MATCH, "\"x\""), (IF_MODIFIED_SINCE, MODIFIED)], Verdict::Whole),
            (&[(IF_MODIFIED_SINCE, MODIFIED)], Verdict::NotModified),
            (&[(IF_MODIFIED_SINCE, BEFORE)], Verdict::Whole),
            (&[(IF_MODIFIED_SINCE, "yesterday")], Verdict::Whole),
            (&[(IF_NONE_MATCH, "\"a\""), range.clone()], Verdict::NotModified),
            (&[(IF_MATCH, "\"x\"")], Verdict::Failed),
            (&[(IF_MATCH, "W/\"a\"")], Verdict::Failed),
            (&[(IF_MATCH, "\"x\", \"a\"")], Verdict::Whole),
            (&[(IF_MATCH, "*")], Verdict::Whole),
            (&[(IF_UNMODIFIED_SINCE, BEFORE)], Verdict::Failed),
            (&[(IF_UNMODIFIED_SINCE, MODIFIED)], Verdict::Whole),
            (&[(IF_RANGE, "\"a\""), range.clone()], part(0, 1)),
            (&[(IF_RANGE, "W/\"a\""), range.clone()], Verdict::Whole),
            (&[(IF_RANGE, "\"x\""), range.clone()], Verdict::Whole),
            (&[(IF_RANGE, MODIFIED), range.clone()], part(0, 1)),
            (&[(IF_RANGE, BEFORE), range.clone()], Verdict::Whole),
            (&[(IF_RANGE, "soon"), range.clone()], Verdict::Whole),
        ];
        for (pairs, expected) in rows {
            assert_eq!(verdict(pairs, 100), *expected, "{pairs:?}");
        }
    }

    proptest! {
        /// Any Range header: never a panic, and a part lies within the representation and is what was asked.
        #[test]
        fn a_part_lies_inside(
            first in proptest::option::of(0u64..300),
            last in proptest::option::of(0u64..300),
            len in 0u64..200,
        ) {
            let write = |end: Option<u64>| end.map(|end| end.to_string()).unwrap_or_default();
            let text = format!("bytes={}-{}", write(first), write(last));
            match range_of(&text, len) {
                Verdict::Part { first: from, last: to } => {
                    prop_assert!(from <= to && to < len);
                    match (first, last) {
                        (Some(first), Some(last)) => prop_assert!(from == first && to == last.min(len - 1)),
                        (Some(first), None) => prop_assert!(from == first && to == len - 1),
                        (None, suffix) => prop_assert_eq!(Some(to - from + 1), suffix.map(|n| n.min(len))),
                    }
                }
                Verdict::Unsatisfiable => prop_assert!(first.is_none_or(|first| first >= len)),
                other => prop_assert_eq!(other, Verdict::Whole),
            }
        }

        #[test]
        fn any_text_is_a_verdict(text in "[ -~]{0,40}", digits in "bytes=[-0-9, ]{0,30}") {
            for value in [text, digits] {
                for name in [RANGE, IF_RANGE, IF_NONE_MATCH, IF_MATCH, IF_MODIFIED_SINCE, IF_UNMODIFIED_SINCE] {
                    verdict(&[(name, &value), (RANGE, "bytes=0-1")], 10);
                }
            }
        }

        /// A tag is found wherever it stands in a list, and no other tag is taken for it.
        #[test]
        fn a_list_matches_when_it_holds_the_tag(
            others in proptest::collection::vec("(W/)?\"[b-z,/!]{0,6}\"", 0..5),
            at in 0usize..6,
        ) {
            let list = others.join(", ");
            prop_assert_eq!(verdict(&[(IF_NONE_MATCH, &list)], 10), Verdict::Whole);
            let mut with = others;
            with.insert(at.min(with.len()), "\"a\"".to_owned());
            prop_assert_eq!(verdict(&[(IF_NONE_MATCH, &with.join(","))], 10), Verdict::NotModified);
        }
    }
}
