//! Where a segment ends: events in, steps out.
//!
//! A cut is a line through presentation time at a random access point: what is shown before it belongs to the
//! segment before, also audio that arrives after the picture (with B-frames a picture is sent ahead of its
//! time). So from a cut picture on, pictures wait until audio has passed the line, and what comes out is in
//! segment order: one `Begin`, its frames, one `End`, and so on. The segmenter never looks at coded bytes.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::WallTime;
use crate::media::{Epoch, Event, Frame, Span, Ticks, Track, TrackSet};

/// A cut this much before the target is as good: a GOP of 1.96 s must not make segments of 3.92 s.
const TOLERANCE: Span = Span::from_ms(50);

/// How long pictures wait at a cut for audio that is behind. Encoders interleave within half a second.
const AUDIO_PATIENCE: Span = Span::from_ms(500);

/// Frames of audio that wait for pictures to come as far: half a second at 96 kHz, and then some.
const AHEAD_MAX: usize = 64;

/// Audio may lead the first picture of a timeline by this much (Apple's authoring specification 8.3); it is what a
/// decoder delay of a few pictures makes.
const AUDIO_LEAD: Span = Span::from_ms(100);

/// Frames of audio kept while waiting for the first picture: more than [`AUDIO_LEAD`] of any codec.
const LEADING_AUDIO_MAX: usize = 32;

/// What a frame's duration is taken to be where nothing tells: 25 pictures a second.
const FRAME_DEFAULT: Span = Span::from_ms(40);

/// When to cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Cut at the first random access point at or after this.
    pub target: Span,
    /// A segment that finds no random access point ends by force at this length; what follows up to the next
    /// one is lost, because no player could start there.
    pub length_max: Span,
    /// The same in payload bytes.
    pub bytes_max: usize,
}

/// A segment begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Whose publish it belongs to.
    pub epoch: Epoch,
    /// What it carries.
    pub tracks: Arc<TrackSet>,
    /// Time or parameters broke since the segment before, if there was one.
    pub discontinuity: bool,
    /// Wall-clock time of its first picture: one anchor per timeline, and the media's own clock from there.
    pub date: WallTime,
}

/// Why a segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The next one starts where this one stops.
    Cut,
    /// The stream ended, broke, or changed its parameters.
    Broken,
    /// No random access point came within [`Limits`]: media up to the next one is discarded.
    Forced,
}

/// A segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// From its first picture to the next segment's first, in presentation time; of the last segment, to the
    /// end of its last picture. Of audio where there is no video.
    pub duration: Span,
    /// Decode time of the next segment's first frame, where that follows without a break.
    pub next: Option<Ticks>,
    /// Why.
    pub cause: Cause,
}

/// What to do next. Frames come in arrival order within a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Open a segment.
    Begin(Begin),
    /// Put this frame into the open segment.
    Append(Arc<Frame>),
    /// Close the open segment.
    End(End),
}

/// Draws the lines between segments. Drain [`Segmenter::poll`] after each event.
#[derive(Debug)]
pub struct Segmenter {
    limits: Limits,
    epoch: Epoch,
    tracks: Arc<TrackSet>,
    /// Set at the first picture of a timeline.
    anchor: Option<(Ticks, WallTime)>,
    /// The next `Begin` says discontinuity.
    broken: bool,
    open: Option<Open>,
    /// The line drawn, while audio before it may still arrive.
    cut: Option<Line>,
    /// Video from the cut picture on, in arrival order; or audio that came before a timeline's first picture.
    waiting: VecDeque<Arc<Frame>>,
    /// Audio that plays after the newest picture: the next one may draw a line before it.
    ahead: VecDeque<Arc<Frame>>,
    /// PTS of the newest audio frame of this timeline.
    audio_at: Option<Ticks>,
    steps: VecDeque<Step>,
    discarded: u64,
}

/// Where the open segment will end.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// When the cut picture is shown: what plays before it belongs to the open segment.
    at: Ticks,
    /// When it is decoded, and was sent: what audio's lateness counts from.
    sent: Ticks,
}

/// The segment being filled.
#[derive(Debug)]
struct Open {
    start: Ticks,
    /// Presentation end of what it holds.
    end: Ticks,
    last_dts: Ticks,
    frame: Span,
    bytes: usize,
}

impl Open {
    /// The frame would make the segment longer or larger than allowed. Audio counts too: pictures may have stopped.
    fn is_full(&self, frame: &Frame, limits: &Limits) -> bool {
        frame.pts - self.start > limits.length_max || self.bytes + frame.payload.len() > limits.bytes_max
    }
}

impl Segmenter {
    /// For one broadcast.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            epoch: Epoch(0),
            tracks: Arc::default(),
            anchor: None,
            broken: false,
            open: None,
            cut: None,
            waiting: VecDeque::new(),
            ahead: VecDeque::new(),
            audio_at: None,
            steps: VecDeque::new(),
            discarded: 0,
        }
    }

    /// The next step, in order.
    pub fn poll(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Frames that belong to no segment: before the first random access point, or after a forced end.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Takes one event. `wall` is the time of its arrival; only the first frame of a timeline uses it.
    pub fn handle(&mut self, event: &Event, wall: WallTime) {
        match event {
            Event::Start(epoch) => {
                self.end_timeline();
                self.epoch = *epoch;
                self.tracks = Arc::default();
            }
            Event::Tracks(tracks) => {
                self.break_off(Cause::Broken);
                self.tracks = Arc::clone(tracks);
            }
            Event::Frame(frame) => self.frame(frame, wall),
            Event::Discontinuity => {
                self.end_timeline();
                self.broken = true;
            }
            Event::Stop | Event::End => self.end_timeline(),
        }
    }

    fn end_timeline(&mut self) {
        self.break_off(Cause::Broken);
        self.anchor = None;
        self.audio_at = None;
    }

    fn frame(&mut self, frame: &Arc<Frame>, wall: WallTime) {
        if frame.track == Track::Audio {
            self.audio_at = Some(frame.pts);
        }
        if self.cut.is_some() {
            return self.frame_at_cut(frame, wall);
        }
        if self.open.as_ref().is_some_and(|open| open.is_full(frame, &self.limits)) {
            self.break_off(Cause::Forced);
        }
        let leads = frame.random_access && frame.track == self.leading_track();
        match &self.open {
            None if leads => self.begin_timeline(frame, wall),
            None => self.frame_before_begin(frame),
            Some(open) if leads && frame.pts - open.start >= self.limits.target - TOLERANCE => {
                self.cut = Some(Line { at: frame.pts, sent: frame.dts });
                self.release_ahead(|ahead| ahead.pts < frame.pts);
                self.frame_at_cut(frame, wall);
            }
            Some(open) if frame.track != self.leading_track() && frame.pts > open.end => {
                self.hold_ahead(frame);
            }
            Some(_) => self.append(frame),
        }
    }

    /// Encoders that send audio ahead would have it in the segment before the one in which it plays. What is further
    /// ahead than half a second is not waited with: pictures may have stopped.
    fn hold_ahead(&mut self, frame: &Arc<Frame>) {
        self.ahead.push_back(Arc::clone(frame));
        let crowded = self.ahead.len() > AHEAD_MAX;
        let mut one = crowded;
        self.release_ahead(|ahead| frame.pts - ahead.pts > AUDIO_PATIENCE || std::mem::take(&mut one));
    }

    /// Appends what waits ahead, in order, up to the first that `belongs` not to the open segment.
    fn release_ahead(&mut self, mut belongs: impl FnMut(&Frame) -> bool) {
        while let Some(frame) = self.ahead.pop_front_if(|frame| belongs(frame)) {
            self.append(&frame);
        }
    }

    /// A line is drawn: audio before it still joins the open segment; the rest waits until audio is past it.
    fn frame_at_cut(&mut self, frame: &Arc<Frame>, wall: WallTime) {
        let Some(line) = self.cut else { return };
        if frame.track == Track::Audio && frame.pts < line.at && self.leading_track() == Track::Video {
            return self.append(frame);
        }
        self.waiting.push_back(Arc::clone(frame));
        let audio_is_past =
            self.audio_at.is_none_or(|audio| audio >= line.at || line.sent - audio > AUDIO_PATIENCE);
        let patience_is_over = frame.dts - line.at > AUDIO_PATIENCE;
        if self.tracks.audio.is_none() || audio_is_past || patience_is_over {
            self.draw(line.at, wall);
        }
    }

    /// Ends the open segment at the line, begins the next, and sends what waited through the ordinary way.
    fn draw(&mut self, line: Ticks, wall: WallTime) {
        self.cut = None;
        if let Some(open) = self.open.take() {
            let next = self.waiting.front().map(|frame| frame.dts);
            self.steps.push_back(Step::End(End { duration: line - open.start, next, cause: Cause::Cut }));
        }
        self.begin(line, wall);
        for frame in std::mem::take(&mut self.waiting) {
            self.frame(&frame, wall);
        }
    }

    fn begin_timeline(&mut self, first: &Arc<Frame>, wall: WallTime) {
        self.begin(first.pts, wall);
        let leading = std::mem::take(&mut self.waiting);
        self.append(first);
        for frame in leading {
            match first.pts - frame.pts {
                lead if lead < Span::ZERO => self.ahead.push_back(frame),
                lead if lead <= AUDIO_LEAD => self.append(&frame),
                _ => self.discarded += 1,
            }
        }
    }

    /// Nothing is open and this frame can't open anything: only audio close before a first picture is of use.
    fn frame_before_begin(&mut self, frame: &Arc<Frame>) {
        if frame.track == Track::Video {
            self.discarded += 1;
            return;
        }
        self.waiting.push_back(Arc::clone(frame));
        if self.waiting.len() > LEADING_AUDIO_MAX {
            self.waiting.pop_front();
            self.discarded += 1;
        }
    }

    fn begin(&mut self, start: Ticks, wall: WallTime) {
        let (anchor, anchor_wall) = *self.anchor.get_or_insert((start, wall));
        let begin = Begin {
            epoch: self.epoch,
            tracks: Arc::clone(&self.tracks),
            discontinuity: std::mem::take(&mut self.broken),
            date: anchor_wall.plus_us((start - anchor).as_us()),
        };
        self.steps.push_back(Step::Begin(begin));
        self.open = Some(Open { start, end: start, last_dts: start, frame: FRAME_DEFAULT, bytes: 0 });
    }

    fn append(&mut self, frame: &Arc<Frame>) {
        let leading = self.leading_track();
        let Some(open) = &mut self.open else { return };
        if frame.track == leading {
            if open.bytes > 0 && frame.dts > open.last_dts {
                open.frame = frame.dts - open.last_dts;
            }
            open.last_dts = frame.dts;
            open.end = open.end.max(frame.pts);
        }
        open.bytes += frame.payload.len();
        let reached = open.end;
        self.steps.push_back(Step::Append(Arc::clone(frame)));
        if frame.track == leading {
            self.release_ahead(|ahead| ahead.pts <= reached);
        }
    }

    /// Ends what is open, without a next segment to end it. What waited at a line gets its own short segment.
    fn break_off(&mut self, cause: Cause) {
        if let Some(line) = self.cut.take() {
            // The anchor is set, so no wall time is needed to go on.
            let wall = self.anchor.map_or(WallTime::from_unix_us(0), |(_, wall)| wall);
            self.draw(line.at, wall);
        } else {
            self.discarded += self.waiting.len() as u64;
            self.waiting.clear();
        }
        self.release_ahead(|_| true);
        if let Some(open) = self.open.take() {
            // The distance of the last two pictures, unless they stood apart by a stall.
            let duration = open.end - open.start + open.frame.min(self.limits.target);
            self.steps.push_back(Step::End(End { duration, next: None, cause }));
            self.broken = true;
        }
    }

    /// Whose frames decide: video where there is any.
    fn leading_track(&self) -> Track {
        if self.tracks.video.is_some() { Track::Video } else { Track::Audio }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::media::AudioConfig;
    use crate::media::aac::AacConfig;
    use crate::media::h264::VideoConfig;

    const WALL: WallTime = WallTime::from_unix_us(1_795_716_584_000_000);
    const LIMITS: Limits =
        Limits { target: Span::from_ms(2000), length_max: Span::from_ms(20_000), bytes_max: 1 << 20 };

    fn tracks(video: bool, audio: bool) -> Event {
        let video = video.then(|| {
            Arc::new(VideoConfig {
                record: Bytes::new(),
                sps: Vec::new(),
                pps: Vec::new(),
                nal_length_size: 4,
                codec: "avc1.64001F".to_owned(),
                width: 640,
                height: 360,
                frame_rate: None,
                reorder: None,
            })
        });
        let audio = audio.then(|| {
            Arc::new(AudioConfig::Aac(AacConfig {
                config: Bytes::new(),
                object_type: 2,
                sample_rate: 48_000,
                channels: 2,
                samples_per_frame: 1024,
                sbr: false,
                ps: false,
            }))
        });
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
        Event::Frame(Arc::new(Frame {
            track,
            dts,
            pts,
            random_access,
            payload: Bytes::from_static(&[1; 100]),
        }))
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
        let events =
            [tracks(true, false), picture(0, 0, true), picture(1960, 0, true), picture(3920, 0, true)];
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
        assert_eq!(
            run(events).0,
            "[0 a0 a500 a1000 a1500 2000] [2000 a2000 a2500 a3000 a3500 2000] [4000 a4000"
        );
    }

    /// TS.IDR: nothing can be shown before a random access point.
    #[test]
    fn a_stream_begins_at_its_first_random_access_point() {
        let events = [
            tracks(true, true),
            picture(0, 0, false),
            sound(0),
            sound(950),
            picture(1000, 0, true),
            Event::End,
        ];
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
}
