//! Rules of multivariant playlists: what they say of codecs, size and rates is what the segments hold.

use m3u8_rs::{MasterPlaylist, VariantStream};

use super::playlist::Entry;
use super::segment::{Segment, sps};
use super::{Expected, Report, picture};

/// One version: its text, and which segment was the newest that its media playlist listed when it was seen.
#[derive(Debug, Clone)]
pub struct Version {
    pub text: String,
    pub newest: u64,
    /// Of that playlist.
    pub target_s: f64,
}

/// `MV.*` of one version, without the segments: A2.
fn check(version: &Version, report: &mut Report) -> Option<(MasterPlaylist, VariantStream)> {
    let at = version.newest;
    let read = m3u8_rs::parse_master_playlist_res(version.text.as_bytes());
    report.claim("MV.SYNTAX", at, read.is_ok(), || format!("{read:?} of {}", version.text));
    let playlist = read.ok()?;
    report.claim("MV.SYNTAX", at, playlist.variants.len() == 1, || version.text.clone());
    let independent = playlist.independent_segments;
    report.claim("PL.INDEPENDENT", at, independent, || "no EXT-X-INDEPENDENT-SEGMENTS".to_owned());
    let gone = version.text.contains("PROGRAM-ID") || version.text.contains("ALLOW-CACHE");
    report.claim("PL.OBSOLETE", at, !gone, || version.text.clone());
    let variant = playlist.variants.first().cloned()?;
    Some((playlist, variant))
}

/// `MV.CODECS`, `MV.RESOLUTION`, `MV.FRAME_RATE`, `MV.BANDWIDTH`, `MV.AVERAGE`, `MV.BANDWIDTH_LATER`: what is said is true. `timeline` are all segments
/// of the newest one's, `publish` all of its publish, in order.
pub fn holds(
    version: &Version,
    timeline: &[(&Entry, &Segment)],
    publish: &[(&Entry, &Segment)],
    expected: &Expected,
    report: &mut Report,
) {
    let Some((_, variant)) = check(version, report) else { return };
    let at = version.newest;
    let Some((_, first)) = timeline.first() else { return };
    let codecs = codecs(first);
    let said = variant.codecs.clone().unwrap_or_default();
    report.claim("MV.CODECS", at, said == codecs, || format!("{said} said, {codecs} held"));
    let size = variant.resolution.map(|size| (size.width, size.height));
    let meant = expected.video.map(|video| video.size);
    report.claim("MV.RESOLUTION", at, size == meant, || format!("{size:?} said, {meant:?} pushed"));
    frame_rate(&variant, until(timeline, at), at, expected, report);
    rates(&variant, until(publish, at), version.target_s, at, report);
    let listed_s: f64 = until(timeline, at).iter().map(|(entry, _)| entry.duration_s).sum();
    if listed_s >= 1.5 * version.target_s {
        lasts(version, timeline, report);
    }
}

/// Those that were listed when `newest` was.
fn until<'a, 'b>(segments: &'a [(&'b Entry, &'b Segment)], newest: u64) -> &'a [(&'b Entry, &'b Segment)] {
    let count = segments.partition_point(|(entry, _)| entry.sequence <= newest);
    &segments[..count]
}

fn codecs(segment: &Segment) -> String {
    let video = segment.pictures().next().and_then(sps).map(|sps| picture::codec(&sps));
    let audio = segment.sounds.first().map(|(_, sound)| sound.codec.to_owned());
    video.into_iter().chain(audio).collect::<Vec<_>>().join(",")
}

/// MUST be there for video (AS 9.14): the highest rate there is, to three decimals (8216bis §4.4.6.2).
fn frame_rate(
    variant: &VariantStream,
    segments: &[(&Entry, &Segment)],
    at: u64,
    expected: &Expected,
    report: &mut Report,
) {
    let said = variant.frame_rate;
    let Some(video) = expected.video else {
        return report.claim("MV.FRAME_RATE", at, said.is_none(), || format!("{said:?} of audio alone"));
    };
    let steps = segments.iter().flat_map(|(_, segment)| {
        let times: Vec<i64> = segment.pictures().map(super::ts::Pes::at).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>()
    });
    let shortest = video.frame.or(steps.min()).unwrap_or(1);
    let held = 90_000.0 / shortest as f64;
    let right = said.is_some_and(|said| (said - held).abs() <= 0.001);
    report.claim("MV.FRAME_RATE", at, right, || format!("{said:?} said, {held:.3} is the highest"));
}

/// The peak over runs of 0.5 to 1.5 target durations is not above BANDWIDTH (8216bis §4.4.6.2), and BANDWIDTH not more than half
/// above it: no rule forbids that of a live broadcast, but it would mislead who chooses by it. The average is within 10 % of AVERAGE-BANDWIDTH (AS 9.13 to 9.15, as A2 gives them).
fn rates(
    variant: &VariantStream,
    segments: &[(&Entry, &Segment)],
    target_s: f64,
    at: u64,
    report: &mut Report,
) {
    let (peak, average) = measured(segments, target_s);
    let said = variant.bandwidth as f64;
    report.claim("MV.BANDWIDTH", at, peak.max(average) <= said && said <= 1.5 * peak.max(average), || {
        format!("{said} said, {peak:.0} measured")
    });
    let said = variant.average_bandwidth.unwrap_or(0) as f64;
    let close = (average - said).abs() <= 0.1 * said;
    report.claim("MV.AVERAGE", at, close, || format!("{said} said, {average:.0} measured"));
}

/// `MV.BANDWIDTH_LATER`: a player loads the multivariant playlist once, so of the live broadcast's later peak too BANDWIDTH must be at
/// least four fifths (AS 9.15: measured below 125 %). Held from when a longest run, 1.5 target durations, was listed: before, nothing
/// tells how an encoder goes on. `segments` are the whole timeline.
fn lasts(version: &Version, segments: &[(&Entry, &Segment)], report: &mut Report) {
    let read = m3u8_rs::parse_master_playlist_res(version.text.as_bytes());
    let said = read.ok().and_then(|read| Some(read.variants.first()?.bandwidth as f64)).unwrap_or(0.0);
    let (peak, _) = measured(segments, version.target_s);
    report.claim("MV.BANDWIDTH_LATER", version.newest, peak < 1.25 * said, || {
        format!("{said} said, {peak:.0} measured in the end")
    });
}

/// Peak and average in bits per second, by the bytes that were fetched.
fn measured(segments: &[(&Entry, &Segment)], target_s: f64) -> (f64, f64) {
    let rate = |run: &[(&Entry, &Segment)]| {
        let bits = run.iter().map(|(_, segment)| segment.bytes as f64 * 8.0).sum::<f64>();
        (bits, run.iter().map(|(entry, _)| entry.duration_s).sum::<f64>())
    };
    let mut peak = 0.0_f64;
    for start in 0..segments.len() {
        for end in start + 1..=segments.len() {
            let (bits, long) = rate(&segments[start..end]);
            if (0.5 * target_s..=1.5 * target_s).contains(&long) {
                peak = peak.max(bits / long);
            }
        }
    }
    let (bits, long) = rate(segments);
    (peak, bits / long)
}
