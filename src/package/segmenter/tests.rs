use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::media::{AudioConfig, sample};

const WALL: WallTime = WallTime::from_unix_us(1_795_716_584_000_000);
const LIMITS: Limits =
    Limits { target: Span::from_ms(2000), length_max: Span::from_ms(20_000), bytes_max: 1 << 20 };

fn tracks(video: bool, audio: bool) -> Event {
    let video = video.then(|| Arc::new(sample::video()));
    let audio = audio.then(|| Arc::new(AudioConfig::Aac(sample::aac())));
    Event::Tracks(Arc::new(TrackSet { video, audio }))
}

fn picture(dts_ms: i64, offset_ms: i64, random_access: bool) -> Event {
    frame(Track::Video, dts_ms, offset_ms, random_access)
}

fn sound(at_ms: i64) -> Event {
    frame(Track::Audio, at_ms, 0, true)
}

fn frame(track: Track, dts_ms: i64, offset_ms: i64, random_access: bool) -> Event {
    let dts = Ticks(dts_ms * 90);
    let pts = dts + Span::from_ms(offset_ms);
    Event::Frame(Arc::new(Frame { track, dts, pts, random_access, payload: Bytes::from_static(&[1; 100]) }))
}

/// What came out, a word each: `[` and `]` with the duration in ms, `v` and `a` with the PTS in ms.
fn run(events: impl IntoIterator<Item = Event>) -> (String, Segmenter) {
    let mut segmenter = Segmenter::new(LIMITS);
    let mut words = Vec::new();
    for event in events {
        segmenter.handle(&event, WALL);
        while let Some(step) = segmenter.poll() {
            words.push(match step {
                Step::Begin(begin) => {
                    let offset = (begin.date.unix_us() - WALL.unix_us()) / 1000;
                    format!("[{}{offset}", if begin.discontinuity { "!" } else { "" })
                }
                Step::Append(frame) if frame.track == Track::Video => format!("v{}", frame.pts.0 / 90),
                Step::Append(frame) => format!("a{}", frame.pts.0 / 90),
                Step::End(end) => format!("{}]", end.duration.0 / 90),
            });
        }
    }
    (words.join(" "), segmenter)
}

/// A cut needs the target duration and a random access point, and the duration is the media's (8216 4.3.2.1).
#[test]
fn a_segment_ends_at_the_first_random_access_point_after_the_target() {
    let pictures = (0..6).map(|n| picture(n * 1000, 0, n != 2));
    let events = std::iter::once(tracks(true, false)).chain(pictures).chain([Event::End]);
    assert_eq!(run(events).0, "[0 v0 v1000 v2000 3000] [3000 v3000 v4000 2000] [5000 v5000 40]");
}

/// TS.PCR_INTERVAL: the clock of a segment runs up to the next one's, which is not what it ends at with B-frames.
#[test]
fn a_cut_says_when_the_next_segment_is_first_decoded() {
    let mut segmenter = Segmenter::new(LIMITS);
    let pictures = (0..3).map(|n| picture(n * 2000, 80, true));
    for event in std::iter::once(tracks(true, false)).chain(pictures).chain([Event::End]) {
        segmenter.handle(&event, WALL);
    }
    let next = |step| if let Step::End(end) = step { Some(end.next) } else { None };
    let nexts: Vec<_> = std::iter::from_fn(|| segmenter.poll()).filter_map(next).collect();
    assert_eq!(nexts, [Some(Ticks(180_000)), Some(Ticks(360_000)), None]);
}

/// zap-stream-core doubled its segments on GOPs of 1.96 s.
#[test]
fn a_gop_a_little_short_of_the_target_is_one_segment() {
    let events = [tracks(true, false), picture(0, 0, true), picture(1960, 0, true), picture(3920, 0, true)];
    assert_eq!(run(events).0, "[0 v0 1960] [1960 v1960 1960] [3920 v3920");
}

/// TS.PTS_BOUNDARY: a picture is sent ahead of its time, and audio before that time comes after it.
#[test]
fn audio_before_the_cut_belongs_to_the_segment_before_whenever_it_comes() {
    let events = [
        tracks(true, true),
        picture(0, 80, true),
        sound(0),
        sound(1990),
        picture(2000, 80, true),
        sound(2010),
        picture(2040, 200, false),
        sound(2079),
        sound(2081),
        picture(2080, 40, false),
    ];
    assert_eq!(
        run(events).0,
        "[0 v80 a0 a1990 a2010 a2079 2000] [2000 v2080 v2240 a2081 v2120",
        "the first audio leads the first picture by less than 100 ms, so it is kept"
    );
}

/// TS.PTS_BOUNDARY: also where audio is sent ahead of its pictures.
#[test]
fn audio_from_the_cut_on_belongs_to_the_next_segment_whenever_it_came() {
    let events = [
        tracks(true, true),
        picture(0, 0, true),
        sound(1900),
        sound(2100),
        sound(2300),
        picture(1960, 0, false),
        picture(2000, 0, true),
        picture(2200, 0, false),
        Event::End,
    ];
    assert_eq!(run(events).0, "[0 v0 v1960 a1900 2000] [2000 v2000 v2200 a2100 a2300 400]");
}

#[test]
fn audio_that_has_stopped_holds_nothing_up() {
    let mut events = vec![tracks(true, true), picture(0, 0, true), sound(0)];
    events.extend((1..=5).map(|n| picture(n * 1000, 0, n % 2 == 0)));
    assert_eq!(run(events).0, "[0 v0 a0 v1000 2000] [2000 v2000 v3000 2000] [4000 v4000 v5000");
}

#[test]
fn late_audio_is_waited_for_half_a_second() {
    let mut events = vec![tracks(true, true), picture(0, 0, true), sound(1900), picture(2000, 0, true)];
    events.extend((1..=5).map(|n| picture(2000 + n * 100, 0, false)));
    assert_eq!(run(events.clone()).0, "[0 v0 a1900");
    events.push(picture(2600, 0, false));
    assert!(run(events).0.contains("2000] [2000 v2000 v2100"));
}

#[test]
fn audio_alone_is_cut_at_any_frame() {
    let events = std::iter::once(tracks(false, true)).chain((0..9).map(|n| sound(n * 500)));
    assert_eq!(run(events).0, "[0 a0 a500 a1000 a1500 2000] [2000 a2000 a2500 a3000 a3500 2000] [4000 a4000");
}

/// TS.IDR: nothing can be shown before a random access point.
#[test]
fn a_stream_begins_at_its_first_random_access_point() {
    let events =
        [tracks(true, true), picture(0, 0, false), sound(0), sound(950), picture(1000, 0, true), Event::End];
    let (words, segmenter) = run(events);
    assert_eq!(words, "[0 v1000 a950 40]");
    assert_eq!(segmenter.discarded(), 2);
}

/// PL.PDT: one anchor per timeline; AS 8.13: new parameters are a discontinuity, and so is broken time.
#[test]
fn new_parameters_and_broken_time_are_discontinuities() {
    let events = [
        tracks(true, false),
        picture(0, 0, true),
        picture(40, 0, false),
        tracks(true, false),
        picture(1000, 0, true),
        Event::Discontinuity,
        picture(500_000, 0, false),
        picture(500_040, 0, true),
        Event::End,
    ];
    assert_eq!(run(events).0, "[0 v0 v40 80] [!1000 v1000 40] [!0 v500040 40]");
}

/// Promises, fault 7: one discontinuity before the first segment of the new timeline, and a new anchor.
#[test]
fn a_publisher_that_comes_back_begins_a_new_timeline() {
    let events = [
        Event::Start(Epoch(1)),
        tracks(true, false),
        picture(5000, 0, true),
        Event::Stop,
        Event::Start(Epoch(2)),
        tracks(true, false),
        picture(0, 0, true),
        picture(2000, 0, true),
        Event::Stop,
        Event::End,
    ];
    assert_eq!(run(events).0, "[0 v5000 40] [!0 v0 2000] [2000 v2000 40]");
}

#[test]
fn a_stream_that_breaks_at_a_cut_loses_nothing() {
    let events = [
        tracks(true, true),
        picture(0, 0, true),
        sound(1990),
        picture(2000, 80, true),
        picture(2040, 80, false),
        Event::End,
    ];
    assert_eq!(run(events).0, "[0 v0 a1990 2080] [2080 v2080 v2120 80]");
}

/// A playlist can't list what has no start; so the segment ends at the limit and the rest is counted.
#[test]
fn without_random_access_points_a_segment_ends_by_force() {
    let pictures = (0..25).map(|n| picture(n * 1000, 0, n == 0 || n == 23));
    let (words, segmenter) = run(std::iter::once(tracks(true, false)).chain(pictures));
    assert!(words.ends_with("v19000 v20000 21000] [!23000 v23000 v24000"), "{words}");
    assert_eq!(segmenter.discarded(), 2);
}

proptest! {
    /// Any interleaving: steps nest, each segment of video begins with a random access point, no segment is much
    /// longer than the limit, and every frame is in a segment, waiting, or counted as discarded.
    #[test]
    fn nothing_is_lost_uncounted(
        frames in proptest::collection::vec((any::<bool>(), 0i64..3000, 0i64..200, any::<bool>(), 0u8..40), 1..300)
    ) {
        let mut segmenter = Segmenter::new(LIMITS);
        segmenter.handle(&tracks(true, true), WALL);
        let (mut at, mut pushed, mut appended) = (0, 0, 0);
        let (mut open, mut fresh) = (false, false);
        for (video, step, offset, random_access, odd) in frames {
            at += step;
            let event = match odd {
                0 => Event::Discontinuity,
                1 => tracks(true, true),
                _ if video => picture(at, offset, random_access),
                _ => sound(at),
            };
            pushed += u64::from(matches!(event, Event::Frame(_)));
            segmenter.handle(&event, WALL);
            while let Some(step) = segmenter.poll() {
                match step {
                    Step::Begin(_) => { prop_assert!(!open); open = true; fresh = true; }
                    Step::Append(frame) => {
                        prop_assert!(open);
                        prop_assert!(!fresh || (frame.track == Track::Video && frame.random_access));
                        fresh = false;
                        appended += 1;
                    }
                    Step::End(end) => {
                        prop_assert!(open && end.duration > Span::ZERO);
                        prop_assert!(end.duration <= LIMITS.length_max + Span::from_ms(3000));
                        open = false;
                    }
                }
            }
        }
        segmenter.handle(&Event::End, WALL);
        while let Some(step) = segmenter.poll() {
            appended += u64::from(matches!(step, Step::Append(_)));
        }
        prop_assert_eq!(pushed, appended + segmenter.discarded());
    }
}
