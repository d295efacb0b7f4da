//! Framer and ring together, against a viewer who decodes what it is given.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;

use super::framer::{Framer, Piece};
use super::ring::{Bounds, Cursor, Found, Ring};
use crate::media::aac::AacConfig;
use crate::media::flv::{self, Audio, Video};
use crate::media::h264::VideoConfig;
use crate::media::{AudioConfig, Epoch, Event, Frame, Ticks, Track, TrackSet};

const BOUNDS: Bounds = Bounds { bytes: 3000, lag: Duration::from_secs(2) };

/// Parameters that are told apart by their first picture parameter set.
fn video(variant: u8) -> Arc<VideoConfig> {
    let sps = b"\x67\x42\xc0\x1e\xd9\x00\xa0\x2f\xf9\x70\x11\x00\x00\x03\x00\x01\x00\x00\x03\x00\x32\x0f\x16\x2e\x48";
    let mut record = vec![1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, sps.len() as u8];
    record.extend_from_slice(sps);
    record.extend_from_slice(&[1, 0, 2, 0x68, variant]);
    Arc::new(VideoConfig::parse(record.into()).unwrap())
}

fn audio(variant: u8) -> Arc<AudioConfig> {
    let config = Bytes::copy_from_slice(&[0x12, if variant == 0 { 0x10 } else { 0x08 }]);
    Arc::new(AudioConfig::Aac(AacConfig::parse(config).unwrap()))
}

fn tracks(has_video: bool, has_audio: bool, variant: u8) -> TrackSet {
    TrackSet { video: has_video.then(|| video(variant)), audio: has_audio.then(|| audio(variant)) }
}

/// A publisher who numbers its pictures and says which parameters each was coded with.
struct Publisher {
    framer: Framer,
    tracks: TrackSet,
    at: Ticks,
    picture: u32,
    /// Since the last change of parameters there was a random access point.
    begun: bool,
}

#[derive(Debug, Clone, Copy)]
enum Act {
    Picture {
        random_access: bool,
        len: usize,
    },
    Sound,
    Tracks {
        video: bool,
        audio: bool,
        variant: u8,
    },
    Reconnect,
    Jump,
    /// The channel sends what there is, this many ms after the last time.
    Flush(u64),
    /// The viewer takes this many chunks.
    Take(usize),
    Join,
}

impl Publisher {
    fn new() -> Self {
        let mut publisher = Self {
            framer: Framer::default(),
            tracks: TrackSet::default(),
            at: Ticks(0),
            picture: 0,
            begun: false,
        };
        publisher.framer.push(&Event::Start(Epoch(1)));
        publisher.set(tracks(true, true, 0));
        publisher
    }

    fn set(&mut self, tracks: TrackSet) {
        self.begun &= tracks.video == self.tracks.video;
        self.tracks = tracks;
        self.framer.push(&Event::Tracks(Arc::new(self.tracks.clone())));
    }

    fn picture(&mut self, random_access: bool, len: usize) {
        let Some(video) = &self.tracks.video else { return };
        self.picture += 1;
        self.begun |= random_access;
        let mut payload = self.picture.to_be_bytes().to_vec();
        payload.extend([*video.record.last().unwrap(), u8::from(random_access)]);
        payload.resize(payload.len() + len, 0);
        self.frame(Track::Video, random_access, payload);
    }

    fn sound(&mut self) {
        if let Some(AudioConfig::Aac(config)) = self.tracks.audio.as_deref() {
            let payload = config.config.to_vec();
            self.frame(Track::Audio, true, payload);
        }
    }

    fn frame(&mut self, track: Track, random_access: bool, payload: Vec<u8>) {
        self.at.0 += 900;
        let frame = Frame { track, dts: self.at, pts: self.at, random_access, payload: payload.into() };
        self.framer.push(&Event::Frame(Arc::new(frame)));
    }
}

/// What a decoder would see of what one viewer was given.
#[derive(Default)]
struct Viewer {
    bytes: Vec<u8>,
    picture: Option<(u32, u8)>,
    record: Option<Bytes>,
    config: Option<Bytes>,
    last_ms: [u32; 2],
    skipped: bool,
    pictures: u32,
}

impl Viewer {
    fn take(&mut self, bytes: &Bytes) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Reads everything and fails on what no decoder could decode.
    fn decode(&mut self) {
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        if bytes.is_empty() {
            return;
        }
        assert_eq!(&bytes[..4], b"FLV\x01");
        assert_eq!(&bytes[5..13], [0, 0, 0, 9, 0, 0, 0, 0]);
        let mut at = 13;
        while at < bytes.len() {
            let size = usize::from(bytes[at + 1]) << 16
                | usize::from(bytes[at + 2]) << 8
                | usize::from(bytes[at + 3]);
            let ms = u32::from_be_bytes([bytes[at + 7], bytes[at + 4], bytes[at + 5], bytes[at + 6]]);
            let body = bytes.slice(at + 11..at + 11 + size);
            let after = at + 11 + size;
            assert_eq!(bytes[after..after + 4], (size as u32 + 11).to_be_bytes());
            match bytes[at] {
                8 => self.sound(flv::audio(body).unwrap(), ms),
                9 => self.see(flv::video(body).unwrap(), ms),
                18 => assert!(flv::metadata(&body).unwrap().is_some()),
                kind => panic!("a tag of type {kind}"),
            }
            at = after + 4;
        }
    }

    fn see(&mut self, video: Video, ms: u32) {
        match video {
            Video::Config(record) => self.record = Some(record),
            Video::AccessUnit { keyframe, payload, .. } => {
                let number = u32::from_be_bytes(*payload.first_chunk().unwrap());
                let variant = payload[4];
                let record = self.record.as_ref().expect("parameters before pictures");
                assert_eq!(*record.last().unwrap(), variant, "the parameters of this picture");
                assert_eq!(keyframe, payload[5] == 1);
                let next = self.picture.is_some_and(|before| before == (number - 1, variant));
                assert!(keyframe || next, "{number} after {:?}", self.picture);
                assert!(ms >= self.last_ms[0], "time goes on");
                self.picture = Some((number, variant));
                self.last_ms[0] = ms;
                self.pictures += 1;
            }
            Video::Nothing => panic!("an end of sequence"),
        }
    }

    fn sound(&mut self, audio: Audio, ms: u32) {
        match audio {
            Audio::AacConfig(config) => self.config = Some(config),
            Audio::Aac(payload) => {
                assert_eq!(self.config.as_ref(), Some(&payload), "the parameters of this frame");
                assert!(ms >= self.last_ms[1], "time goes on");
                self.last_ms[1] = ms;
            }
            Audio::Mp3(_) => panic!("MP3"),
        }
    }
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (prop::bool::weighted(0.2), 0_usize..400).prop_map(|(random_access, len)| Act::Picture { random_access, len }),
        6 => Just(Act::Sound),
        1 => (prop::bool::weighted(0.8), prop::bool::weighted(0.8), 0_u8..2)
            .prop_map(|(video, audio, variant)| Act::Tracks { video, audio, variant }),
        1 => Just(Act::Reconnect),
        1 => Just(Act::Jump),
        6 => (0_u64..900).prop_map(Act::Flush),
        6 => (0_usize..6).prop_map(Act::Take),
        2 => Just(Act::Join),
    ]
}

/// Lets viewers live through `acts`; answers what each was given, decoded.
fn live_through(acts: Vec<Act>) -> Vec<Viewer> {
    let mut publisher = Publisher::new();
    let mut ring = Ring::new(BOUNDS);
    let mut now = Instant::now();
    let mut viewers: Vec<(Cursor, Viewer)> = vec![(Cursor::new(0), Viewer::default())];
    let mut turn = 0;
    let take = |ring: &Ring, (cursor, viewer): &mut (Cursor, Viewer), most: usize| {
        for _ in 0..most {
            let found = ring.read(cursor);
            viewer.skipped |= cursor.take_skips() > 0;
            let Found::Bytes(bytes) = found else { break };
            assert!(!bytes.is_empty(), "hyper takes an empty chunk for none");
            viewer.take(&bytes);
        }
    };
    for act in acts {
        match act {
            Act::Picture { random_access, len } => publisher.picture(random_access, len),
            Act::Sound => publisher.sound(),
            Act::Tracks { video, audio, variant } if video || audio => {
                publisher.set(tracks(video, audio, variant));
            }
            Act::Tracks { .. } => {}
            Act::Reconnect => {
                publisher.framer.push(&Event::Stop);
                publisher.framer.push(&Event::Start(Epoch(2)));
                publisher.at = Ticks(-77_000);
                publisher.set(publisher.tracks.clone());
            }
            Act::Jump => {
                publisher.at = Ticks(publisher.at.0 + 9_000_000);
                publisher.framer.push(&Event::Discontinuity);
            }
            Act::Flush(ms) => {
                now += Duration::from_millis(ms);
                for piece in publisher.framer.take() {
                    ring.push(piece, now);
                }
            }
            Act::Take(most) => {
                turn = (turn + 1) % viewers.len();
                take(&ring, &mut viewers[turn], most);
            }
            Act::Join => {
                let from = if viewers.len().is_multiple_of(2) { 0 } else { ring.next() };
                viewers.push((Cursor::new(from), Viewer::default()));
            }
        }
    }
    publisher.framer.push(&Event::End);
    publisher.framer.take().into_iter().for_each(|piece| ring.push(piece, now));
    for viewer in &mut viewers {
        take(&ring, viewer, usize::MAX);
        assert_eq!(ring.read(&mut viewer.0), Found::End);
        viewer.1.decode();
    }
    viewers.into_iter().map(|(_, viewer)| viewer).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]
    /// Whatever a publisher does and however a viewer reads: after a file header, each picture follows the one before it or
    /// is a random access point, each frame has its parameters before it, and time never goes back.
    #[test]
    fn a_viewers_stream_can_always_be_decoded(acts in prop::collection::vec(act(), 1..120)) {
        live_through(acts);
    }
}

fn picture(random_access: bool) -> Act {
    Act::Picture { random_access, len: 300 }
}

#[test]
fn a_viewer_who_takes_all_gets_every_picture() {
    let mut acts = Vec::new();
    for n in 0..50 {
        acts.extend([picture(n % 10 == 0), Act::Sound, Act::Flush(40), Act::Take(9)]);
    }
    let viewers = live_through(acts);
    assert_eq!((viewers[0].pictures, viewers[0].skipped), (50, false));
}

#[test]
fn a_viewer_who_is_behind_skips_to_the_newest_random_access_point() {
    let mut acts = vec![picture(true), Act::Flush(0), Act::Take(2)];
    acts.extend((0..40).flat_map(|n| [picture(n % 8 == 0), Act::Flush(20)]));
    let viewers = live_through(acts);
    assert!(viewers[0].skipped, "by bytes");
    assert_eq!(viewers[0].pictures, 1 + 8, "the first, and the newest group");
    let mut acts = vec![picture(true), Act::Flush(0), Act::Take(2)];
    acts.extend([picture(false), Act::Flush(0), picture(true), Act::Flush(2001)]);
    let viewers = live_through(acts);
    assert!(viewers[0].skipped, "by age");
    assert_eq!(viewers[0].pictures, 2);
}

/// A group of pictures that is longer than the lag is still whole for who begins with it.
#[test]
fn a_joiner_begins_with_the_newest_group_however_old() {
    let mut acts = vec![picture(true), Act::Flush(0)];
    acts.extend((0..5).flat_map(|_| [picture(false), Act::Flush(900)]));
    acts.extend([Act::Join, Act::Join]);
    acts.extend([picture(false), Act::Flush(10)]);
    let viewers = live_through(acts);
    assert_eq!(viewers[0].pictures, 7);
    assert_eq!(viewers[1].pictures, 0, "low-latency: no random access point came");
    assert_eq!(viewers[2].pictures, 7);
}

#[test]
fn a_group_over_the_bound_is_forgotten_and_the_next_is_taken() {
    let mut acts = vec![picture(true), Act::Flush(0)];
    acts.extend((0..12).flat_map(|_| [picture(false), Act::Flush(10)]));
    assert_eq!(live_through(acts.clone())[0].pictures, 0);
    acts.extend([picture(true), Act::Flush(10)]);
    assert_eq!(live_through(acts)[0].pictures, 1);
}

fn bytes_of(ring: &Ring, cursor: &mut Cursor) -> Vec<u8> {
    let mut all = Vec::new();
    while let Found::Bytes(bytes) = ring.read(cursor) {
        all.extend_from_slice(&bytes);
    }
    all
}

fn flush(publisher: &mut Publisher, ring: &mut Ring) {
    publisher.framer.take().into_iter().for_each(|piece| ring.push(piece, Instant::now()));
}

/// flv.js looks at the flags once: a joiner's tell of a track that came within its first group.
#[test]
fn the_flags_are_true_for_whom_they_are_sent() {
    let mut publisher = Publisher::new();
    let mut ring = Ring::new(BOUNDS);
    publisher.set(tracks(true, false, 0));
    publisher.picture(true, 10);
    flush(&mut publisher, &mut ring);
    let mut early = Cursor::new(0);
    assert_eq!(bytes_of(&ring, &mut early)[4], 0b001);
    publisher.set(tracks(true, true, 0));
    publisher.sound();
    flush(&mut publisher, &mut ring);
    let late = bytes_of(&ring, &mut Cursor::new(0));
    assert_eq!(late[4], 0b101);
    let count = |bytes: &[u8]| bytes.windows(10).filter(|at| at == b"onMetaData").count();
    assert_eq!(count(&late), 1, "with both tracks from the start");
    assert_eq!(count(&bytes_of(&ring, &mut early)), 1, "told once more");
}

/// Frames that come together share a block; a random access point begins one.
#[test]
fn a_block_begins_at_each_random_access_point() {
    let mut publisher = Publisher::new();
    for n in 0..6 {
        publisher.picture(n % 3 == 0, 10);
        publisher.sound();
    }
    let pieces = publisher.framer.take();
    let starts: Vec<_> = pieces
        .iter()
        .filter_map(|piece| if let Piece::Block(block) = piece { Some(block.start) } else { None })
        .collect();
    assert_eq!(starts, [true, true]);
    assert!(!publisher.framer.is_pending());
}

#[test]
fn without_video_each_block_is_a_start() {
    let mut publisher = Publisher::new();
    publisher.set(tracks(false, true, 0));
    let mut ring = Ring::new(BOUNDS);
    for _ in 0..3 {
        (0..4).for_each(|_| publisher.sound());
        flush(&mut publisher, &mut ring);
    }
    let joined = bytes_of(&ring, &mut Cursor::new(0));
    let sounds = joined.windows(5).filter(|at| at == b"\x08\0\0\x04\0").count();
    assert_eq!(sounds, 1 + 4, "a sequence header and the newest block");
}
