//! Transport packets, one after the other: the file that knows the `mpeg2ts` crate.
//!
//! Every packet that holds anything but payload (PES headers, adaptation fields, tables, stuffing) is a value of
//! that crate. A packet full of payload is four bytes and a copy, at three times the speed; a test holds it to what
//! the crate writes.

use bytes::Bytes;
use mpeg2ts::es::{StreamId, StreamType};
use mpeg2ts::pes::PesHeader;
use mpeg2ts::time::{ClockReference, Timestamp};
use mpeg2ts::ts::payload::{Bytes as Payload, Pat, Pes, Pmt, Section};
use mpeg2ts::ts::{
    AdaptationField, ContinuityCounter, EsInfo, Pid, ProgramAssociation, TransportScramblingControl,
    TsHeader, TsPacket, TsPacketWriter, TsPayload, VersionNumber, WriteTsPacket,
};

use crate::media::{AudioConfig, Ticks, Track, TrackSet};

/// Bytes of a transport packet (ISO/IEC 13818-1 §2.4.3.2).
pub(super) const PACKET_LEN: usize = TsPacket::SIZE;

/// Bytes of payload in a packet without adaptation field.
const PAYLOAD_MAX: usize = Payload::MAX_SIZE;

/// An adaptation field with a clock reference and no stuffing.
const CLOCK_FIELD_LEN: usize = 8;

/// Where PIDs start by habit (FFmpeg's, among others); the same for every timeline of every stream.
pub(super) const PMT_PID: u16 = 0x1000;
pub(super) const VIDEO_PID: u16 = 0x0100;
pub(super) const AUDIO_PID: u16 = 0x0101;

const PAT_PID: u16 = Pid::PAT;

/// `adaptation_field_control` 01.
const PAYLOAD_ONLY: u8 = 0x10;

const PROGRAM: u16 = 1;
const TRANSPORT_STREAM: u16 = 1;

/// Written times are the timeline's plus 10 s, so that a decode or clock time before its start is not negative.
pub(super) const TIME_OFFSET: i64 = 10 * 90_000;

/// PTS and DTS have 33 bits and wrap after 26.5 hours (ISO/IEC 13818-1 §2.4.3.7).
const TIME_MASK: i64 = (1 << 33) - 1;

/// What goes into a PES header and the adaptation field before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PesStart {
    pub(super) track: Track,
    pub(super) pts: Ticks,
    /// Written where it differs from `pts`.
    pub(super) dts: Ticks,
    /// The clock when this packet arrives, on the PID that carries the clock.
    pub(super) pcr: Option<Ticks>,
    pub(super) random_access: bool,
    /// Bytes after the header.
    pub(super) len: usize,
}

impl PesStart {
    /// How many packets it fills, at least.
    pub(super) fn packets(&self) -> usize {
        let rest = (self.header_len() + self.len).saturating_sub(self.first_max());
        1 + rest.div_ceil(PAYLOAD_MAX)
    }

    fn header_len(&self) -> usize {
        if self.pts == self.dts { 14 } else { 19 }
    }

    fn first_max(&self) -> usize {
        if self.pcr.is_some() { PAYLOAD_MAX - CLOCK_FIELD_LEN } else { PAYLOAD_MAX }
    }

    fn pes(&self, data: Payload) -> Pes {
        let header = PesHeader {
            stream_id: StreamId::new(match self.track {
                Track::Video => StreamId::VIDEO_MIN,
                Track::Audio => StreamId::AUDIO_MIN,
            }),
            priority: false,
            data_alignment_indicator: true,
            copyright: false,
            original_or_copy: false,
            pts: Some(timestamp(self.pts)),
            dts: (self.pts != self.dts).then(|| timestamp(self.dts)),
            escr: None,
        };
        Pes { header, pes_packet_len: self.packet_len(), data }
    }

    /// `PES_packet_length`: right where 16 bits can say it, else 0, which only video may use (§2.4.3.7).
    fn packet_len(&self) -> u16 {
        u16::try_from(self.header_len() - 6 + self.len).unwrap_or(0)
    }
}

/// Writes packets into one allocation. Continuity counters start at 0.
#[derive(Debug)]
pub(super) struct PacketWriter {
    out: Vec<u8>,
    pat: [u8; PACKET_LEN],
    pmt: [u8; PACKET_LEN],
    clock: Track,
    tables: Counter,
    video: Counter,
    audio: Counter,
}

impl PacketWriter {
    /// Room for `packets`; tables that list `tracks`.
    pub(super) fn new(tracks: &TrackSet, packets: usize) -> Self {
        let clock = clock_track(tracks);
        Self {
            out: Vec::with_capacity(packets * PACKET_LEN),
            pat: table(PAT_PID, TsPayload::Pat(pat())),
            pmt: table(PMT_PID, TsPayload::Pmt(pmt(tracks, clock))),
            clock,
            tables: Counter::default(),
            video: Counter::default(),
            audio: Counter::default(),
        }
    }

    /// PAT and PMT.
    pub(super) fn write_tables(&mut self) {
        let counter = self.tables.next();
        for mut packet in [self.pat, self.pmt] {
            packet[3] |= counter;
            self.out.extend_from_slice(&packet);
        }
    }

    /// A packet with nothing but the clock. Without payload it does not count (ISO/IEC 13818-1 §2.4.3.3).
    pub(super) fn write_clock(&mut self, pcr: Ticks) {
        let counter = self.counter(self.clock).last();
        self.write(&packet(pid(self.clock), counter, Some(adaptation(false, Some(pcr))), None));
    }

    /// One PES packet over exactly `packets` transport packets, at least [`PesStart::packets`] and at most one per
    /// byte. `pieces` hold `start.len` bytes.
    pub(super) fn write_pes<'a>(
        &mut self,
        start: &PesStart,
        packets: usize,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) {
        let (pid, header_len) = (pid(start.track), start.header_len());
        let field =
            (start.pcr.is_some() || start.random_access).then(|| adaptation(start.random_access, start.pcr));
        let len = (header_len + start.len + 1 - packets).min(start.first_max());
        let counter = self.counter(start.track).next();
        if let Some(data_len) = len.checked_sub(header_len) {
            let mut body = Gather::new(pieces);
            let pes = start.pes(body.payload(data_len));
            self.write(&packet(pid, counter, field, Some(TsPayload::PesStart(pes))));
            self.write_continuations(start.track, packets - 1, start.len - data_len, body);
        } else {
            // Fewer bytes than packets are wanted: the header itself is cut. The crate has no value for such a
            // start; a section is one that starts a unit, and its pointer field is just the payload's first byte.
            let whole = rendered(&packet(pid, 0, None, Some(TsPayload::PesStart(start.pes(payload(&[]))))));
            let (_, header) = whole.split_at(PACKET_LEN - header_len);
            let mut body = Gather::new(std::iter::once(header).chain(pieces.map(|piece| -> &[u8] { piece })));
            let section = Section { pointer_field: body.byte(), data: body.payload(len - 1) };
            self.write(&packet(pid, counter, field, Some(TsPayload::Section(section))));
            self.write_continuations(start.track, packets - 1, header_len + start.len - len, body);
        }
    }

    /// `rest` bytes over `packets` packets: full ones first, and never an empty one.
    fn write_continuations<'a, I: Iterator<Item = &'a [u8]>>(
        &mut self,
        track: Track,
        packets: usize,
        mut rest: usize,
        mut body: Gather<'a, I>,
    ) {
        let [high, low] = pid(track).to_be_bytes();
        for left in (0..packets).rev() {
            let counter = self.counter(track).next();
            let len = (rest - left).min(PAYLOAD_MAX);
            rest -= len;
            if len == PAYLOAD_MAX {
                self.out.extend_from_slice(&[TsPacket::SYNC_BYTE, high, low, PAYLOAD_ONLY | counter]);
                body.append(len, &mut self.out);
            } else {
                let data = body.payload(len);
                self.write(&packet(pid(track), counter, None, Some(TsPayload::PesContinuation(data))));
            }
        }
    }

    /// What was written.
    pub(super) fn finish(self) -> Bytes {
        self.out.into()
    }

    fn counter(&mut self, track: Track) -> &mut Counter {
        match track {
            Track::Video => &mut self.video,
            Track::Audio => &mut self.audio,
        }
    }

    fn write(&mut self, packet: &TsPacket) {
        render(packet, &mut self.out);
    }
}

/// A continuity counter: four bits (ISO/IEC 13818-1 §2.4.3.3).
#[derive(Debug, Clone, Copy, Default)]
struct Counter(u8);

impl Counter {
    /// For a packet with payload.
    fn next(&mut self) -> u8 {
        let value = self.0;
        self.0 = (value + 1) & ContinuityCounter::MAX;
        value
    }

    /// For a packet without: the value of the one before, in the segment before this one if need be.
    fn last(self) -> u8 {
        self.0.wrapping_sub(1) & ContinuityCounter::MAX
    }
}

/// Reads across the borders of pieces.
struct Gather<'a, I> {
    piece: &'a [u8],
    rest: I,
}

impl<'a, I: Iterator<Item = &'a [u8]>> Gather<'a, I> {
    fn new(rest: I) -> Self {
        Self { piece: &[], rest }
    }

    /// The next bytes that lie together, at most `len`.
    fn next(&mut self, len: usize) -> &'a [u8] {
        while self.piece.is_empty() {
            self.piece = self.rest.next().expect("the pieces hold as many bytes as their sum said");
        }
        let (taken, piece) = self.piece.split_at(len.min(self.piece.len()));
        self.piece = piece;
        taken
    }

    fn append(&mut self, mut len: usize, out: &mut Vec<u8>) {
        while len > 0 {
            let taken = self.next(len);
            len -= taken.len();
            out.extend_from_slice(taken);
        }
    }

    fn payload(&mut self, len: usize) -> Payload {
        let mut buffer = [0; PAYLOAD_MAX];
        let mut filled = 0;
        while filled < len {
            let taken = self.next(len - filled);
            buffer[filled..filled + taken.len()].copy_from_slice(taken);
            filled += taken.len();
        }
        payload(&buffer[..len])
    }

    fn byte(&mut self) -> u8 {
        self.next(1)[0]
    }
}

/// The track whose PID carries the clock: video, else audio.
pub(super) fn clock_track(tracks: &TrackSet) -> Track {
    if tracks.video.is_some() { Track::Video } else { Track::Audio }
}

fn pid(track: Track) -> u16 {
    match track {
        Track::Video => VIDEO_PID,
        Track::Audio => AUDIO_PID,
    }
}

/// A time as 33 bits carry it.
fn wire(ticks: Ticks) -> u64 {
    (ticks.0.wrapping_add(TIME_OFFSET) & TIME_MASK) as u64
}

fn timestamp(ticks: Ticks) -> Timestamp {
    Timestamp::new(wire(ticks)).expect("masked to 33 bits")
}

fn adaptation(random_access: bool, pcr: Option<Ticks>) -> AdaptationField {
    AdaptationField {
        discontinuity_indicator: false,
        random_access_indicator: random_access,
        es_priority_indicator: false,
        pcr: pcr.map(|pcr| ClockReference::from(timestamp(pcr))),
        opcr: None,
        splice_countdown: None,
        transport_private_data: Vec::new(),
        extension: None,
    }
}

fn payload(bytes: &[u8]) -> Payload {
    Payload::new(bytes).expect("at most what a packet holds")
}

fn packet(pid: u16, counter: u8, field: Option<AdaptationField>, payload: Option<TsPayload>) -> TsPacket {
    TsPacket {
        header: TsHeader {
            transport_error_indicator: false,
            transport_priority: false,
            pid: Pid::new(pid).expect("ours have 13 bits"),
            transport_scrambling_control: TransportScramblingControl::NotScrambled,
            continuity_counter: ContinuityCounter::from_u8(counter).expect("counted modulo 16"),
        },
        adaptation_field: field,
        payload,
    }
}

fn render(packet: &TsPacket, out: &mut Vec<u8>) {
    let start = out.len();
    TsPacketWriter::new(&mut *out).write_ts_packet(packet).expect("a Vec takes it, and it fits its packet");
    if packet.adaptation_field.as_ref().is_some_and(|field| field.pcr.is_some()) {
        // Six reserved bits between the clock's base and extension are 1 (§2.4.3.4); the crate leaves them 0.
        out[start + 10] |= 0x7E;
    }
}

fn rendered(packet: &TsPacket) -> Vec<u8> {
    let mut out = Vec::with_capacity(PACKET_LEN);
    render(packet, &mut out);
    out
}

/// A packet with one table at counter 0. The crate stuffs tables by an adaptation field; decoders expect 0xFF behind
/// the section (ISO/IEC 13818-1 §2.4.4), so its section is lifted out and padded.
fn table(pid: u16, table: TsPayload) -> [u8; PACKET_LEN] {
    let stuffed = rendered(&packet(pid, 0, None, Some(table)));
    let field_len = usize::from(stuffed[4]);
    let section = &stuffed[4 + 1 + field_len + 1..];
    let mut padded = [0xFF; PAYLOAD_MAX - 1];
    padded[..section.len()].copy_from_slice(section);
    let section = TsPayload::Section(Section { pointer_field: 0, data: payload(&padded) });
    let bytes = rendered(&packet(pid, 0, None, Some(section)));
    bytes.try_into().expect("a packet has 188 bytes")
}

fn pat() -> Pat {
    Pat {
        transport_stream_id: TRANSPORT_STREAM,
        version_number: VersionNumber::new(),
        table: vec![ProgramAssociation {
            program_num: PROGRAM,
            program_map_pid: Pid::new(PMT_PID).expect("ours have 13 bits"),
        }],
    }
}

/// Lists `tracks` and nothing else: iOS does not start when it names a stream that has no data (SRS #2957, #3619).
fn pmt(tracks: &TrackSet, clock: Track) -> Pmt {
    let audio = tracks.audio.as_deref().map(|config| match config {
        AudioConfig::Aac(_) => (StreamType::AdtsAac, 1),
        AudioConfig::Mp3(config) if config.lsf => (StreamType::Mpeg2HalvedSampleRateAudio, 2),
        AudioConfig::Mp3(_) => (StreamType::Mpeg1Audio, 3),
    });
    let stream = |track, stream_type| EsInfo {
        stream_type,
        elementary_pid: Pid::new(pid(track)).expect("ours have 13 bits"),
        descriptors: Vec::new(),
    };
    let video = tracks.video.as_ref().map(|_| stream(Track::Video, StreamType::H264));
    // Another list has another version, without a count of changes that would have to be kept.
    let version = u8::from(video.is_some()) << 2 | audio.map_or(0, |(_, version)| version);
    Pmt {
        program_num: PROGRAM,
        pcr_pid: Some(Pid::new(pid(clock)).expect("ours have 13 bits")),
        version_number: VersionNumber::from_u8(version).expect("three bits of five"),
        program_info: Vec::new(),
        es_info: video
            .into_iter()
            .chain(audio.map(|(stream_type, _)| stream(Track::Audio, stream_type)))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The four bytes written here are those that the crate writes.
    #[test]
    fn a_full_packet_is_what_the_crate_would_write() {
        let tracks = TrackSet::default();
        let data: Vec<u8> = (0..=255).cycle().take(176 - 14 + 20 * PAYLOAD_MAX).collect();
        let start = PesStart {
            track: Track::Video,
            pts: Ticks(0),
            dts: Ticks(0),
            pcr: Some(Ticks(0)),
            random_access: true,
            len: data.len(),
        };
        assert_eq!(start.packets(), 21);
        let mut writer = PacketWriter::new(&tracks, 21);
        writer.write_pes(&start, 21, std::iter::once(&data[..]));
        let bytes = writer.finish();
        let (packets, _) = bytes.as_chunks::<PACKET_LEN>();
        assert_eq!(packets.len(), 21);
        for (index, ours) in packets.iter().enumerate().skip(1) {
            let chunk = &data[176 - 14 + (index - 1) * PAYLOAD_MAX..][..PAYLOAD_MAX];
            let theirs =
                packet(VIDEO_PID, index as u8 % 16, None, Some(TsPayload::PesContinuation(payload(chunk))));
            assert_eq!(&ours[..], rendered(&theirs));
        }
    }
}
