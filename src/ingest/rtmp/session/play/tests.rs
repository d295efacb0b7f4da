use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use rml_amf0::Amf0Value;
use rml_rtmp::messages::{RtmpMessage, UserControlEventType};

use super::super::super::output::Refusal;
use super::super::super::{Settings, message::kind};
use super::super::tests::{Did, Peer, connect_object, string};
use super::super::{COMMANDS_MAX, UNPUBLISHED_BYTES_MAX};
use super::*;
use crate::media::aac::AacConfig;
use crate::media::h264::VideoConfig;
use crate::media::{AudioConfig, Epoch, Frame, Span, Ticks, Track, TrackSet, sample};

fn play(peer: &mut Peer, name: &str) {
    let number = Amf0Value::Number(-2000.0);
    peer.command(1, "play", 5.0, &[Amf0Value::Null, string(name), number]);
}

/// Connected and playing `live/mark`, whose tracks are known.
fn playing() -> Peer {
    let mut peer = Peer::new();
    peer.connect("live");
    play(&mut peer, "mark?key=k");
    assert_eq!(peer.take_did(), [Did::Play("live/mark".into())]);
    feed(&mut peer, &[Event::Start(Epoch(1)), tracks(b"avcC")]);
    forget(&mut peer);
    peer
}

fn forget(peer: &mut Peer) {
    peer.answers.clear();
    peer.answer_streams.clear();
    peer.times.clear();
}

fn feed(peer: &mut Peer, events: &[Event]) {
    for event in events {
        peer.session.handle_event(event, peer.now);
    }
    peer.drain();
}

fn tracks(record: &'static [u8]) -> Event {
    let video = VideoConfig { record: Bytes::from_static(record), ..sample::video() };
    let audio = AudioConfig::Aac(AacConfig::parse(Bytes::from_static(b"\x12\x10")).unwrap());
    Event::Tracks(Arc::new(TrackSet { video: Some(Arc::new(video)), audio: Some(Arc::new(audio)) }))
}

fn frame(track: Track, at_ms: i64, random_access: bool, payload: impl Into<Bytes>) -> Event {
    let at = Ticks(0) + Span::from_ms(at_ms);
    Event::Frame(Arc::new(Frame { track, dts: at, pts: at, random_access, payload: payload.into() }))
}

fn picture(at_ms: i64, random_access: bool) -> Event {
    frame(Track::Video, at_ms, random_access, vec![at_ms as u8; 8])
}

/// One letter per message: `m`etadata, `V`ideo and `A`udio config, `K`ey frame, `p`icture, `s`ound, `c`ommand.
fn letters(peer: &Peer) -> String {
    let letter = |answer: &RtmpMessage| match answer {
        RtmpMessage::Amf0Data { values } if values.first() == Some(&string("onMetaData")) => 'm',
        RtmpMessage::VideoData { data } if data[1] == 0 => 'V',
        RtmpMessage::VideoData { data } if data[0] == 0x17 => 'K',
        RtmpMessage::VideoData { .. } => 'p',
        RtmpMessage::AudioData { data } if data[1] == 0 => 'A',
        RtmpMessage::AudioData { .. } => 's',
        _ => 'c',
    };
    peer.answers.iter().map(letter).collect()
}

fn code(text: &str) -> (String, u32) {
    (text.to_owned(), 1)
}

/// §7.2.2.1, and what Flash and rtmpdump wait for.
#[test]
fn a_play_is_answered_before_its_media() {
    let mut peer = Peer::new();
    peer.connect("live");
    play(&mut peer, "mark?key=k");
    assert_eq!(peer.take_did(), [Did::Play("live/mark".into())]);
    assert_eq!(peer.codes(), [code("NetStream.Play.Reset"), code("NetStream.Play.Start")]);
    let began = peer.answers.iter().any(|answer| {
        matches!(answer, RtmpMessage::UserControl { event_type, stream_id: Some(1), .. }
            if *event_type == UserControlEventType::StreamBegin)
    });
    assert!(began);
    let mut data = peer.answers.iter().filter_map(|answer| match answer {
        RtmpMessage::Amf0Data { values } => Some(values.clone()),
        _ => None,
    });
    assert_eq!(data.next().unwrap()[0], string("|RtmpSampleAccess"));
    let started = Amf0Value::Object(HashMap::from([("code".to_owned(), string("NetStream.Data.Start"))]));
    assert_eq!(data.next().unwrap(), [string("onStatus"), started]);
    assert_eq!(peer.deadline, None, "a player may be silent for ever");
    forget(&mut peer);
    let sound = frame(Track::Audio, 9005, true, &b"raw"[..]);
    feed(
        &mut peer,
        &[Event::Start(Epoch(1)), tracks(b"avcC"), picture(9000, true), sound, picture(9040, false)],
    );
    assert_eq!(letters(&peer), "mVAKsp");
    assert_eq!(peer.times, [100, 100, 100, 100, 105, 140]);
    assert!(peer.answer_streams.iter().all(|stream_id| *stream_id == 1));
    let RtmpMessage::AudioData { data } = &peer.answers[4] else { panic!("{:?}", peer.answers[4]) };
    assert_eq!(data[..], b"\xaf\x01raw"[..]);
}

/// Over chunk borders of every kind, and with the four bytes more that 4.6 hours need.
#[test]
fn large_messages_and_late_times_arrive_whole() {
    for start_ms in [0, 0x00FF_FFFF - 140, 0x0100_0000] {
        let mut peer = playing();
        let mut lens = vec![1, 1023, 1024, 59_995, 59_996, 60_000, 119_995, 119_996, 120_995, 300_000];
        let mut events = vec![picture(0, true)];
        let payload = |len: usize| (0..len).map(|at| (at / 7) as u8).collect::<Vec<_>>();
        for (at, len) in lens.iter().enumerate() {
            events.push(frame(Track::Video, start_ms + 40 * at as i64 + 1, true, payload(*len)));
        }
        feed(&mut peer, &events);
        let media = peer.answers.iter().zip(&peer.times).skip(4);
        for ((answer, at), len) in media.zip(lens.drain(..)) {
            let RtmpMessage::VideoData { data } = answer else { panic!("{answer:?}") };
            assert_eq!(data[5..], payload(len), "{len} bytes");
            assert!(i64::from(*at) > start_ms + 100, "{at}");
        }
        assert!(lens.is_empty() && peer.answers.len() == 14);
    }
}

#[test]
fn no_picture_is_sent_before_decoding_may_start() {
    let mut peer = playing();
    let sound = || frame(Track::Audio, 50, true, &b"raw"[..]);
    feed(&mut peer, &[picture(0, false), sound(), picture(40, false)]);
    assert_eq!(letters(&peer), "mVAs", "audio may start anywhere");
    feed(&mut peer, &[picture(80, true), sound(), Event::Discontinuity, picture(120, false), sound()]);
    assert_eq!(letters(&peer), "mVAsKss");
    feed(&mut peer, &[picture(9000, true), tracks(b"avcC"), picture(9040, false)]);
    assert_eq!(letters(&peer), "mVAsKssKmVAp", "audio that changes does not cost a picture");
    feed(&mut peer, &[tracks(b"other"), picture(9080, false), picture(9120, true)]);
    assert_eq!(letters(&peer), "mVAsKssKmVApmVAK", "another coding begins with its random access point");
}

/// The window in which a publisher may come back: players hang up at `UnpublishNotify`, so they are told nothing.
#[test]
fn a_publisher_that_comes_back_is_one_stream_with_the_one_before() {
    let mut peer = playing();
    feed(&mut peer, &[picture(0, true), picture(40, false), Event::Stop]);
    assert_eq!(letters(&peer), "mVAKp");
    let again = [Event::Start(Epoch(2)), tracks(b"avcC"), picture(777_000, true), picture(777_040, false)];
    feed(&mut peer, &again);
    assert_eq!(letters(&peer), "mVAKpmVAKp");
    assert_eq!(peer.times, [100, 100, 100, 100, 140, 180, 180, 180, 180, 220]);
    forget(&mut peer);
    feed(&mut peer, &[Event::Stop, Event::End]);
    assert_eq!(peer.codes(), [code("NetStream.Play.UnpublishNotify"), code("NetStream.Play.Stop")]);
    assert_eq!(peer.take_did(), [Did::Leave]);
    assert_eq!(peer.deadline, Some(peer.now + Settings::default().publish_timeout));
    play(&mut peer, "other");
    assert_eq!(peer.take_did(), [Did::Play("live/other".into())]);
}

#[test]
fn a_pause_leaves_out_and_goes_on_at_a_random_access_point() {
    let mut peer = playing();
    feed(&mut peer, &[picture(0, true)]);
    for _ in 0..COMMANDS_MAX {
        peer.command(1, "pause", 0.0, &[Amf0Value::Null, Amf0Value::Boolean(true), Amf0Value::Number(0.0)]);
    }
    assert_eq!(peer.codes().last(), Some(&code("NetStream.Pause.Notify")));
    forget(&mut peer);
    feed(&mut peer, &[picture(40, true)]);
    assert_eq!(letters(&peer), "");
    peer.command(1, "pause", 0.0, &[Amf0Value::Null, Amf0Value::Boolean(false), Amf0Value::Number(0.0)]);
    peer.command(1, "seek", 0.0, &[Amf0Value::Null, Amf0Value::Number(5000.0)]);
    peer.command(1, "receiveAudio", 0.0, &[Amf0Value::Null, Amf0Value::Boolean(true)]);
    peer.command(1, "receiveVideo", 0.0, &[Amf0Value::Null, Amf0Value::Boolean(true)]);
    assert_eq!(peer.codes(), [code("NetStream.Unpause.Notify"), code("NetStream.Seek.Notify")]);
    feed(&mut peer, &[picture(8000, false), picture(8040, true)]);
    assert_eq!(letters(&peer), "ccK");
    assert_eq!(peer.times.last(), Some(&140), "without a hole to wait in");
    assert_eq!(peer.take_did(), []);
}

#[test]
fn a_player_ends_and_begins_as_it_likes() {
    for (name, args) in [
        ("closeStream", vec![Amf0Value::Null]),
        ("deleteStream", vec![Amf0Value::Null, Amf0Value::Number(1.0)]),
    ] {
        let mut peer = playing();
        peer.command(1, "deleteStream", 0.0, &[Amf0Value::Null, Amf0Value::Number(2.0)]);
        assert_eq!(peer.take_did(), [], "another stream");
        peer.command(1, name, 0.0, &args);
        assert_eq!(peer.take_did(), [Did::Leave]);
        assert_eq!(peer.codes(), [code("NetStream.Play.Stop")]);
        feed(&mut peer, &[picture(0, true)]);
        assert_eq!(letters(&peer), "cc");
        peer.publish("mark");
        assert_eq!(peer.take_did(), [Did::Publish("live/mark".into())]);
    }
    let mut peer = playing();
    let parameters = Amf0Value::Object(HashMap::from([("streamName".to_owned(), string("other"))]));
    peer.command(1, "play2", 0.0, &[Amf0Value::Null, parameters]);
    assert_eq!(peer.take_did(), [Did::Leave, Did::Play("live/other".into())]);
    peer.session.handle_end(Close::Stopping);
    peer.drain();
    assert_eq!(peer.take_did(), [Did::Leave, Did::Close(Close::Stopping)]);
    assert_eq!(peer.codes().last(), Some(&code("NetStream.Play.Stop")), "a stop is told");
}

#[test]
fn a_refusal_is_told_before_the_close() {
    for (refusal, told) in
        [(Refusal::NotLive, "NetStream.Play.StreamNotFound"), (Refusal::Denied, "NetStream.Play.Failed")]
    {
        let mut peer = Peer::new();
        peer.verdict = Err(refusal);
        peer.connect("live");
        play(&mut peer, "mark");
        assert_eq!(peer.codes(), [code(told)]);
        assert_eq!(peer.take_did(), [Did::Play("live/mark".into()), Did::Close(refusal.into())]);
    }
    for name in ["", "..", "a/b", "a\0b"] {
        let mut peer = Peer::new();
        peer.connect("live");
        play(&mut peer, name);
        assert_eq!(peer.codes(), [code("NetStream.Play.StreamNotFound")]);
        assert!(matches!(peer.take_did()[..], [Did::Close(Close::Name(_))]));
    }
    let mut peer = Peer::new();
    peer.session = Session::new(&Settings { play: false, ..Settings::default() }, peer.now);
    let mut fresh = Peer::new();
    std::mem::swap(&mut peer.session.handshake, &mut fresh.session.handshake);
    peer.connect("live");
    play(&mut peer, "mark");
    assert_eq!(peer.codes(), [code("NetStream.Play.Failed")]);
    assert_eq!(peer.take_did(), [Did::Close(Close::Play)]);
}

#[test]
fn commands_out_of_order_close() {
    let mut peer = Peer::new();
    play(&mut peer, "mark");
    assert_eq!(peer.take_did(), [Did::Close(Close::Order("play before connect"))]);
    let mut peer = Peer::publishing();
    play(&mut peer, "mark");
    assert_eq!(peer.take_did(), [Did::Unpublish, Did::Close(Close::Order("play while publishing"))]);
    let mut peer = playing();
    peer.publish("other");
    assert_eq!(
        peer.take_did(),
        [Did::Leave, Did::Close(Close::Order("publish while publishing or playing"))]
    );
    let mut peer = Peer::new();
    peer.connect("live");
    for verb in ["pause", "seek", "closeStream"] {
        peer.command(1, verb, 0.0, &[Amf0Value::Null, Amf0Value::Boolean(true)]);
    }
    assert_eq!((peer.take_did(), peer.codes()), (vec![], vec![]), "of nothing that is played");
}

/// Hours of acknowledgements are more than a peer without a role may say.
#[test]
fn acknowledgements_and_pings_of_a_player_are_no_end() {
    let mut peer = playing();
    for _ in 0..2 {
        let bytes = peer.bytes_of(kind::ACKNOWLEDGEMENT, 0, vec![0; 4]);
        let times = UNPUBLISHED_BYTES_MAX / bytes.len();
        peer.send(&bytes.repeat(times));
    }
    peer.message(kind::USER_CONTROL, 0, vec![0, 3, 0, 0, 0, 1, 0, 0, 0x0b, 0xb8]);
    peer.message(kind::USER_CONTROL, 0, vec![0, 6, 0, 0, 1, 2]);
    assert_eq!(peer.answers.len(), 1 + peer.answers.iter().filter(|a| is_acknowledgement(a)).count());
    assert_eq!(peer.take_did(), []);
    peer.message(kind::VIDEO, 1, vec![0x17, 1]);
    assert_eq!(peer.take_did(), [Did::Drop("unpublished")]);
}

fn is_acknowledgement(answer: &RtmpMessage) -> bool {
    matches!(answer, RtmpMessage::Acknowledgement { .. })
}

/// Bytes of a player's session behind the handshake.
fn whole_session() -> Vec<u8> {
    let mut peer = Peer::new();
    let null = || Amf0Value::Null;
    let mut bytes = Vec::new();
    for (stream_id, name, args) in [
        (0, "connect", vec![connect_object("live")]),
        (0, "createStream", vec![null()]),
        (0, "getStreamLength", vec![null(), string("mark")]),
        (1, "play", vec![null(), string("mark"), Amf0Value::Number(-2000.0)]),
        (1, "pause", vec![null(), Amf0Value::Boolean(true), Amf0Value::Number(0.0)]),
        (1, "pause", vec![null(), Amf0Value::Boolean(false), Amf0Value::Number(0.0)]),
        (1, "seek", vec![null(), Amf0Value::Number(9.0)]),
        (1, "closeStream", vec![null()]),
        (1, "play2", vec![null(), Amf0Value::Object([("streamName".to_owned(), string("b"))].into())]),
        (0, "deleteStream", vec![null(), Amf0Value::Number(1.0)]),
    ] {
        let body = super::super::tests::command(name, 5.0, &args);
        bytes.extend(peer.bytes_of(kind::COMMAND, stream_id, body));
        bytes.extend(peer.bytes_of(kind::ACKNOWLEDGEMENT, 0, vec![0, 0, 1, 0]));
    }
    bytes
}

proptest! {
    /// Whatever a player says, and whatever is broadcast meanwhile: no panic, what is sent can be read, and the first
    /// picture of each play is a key frame.
    #[test]
    fn mutated_players_get_what_can_be_decoded_or_a_close(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        events in prop::collection::vec((0..8u8, 0..200_000usize), 1..40),
    ) {
        let mut bytes = whole_session();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut peer = Peer::new();
        let step = bytes.len().div_ceil(events.len());
        for (n, ((what, len), bytes)) in events.into_iter().zip(bytes.chunks(step)).enumerate() {
            let at_ms = n as i64 * 40;
            peer.send(bytes);
            let event = match what {
                0 => Event::Start(Epoch(n as u64)),
                1 => tracks(b"avcC"),
                2 => Event::Discontinuity,
                3 => Event::Stop,
                4 => frame(Track::Audio, at_ms, true, vec![1; len % 500 + 1]),
                _ => frame(Track::Video, at_ms, what == 5, vec![1; len + 1]),
            };
            feed(&mut peer, &[event]);
            let letters = letters(&peer).replace(['c', 'm', 'V', 'A'], "");
            prop_assert!(!letters.starts_with('p'), "{letters}");
        }
    }
}
