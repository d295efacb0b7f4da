//! What stands where in a segment: the order of PES packets, tables and clock, all by decode time.

use bytes::Bytes;

use super::access_unit::AccessUnit;
use super::packet::{PacketWriter, PesStart, clock_track};
use super::{COUNTER_PERIOD, Pack, SegmentMuxer};
use crate::media::{Span, Ticks, Track};

/// How long before its decode time a PES packet arrives by the clock (PCR = DTS - lead), between the 0.1 and 0.7 s
/// that players are used to. Writing is in decode order, so it need not cover audio that came late; it covers the
/// time an access unit takes to arrive (up to the next clock reference) and the span of an audio PES packet.
const LEAD: Span = Span::from_ms(300);

/// Audio that plays before a timeline's first picture leads it by at most this much (Apple's authoring specification 8.3).
const AUDIO_LEAD_MAX: Span = Span::from_ms(100);

/// The clock is at most this old (ISO/IEC 13818-1 §2.7.2).
const CLOCK_GAP_MAX: Span = Span::from_ms(100);

/// Where pictures are further apart the clock comes alone, this often.
const CLOCK_STEP: Span = Span::from_ms(75);

/// A longer gap is no slow picture rate, and isn't filled.
const CLOCK_FILL_MAX: Span = Span::from_ms(30_000);

/// Tables stand at most 400 ms apart (TR 101 290 allows 500 ms, DVB asks for 100 ms in broadcast, where a receiver
/// joins anywhere). Aimed at less, because they wait for the PES packet before them to end.
const TABLES_GAP_AIM: Span = Span::from_ms(300);

/// 16 tables per segment are the least. This many, enough for five minutes, bound what odd times can ask for.
const TABLES_MAX: i64 = 1024;

/// One thing to write. At one time they go in this order: a segment starts with tables, then video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Tables,
    Video(usize),
    Clock,
    Audio(usize),
}

/// A PES packet with its place.
#[derive(Debug)]
struct Planned {
    /// Its decode time: the order in which things are written.
    at: Ticks,
    start: PesStart,
    packets: usize,
}

/// Writes the segment. It holds at least one frame. `next` is where the clock of the next one begins, if that is known.
pub(super) fn write(segment: &SegmentMuxer, next: Option<Ticks>) -> Bytes {
    let clock = clock_track(&segment.tracks);
    let mut video = video(segment);
    let mut audio = audio(segment, clock, video.first().map(|pes| pes.at));
    align(&mut video);
    align(&mut audio);

    let carriers = if clock == Track::Video { &video } else { &audio };
    let clocks = clocks(carriers, &audio, next);
    let tables = tables(&video, &audio);
    let packets: usize = video.iter().chain(&audio).map(|pes| pes.packets).sum();
    let mut writer = PacketWriter::new(&segment.tracks, packets + clocks.len() + 2 * tables.len());

    let mut slots: Vec<(Ticks, Slot)> =
        Vec::with_capacity(video.len() + audio.len() + clocks.len() + tables.len());
    slots.extend(tables.into_iter().map(|at| (at, Slot::Tables)));
    slots.extend(clocks.into_iter().map(|at| (at, Slot::Clock)));
    slots.extend(video.iter().enumerate().map(|(index, pes)| (pes.at, Slot::Video(index))));
    slots.extend(audio.iter().enumerate().map(|(index, pes)| (pes.at, Slot::Audio(index))));
    slots.sort_unstable();
    for (at, slot) in slots {
        match slot {
            Slot::Tables => writer.write_tables(),
            Slot::Clock => writer.write_clock(at - LEAD),
            Slot::Video(index) => {
                writer.write_pes(&video[index].start, video[index].packets, segment.video_pieces(index));
            }
            Slot::Audio(index) => {
                writer.write_pes(&audio[index].start, audio[index].packets, segment.audio_pieces(index));
            }
        }
    }
    writer.finish()
}

/// One PES packet per access unit. The first stands before all audio, also such as plays before it: a segment
/// starts with video and its clock. It is not drawn back to audio that came too late for the segment before: the clock
/// has passed that.
fn video(segment: &SegmentMuxer) -> Vec<Planned> {
    let first_audio = segment.packs.first().map(|pack| pack.pts);
    let place = |(index, unit): (usize, &AccessUnit)| {
        let dts = unit.frame.dts;
        let leads = |audio: &Ticks| index == 0 && *audio < dts && dts - *audio <= AUDIO_LEAD_MAX;
        let at = first_audio.filter(leads).unwrap_or(dts);
        planned(PesStart {
            track: Track::Video,
            pts: unit.frame.pts,
            dts,
            pcr: Some(at - LEAD),
            random_access: unit.frame.random_access,
            len: unit.len,
        })
    };
    segment.video.iter().enumerate().map(place).collect()
}

/// PES packets of audio, none before `start`: what is late comes at once.
fn audio(segment: &SegmentMuxer, clock: Track, start: Option<Ticks>) -> Vec<Planned> {
    let place = |pack: &Pack| {
        let mut planned = planned(PesStart {
            track: Track::Audio,
            pts: pack.pts,
            dts: pack.pts,
            pcr: (clock == Track::Audio).then(|| pack.pts - LEAD),
            random_access: clock == Track::Audio,
            len: pack.bytes,
        });
        planned.at = start.map_or(planned.at, |start| start.max(planned.at));
        planned
    };
    segment.packs.iter().map(place).collect()
}

fn planned(start: PesStart) -> Planned {
    Planned { at: start.pcr.map_or(start.dts, |pcr| pcr + LEAD), packets: start.packets(), start }
}

/// Splits the last PES packets of a PID over so many packets more that the PID's count comes out: from the back,
/// each over at most so many that its header stays whole. If all of the segment is too short for that, the last one
/// goes down to a byte per packet, header and all, which is enough: 16 packets need 16 bytes, and a PES header with
/// the shortest frame has 18.
fn align(pes: &mut [Planned]) {
    let packets: usize = pes.iter().map(|pes| pes.packets).sum();
    let mut missing = packets.next_multiple_of(COUNTER_PERIOD) - packets;
    for pes in pes.iter_mut().rev() {
        let room = (pes.start.len + 1).saturating_sub(pes.packets);
        pes.packets += missing.min(room);
        missing -= missing.min(room);
    }
    if let Some(last) = pes.last_mut() {
        last.packets += missing;
    }
}

/// Where the clock comes alone, as those that carry it stand too far apart, or there are none: a segment without a
/// picture still has its clock on video's PID, where the PMT says. It runs up to the next segment's, or as long as there
/// is audio.
fn clocks(carriers: &[Planned], audio: &[Planned], next: Option<Ticks>) -> Vec<Ticks> {
    let alone = audio.first().filter(|_| carriers.is_empty());
    let mut clocks: Vec<_> = alone.iter().map(|pes| pes.at).collect();
    let end = next.or(audio.last().map(|pes| pes.at));
    let starts: Vec<_> = carriers.iter().chain(alone).map(|pes| pes.at).chain(end).collect();
    for (from, to) in starts.iter().zip(starts.iter().skip(1)) {
        let gap = *to - *from;
        if gap > CLOCK_GAP_MAX && gap <= CLOCK_FILL_MAX {
            let steps = (1..).map(|step| *from + Span(step * CLOCK_STEP.0));
            clocks.extend(steps.take_while(|at| at < to));
        }
    }
    clocks
}

/// Where PAT and PMT stand: evenly, first at the segment's start, a multiple of 16 times.
fn tables(video: &[Planned], audio: &[Planned]) -> Vec<Ticks> {
    let times = || video.iter().chain(audio).map(|pes| pes.at.0);
    let start = times().min().unwrap_or_default();
    let span = times().max().unwrap_or_default() - start;
    let period = COUNTER_PERIOD as i64 * TABLES_GAP_AIM.0;
    let count = (span / period + 1).saturating_mul(COUNTER_PERIOD as i64).min(TABLES_MAX);
    // At least a tick apart: what comes first in the segment stands behind the first pair, not behind sixteen.
    let step = (span / count).max(1);
    (0..count).map(|index| Ticks(start + step * index)).collect()
}
