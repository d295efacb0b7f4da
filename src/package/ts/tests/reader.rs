//! A strict reader of its own, and what holds for every segment.

use mpeg2ts::pes::{PesPacketReader, ReadPesPacket};
use mpeg2ts::ts::TsPacketReader;

use super::super::packet::{AUDIO_PID, TIME_OFFSET, VIDEO_PID};
use super::*;

/// A transport packet, read by the letter of ISO/IEC 13818-1 §2.4.3.
pub(super) struct Packet<'a> {
    pub(super) pid: u16,
    starts: bool,
    pub(super) counter: u8,
    pub(super) random_access: bool,
    pub(super) pcr: Option<i64>,
    pub(super) payload: Option<&'a [u8]>,
}

pub(super) fn packets(segment: &[u8]) -> Vec<Packet<'_>> {
    let (packets, rest) = segment.as_chunks::<188>();
    assert!(rest.is_empty(), "{} bytes are no multiple of 188", segment.len());
    packets.iter().map(|packet| read_packet(packet)).collect()
}

fn read_packet(packet: &[u8; 188]) -> Packet<'_> {
    assert_eq!(packet[0], 0x47);
    assert_eq!(packet[1] & 0xA0, 0, "error or priority");
    assert_eq!(packet[3] & 0xC0, 0, "scrambled");
    let (has_field, has_payload) = (packet[3] & 0x20 != 0, packet[3] & 0x10 != 0);
    let field_len = if has_field { 1 + usize::from(packet[4]) } else { 0 };
    let (field, payload) = packet[4..].split_at(field_len);
    assert_eq!(payload.is_empty(), !has_payload);
    let flags = field.get(1).copied().unwrap_or(0);
    assert_eq!(flags & !0x50, 0, "only a clock and random access");
    let pcr = (flags & 0x10 != 0).then(|| {
        let bits = field[2..8].iter().fold(0i64, |bits, byte| bits << 8 | i64::from(*byte));
        assert_eq!(bits >> 9 & 0x3F, 0x3F, "reserved bits are 1");
        assert_eq!(bits & 0x1FF, 0, "extension");
        bits >> 15
    });
    let stuffing = field.get(if pcr.is_some() { 8 } else { 2 }..).unwrap_or(&[]);
    assert!(stuffing.iter().all(|byte| *byte == 0xFF), "stuffing");
    Packet {
        pid: u16::from_be_bytes([packet[1] & 0x1F, packet[2]]),
        starts: packet[1] & 0x40 != 0,
        counter: packet[3] & 0x0F,
        random_access: flags & 0x40 != 0,
        pcr,
        payload: has_payload.then_some(payload),
    }
}

/// A PES packet, read by the letter of §2.4.3.6.
#[derive(Clone)]
pub(super) struct PesOut {
    /// Index of its first transport packet.
    pub(super) index: usize,
    stream_id: u8,
    packet_len: usize,
    pub(super) pts: i64,
    pub(super) dts: i64,
    has_dts: bool,
    pub(super) pcr: Option<i64>,
    pub(super) random_access: bool,
    pub(super) data: Vec<u8>,
}

pub(super) fn pes(segment: &[u8], pid: u16) -> Vec<PesOut> {
    let mut whole: Vec<(usize, Option<i64>, bool, Vec<u8>)> = Vec::new();
    for (index, packet) in packets(segment).into_iter().enumerate().filter(|(_, packet)| packet.pid == pid) {
        let Some(payload) = packet.payload else { continue };
        if packet.starts {
            whole.push((index, packet.pcr, packet.random_access, Vec::new()));
        } else {
            assert!(!packet.random_access && packet.pcr.is_none());
        }
        whole.last_mut().expect("starts with a start").3.extend_from_slice(payload);
    }
    whole
        .into_iter()
        .map(|(index, pcr, random_access, bytes)| read_pes(index, pcr, random_access, &bytes))
        .collect()
}

fn read_pes(index: usize, pcr: Option<i64>, random_access: bool, bytes: &[u8]) -> PesOut {
    assert_eq!(bytes[..3], [0, 0, 1]);
    assert_eq!(bytes[6], 0x84, "marker and data_alignment_indicator");
    let has_dts = bytes[7] == 0xC0;
    assert!(has_dts || bytes[7] == 0x80, "PTS always");
    assert_eq!(bytes[8], if has_dts { 10 } else { 5 });
    let time = |at: usize, prefix: u8| {
        let field = &bytes[at..at + 5];
        assert_eq!(field[0] >> 4, prefix);
        assert_eq!([field[0] & 1, field[2] & 1, field[4] & 1], [1, 1, 1], "marker bits");
        i64::from(field[0] >> 1 & 7) << 30
            | i64::from(field[1]) << 22
            | i64::from(field[2] >> 1) << 15
            | i64::from(field[3]) << 7
            | i64::from(field[4] >> 1)
    };
    let pts = time(9, if has_dts { 3 } else { 2 });
    PesOut {
        index,
        stream_id: bytes[3],
        packet_len: usize::from(u16::from_be_bytes([bytes[4], bytes[5]])),
        pts,
        dts: if has_dts { time(14, 1) } else { pts },
        has_dts,
        pcr,
        random_access,
        data: bytes[9 + usize::from(bytes[8])..].to_vec(),
    }
}

/// What the access unit must have become: AUD, SPS and PPS where decoding starts, the NAL units.
pub(super) fn annex_b(frame: &Frame) -> Vec<u8> {
    let sets: &[&[u8]] = if frame.random_access { &[SPS, PPS] } else { &[] };
    let nals = [&[&[9, 0xF0][..]], sets, &[&frame.payload[4..]]].concat();
    nals.iter().flat_map(|nal| [&[0, 0, 0, 1], *nal].concat()).collect()
}

/// The raw frames behind ADTS headers.
pub(super) fn unpack_adts(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while !data.is_empty() {
        assert_eq!(data[..2], [0xFF, 0xF1]);
        let len = usize::from(data[3] & 3) << 11 | usize::from(data[4]) << 3 | usize::from(data[5] >> 5);
        frames.push(data[7..len].to_vec());
        data = &data[len..];
    }
    frames
}

pub(super) fn of(frames: &[Arc<Frame>], track: Track) -> Vec<&Frame> {
    frames.iter().map(|frame| &**frame).filter(|frame| frame.track == track).collect()
}

/// Everything that holds for every segment, whatever the frames.
pub(super) fn check(tracks: &TrackSet, frames: &[Arc<Frame>], segment: &[u8]) {
    check_counters(&[segment]);
    check_video(frames, segment);
    check_audio(tracks, frames, segment);
    check_clock(tracks, segment);
    check_crate_reads(frames, segment);
}

/// TS.CC: over segments in a row, each of which starts at 0 and has a multiple of 16 on every PID.
pub(super) fn check_counters(segments: &[&[u8]]) {
    let mut next = std::collections::HashMap::new();
    for segment in segments {
        for packet in packets(segment) {
            let next: &mut usize = next.entry(packet.pid).or_default();
            if packet.payload.is_some() {
                assert_eq!(usize::from(packet.counter), *next % 16, "PID {}", packet.pid);
                *next += 1;
            } else {
                assert_eq!(usize::from(packet.counter), (*next + 15) % 16, "PID {}, no payload", packet.pid);
            }
        }
        assert!(next.values().all(|count| count % 16 == 0), "{next:?}");
    }
}

/// `TS.ONE_AU`, TS.PTS, `TS.PES_LENGTH`, TS.RAI, TS.AUD, TS.PARAMSETS.
fn check_video(frames: &[Arc<Frame>], segment: &[u8]) {
    let (pes, frames) = (pes(segment, VIDEO_PID), of(frames, Track::Video));
    assert_eq!(pes.len(), frames.len());
    for (pes, frame) in pes.iter().zip(frames) {
        assert_eq!(pes.stream_id, 0xE0);
        assert_eq!(pes.data, annex_b(frame));
        assert_eq!(pes.pts, (frame.pts.0 + TIME_OFFSET) & 0x1_FFFF_FFFF);
        assert_eq!(pes.dts, (frame.dts.0 + TIME_OFFSET) & 0x1_FFFF_FFFF);
        assert_eq!(pes.has_dts, frame.pts != frame.dts);
        assert_eq!(pes.random_access, frame.random_access);
        assert!(pes.pcr.is_some());
        let len = pes.data.len() + if pes.has_dts { 13 } else { 8 };
        assert_eq!(pes.packet_len, if len > 65_535 { 0 } else { len });
    }
}

/// TS.ADTS, `TS.PES_LENGTH`, TS.AUDIO: whole frames, 8 at most, sample-exact within a PES packet.
fn check_audio(tracks: &TrackSet, frames: &[Arc<Frame>], segment: &[u8]) {
    let mut frames = of(frames, Track::Audio).into_iter();
    for pes in pes(segment, AUDIO_PID) {
        assert_eq!(pes.stream_id, 0xC0);
        assert_eq!(pes.packet_len, pes.data.len() + 8);
        assert_eq!(pes.pcr.is_some(), tracks.video.is_none());
        let config = tracks.audio.as_deref().unwrap();
        let raw = unpack_adts(&pes.data);
        assert!((1..=8).contains(&raw.len()));
        for (index, raw) in raw.iter().enumerate() {
            let frame = frames.next().expect("as many as were pushed");
            assert_eq!(*raw, *frame.payload);
            let pts = pes.pts + config.span_of(index as u32).0;
            let off = pts - ((frame.pts.0 + TIME_OFFSET) & 0x1_FFFF_FFFF);
            assert!(off.abs() <= 1, "{off} ticks");
        }
    }
    assert!(frames.next().is_none());
}

/// TS.PCR: rising, on one PID, before any PES packet ends, at or before the decode time of all that follows.
fn check_clock(tracks: &TrackSet, segment: &[u8]) {
    let pid = if tracks.video.is_some() { VIDEO_PID } else { AUDIO_PID };
    let packets = packets(segment);
    let clocks: Vec<_> = packets
        .iter()
        .enumerate()
        .filter_map(|(index, packet)| Some((index, packet.pid, packet.pcr?)))
        .collect();
    assert!(clocks.iter().all(|clock| clock.1 == pid));
    assert!(clocks.windows(2).all(|pair| not_before(pair[1].2, pair[0].2)), "clock runs back");
    for unit in pes(segment, VIDEO_PID).iter().chain(&pes(segment, AUDIO_PID)) {
        let clock = clocks.iter().take_while(|clock| clock.0 <= unit.index).last();
        assert!(clock.is_some_and(|clock| not_before(unit.dts, clock.2)), "{clock:?} {}", unit.dts);
    }
}

/// Of two times of 33 bits, less than half the range apart.
fn not_before(time: i64, other: i64) -> bool {
    (time - other) & 0x1_FFFF_FFFF < 1 << 32
}

/// The crate's own reader finds the same bytes. (It wants PES headers whole, which the shortest segments can't have.)
fn check_crate_reads(frames: &[Arc<Frame>], segment: &[u8]) {
    for track in [Track::Video, Track::Audio] {
        let frames = of(frames, track);
        if !frames.is_empty() && frames.iter().map(|frame| frame.payload.len()).sum::<usize>() < 16 {
            return;
        }
    }
    let mut reader = PesPacketReader::new(TsPacketReader::new(segment));
    let (mut video, mut audio) = (Vec::new(), Vec::new());
    while let Some(pes) = reader.read_pes_packet().unwrap() {
        if pes.header.stream_id.is_video() { video.push(pes.data) } else { audio.push(pes.data) }
    }
    video.sort();
    let mut expected: Vec<_> = of(frames, Track::Video).into_iter().map(annex_b).collect();
    expected.sort();
    assert!(video == expected);
    let raw: usize = of(frames, Track::Audio).iter().map(|frame| frame.payload.len() + 7).sum();
    assert_eq!(audio.concat().len(), raw);
}
