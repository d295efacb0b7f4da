//! Rules over the segments of one timeline, one after the other: what runs on from each to the next.

use std::collections::BTreeMap;

use super::segment::{Segment, sps};
use super::ts::Pmt;
use super::{Expected, Report};

/// All of them. The segments are consecutive, without a discontinuity between.
pub fn check(segments: &[&Segment], expected: &Expected, report: &mut Report) {
    tables(segments, report);
    data(segments, report);
    parameters(segments, report);
    counters(segments, report);
    clock(segments, report);
    if expected.video.is_some() {
        decode_times(segments, expected.video.and_then(|video| video.frame), report);
        borders(segments, report);
    }
    if expected.audio.is_some() {
        samples(segments, report);
    }
}

/// `TS.PMT_STABLE`: the same PIDs and types for the whole timeline.
fn tables(segments: &[&Segment], report: &mut Report) {
    let pmt = |segment: &Segment| -> Option<Pmt> { segment.transport.pmts.first().cloned() };
    for pair in segments.windows(2) {
        let (a, b) = (pmt(pair[0]), pmt(pair[1]));
        report.claim("TS.PMT_STABLE", pair[1].sequence, a == b, || format!("{a:?}, then {b:?}"));
    }
}

/// `TS.PMT_DATA`: what the PMT lists is there, in each segment: iOS waits for it (SRS #2957, #3619). A timeline that breaks off just
/// after a cut ends with a segment of a few pictures and no audio: there the same PMT as before is worth more.
fn data(segments: &[&Segment], report: &mut Report) {
    let (last, whole) = segments.split_last().expect("a timeline has a segment");
    let short = |segment: &Segment| segment.pictures().count() < 15;
    for segment in whole.iter().chain(Some(last).filter(|last| !short(last))) {
        let streams = segment.transport.pmts.first().map_or(&[][..], |pmt| &pmt.streams);
        let empty = streams.iter().find(|(pid, _)| segment.transport.of(*pid).next().is_none());
        report.claim("TS.PMT_DATA", segment.sequence, empty.is_none(), || format!("nothing of {empty:?}"));
    }
}

/// `TS.PARAM_CHANGE`: a timeline has one SPS and one sample rate; another is a discontinuity (8216bis §4.4.4.3, AS 8.13).
fn parameters(segments: &[&Segment], report: &mut Report) {
    let told = |segment: &Segment| {
        let rate = segment.sounds.first().map(|(_, sound)| sound.rate);
        (segment.pictures().next().and_then(sps), rate)
    };
    for pair in segments.windows(2) {
        let (a, mut b) = (told(pair[0]), told(pair[1]));
        // A last segment may have no audio: TS.PMT_DATA.
        b.1 = b.1.or(a.1);
        report.claim("TS.PARAM_CHANGE", pair[1].sequence, a == b, || format!("{a:?}, then {b:?}"));
    }
}

/// `TS.CC`: continuity counters of all PIDs run on over segments (AS 7.2, 13818-1 §2.4.3.3).
fn counters(segments: &[&Segment], report: &mut Report) {
    let mut counters = BTreeMap::new();
    for segment in segments {
        let mut wrong = Vec::new();
        for (index, packet) in segment.transport.packets.iter().enumerate() {
            let step = u8::from(packet.payload.is_some());
            if let Some(before) = counters.insert(packet.pid, packet.counter)
                && packet.counter != (before + step) % 16
            {
                wrong.push(format!("PID {} at packet {index}: {before}, {}", packet.pid, packet.counter));
            }
            if packet.discontinuity {
                wrong.push(format!("packet {index} says discontinuity"));
            }
        }
        report.claim("TS.CC", segment.sequence, wrong.is_empty(), || wrong.join("; "));
    }
}

/// `TS.PCR_INTERVAL`: at most 100 ms (13818-1 §2.7.2), `TS.PCR_MONO`: rising, both over segments too. `TS.PCR_FIRST`: the first
/// PES of a segment has one. `TS.PCR_LEAD`: what is carried is decoded 0.1 to 0.7 s after the clock at its first byte, and never
/// before its last byte is there. Audio may play a little later than that: it waits for no reordering.
fn clock(segments: &[&Segment], report: &mut Report) {
    let mut before: Option<i64> = None;
    for (n, segment) in segments.iter().enumerate() {
        let at = segment.sequence;
        let clocks: Vec<(usize, i64)> = segment
            .transport
            .packets
            .iter()
            .enumerate()
            .filter_map(|(index, packet)| Some((index, packet.pcr?)))
            .collect();
        for (index, pcr) in &clocks {
            if let Some(before) = before.replace(*pcr) {
                let step = pcr - before;
                report.claim("TS.PCR_MONO", format!("{at}, packet {index}"), step > 0, || {
                    format!("{step} ticks")
                });
                report.claim("TS.PCR_INTERVAL", format!("{at}, packet {index}"), step <= 9_000, || {
                    format!("{step} ticks")
                });
            }
        }
        let first = segment.transport.pes.first().map(|pes| pes.first);
        let has = first.is_some() && clocks.first().map(|(index, _)| *index) == first;
        report.claim("TS.PCR_FIRST", at, has, || format!("{first:?}, {:?}", clocks.first()));
        let next =
            segments.get(n + 1).and_then(|next| next.transport.packets.iter().find_map(|packet| packet.pcr));
        for pes in &segment.transport.pes {
            let place = format!("{at}, packet {}", pes.first);
            let Some((_, begun)) = clocks.iter().rev().find(|(index, _)| *index <= pes.first) else {
                continue;
            };
            let lead = pes.at() - begun;
            report.claim("TS.PCR_LEAD", &place, (9_000..=63_000).contains(&lead), || {
                format!("{lead} ticks from the clock to DTS")
            });
            let done = clocks.iter().find(|(index, _)| *index > pes.last).map(|(_, pcr)| *pcr).or(next);
            let late = done.is_some_and(|done| done > pes.at());
            report.claim("TS.PCR_LEAD", &place, !late, || format!("DTS {}, whole at {done:?}", pes.at()));
        }
    }
}

/// `TS.DTS_MONO`: decode times rise, over segments too. `TS.BOUNDARY_GAP`: at a constant rate each is the one before and a
/// frame, to the tick, within segments and over them: hls.js takes more for a hole and less for an overlap.
fn decode_times(segments: &[&Segment], frame: Option<i64>, report: &mut Report) {
    let mut before: Option<i64> = None;
    for segment in segments {
        for pes in segment.pictures() {
            let Some(before) = before.replace(pes.at()) else { continue };
            let step = pes.at() - before;
            let place = format!("{}, packet {}", segment.sequence, pes.first);
            report.claim("TS.DTS_MONO", &place, step > 0, || format!("{step} ticks"));
            if let Some(frame) = frame {
                report.claim("TS.BOUNDARY_GAP", &place, step == frame, || {
                    format!("{step} ticks, a frame is {frame}")
                });
            }
        }
    }
}

/// `TS.PTS_BOUNDARY`: what is shown before a segment's first picture is in the segments before, pictures and audio; and nothing
/// else is. (The first segment of a timeline may have audio that leads.)
fn borders(segments: &[&Segment], report: &mut Report) {
    for pair in segments.windows(2) {
        let Some(line) = pair[1].start() else { continue };
        let at = pair[1].sequence;
        let late = pair[0].pictures().filter(|pes| pes.pts >= line).count();
        report.claim("TS.PTS_BOUNDARY", at, late == 0, || {
            format!("{late} pictures before it are shown after its start")
        });
        let late = pair[0].sounds.iter().filter(|(pts, _)| *pts >= line).count();
        let early = pair[1].sounds.iter().filter(|(pts, _)| *pts < line).count();
        report.claim("TS.PTS_BOUNDARY", at, late + early == 0, || {
            format!("{late} audio frames too early, {early} too late in the file")
        });
    }
}

/// `TS.AUDIO_CLOCK`: PTS(n) = PTS(0) + n * samples / rate for the whole timeline, to the tick that rounding takes; so no frame is
/// missing or twice either.
fn samples(segments: &[&Segment], report: &mut Report) {
    let mut first = None;
    let mut samples = 0;
    for segment in segments {
        let mut off = Vec::new();
        for (pts, sound) in &segment.sounds {
            let due = *first.get_or_insert(*pts) + samples * 90_000 / sound.rate;
            if (pts - due).abs() > 1 {
                off.push(pts - due);
            }
            samples += sound.samples;
        }
        report.claim("TS.AUDIO_CLOCK", segment.sequence, off.is_empty(), || {
            format!("{} frames are off by {:?}… ticks", off.len(), off.first())
        });
    }
}
