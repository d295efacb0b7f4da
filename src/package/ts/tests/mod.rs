//! Segments read back: by a strict reader of its own, by the crate's reader, and by ffprobe.

mod outside;
mod reader;

use proptest::prelude::*;

use super::packet::{AUDIO_PID, PMT_PID, TIME_OFFSET, VIDEO_PID};
use super::*;
use crate::media::aac::{AacConfig, AacError};
use crate::media::h264::{NalError, VideoConfig};
use crate::media::mp3::Mp3Config;
use crate::media::sample;
use reader::{PesOut, check, check_counters, packets, pes, unpack_adts};

const SPS: &[u8] = &[0x67, 0x42, 0xC0, 0x1E, 0xAB];
const PPS: &[u8] = &[0x68, 0xCE, 0x3C, 0x80];

fn video_config(sps: &[u8], pps: &[u8]) -> Arc<VideoConfig> {
    Arc::new(VideoConfig {
        sps: vec![Bytes::copy_from_slice(sps)],
        pps: vec![Bytes::copy_from_slice(pps)],
        ..sample::video()
    })
}

fn aac(sample_rate: u32) -> Arc<AudioConfig> {
    Arc::new(AudioConfig::Aac(AacConfig { sample_rate, ..sample::aac() }))
}

fn mp3(lsf: bool) -> Arc<AudioConfig> {
    let (sample_rate, samples_per_frame) = if lsf { (22_050, 576) } else { (44_100, 1152) };
    Arc::new(AudioConfig::Mp3(Mp3Config { sample_rate, channels: 2, samples_per_frame, lsf }))
}

fn tracks(video: bool, audio: Option<Arc<AudioConfig>>) -> Arc<TrackSet> {
    Arc::new(TrackSet { video: video.then(|| video_config(SPS, PPS)), audio })
}

fn av() -> Arc<TrackSet> {
    tracks(true, Some(aac(48_000)))
}

fn picture(dts: i64, offset: i64, random_access: bool, len: usize) -> Arc<Frame> {
    let mut payload = (len as u32 + 1).to_be_bytes().to_vec();
    payload.push(if random_access { 0x65 } else { 0x41 });
    payload.extend((0..len).map(|index| (index * 7 + dts as usize) as u8 | 1));
    Arc::new(Frame {
        track: Track::Video,
        dts: Ticks(dts),
        pts: Ticks(dts + offset),
        random_access,
        payload: payload.into(),
    })
}

fn sound(pts: i64, len: usize) -> Arc<Frame> {
    let payload: Vec<u8> = (0..len).map(|index| (index + pts as usize) as u8).collect();
    let time = Ticks(pts);
    Arc::new(Frame {
        track: Track::Audio,
        dts: time,
        pts: time,
        random_access: true,
        payload: payload.into(),
    })
}

/// `ms` of media from `start`: pictures `interval` ticks apart, audio at 48 kHz, in the order of time.
fn clip(start: i64, ms: i64, interval: i64, picture_len: usize, sound_len: usize) -> Vec<Arc<Frame>> {
    let end = start + ms * 90;
    let offset = 2 * interval;
    let mut frames: Vec<_> = (start..end)
        .step_by(interval as usize)
        .map(|dts| picture(dts, offset, dts == start, picture_len))
        .collect();
    let first = (start + offset + 1919) / 1920;
    frames.extend(
        (first..).map(|n| n * 1920).take_while(|pts| *pts < end + offset).map(|pts| sound(pts, sound_len)),
    );
    frames.sort_by_key(|frame| frame.dts);
    frames
}

fn mux(tracks: &Arc<TrackSet>, frames: &[Arc<Frame>]) -> Bytes {
    mux_before(None, tracks, frames)
}

/// With a next segment whose first frame is decoded at `next`.
fn mux_before(next: Option<Ticks>, tracks: &Arc<TrackSet>, frames: &[Arc<Frame>]) -> Bytes {
    let mut muxer = SegmentMuxer::new(Arc::clone(tracks)).unwrap();
    for frame in frames {
        muxer.push(frame).unwrap();
    }
    let about = muxer.len();
    let bytes = muxer.finish(next);
    assert!(bytes.len() >= about, "{} < {about}", bytes.len());
    bytes
}

/// TS.PATPMT: PAT and PMT are the first two packets, as a section and 0xFF, by ISO/IEC 13818-1 §2.4.4.3 and §2.4.4.8.
#[test]
fn a_segment_starts_with_pat_and_pmt() {
    let segment = mux(&av(), &clip(0, 2000, 3600, 3000, 300));
    let tables = &packets(&segment)[..2];
    let [pat, pmt] = [tables[0].payload.unwrap(), tables[1].payload.unwrap()];
    #[rustfmt::skip]
    let sections: [&[u8]; 2] = [
        &[0, 0x00, 0xB0, 13, 0, 1, 0xC1, 0, 0, 0, 1, 0xF0, 0x00],
        &[0, 0x02, 0xB0, 23, 0, 1, 0xCB, 0, 0, 0xE1, 0x00, 0xF0, 0, 0x1B, 0xE1, 0x00, 0xF0, 0, 0x0F, 0xE1, 0x01, 0xF0, 0],
    ];
    for (pid, packet, payload, section) in
        [(0, &tables[0], pat, sections[0]), (PMT_PID, &tables[1], pmt, sections[1])]
    {
        assert_eq!(packet.pid, pid);
        assert_eq!(payload.len(), 184);
        assert_eq!(&payload[..section.len()], section);
        assert!(payload[section.len() + 4..].iter().all(|byte| *byte == 0xFF));
    }
}

/// TS.PMT: lists the tracks there are, with the clock on video, else audio; another list has another version.
#[test]
fn the_pmt_lists_only_tracks_that_are_there() {
    let (h264, aac_stream) = ([0x1B, 0xE1, 0, 0xF0, 0], [0x0F, 0xE1, 1, 0xF0, 0]);
    let table = [
        ("video", tracks(true, None), 0, [&h264[..], &[]].concat()),
        ("aac", tracks(false, Some(aac(44_100))), 1, aac_stream.to_vec()),
        ("mp3", tracks(false, Some(mp3(false))), 1, vec![0x03, 0xE1, 1, 0xF0, 0]),
        ("mp3, low rates", tracks(false, Some(mp3(true))), 1, vec![0x04, 0xE1, 1, 0xF0, 0]),
        ("video and aac", av(), 0, [h264, aac_stream].concat()),
        ("video and mp3", tracks(true, Some(mp3(false))), 0, [h264, [0x03, 0xE1, 1, 0xF0, 0]].concat()),
    ];
    let mut versions = std::collections::HashSet::new();
    for (name, tracks, clock, streams) in table {
        let frame = if tracks.video.is_some() { picture(0, 0, true, 50) } else { sound(0, 50) };
        let segment = mux(&tracks, &[frame]);
        let pmt = packets(&segment)[1].payload.unwrap();
        assert_eq!(pmt[9..11], [0xE1, clock], "{name}: PCR_PID");
        assert_eq!(pmt[13..13 + streams.len()], streams, "{name}");
        assert_eq!(usize::from(pmt[3]), 9 + streams.len() + 4, "{name}: section_length");
        assert!(versions.insert(pmt[6]), "{name}: version");
    }
}

/// TR 101 290 1.3, 1.5: PAT and PMT at most 400 ms apart by the clock, a multiple of 16 times, also where segments
/// meet and where pictures are slow.
#[test]
fn tables_stand_at_most_400_ms_apart() {
    for (ms, interval) in
        [(2000, 3600), (4000, 3600), (1960, 1500), (12_000, 3003), (3000, 90_000), (500, 3600)]
    {
        let segments = [clip(0, ms, interval, 2000, 300), clip(ms * 90, ms, interval, 2000, 300)];
        let both = segments.map(|frames| mux(&av(), &frames)).concat();
        let mut clock = None;
        let mut tables: Vec<i64> = Vec::new();
        for packet in packets(&both) {
            clock = packet.pcr.or(clock);
            if packet.pid == 0 {
                tables.extend(clock);
            }
        }
        let gap = tables.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(gap <= 400 * 90, "{ms} ms, {interval}: {} ms", gap / 90);
    }
}

/// TS.PCR: at most 100 ms apart, at slow pictures, without video, and where segments meet; constant lead of 300 ms.
#[test]
fn the_clock_comes_every_100_ms_and_leads_by_300() {
    for (name, tracks, interval) in [
        ("50 pictures per second", av(), 1800),
        ("12 pictures per second", av(), 7500),
        ("5 pictures per second", av(), 18_000),
        ("1 picture per second", av(), 90_000),
        ("5 pictures per second, no audio", tracks(true, None), 18_000),
        ("audio only", tracks(false, Some(aac(48_000))), 3600),
    ] {
        let clip_of = |start| {
            let mut frames = clip(start, 2000, interval, 5000, 300);
            frames.retain(|frame| match frame.track {
                Track::Video => tracks.video.is_some(),
                Track::Audio => tracks.audio.is_some(),
            });
            frames
        };
        let [first, second] = [clip_of(0), clip_of(180_000)];
        let next = second.first().map(|frame| frame.dts);
        let both = [mux_before(next, &tracks, &first), mux(&tracks, &second)].concat();
        let clocks: Vec<i64> = packets(&both).iter().filter_map(|packet| packet.pcr).collect();
        let gaps = clocks.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().min().unwrap() >= 0, "{name}");
        assert!(gaps.clone().max().unwrap() <= 9000, "{name}: {} ms", gaps.max().unwrap() / 90);
        let carriers = if tracks.video.is_some() { pes(&both, VIDEO_PID) } else { pes(&both, AUDIO_PID) };
        assert!(carriers.iter().all(|pes| pes.dts - pes.pcr.unwrap() == 300 * 90), "{name}");
    }
}

/// TS.PCR, TS.IDR: the first PES packet is video's and carries the clock, also if audio plays before it.
#[test]
fn the_first_pes_packet_is_video_with_the_clock() {
    let frames = [sound(0, 200), sound(1920, 200), picture(9000, 0, true, 100), sound(3840, 200)];
    let segment = mux(&av(), &frames);
    check(&av(), &frames, &segment);
    let (video, audio) = (pes(&segment, VIDEO_PID), pes(&segment, AUDIO_PID));
    assert_eq!(video[0].index, 2);
    assert_eq!(video[0].pcr, Some(TIME_OFFSET - 300 * 90));
    assert!(audio[0].index > 2);
}

/// TS.PCR_MONO: the clock never runs back to audio that came too late for the segment before; that comes at once.
#[test]
fn late_audio_does_not_turn_the_clock_back() {
    let first = clip(0, 2000, 3600, 100, 100);
    let late = (0..40).map(|n| sound(100_000 + n * 1920, 100));
    let second: Vec<_> = clip(180_000, 2000, 3600, 100, 100).into_iter().chain(late).collect();
    let both = [mux_before(Some(Ticks(180_000)), &av(), &first), mux(&av(), &second)].concat();
    let clocks: Vec<i64> = packets(&both).iter().filter_map(|packet| packet.pcr).collect();
    assert!(clocks.is_sorted(), "{clocks:?}");
    assert!(pes(&both, AUDIO_PID).iter().all(|pes| pes.index > 2));
}

/// TS.ADTS: 3 to 8 frames by time, and a gap of more than a tick starts another PES packet.
#[test]
fn audio_is_packed_up_to_150_ms_and_never_over_a_gap() {
    let table: [(u32, bool, usize); 6] = [
        (48_000, true, 7),
        (44_100, true, 6),
        (8_000, true, 3),
        (96_000, true, 8),
        (48_000, false, 4),
        (16_000, false, 3),
    ];
    for (rate, video, frames) in table {
        let config = aac(rate);
        let sounds: Vec<_> = (0..frames as u32 * 3).map(|n| sound(config.span_of(n).0, 20)).collect();
        let segment = mux(&tracks(video, Some(config)), &sounds);
        let packs: Vec<_> = pes(&segment, AUDIO_PID).iter().map(|pes| unpack_adts(&pes.data).len()).collect();
        assert_eq!(packs, [frames; 3], "{rate} Hz");
    }
    let sounds = [0, 1920, 3841, 5763, 7683].map(|pts| sound(pts, 20));
    let segment = mux(&av(), &sounds);
    let packs: Vec<_> =
        pes(&segment, AUDIO_PID).iter().map(|pes| (pes.pts, unpack_adts(&pes.data).len())).collect();
    assert_eq!(packs, [(TIME_OFFSET, 3), (TIME_OFFSET + 5763, 2)]);
}

/// TS.INTERLEAVE, TS.AV: by decode time, whatever order the frames came in; audio that came late stands in its place.
#[test]
fn tracks_are_interleaved_by_decode_time() {
    let mut frames = clip(0, 2000, 3600, 3000, 300);
    let segment = mux(&av(), &frames);
    let mut units = [pes(&segment, VIDEO_PID), pes(&segment, AUDIO_PID)].concat();
    units.sort_by_key(|pes| pes.index);
    assert!(units.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
    frames.sort_by_key(|frame| frame.track == Track::Audio);
    assert_eq!(mux(&av(), &frames), segment);
}

/// TS.WRAP: PTS, DTS and PCR are modulo 2^33, and nothing is negative at the start.
#[test]
fn times_wrap_at_33_bits() {
    let wrap = (1 << 33) - TIME_OFFSET;
    let frames = clip(wrap - 90_000, 2000, 3600, 3000, 300);
    let video = pes(&mux(&av(), &frames), VIDEO_PID);
    assert_eq!((video[24].dts, video[25].dts), ((1 << 33) - 3600, 0));
    assert_eq!((video[32].pcr, video[33].pcr), (Some((1 << 33) - 1800), Some(1800)));
    assert_eq!(pes(&mux(&av(), &clip(0, 100, 3600, 10, 10)), VIDEO_PID)[0].pcr, Some(9_700 * 90));
}

/// A frame that can't be carried is refused, and the segment is as if it had not come.
#[test]
fn a_refused_frame_leaves_no_trace() {
    let frames = clip(0, 2000, 3600, 3000, 300);
    let mut muxer = SegmentMuxer::new(av()).unwrap();
    let cut = Arc::new(Frame { payload: Bytes::from_static(&[0, 0, 1]), ..Frame::clone(&frames[0]) });
    for frame in &frames {
        assert_eq!(muxer.push(&cut), Err(MuxError::Nal(NalError::Length { have: 3, want: 4 })));
        assert!(matches!(
            muxer.push(&sound(0, 9000)),
            Err(MuxError::Aac(AacError::FrameLength { len: 9000, .. }))
        ));
        assert_eq!(muxer.push(&sound(0, 0)), Err(MuxError::AudioFrameLen { len: 0 }));
        muxer.push(frame).unwrap();
    }
    assert_eq!(muxer.finish(None), mux(&av(), &frames));
    let mut audio_only = SegmentMuxer::new(tracks(false, Some(aac(48_000)))).unwrap();
    assert_eq!(audio_only.push(&frames[0]), Err(MuxError::NoSuchTrack(Track::Video)));
    assert!(SegmentMuxer::new(Arc::default()).is_err());
    assert!(SegmentMuxer::new(av()).unwrap().finish(None).is_empty());
}

/// TS.OVERHEAD: what packets, tables and the multiple of 16 cost in segments of 2 s, in percent of the coded bytes.
#[test]
fn overhead_is_small() {
    println!("video b/s  audio b/s  overhead %  without the multiple of 16 %");
    for (video, audio, most) in
        [(0, 128_000, 32.0), (572_000, 128_000, 10.0), (1_372_000, 128_000, 7.0), (5_872_000, 128_000, 4.0)]
    {
        let tracks = tracks(video > 0, Some(aac(48_000)));
        let mut frames = clip(900_000, 2000, 3600, video / 8 / 25, audio * 1024 / 48_000 / 8);
        frames.retain(|frame| frame.track == Track::Audio || video > 0);
        let segment = mux(&tracks, &frames);
        let tight = |pes: PesOut| {
            let field = if pes.pcr.is_some() { 8 } else { 0 };
            let header = if pes.dts == pes.pts { 14 } else { 19 };
            (pes.data.len() + header + field).div_ceil(184)
        };
        // Tables every 400 ms would be five pairs.
        let units = pes(&segment, VIDEO_PID).into_iter().chain(pes(&segment, AUDIO_PID));
        let loose = (units.map(tight).sum::<usize>() + 2 * 5) * 188;
        let coded: usize = frames.iter().map(|frame| frame.payload.len()).sum();
        let percent = |len: usize| (len - coded) as f64 * 100.0 / coded as f64;
        println!("{video:9} {audio:10} {:11.2} {:11.2}", percent(segment.len()), percent(loose));
        assert!(percent(segment.len()) < most);
    }
}

/// Any frames: their sizes, how many, in which order they arrive.
fn any_frames(start: i64) -> impl Strategy<Value = Vec<Arc<Frame>>> {
    let len = || prop_oneof![4 => 1..40usize, 4 => 1..2000usize, 1 => 1..70_000usize];
    let video = proptest::collection::vec((len(), any::<bool>()), 0..25);
    let audio = proptest::collection::vec((prop_oneof![1..20usize, 1..8185usize], 0..20i64), 0..40);
    (video, audio, 1200..9000i64, 0..3i64, -3000..9000i64).prop_map(
        move |(video, audio, interval, b, skew)| {
            let pictures = video.into_iter().enumerate().map(|(index, (len, random_access))| {
                picture(start + index as i64 * interval, b * interval, random_access, len)
            });
            let mut pts = start + skew;
            let sounds = audio.into_iter().map(|(len, gap)| {
                pts += 1920 + if gap == 0 { 4000 } else { 0 };
                sound(pts, len)
            });
            let mut frames: Vec<_> = pictures.chain(sounds).collect();
            frames.sort_by_key(|frame| frame.dts.0 / 20_000);
            frames
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Every rule of `check`, and counters that run on over two segments which know nothing of each other.
    #[test]
    fn any_two_segments_follow_each_other(
        first in any_frames(900_000),
        second in any_frames(1_800_000),
        start in prop_oneof![Just(0i64), Just((1 << 33) - 2_000_000)],
    ) {
        let muxed = [first, second].map(|frames| {
            let frames: Vec<_> = frames
                .iter()
                .map(|frame| {
                    let (dts, pts) = (Ticks(frame.dts.0 + start), Ticks(frame.pts.0 + start));
                    Arc::new(Frame { dts, pts, ..Frame::clone(frame) })
                })
                .collect();
            let segment = mux(&av(), &frames);
            check(&av(), &frames, &segment);
            segment
        });
        check_counters(&[&muxed[0], &muxed[1], &muxed[0]]);
    }

    /// The shortest segments, where the last PES packet has fewer bytes than the packets it is split over.
    #[test]
    fn the_shortest_frames_are_aligned_too(len in 1..30usize, count in 1..4i64, with_video: bool) {
        let mut frames: Vec<_> = (0..count).map(|index| sound(index * 1920, len)).collect();
        if with_video {
            frames.push(picture(0, 0, false, len));
        }
        check_counters(&[&mux(&av(), &frames)]);
        let audio = pes(&mux(&av(), &frames), AUDIO_PID);
        let raw: Vec<_> = audio.iter().flat_map(|pes| unpack_adts(&pes.data)).collect();
        prop_assert_eq!(raw.len() as i64, count);
    }
}
