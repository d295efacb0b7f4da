//! How long a cache may keep each kind of response. The one place that says so.
//!
//! A shared cache in front may keep a response for exactly as long as it stays true (A5 of the HLS rules this origin
//! answers for; draft-pantos-hls-rfc8216bis Appendix B.1).

use http::HeaderValue;

use crate::media::Span;
use crate::media::time::TICKS_PER_SECOND;
use crate::package::Life;

/// A segment's name never stands for other bytes, so it is true for ever, also after the origin has deleted it.
pub(super) const SEGMENT: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// Not there now, but a stream may start, or a segment be finished, within a second. Said explicitly because caches
/// that are told nothing keep an error for long (`CloudFront`: 10 s).
pub(super) const ERROR: HeaderValue = HeaderValue::from_static("public, max-age=1");

/// Figures of this moment, and failures of this process.
pub(super) const NEVER: HeaderValue = HeaderValue::from_static("no-store");

/// Page, script and style belong together, so each use asks; with an entity tag that costs a 304.
pub(super) const PAGE: HeaderValue = HeaderValue::from_static("no-cache");

/// Changes only with a new build, and any build's page works with any other's.
pub(super) const LIBRARY: HeaderValue = HeaderValue::from_static("public, max-age=86400");

/// The longest that a live playlist may be kept, in seconds. Each second adds to the viewers' delay and to the time
/// until a new segment is known; the origin answers a playlist in some 20 us, so asking it often is cheap.
const LIVE_S_MAX: i64 = 2;

/// Half a target duration for a live playlist, within 1 s and [`LIVE_S_MAX`]. Never `no-store`: that keeps caches
/// from joining requests.
///
/// An ended one no longer: an encoder that lost its connection is back within seconds under the same name, and whoever
/// comes then must not be told by a cache that all is over. It costs nothing, as players stop asking at ENDLIST.
pub(super) fn playlist(life: Life) -> HeaderValue {
    match life {
        Life::Live { target } => {
            let seconds = half_s(target).clamp(1, LIVE_S_MAX);
            HeaderValue::try_from(format!("public, max-age={seconds}")).expect("digits are a header value")
        }
        Life::Ended => HeaderValue::from_static("public, max-age=1"),
    }
}

fn half_s(target: Span) -> i64 {
    target.0 / (2 * TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A5: `public, max-age = max(1, TD/2)`, and never no-store.
    #[test]
    fn a_live_playlist_is_kept_for_half_a_target_duration_at_most() {
        for (target_s, expected) in [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (20, 2)] {
            let life = Life::Live { target: Span(target_s * TICKS_PER_SECOND) };
            assert_eq!(playlist(life), format!("public, max-age={expected}"), "{target_s} s");
        }
        assert_eq!(playlist(Life::Ended), "public, max-age=1");
    }
}
