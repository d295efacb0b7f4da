use super::*;
use crate::media::flv::tests::{aac_body, metadata_body, video_body};
use crate::media::h264::tests::RECORD;

/// Constrained baseline, 640x480: no B-frames.
const BASELINE: &[u8] = &[
    1, 66, 0xc0, 30, 0xff, 0xe1, 0, 9, 0x67, 66, 0xc0, 30, 0xda, 0x02, 0x80, 0xf6, 0x40, 1, 0, 4, 0x68, 0xce,
    0x3c, 0x80,
];
const STEREO_44100: &[u8] = &[0x12, 0x10];
const STEREO_48000: &[u8] = &[0x11, 0x90];
const IDR: &[u8] = &[0, 0, 0, 2, 0x65, 0x88];
const SLICE: &[u8] = &[0, 0, 0, 2, 0x41, 0x9a];

fn tag(kind: TagKind, timestamp_ms: u32, body: Bytes) -> Tag {
    Tag { kind, timestamp_ms, body }
}

fn record(record: &[u8]) -> Tag {
    tag(TagKind::Video, 0, video_body(0, true, 0, record))
}

fn unit(ms: u32, composition_ms: i32, payload: &[u8]) -> Tag {
    tag(TagKind::Video, ms, video_body(1, payload == IDR, composition_ms, payload))
}

fn asc(config: &[u8]) -> Tag {
    tag(TagKind::Audio, 0, aac_body(0, config))
}

fn aac(ms: u32) -> Tag {
    tag(TagKind::Audio, ms, aac_body(1, b"raw"))
}

fn metadata(rate: f64, codecs: &[&str]) -> Tag {
    tag(TagKind::Data, 0, metadata_body(rate, codecs))
}

fn drain(demuxer: &mut Demuxer) -> Vec<Event> {
    std::iter::from_fn(|| demuxer.poll_event()).collect()
}

/// Pushes and drains; a demuxer that goes on.
fn run(demuxer: &mut Demuxer, tags: impl IntoIterator<Item = Tag>) -> Vec<Event> {
    let mut events = Vec::new();
    for tag in tags {
        demuxer.push(tag);
        events.extend(drain(demuxer));
    }
    events
}

/// All events of a whole publish.
fn publish(tags: impl IntoIterator<Item = Tag>) -> (Vec<Event>, Demuxer) {
    let mut demuxer = Demuxer::new();
    let mut events = run(&mut demuxer, tags);
    demuxer.finish();
    events.extend(drain(&mut demuxer));
    (events, demuxer)
}

/// `T` video audio, `D`, `v dts pts`, `V` for random access, `a dts`: in ticks.
fn story(events: &[Event]) -> Vec<String> {
    let tell = |event: &Event| match event {
        Event::Tracks(tracks) => format!(
            "T {} {}",
            tracks.video.as_ref().map_or("-", |video| video.codec.as_str()),
            tracks.audio.as_ref().map_or(0, |audio| audio.sample_rate()),
        ),
        Event::Frame(frame) if frame.track == Track::Audio => format!("a {}", frame.dts.0),
        Event::Frame(frame) => {
            format!("{} {} {}", if frame.random_access { 'V' } else { 'v' }, frame.dts.0, frame.pts.0)
        }
        Event::Discontinuity => "D".to_owned(),
        Event::Start(_) | Event::Stop | Event::End => panic!("not ours to send"),
    };
    events.iter().map(tell).collect()
}

#[test]
fn a_publish_begins_with_its_tracks_and_keeps_the_order_of_arrival() {
    let tags = [
        record(BASELINE),
        asc(STEREO_48000),
        unit(1000, 0, IDR),
        aac(1010),
        aac(1031),
        unit(1040, 0, SLICE),
        aac(1053),
    ];
    let (events, demuxer) = publish(tags);
    assert_eq!(
        story(&events),
        ["T avc1.42C01E 48000", "V 90000 90000", "a 90900", "a 92820", "v 93600 93600", "a 94740"],
        "absolute times, audio on its sample clock, no end"
    );
    assert_eq!(demuxer.drops.total(), 0);
    assert_eq!(demuxer.repairs, Repairs::default());
}

/// The hold ends as soon as everything is known: each expected track has a frame and no picture is reordered.
#[test]
fn nothing_is_held_longer_than_needed() {
    let mut demuxer = Demuxer::new();
    assert_eq!(run(&mut demuxer, [record(BASELINE), asc(STEREO_48000), unit(0, 0, IDR)]), []);
    assert_eq!(run(&mut demuxer, [aac(0)]).len(), 3);
    assert_eq!(run(&mut demuxer, [unit(40, 0, SLICE)]).len(), 1);
}

#[test]
fn metadata_that_names_one_track_saves_the_wait() {
    let mut demuxer = Demuxer::new();
    let events = run(&mut demuxer, [metadata(25.0, &["videocodecid"]), record(BASELINE), unit(0, 0, IDR)]);
    assert_eq!(story(&events), ["T avc1.42C01E 0", "V 0 0"]);
    let mut demuxer = Demuxer::new();
    let events = run(&mut demuxer, [metadata(0.0, &["audiocodecid"]), asc(STEREO_44100), aac(7)]);
    assert_eq!(story(&events), ["T - 44100", "a 630"]);
}

/// HLS rules A2, A3 "PMT": a track that has a header and no frame is not announced; iOS would wait for it.
#[test]
fn a_track_without_frames_is_not_announced_and_a_late_one_is() {
    let mut demuxer = Demuxer::new();
    let pictures = (0..=25).map(|n| unit(n * 40, 0, if n == 0 { IDR } else { SLICE }));
    let events = run(&mut demuxer, [record(BASELINE), asc(STEREO_44100)].into_iter().chain(pictures));
    assert_eq!(events.len(), 27, "released after a second");
    assert_eq!(story(&events)[..2], ["T avc1.42C01E 0", "V 0 0"]);
    let events = run(&mut demuxer, [aac(1040), unit(1040, 0, SLICE)]);
    assert_eq!(story(&events), ["T avc1.42C01E 44100", "a 93600", "v 93600 93600"]);
}

/// HLS rules A3 "B frames": negative offsets are mended by one shift, chosen at the start, and PTS stay what they are.
#[test]
fn negative_composition_offsets_become_one_constant_shift() {
    let offsets = [0, 80, -40, -40, 80, -40, -40, 80, -40, -40];
    let pictures =
        (0..10).zip(offsets).map(|(n, offset)| unit(n * 40, offset, if n == 0 { IDR } else { SLICE }));
    let (events, demuxer) =
        publish([metadata(25.0, &["videocodecid"]), record(RECORD)].into_iter().chain(pictures));
    let mut expected = vec!["T avc1.64001E 0".to_owned()];
    for (n, offset) in (0_i64..).zip(offsets) {
        let kind = if n == 0 { 'V' } else { 'v' };
        expected.push(format!("{kind} {} {}", n * 3600 - 3600, n * 3600 + i64::from(offset) * 90));
    }
    assert_eq!(story(&events), expected);
    assert_eq!(demuxer.repairs, Repairs::default());
}

/// ffmpeg delays the first picture itself: there is nothing to wait for, and nothing to shift.
#[test]
fn an_encoder_that_delays_its_pictures_is_not_held() {
    let mut demuxer = Demuxer::new();
    let events = run(&mut demuxer, [metadata(30.0, &["videocodecid"]), record(RECORD), unit(0, 67, IDR)]);
    assert_eq!(story(&events), ["T avc1.64001E 0", "V 0 6000"], "67 ms are two frames");
}

#[test]
fn an_offset_beyond_the_shift_starts_a_timeline_with_a_larger_one() {
    let quiet = (0..8).map(|n| unit(n * 40, 0, if n == 0 { IDR } else { SLICE }));
    let mut demuxer = Demuxer::new();
    run(&mut demuxer, [metadata(25.0, &["videocodecid"]), record(RECORD)].into_iter().chain(quiet));
    let events = run(&mut demuxer, [unit(320, 40, SLICE), unit(360, -40, SLICE), unit(400, -40, SLICE)]);
    assert_eq!(story(&events), ["v 28800 32400", "D", "v 28800 28800", "v 32400 32400"]);
    assert_eq!(demuxer.repairs.shifts, 1);
}

#[test]
fn a_changed_header_announces_tracks_and_a_repeated_one_does_nothing() {
    let mut demuxer = Demuxer::new();
    run(&mut demuxer, [record(BASELINE), asc(STEREO_48000), unit(0, 0, IDR), aac(0)]);
    let repeated = [record(BASELINE), asc(STEREO_48000), unit(40, 0, SLICE), aac(21)];
    assert_eq!(story(&run(&mut demuxer, repeated)), ["v 3600 3600", "a 1920"]);
    let changed = [record(RECORD), asc(STEREO_44100), unit(80, 0, IDR), aac(43)];
    assert_eq!(story(&run(&mut demuxer, changed)), ["T avc1.64001E 44100", "V 7200 7200", "a 3870"]);
}

#[test]
fn a_header_that_changes_while_frames_are_held_does_not_touch_them() {
    let (events, _) = publish([record(BASELINE), unit(0, 0, IDR), record(RECORD), unit(40, 0, IDR)]);
    assert_eq!(story(&events), ["T avc1.42C01E 0", "V 0 0", "T avc1.64001E 0", "V 3600 3600"]);
}

/// Promises, fault 17: DISCONTINUITY exactly where time breaks.
#[test]
fn a_jump_is_one_discontinuity_for_both_tracks() {
    let mut demuxer = Demuxer::new();
    run(&mut demuxer, [record(BASELINE), asc(STEREO_48000), unit(100_000, 0, IDR), aac(100_000)]);
    let events = run(&mut demuxer, [unit(5, 0, IDR), aac(10), unit(45, 0, SLICE)]);
    assert_eq!(story(&events), ["D", "V 450 450", "a 900", "v 4050 4050"]);
    assert_eq!(demuxer.repairs.jumps, 1);
}

#[test]
fn a_jump_while_frames_are_held_lets_them_go_first() {
    let (events, _) = publish([record(BASELINE), unit(100_000, 0, IDR), unit(0, 0, IDR)]);
    assert_eq!(story(&events), ["T avc1.42C01E 0", "V 9000000 9000000", "D", "V 0 0"]);
}

/// Promises, fault 17: a broadcast runs over 2^32 ms, and over FFmpeg's 2^31, without an event.
#[test]
fn a_wrap_is_no_event() {
    for (bits, mask) in [(32, u32::MAX), (31, u32::MAX >> 1)] {
        let start = (1_i64 << bits) - 400;
        let tags = (0..20).flat_map(|n| {
            let ms = (start + n * 40) as u32 & mask;
            [unit(ms, 0, if n == 0 { IDR } else { SLICE }), aac(ms)]
        });
        let (events, demuxer) = publish([record(BASELINE), asc(STEREO_48000)].into_iter().chain(tags));
        assert_eq!(demuxer.repairs.jumps, 0);
        let times: Vec<_> = events.iter().filter_map(picture_dts).collect();
        assert_eq!(times.first(), Some(&(start * 90)));
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 3600), "{times:?}");
    }
}

fn picture_dts(event: &Event) -> Option<i64> {
    let Event::Frame(frame) = event else { return None };
    (frame.track == Track::Video).then_some(frame.dts.0)
}

/// 29.97 and 44.1 kHz in rounded milliseconds for five minutes: every step is exact, tracks stay together.
#[test]
fn a_drop_frame_broadcast_does_not_drift() {
    let mut demuxer = Demuxer::new();
    run(
        &mut demuxer,
        [metadata(29.97, &["videocodecid", "audiocodecid"]), record(BASELINE), asc(STEREO_44100)],
    );
    let (mut pictures, mut frames) = (0_i64, 0_i64);
    for n in 0..300 * 44_100 / 1024_i64 {
        let mut tags = vec![aac(((n * 1024 * 1000 + 22_050) / 44_100) as u32)];
        while pictures * 1001 * 44_100 <= n * 1024 * 30_000 {
            tags.push(unit(((pictures * 1001 + 15) / 30) as u32, 0, if pictures == 0 { IDR } else { SLICE }));
            pictures += 1;
        }
        for event in run(&mut demuxer, tags) {
            let Event::Frame(frame) = event else { continue };
            if frame.track == Track::Audio {
                assert_eq!(frame.pts.0, frames * 1024 * 90_000 / 44_100);
                frames += 1;
            } else {
                assert_eq!(frame.pts.0 % 3003, 0);
            }
        }
    }
    assert_eq!(demuxer.repairs, Repairs::default());
}

/// FLV's keyframe flag alone is no random access point, and its absence does not hide one.
#[test]
fn random_access_is_read_from_the_slices() {
    let flagged = tag(TagKind::Video, 0, video_body(1, true, 0, SLICE));
    let unflagged = tag(TagKind::Video, 40, video_body(1, false, 0, IDR));
    let (events, _) = publish([record(BASELINE), flagged, unflagged]);
    assert_eq!(story(&events)[1..], ["v 0 0", "V 3600 3600"]);
}

#[test]
fn what_cannot_be_carried_is_dropped_and_counted() {
    let rows = [
        (unit(0, 0, IDR), "config_missing"),
        (aac(0), "config_missing"),
        (record(&[2; 60]), "config"),
        (record(b""), "empty"),
        (asc(&[0xff, 0xff]), "config"),
        (tag(TagKind::Video, 0, Bytes::from_static(b"\x90hvc1")), "codec"),
        (tag(TagKind::Audio, 0, Bytes::from_static(b"\xb6speex")), "codec"),
        (tag(TagKind::Video, 0, Bytes::from_static(b"\x17\x01")), "tag"),
        (tag(TagKind::Audio, 0, Bytes::new()), "tag"),
        (tag(TagKind::Audio, 0, Bytes::from_static(b"\x2fID3")), "mp3"),
        (tag(TagKind::Data, 0, Bytes::from_static(b"\x02\xff")), "metadata"),
    ];
    for (tag, reason) in rows {
        let (events, mut demuxer) = publish([tag]);
        assert_eq!(events, []);
        assert_eq!(demuxer.take_drops().iter().collect::<Vec<_>>(), [(reason, 1)]);
        assert_eq!(demuxer.take_drops().total(), 0, "taken");
    }
    let rows: [(&[u8], &str); 4] = [
        (b"", "empty"),
        (&[0, 0, 0, 9, 0x65], "nal_units"),
        (&[0, 0, 0, 0], "no_picture"),
        (&[0, 0, 0, 2, 9, 0xf0, 0, 0, 0, 1, 6], "no_picture"),
    ];
    for (payload, reason) in rows {
        let (events, demuxer) = publish([record(BASELINE), unit(0, 0, payload)]);
        assert_eq!(events, []);
        assert_eq!(demuxer.drops.iter().collect::<Vec<_>>(), [(reason, 1)]);
    }
}

#[test]
fn an_unsupported_codec_is_remembered_by_name() {
    let (_, demuxer) = publish([tag(TagKind::Video, 0, Bytes::from_static(b"\x90hvc1"))]);
    assert_eq!(demuxer.unsupported().unwrap().to_string(), "hvc1");
}

#[test]
fn the_end_of_a_sequence_is_nothing() {
    let (events, demuxer) = publish([record(BASELINE), tag(TagKind::Video, 0, video_body(2, true, 0, b""))]);
    assert_eq!((events, demuxer.drops.total()), (vec![], 0));
}

/// Two frames in one tag are two frames; what is left over is counted.
#[test]
fn mp3_frames_bring_their_own_config() {
    let mut frame = vec![0xff, 0xfb, 0x94, 0xc4];
    frame.resize(384, 0);
    let body = [&[0x2f], &frame[..], &frame, &[0xff]].concat();
    let (events, demuxer) = publish([tag(TagKind::Audio, 100, body.into())]);
    assert_eq!(story(&events), ["T - 48000", "a 9000", "a 11160"]);
    assert_eq!(demuxer.drops.count(Dropped::Mp3), 1);
}

#[test]
fn a_hold_is_bounded_in_bytes() {
    let mut demuxer = Demuxer::new();
    let mut large = vec![0; 5 << 20];
    large[..5].copy_from_slice(&[0, 0x4f, 0xff, 0xfc, 0x65]);
    let large = |ms| unit(ms, 0, &large);
    assert_eq!(run(&mut demuxer, [record(RECORD), large(0), large(1), large(2)]), []);
    assert_eq!(run(&mut demuxer, [large(3)]).len(), 5);
}

#[test]
fn equal_and_slightly_earlier_stamps_are_nudged() {
    let tags =
        [record(BASELINE), unit(100, 0, IDR), unit(100, 0, SLICE), unit(90, 0, SLICE), unit(140, 0, SLICE)];
    let (events, demuxer) = publish(tags);
    let times: Vec<_> = events.iter().filter_map(picture_dts).collect();
    assert_eq!(times, [9000, 9001, 9002, 12_600]);
    assert_eq!(demuxer.repairs.nudges, 2);
}

#[test]
fn an_offset_that_no_reordering_explains_is_none() {
    let tags = [record(BASELINE), unit(0, -10_001, IDR), unit(40, 0x7f_ffff, SLICE), unit(80, 10_000, SLICE)];
    let (events, demuxer) = publish(tags);
    assert_eq!(story(&events)[1..], ["V 0 0", "v 3600 3600", "v 7200 907200"]);
    assert_eq!(demuxer.repairs.offsets, 2);
}

mod any {
    use proptest::prelude::*;

    use super::*;

    fn any_tag() -> impl Strategy<Value = Tag> {
        let stamp = prop_oneof![
            4 => 0_u32..2000,
            2 => 0_u32..20_000,
            1 => (u32::MAX - 2000)..=u32::MAX,
            1 => any::<u32>(),
        ];
        let kind = prop_oneof![
            1 => Just(0_u8),
            1 => Just(1),
            8 => Just(2),
            8 => Just(3),
            1 => 5_u8..11,
            8 => Just(11),
        ];
        (stamp, kind, -200_i32..200, prop::collection::vec(any::<u8>(), 0..20)).prop_map(
            |(ms, kind, offset, junk)| match kind {
                0 => record(if offset > 0 { RECORD } else { BASELINE }),
                1 => asc(if offset > 0 { STEREO_44100 } else { STEREO_48000 }),
                2 => unit(ms, offset, IDR),
                3 => unit(ms, offset, SLICE),
                5 => unit(ms, offset, &junk),
                6 => metadata(f64::from(offset), &["videocodecid"]),
                7 => tag(TagKind::Audio, ms, junk.into()),
                8 => tag(TagKind::Data, ms, junk.into()),
                9 => tag(TagKind::Video, ms, junk.into()),
                10 => record(&junk),
                _ => aac(ms),
            },
        )
    }

    fn is_frame(tag: &Tag) -> bool {
        match tag.kind {
            TagKind::Video => matches!(flv::video(tag.body.clone()), Ok(Video::AccessUnit { .. })),
            TagKind::Audio => matches!(flv::audio(tag.body.clone()), Ok(Audio::Aac(_))),
            TagKind::Data => false,
        }
    }

    proptest! {
        /// Whatever an encoder sends, in any order: tracks come first, DTS rise strictly per track and timeline, PTS
        /// are never before them, every event's track is announced, and no frame is lost uncounted.
        #[test]
        fn any_tags_give_a_timeline_that_holds(tags in prop::collection::vec(any_tag(), 0..120)) {
            let pushed = tags.iter().filter(|tag| is_frame(tag)).count() as u64;
            let others = tags.len() as u64 - pushed;
            let (events, demuxer) = publish(tags);
            let mut tracks = None;
            let mut last = [None; 2];
            let mut out = 0;
            for event in &events {
                match event {
                    Event::Tracks(set) => tracks = Some(Arc::clone(set)),
                    Event::Discontinuity => last = [None; 2],
                    Event::Frame(frame) => {
                        out += 1;
                        let set = tracks.as_ref().expect("tracks come first");
                        let index = usize::from(frame.track == Track::Video);
                        let announced = [set.audio.is_some(), set.video.is_some()];
                        prop_assert!(announced[index]);
                        prop_assert!(last[index].is_none_or(|last| frame.dts > last), "{:?}", story(&events));
                        prop_assert!(frame.pts >= frame.dts && !frame.payload.is_empty());
                        last[index] = Some(frame.dts);
                    }
                    Event::Start(_) | Event::Stop | Event::End => prop_assert!(false, "not ours to send"),
                }
            }
            let dropped = demuxer.drops.total();
            prop_assert!(out + dropped >= pushed && out <= pushed, "{out} + {dropped} of {pushed}");
            prop_assert!(out + dropped <= pushed + others);
        }
    }
}
