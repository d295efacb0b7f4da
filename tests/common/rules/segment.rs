//! Rules of one media segment by itself.

use super::picture::{self, AUD, IDR, PPS, SEI, SPS, Sound};
use super::ts::{AAC_TYPE, AVC_TYPE, MP3_TYPES, Pes, Transport};
use super::{Expected, Report};

/// A segment, taken apart down to its frames.
#[derive(Debug, Clone, Default)]
pub struct Segment {
    pub sequence: u64,
    pub transport: Transport,
    pub video: Option<u16>,
    pub audio: Option<u16>,
    /// Audio frames with their presentation times in ticks, as each PES says the first and the sample rate the rest.
    pub sounds: Vec<(i64, Sound)>,
    /// A PES of audio is not made of whole frames.
    pub cut_sounds: bool,
    pub bytes: usize,
}

impl Segment {
    /// Takes bytes apart.
    pub fn read(sequence: u64, bytes: &[u8]) -> Self {
        let transport = Transport::read(bytes);
        let video = transport.stream(|kind| kind == AVC_TYPE).map(|(pid, _)| pid);
        let audio = transport.stream(|kind| kind == AAC_TYPE || MP3_TYPES.contains(&kind));
        let mut segment = Self { sequence, bytes: bytes.len(), video, ..Self::default() };
        if let Some((pid, kind)) = audio {
            segment.audio = Some(pid);
            for pes in transport.of(pid) {
                let Some(sounds) = picture::sounds(&pes.data, kind == AAC_TYPE) else {
                    segment.cut_sounds = true;
                    continue;
                };
                for (n, sound) in (0_i64..).zip(sounds) {
                    segment.sounds.push((pes.pts + n * sound.samples * 90_000 / sound.rate, sound));
                }
            }
        }
        segment.transport = transport;
        segment
    }

    /// Its pictures' PES packets.
    pub fn pictures(&self) -> impl Iterator<Item = &Pes> {
        self.video.into_iter().flat_map(|pid| self.transport.of(pid))
    }

    /// Its first picture's presentation time; its first audio frame's where it has no pictures.
    pub fn start(&self) -> Option<i64> {
        match self.video {
            Some(_) => self.pictures().next().map(|pes| pes.pts),
            None => self.sounds.first().map(|(pts, _)| *pts),
        }
    }

    /// Where its last picture or audio frame in presentation order begins.
    pub fn last(&self) -> Option<i64> {
        match self.video {
            Some(_) => self.pictures().map(|pes| pes.pts).max(),
            None => self.sounds.last().map(|(pts, _)| *pts),
        }
    }
}

/// All of them.
pub fn check(segment: &Segment, expected: &Expected, report: &mut Report) {
    let transport = &segment.transport;
    report.claim("TS.SYNC", segment.sequence, transport.malformed.is_empty(), || {
        transport.malformed.join("; ")
    });
    if transport.pmts.is_empty() {
        let at = segment.sequence;
        return report.claim("TS.PATPMT_FIRST", at, false, || "no program map".to_owned());
    }
    tables(segment, report);
    streams(segment, expected, report);
    for pes in &transport.pes {
        packet_rules(segment, pes, report);
    }
    if segment.video.is_some() {
        first_picture(segment, report);
        for pes in segment.pictures() {
            access_unit(segment, pes, report);
        }
    }
    if segment.audio.is_some() {
        sounds(segment, report);
    }
    if segment.video.is_some() && segment.audio.is_some() {
        together(segment, report);
    }
    overhead(segment, report);
}

/// `TS.PATPMT_*`: the first two packets are PAT and PMT (8216bis §3.1.1), of one program, and the same all through the
/// segment. Their CRC is part of TS.SYNC.
fn tables(segment: &Segment, report: &mut Report) {
    let Transport { packets, pats, pmts, .. } = &segment.transport;
    let at = segment.sequence;
    let program = pats.first().and_then(|pat| pat.first()).copied().unwrap_or(0);
    let first: Vec<u16> = packets.iter().take(2).map(|packet| packet.pid).collect();
    report.claim("TS.PATPMT_FIRST", at, first == [0, program], || format!("PIDs {first:?}"));
    let single = pats.iter().all(|pat| pat == &[program]);
    report.claim("TS.PATPMT_SINGLE", at, single, || format!("{pats:?}"));
    let same = pmts.iter().all(|pmt| pmt == &pmts[0]);
    report.claim("TS.PMT_STABLE", at, same, || format!("{pmts:?}"));
}

/// `TS.PMT_LISTS`: the PMT lists exactly what the broadcast has (A2; SRS #2957, #3619).
/// `TS.PMT_PCR`: the clock is on video's PID, else audio's. `TS.CODEC_OK`: H.264 up to High 4.2, AAC or MP3.
fn streams(segment: &Segment, expected: &Expected, report: &mut Report) {
    let transport = &segment.transport;
    let pmt = &transport.pmts[0];
    let at = segment.sequence;
    let meant = (expected.video.is_some(), expected.audio.is_some());
    let listed = (segment.video.is_some(), segment.audio.is_some());
    let count = usize::from(meant.0) + usize::from(meant.1);
    let right = meant == listed && pmt.streams.len() == count;
    report.claim("TS.PMT_LISTS", at, right, || format!("{meant:?} meant, {:?} listed", pmt.streams));
    let clock = segment.video.or(segment.audio).unwrap_or_default();
    report.claim("TS.PMT_PCR", at, pmt.pcr_pid == clock, || format!("PCR on {}", pmt.pcr_pid));
    let stray = transport.packets.iter().find(|packet| packet.pcr.is_some() && packet.pid != pmt.pcr_pid);
    report.claim("TS.PMT_PCR", at, stray.is_none(), || format!("a PCR on another PID: {stray:?}"));
    let kinds_known =
        pmt.streams.iter().all(|(_, kind)| [AVC_TYPE, AAC_TYPE, MP3_TYPES[0], MP3_TYPES[1]].contains(kind));
    let profile = segment.pictures().next().and_then(sps).map(|sps| (sps[1], sps[3]));
    let plays = profile.is_none_or(|(profile, level)| [66, 77, 100].contains(&profile) && level <= 42);
    report.claim("TS.CODEC_OK", at, kinds_known && plays, || format!("{pmt:?}, {profile:?}"));
}

/// The sequence parameter set of an access unit.
pub fn sps(pes: &Pes) -> Option<Vec<u8>> {
    let found = picture::units(&pes.data).into_iter().find(|unit| picture::kind(unit) == SPS)?;
    (found.len() > 3).then(|| found.to_vec())
}

/// `TS.PES_LENGTH`: right; video may leave it open, and must where 16 bits are too few. `TS.PTS`: every PES has one,
/// with a DTS where it differs (what has none is TS.SYNC's). `TS.NEG_CTS`: 0 <= PTS - DTS <= 60 s. `TS.ALIGNED`: it starts with
/// what it carries, and says so.
fn packet_rules(segment: &Segment, pes: &Pes, report: &mut Report) {
    let at = format!("{}, packet {}", segment.sequence, pes.first);
    let open = Some(pes.pid) == segment.video && pes.length == 0;
    report.claim("TS.PES_LENGTH", &at, open || pes.length == pes.real_length, || {
        format!("{} said, {} there", pes.length, pes.real_length)
    });
    report.claim("TS.PTS", &at, pes.dts != Some(pes.pts), || "a DTS that is the PTS".to_owned());
    let ahead = pes.pts - pes.at();
    report.claim("TS.NEG_CTS", &at, (0..=60 * 90_000).contains(&ahead), || format!("{ahead} ticks"));
    report.claim("TS.ALIGNED", &at, pes.aligned, || "data_alignment_indicator is 0".to_owned());
}

/// `TS.IDR`, `TS.PARAMSETS`: a segment starts with AUD, SPS, PPS, perhaps SEI, IDR (Apple's authoring specification 7.4).
/// `TS.PTS_BOUNDARY`: a closed GOP, nothing is shown before its first picture.
fn first_picture(segment: &Segment, report: &mut Report) {
    let at = segment.sequence;
    let Some(first) = segment.pictures().next() else {
        return report.claim("TS.IDR", at, false, || "no picture".to_owned());
    };
    let kinds: Vec<u8> = picture::units(&first.data).iter().map(|unit| picture::kind(unit)).collect();
    report.claim("TS.IDR", at, kinds.contains(&IDR), || format!("NAL units {kinds:?}"));
    let slice = kinds.iter().position(|kind| (1..=IDR).contains(kind)).unwrap_or(kinds.len());
    let mut head = kinds[..slice].to_vec();
    head.dedup();
    let sets = head.strip_suffix(&[SEI]).unwrap_or(&head) == [AUD, SPS, PPS];
    report.claim("TS.PARAMSETS", at, sets, || format!("NAL units {kinds:?}"));
    let before = segment.pictures().filter(|pes| pes.pts < first.pts).count();
    report
        .claim("TS.PTS_BOUNDARY", at, before == 0, || format!("{before} pictures are shown before the IDR"));
    let leading = segment.transport.pes.first().map(|pes| pes.pid);
    report.claim("TS.IDR", at, leading == segment.video, || "another stream's PES comes first".to_owned());
}

/// `TS.AUD`: one access unit delimiter, in front. `TS.ONE_AU`: one picture per PES. `TS.RAI`: random access is announced at IDR
/// pictures and nowhere else.
fn access_unit(segment: &Segment, pes: &Pes, report: &mut Report) {
    let at = format!("{}, packet {}", segment.sequence, pes.first);
    let units = picture::units(&pes.data);
    let delimiters = units.iter().filter(|unit| picture::kind(unit) == AUD).count();
    let in_front = units.first().is_some_and(|unit| picture::kind(unit) == AUD);
    report.claim("TS.AUD", &at, delimiters == 1 && in_front, || {
        format!("{delimiters} delimiters, in front: {in_front}")
    });
    let pictures = units.iter().filter(|unit| picture::begins_picture(unit)).count();
    report.claim("TS.ONE_AU", &at, pictures == 1, || format!("{pictures} pictures"));
    let idr = units.iter().any(|unit| picture::kind(unit) == IDR);
    report.claim("TS.RAI", &at, pes.random_access == idr, || {
        format!("announced: {}, IDR: {idr}", pes.random_access)
    });
}

/// `TS.ADTS_WHOLE`: a PES of audio starts with a frame's header and holds whole frames. `TS.ADTS_FRAMES`: three to eight of
/// them, but for the last of a segment; where frames are lost by the encoder a PES ends early, which no broadcast here does.
fn sounds(segment: &Segment, report: &mut Report) {
    let Some((pid, kind)) = segment.transport.stream(|kind| kind == AAC_TYPE || MP3_TYPES.contains(&kind))
    else {
        return;
    };
    report.claim("TS.ADTS_WHOLE", segment.sequence, !segment.cut_sounds, || {
        "a frame is cut at a PES packet's border".to_owned()
    });
    let counts: Vec<usize> = segment
        .transport
        .of(pid)
        .map(|pes| picture::sounds(&pes.data, kind == AAC_TYPE).map_or(0, |sounds| sounds.len()))
        .collect();
    let (last, full) = counts.split_last().unwrap_or((&0, &[]));
    let right = full.iter().all(|count| (3..=8).contains(count)) && (1..=8).contains(last);
    if counts.is_empty() {
        // TS.PMT_DATA is about that.
        return;
    }
    report.claim("TS.ADTS_FRAMES", segment.sequence, right, || format!("{counts:?}"));
}

/// `TS.AV_START`: first audio within 100 ms of first video (AS 8.3), or a frame and 100 ms where frames are longer than that.
/// `TS.INTERLEAVE`: neighbours in the file are decoded within half a second of each other.
fn together(segment: &Segment, report: &mut Report) {
    let (Some(video), Some((audio, _))) = (segment.start(), segment.sounds.first()) else { return };
    let apart = audio - video;
    report.claim("TS.AV_START", segment.sequence, apart.abs() <= 9_000, || format!("{apart} ticks apart"));
    let mut newest = [None, None];
    for pes in &segment.transport.pes {
        let own = usize::from(Some(pes.pid) == segment.audio);
        newest[own] = Some(pes.at());
        if let [Some(video), Some(audio)] = newest {
            let at = format!("{}, packet {}", segment.sequence, pes.first);
            let apart: i64 = video - audio;
            report.claim("TS.INTERLEAVE", at, apart.abs() <= 45_000, || format!("{apart} ticks apart"));
        }
    }
}

/// `TS.OVERHEAD`: nothing is padded beyond what the continuity counters of segments that know nothing of each other cost: 16
/// pairs of tables per 4.8 s, up to 15 packets per stream, and a clock where pictures are further apart than 100 ms. What
/// is left is tight packing, which is the 4 to 7 % at 700 kb/s that the rule names.
fn overhead(segment: &Segment, report: &mut Report) {
    let transport = &segment.transport;
    let clocks = transport.packets.iter().filter(|packet| packet.payload.is_none()).count();
    let tight: usize = transport
        .pes
        .iter()
        .map(|pes| {
            let clock = transport.packets[pes.first].pcr.is_some();
            let field = if clock { 8 } else { 2 * usize::from(pes.random_access) };
            1 + (pes.header + pes.data.len()).saturating_sub(184 - field).div_ceil(184)
        })
        .sum();
    let (start, end) = (segment.start().unwrap_or_default(), segment.last().unwrap_or_default());
    let tables = 32 * usize::try_from((end - start) / (16 * 27_000) + 1).unwrap_or(1);
    let allowed = tight + tables + clocks + 15 * transport.pmts[0].streams.len();
    // At the end of a broadcast audio may run on for half a second without pictures.
    let needed = segment.pictures().count() < 20 || clocks <= 7;
    report.claim("TS.OVERHEAD", segment.sequence, transport.packets.len() <= allowed, || {
        format!("{} packets, {tight} would do, {allowed} are allowed", transport.packets.len())
    });
    report.claim("TS.OVERHEAD", segment.sequence, needed, || format!("{clocks} clocks alone"));
}
