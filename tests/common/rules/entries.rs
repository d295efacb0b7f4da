//! What the entries of a list say of time, held against the media they name.

use super::playlist::Entry;
use super::segment::Segment;
use super::{Expected, Report, TICKS_PER_S};

/// PROGRAM-DATE-TIME is written in milliseconds, and media time in ticks.
const DATE_ROUNDING_S: f64 = 0.002;

/// Rules of the entries of one timeline.
pub fn check(entries: &[(&Entry, &Segment)], expected: &Expected, report: &mut Report) {
    let Some((first, first_start)) =
        entries.first().and_then(|(entry, segment)| Some((entry, segment.start()?)))
    else {
        return;
    };
    let frame_s = expected.frame_s();
    let (mut sum, mut least, mut most) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (entry, segment) in entries {
        let Some(start) = segment.start() else { continue };
        let media_s = (start - first_start) as f64 / TICKS_PER_S;
        // PL.EXTINF_SUM: the sum of any run is within one frame of the media (8216bis §3, AS 8.1). A run is the difference of
        // two sums from the first, so the sums may not wander by more.
        least = least.min(sum - media_s);
        most = most.max(sum - media_s);
        report.claim("PL.EXTINF_SUM", entry.sequence, most - least < frame_s, || {
            format!("{sum} s listed before it, {media_s} s of media")
        });
        // PL.PDT_MEDIA: one anchor per timeline, and media time from there (8216bis §6.2.1).
        if let (Some(date), Some(anchor)) = (entry.dated(), first.dated()) {
            let dated_s = (date - anchor).as_seconds_f64();
            report.claim(
                "PL.PDT_MEDIA",
                entry.sequence,
                (dated_s - media_s).abs() <= DATE_ROUNDING_S,
                || format!("dated {dated_s} s after the first, {media_s} s of media"),
            );
        }
        sum += entry.duration_s;
    }
    // The last one lasts to the end of its last frame.
    if let Some((entry, segment)) = entries.last()
        && let Some(last) = segment.last()
    {
        let media_s = (last - first_start) as f64 / TICKS_PER_S + frame_s;
        let off = (sum - media_s).abs();
        report.claim("PL.EXTINF_SUM", entry.sequence, off <= frame_s, || {
            format!("{sum} s listed with it, {media_s} s of media")
        });
    }
}

/// `PL.PDT_ORDER`: dates rise, also over a discontinuity; media may overlap by less than a second (AS 8.5).
pub fn dates(entries: &[&Entry], report: &mut Report) {
    for pair in entries.windows(2) {
        if let (Some(a), Some(b)) = (pair[0].dated(), pair[1].dated()) {
            let overlap = pair[0].duration_s - (b - a).as_seconds_f64();
            report.claim("PL.PDT_ORDER", pair[1].sequence, overlap < 1.0, || format!("{overlap} s overlap"));
        }
    }
}
