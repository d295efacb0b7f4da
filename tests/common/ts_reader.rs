//! Reads MPEG-TS media segments of one timeline, in order, by the `mpeg2ts` crate's packet reader, and checks what must
//! hold for any of them on the way.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "every file of tests/ compiles its own copy and uses a part of it"
)]

use std::collections::HashMap;

use mpeg2ts::es::StreamType;
use mpeg2ts::pes::PesHeader;
use mpeg2ts::ts::{Pid, ReadTsPacket as _, TsPacket, TsPacketReader, TsPayload};

use super::media::{AAC_SAMPLES, Media, Unit, audio, digest};

/// Remembers what runs on from one segment to the next: the continuity counters.
#[derive(Debug, Default)]
pub struct TsReader {
    counters: HashMap<Pid, u8>,
}

/// A PES packet in the making.
struct Pes {
    header: PesHeader,
    data: Vec<u8>,
    /// Of the packet that it started in.
    random_access: bool,
}

impl TsReader {
    /// The media of the next segment.
    ///
    /// # Panics
    /// When it isn't a segment of its own (8216bis §3.1.1: PAT and PMT first), when continuity counters don't run on
    /// (ISO/IEC 13818-1 §2.4.3.3), when a video PES holds not exactly one access unit or an audio PES not
    /// whole frames, or when random access is announced where there is none.
    pub fn read(&mut self, segment: &[u8]) -> Media {
        assert_eq!(segment.len() % TsPacket::SIZE, 0, "a segment is made of whole packets");
        let mut reader = TsPacketReader::new(segment);
        let mut streams = HashMap::new();
        let mut open: HashMap<Pid, Pes> = HashMap::new();
        let mut media = Media::default();
        let mut tables = Vec::new();
        while let Some(packet) = reader.read_ts_packet().expect("a transport stream") {
            let pid = packet.header.pid;
            self.count(&packet);
            let random_access = packet.adaptation_field.is_some_and(|field| field.random_access_indicator);
            match packet.payload {
                Some(TsPayload::Pat(_)) => tables.push("PAT"),
                Some(TsPayload::Pmt(pmt)) => {
                    tables.push("PMT");
                    streams
                        .extend(pmt.es_info.iter().map(|stream| (stream.elementary_pid, stream.stream_type)));
                }
                Some(TsPayload::PesStart(pes)) => {
                    assert!(tables.starts_with(&["PAT", "PMT"]), "PAT and PMT come before media");
                    let pes = Pes { header: pes.header, data: pes.data.to_vec(), random_access };
                    if let Some(whole) = open.insert(pid, pes) {
                        close(&mut media, streams[&pid], &whole);
                    }
                }
                Some(TsPayload::PesContinuation(data)) => {
                    open.get_mut(&pid).expect("a PES starts in its segment").data.extend_from_slice(&data);
                }
                _ => {}
            }
        }
        for (pid, whole) in open {
            close(&mut media, streams[&pid], &whole);
        }
        media
    }

    fn count(&mut self, packet: &TsPacket) {
        let counter = packet.header.continuity_counter.as_u8();
        let pid = packet.header.pid;
        if packet.payload.is_none() || pid.as_u16() == Pid::NULL {
            return;
        }
        if let Some(before) = self.counters.insert(pid, counter) {
            assert_eq!(counter, (before + 1) % 16, "the continuity counter of {pid:?} runs on");
        }
    }
}

fn close(media: &mut Media, kind: StreamType, pes: &Pes) {
    let pts = pes.header.pts.expect("every PES has a PTS").as_u64() as i64;
    match kind {
        StreamType::H264 => {
            let dts = pes.header.dts.map_or(pts, |dts| dts.as_u64() as i64);
            let delimiters =
                split_start_codes(&pes.data).filter(|unit| unit.first().is_some_and(|b| b & 0x1f == 9));
            assert_eq!(delimiters.count(), 1, "a PES holds one access unit, which starts with one delimiter");
            let (idr, sha256) = digest(split_start_codes(&pes.data));
            assert_eq!(pes.random_access, idr, "random access is announced at IDR pictures and nowhere else");
            media.video.push(Unit { pts, dts, idr, sha256 });
        }
        StreamType::AdtsAac => {
            let mut rest = pes.data.as_slice();
            let mut n = 0;
            while !rest.is_empty() {
                let (sample_rate, frame, after) = split_adts(rest);
                let at = pts + n * AAC_SAMPLES * 90_000 / sample_rate;
                media.audio.push(audio(at, frame));
                (rest, n) = (after, n + 1);
            }
        }
        other => panic!("unexpected stream type {other:?}"),
    }
}

/// NAL units of Annex B bytes (ITU-T H.264 §B.1), perhaps with zeros at their ends.
fn split_start_codes(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let starts: Vec<usize> =
        bytes.windows(3).enumerate().filter(|(_, three)| *three == [0, 0, 1]).map(|(at, _)| at).collect();
    let ends: Vec<usize> = starts.iter().skip(1).copied().chain([bytes.len()]).collect();
    starts.into_iter().zip(ends).map(|(start, end)| &bytes[start + 3..end])
}

/// Sample rate, raw frame and rest (ISO/IEC 14496-3 §1.A.2.2).
fn split_adts(bytes: &[u8]) -> (i64, &[u8], &[u8]) {
    const RATES: [i64; 13] = [
        96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350,
    ];
    let [0xff, b1, b2, b3, b4, b5, _, ..] = *bytes else { panic!("an audio PES holds whole ADTS frames") };
    assert_eq!(b1 & 0xf6, 0xf0, "an ADTS frame starts with its syncword, in layer 0");
    let header = if b1 & 1 == 1 { 7 } else { 9 };
    let len = usize::from(b3 & 3) << 11 | usize::from(b4) << 3 | usize::from(b5) >> 5;
    assert!(len > header && len <= bytes.len(), "an ADTS frame does not cross the end of its PES");
    let (frame, rest) = bytes.split_at(len);
    (RATES[usize::from(b2 >> 2 & 15)], &frame[header..], rest)
}
