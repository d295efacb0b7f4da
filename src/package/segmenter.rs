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
mod tests;
