use std::collections::HashMap;

use bytes::Bytes;
use proptest::prelude::*;
use rml_amf0::Amf0Value;
use rml_rtmp::chunk_io::{ChunkDeserializer, ChunkSerializer};
use rml_rtmp::handshake::{Handshake as Rml, HandshakeProcessResult, PeerType};
use rml_rtmp::messages::{MessagePayload, RtmpMessage, UserControlEventType};
use rml_rtmp::sessions::{
    ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType,
};
use rml_rtmp::time::RtmpTimestamp;

use super::super::{chunk, handshake};
use super::*;
use crate::media::{Event, amf};
use crate::name::NameError;

/// What the session wanted, apart from bytes and media.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Did {
    Publish(String),
    Play(String),
    Leave,
    Unpublish,
    Drop(&'static str),
    Close(Close),
}

/// A peer that writes messages by `rml_rtmp`'s serializer and reads answers by its deserializer.
pub(super) struct Peer {
    pub(super) session: Session,
    pub(super) now: Instant,
    serializer: ChunkSerializer,
    deserializer: ChunkDeserializer,
    pub(super) answers: Vec<RtmpMessage>,
    /// Times of the answers.
    pub(super) times: Vec<u32>,
    pub(super) answer_streams: Vec<u32>,
    did: Vec<Did>,
    pub(super) deadline: Option<Instant>,
    pub(super) verdict: Result<(), Refusal>,
}

impl Peer {
    /// Through the handshake.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let mut peer = Self::silent(now);
        let mut client = Rml::new(PeerType::Client);
        peer.session.handle_bytes(&client.generate_outbound_p0_and_p1().unwrap(), now);
        let Output::Transmit(answer) = peer.session.poll_output() else { panic!("no answer") };
        let answer = client.process_bytes(&answer).unwrap();
        let HandshakeProcessResult::Completed { response_bytes, .. } = answer else { panic!("client waits") };
        peer.send(&response_bytes);
        peer
    }

    pub(super) fn silent(now: Instant) -> Self {
        Self {
            session: Session::new(&Settings::default(), now),
            now,
            serializer: ChunkSerializer::new(),
            deserializer: ChunkDeserializer::new(),
            answers: Vec::new(),
            times: Vec::new(),
            answer_streams: Vec::new(),
            did: Vec::new(),
            deadline: None,
            verdict: Ok(()),
        }
    }

    /// Connected and publishing `live/mark`.
    pub(super) fn publishing() -> Self {
        let mut peer = Self::new();
        peer.connect("live");
        peer.publish("mark");
        assert_eq!(peer.take_did(), [Did::Publish("live/mark".into())]);
        peer.answers.clear();
        peer.answer_streams.clear();
        peer
    }

    pub(super) fn send(&mut self, bytes: &[u8]) {
        self.session.handle_bytes(bytes, self.now);
        self.drain();
    }

    pub(super) fn drain(&mut self) {
        loop {
            match self.session.poll_output() {
                Output::Transmit(bytes) => {
                    let mut bytes = &bytes[..];
                    while let Some(payload) = self.deserializer.get_next_message(bytes).unwrap() {
                        bytes = &[];
                        let message = payload.to_rtmp_message().unwrap();
                        if let RtmpMessage::SetChunkSize { size } = message {
                            self.deserializer.set_max_chunk_size(size as usize).unwrap();
                        }
                        self.times.push(payload.timestamp.value);
                        self.answer_streams.push(payload.message_stream_id);
                        self.answers.push(message);
                    }
                }
                Output::Publish(name) => {
                    self.did.push(Did::Publish(name.to_string()));
                    self.session.decide(self.verdict, self.now);
                }
                Output::Play(name) => {
                    self.did.push(Did::Play(name.to_string()));
                    self.session.decide(self.verdict, self.now);
                }
                Output::Leave => self.did.push(Did::Leave),
                Output::Unpublish => self.did.push(Did::Unpublish),
                Output::Drop { reason, .. } => self.did.push(Did::Drop(reason)),
                Output::Media(_) | Output::Unsupported(_) => {}
                Output::Wait(deadline) => {
                    self.deadline = deadline;
                    break;
                }
                Output::Close(reason) => {
                    self.did.push(Did::Close(reason));
                    break;
                }
            }
        }
    }

    pub(super) fn take_did(&mut self) -> Vec<Did> {
        std::mem::take(&mut self.did)
    }

    pub(super) fn bytes_of(&mut self, kind: u8, stream_id: u32, data: impl Into<Bytes>) -> Vec<u8> {
        let payload = MessagePayload {
            timestamp: RtmpTimestamp::new(0),
            type_id: kind,
            message_stream_id: stream_id,
            data: data.into(),
        };
        self.serializer.serialize(&payload, false, false).unwrap().bytes
    }

    pub(super) fn message(&mut self, kind: u8, stream_id: u32, data: impl Into<Bytes>) {
        let bytes = self.bytes_of(kind, stream_id, data);
        self.send(&bytes);
    }

    pub(super) fn command(&mut self, stream_id: u32, name: &str, transaction: f64, args: &[Amf0Value]) {
        let body = command(name, transaction, args);
        self.message(kind::COMMAND, stream_id, body);
    }

    pub(super) fn connect(&mut self, app: &str) {
        self.command(0, "connect", 1.0, &[connect_object(app)]);
    }

    pub(super) fn publish(&mut self, stream: &str) {
        self.command(1, "publish", 5.0, &[Amf0Value::Null, string(stream), string("live")]);
    }

    /// Codes of the statuses answered, with the message stream they went to.
    pub(super) fn codes(&self) -> Vec<(String, u32)> {
        let answers = self.answers.iter().zip(&self.answer_streams);
        let codes = answers.filter_map(|(answer, stream_id)| match answer {
            RtmpMessage::Amf0Command { command_name, additional_arguments, .. }
                if command_name == "onStatus" =>
            {
                let info = additional_arguments.first()?.clone().get_object_properties()?;
                Some((info.get("code")?.clone().get_string()?, *stream_id))
            }
            _ => None,
        });
        codes.collect()
    }

    /// Transactions answered by `_result` or `_error`.
    pub(super) fn transactions(&self) -> Vec<(String, f64)> {
        let answers = self.answers.iter().filter_map(|answer| match answer {
            RtmpMessage::Amf0Command { command_name, transaction_id, .. }
                if command_name.starts_with('_') =>
            {
                Some((command_name.clone(), *transaction_id))
            }
            _ => None,
        });
        answers.collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.session.closing.is_some()
    }
}

/// AAC-LC, 44.1 kHz, stereo.
const AAC_CONFIG: &[u8] = &[0xaf, 0, 0x12, 0x10];

pub(super) fn string(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

pub(super) fn connect_object(app: &str) -> Amf0Value {
    Amf0Value::Object(HashMap::from([("app".to_owned(), string(app))]))
}

pub(super) fn command(name: &str, transaction: f64, args: &[Amf0Value]) -> Vec<u8> {
    let mut values = vec![string(name), Amf0Value::Number(transaction)];
    values.extend_from_slice(args);
    rml_amf0::serialize(&values).unwrap()
}

/// The whole way with `rml_rtmp`'s client on the other side: connect, publish, media, stop, publish again.
#[test]
fn an_independent_client_publishes() {
    let mut peer = Peer::new();
    let (mut client, _) = ClientSession::new(ClientSessionConfig::new()).unwrap();
    let mut events = Vec::new();
    let mut to_server = vec![client.request_connection("live".into()).unwrap()];
    for round in 0..2 {
        while !to_server.is_empty() {
            let mut to_client = Vec::new();
            for result in to_server.drain(..) {
                match result {
                    ClientSessionResult::OutboundResponse(packet) => {
                        peer.session.handle_bytes(&packet.bytes, peer.now);
                        loop {
                            match peer.session.poll_output() {
                                Output::Transmit(bytes) => to_client.extend_from_slice(&bytes),
                                Output::Publish(name) => {
                                    assert_eq!(name.as_str(), "live/mark");
                                    peer.session.decide(Ok(()), peer.now);
                                }
                                Output::Wait(_) => break,
                                other => panic!("{other:?}"),
                            }
                        }
                    }
                    ClientSessionResult::RaisedEvent(event) => events.push(event),
                    ClientSessionResult::UnhandleableMessageReceived(_) => {}
                }
            }
            to_server = client.handle_input(&to_client).unwrap();
            if events.last() == Some(&ClientSessionEvent::ConnectionRequestAccepted) {
                events.clear();
                let publish = client.request_publishing("mark?key=k".into(), PublishRequestType::Live);
                to_server.push(publish.unwrap());
            }
        }
        assert!(events.contains(&ClientSessionEvent::PublishRequestAccepted), "round {round}: {events:?}");
        events.clear();
        for (at, body) in [(0, AAC_CONFIG), (0, &[0xaf, 1, 7, 7]), (23, &[0xaf, 1, 8, 8])] {
            let media = client.publish_audio_data(Bytes::from_static(body), RtmpTimestamp::new(at), false);
            let ClientSessionResult::OutboundResponse(packet) = media.unwrap() else { panic!("no packet") };
            peer.session.handle_bytes(&packet.bytes, peer.now);
        }
        for result in client.stop_publishing().unwrap() {
            let ClientSessionResult::OutboundResponse(packet) = result else { panic!("no packet") };
            peer.session.handle_bytes(&packet.bytes, peer.now);
        }
        let mut frames = Vec::new();
        loop {
            match peer.session.poll_output() {
                Output::Transmit(bytes) => drop(client.handle_input(&bytes).unwrap()),
                Output::Media(Event::Frame(frame)) => frames.push(frame.payload.clone()),
                Output::Media(event) => assert!(matches!(event, Event::Tracks(_)), "{event:?}"),
                Output::Unpublish => break,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(frames, [&[7, 7][..], &[8, 8]], "what the demuxer held comes out before the end");
        assert!(matches!(peer.session.poll_output(), Output::Wait(_)));
        to_server.push(client.request_publishing("mark".into(), PublishRequestType::Live).unwrap());
    }
}

/// Everything in one segment, media behind it: `rml_rtmp`'s server refuses that.
#[test]
fn a_pipelined_publish_is_taken() {
    let mut peer = Peer::new();
    let mut bytes = Vec::new();
    let connect = command("connect", 1.0, &[connect_object("live")]);
    let publish = command("publish", 0.0, &[Amf0Value::Null, string("mark"), string("live")]);
    for (stream_id, body) in
        [(0, connect), (0, command("createStream", 2.0, &[Amf0Value::Null])), (1, publish)]
    {
        bytes.extend(peer.bytes_of(kind::COMMAND, stream_id, body));
    }
    bytes.extend(peer.bytes_of(kind::AUDIO, 1, AAC_CONFIG));
    bytes.extend(peer.bytes_of(99, 1, vec![1]));
    peer.send(&bytes);
    assert_eq!(peer.take_did(), [Did::Publish("live/mark".into()), Did::Drop("type")]);
    assert_eq!(peer.codes(), [("NetStream.Publish.Start".into(), 1)]);
    assert_eq!(peer.transactions(), [("_result".into(), 1.0), ("_result".into(), 2.0)]);
}

/// A publish that is decided later holds back what came behind it, within its bound.
#[test]
fn what_comes_before_the_decision_waits() {
    let held = |len: usize| {
        let mut peer = Peer::new();
        peer.connect("live");
        let publish = command("publish", 0.0, &[Amf0Value::Null, string("mark")]);
        let mut bytes = peer.bytes_of(kind::COMMAND, 1, publish);
        bytes.extend(peer.bytes_of(99, 1, vec![1]));
        peer.session.handle_bytes(&bytes, peer.now);
        let more = peer.bytes_of(99, 1, vec![1]);
        peer.session.handle_bytes(&more.repeat(len.div_ceil(more.len())), peer.now);
        while !matches!(peer.session.poll_output(), Output::Wait(_) | Output::Close(_)) {}
        peer.session.decide(Ok(()), peer.now);
        peer.drain();
        peer
    };
    let mut peer = held(1);
    assert_eq!(peer.take_did(), [Did::Drop("type"), Did::Drop("type")]);
    assert!(peer.session.held.is_empty());
    assert_eq!(held(UNPUBLISHED_BYTES_MAX).take_did(), [Did::Close(Close::UnpublishedBytes)]);
}

/// In any common order, and in AMF3's wrapping.
#[test]
fn the_commands_around_a_publish_are_tolerated_in_any_order() {
    let mut peer = Peer::new();
    let connect = [&[0][..], &command("connect", 1.0, &[connect_object("live/")])].concat();
    peer.message(kind::COMMAND_AMF3, 0, connect);
    let name = [Amf0Value::Null, string("mark")];
    for (at, verb) in
        ["FCUnpublish", "deleteStream", "closeStream", "getStreamLength", "_checkbw", "releaseStream"]
            .into_iter()
            .enumerate()
    {
        peer.command(0, verb, 2.0 + at as f64, &name);
    }
    peer.command(0, "FCPublish", 8.0, &name);
    peer.command(0, "somethingNew", 9.0, &name);
    peer.command(0, "createStream", 10.0, &[Amf0Value::Null]);
    peer.publish("mark");
    peer.command(1, "deleteStream", 0.0, &[Amf0Value::Null, Amf0Value::Number(2.0)]);
    assert_eq!(peer.take_did(), [Did::Publish("live/mark".into())]);
    let answered: Vec<_> = peer.transactions().iter().map(|(_, transaction)| *transaction).collect();
    assert_eq!(answered, [1.0, 5.0, 6.0, 7.0, 8.0, 10.0]);
    for unpublish in ["FCUnpublish", "closeStream", "deleteStream"] {
        peer.command(1, unpublish, 0.0, &[Amf0Value::Null, Amf0Value::Number(1.0)]);
        peer.command(1, "deleteStream", 0.0, &[Amf0Value::Null, Amf0Value::Number(1.0)]);
        assert_eq!(peer.take_did(), [Did::Unpublish]);
        peer.publish("other");
        assert_eq!(peer.take_did(), [Did::Publish("live/other".into())]);
    }
}

#[test]
fn a_refusal_is_told_before_the_close() {
    for (refusal, code) in [
        (Refusal::Taken, "NetStream.Publish.BadName"),
        (Refusal::Denied, "NetStream.Publish.Denied"),
        (Refusal::Full, "NetStream.Publish.Rejected"),
    ] {
        let mut peer = Peer::new();
        peer.verdict = Err(refusal);
        peer.connect("live");
        peer.publish("mark");
        assert_eq!(peer.codes(), [(code.into(), 1)]);
        assert_eq!(peer.take_did(), [Did::Publish("live/mark".into()), Did::Close(refusal.into())]);
    }
}

/// Issue: "a stream name with `..`, `/`, NUL, or 5,000 characters".
#[test]
fn a_bad_name_gets_a_status_and_a_close() {
    let long = "x".repeat(5000);
    for name in ["", "..", "a/b", "../../etc/passwd", "a\0b", "é", "a\r\nb", &long] {
        let mut peer = Peer::new();
        peer.connect("live");
        peer.publish(name);
        assert_eq!(peer.codes(), [("NetStream.Publish.BadName".into(), 1)], "{name:.10}");
        assert!(matches!(peer.take_did()[..], [Did::Close(Close::Name(_))]));
    }
    for app in ["", "app/inst", "..", "api", "a\0b", &long] {
        let mut peer = Peer::new();
        peer.connect(app);
        assert_eq!(peer.transactions(), [("_error".into(), 1.0)]);
        assert_eq!(peer.codes(), [("NetConnection.Connect.InvalidApp".into(), 0)], "{app:.10}");
        assert!(matches!(peer.take_did()[..], [Did::Close(Close::Name(_))]));
    }
    assert!(explain(&Close::Name(NameError::Reserved)).contains("rtmp://HOST/app/name"));
}

#[test]
fn commands_out_of_order_close() {
    let mut peer = Peer::new();
    peer.publish("mark");
    assert_eq!(peer.take_did(), [Did::Close(Close::Order("publish before connect"))]);
    let mut peer = Peer::publishing();
    peer.connect("other");
    assert_eq!(peer.take_did(), [Did::Unpublish, Did::Close(Close::Order("a second connect"))]);
    let mut peer = Peer::publishing();
    peer.publish("other");
    assert_eq!(
        peer.take_did(),
        [Did::Unpublish, Did::Close(Close::Order("publish while publishing or playing"))]
    );
}

#[test]
fn commands_and_bytes_without_a_publish_are_bounded() {
    let mut peer = Peer::publishing();
    for _ in 0..COMMANDS_MAX - 2 {
        peer.command(0, "_checkbw", 0.0, &[]);
    }
    assert_eq!(peer.take_did(), []);
    peer.command(0, "_checkbw", 0.0, &[]);
    assert_eq!(peer.take_did(), [Did::Unpublish, Did::Close(Close::Commands)]);

    let mut peer = Peer::new();
    let bytes = peer.bytes_of(kind::ACKNOWLEDGEMENT, 0, vec![0; 4]);
    let times = UNPUBLISHED_BYTES_MAX / bytes.len();
    peer.send(&bytes.repeat(times));
    assert_eq!(peer.take_did(), []);
    peer.send(&bytes);
    assert_eq!(peer.take_did(), [Did::Close(Close::UnpublishedBytes)]);

    let mut peer = Peer::new();
    peer.message(kind::VIDEO, 1, vec![0; UNPUBLISHED_BYTES_MAX + 1]);
    assert!(matches!(peer.take_did()[..], [Did::Close(Close::Chunk(chunk::Error::TooLong { .. }))]));

    // The count begins anew behind each publish.
    let mut peer = Peer::publishing();
    peer.message(99, 1, vec![0; 3 * UNPUBLISHED_BYTES_MAX]);
    peer.command(1, "closeStream", 0.0, &[]);
    peer.message(99, 1, vec![0; UNPUBLISHED_BYTES_MAX / 2]);
    assert_eq!(peer.take_did(), [Did::Drop("type"), Did::Unpublish, Did::Drop("type")]);
}

/// What can do no harm is dropped with a reason.
#[test]
fn what_is_not_understood_is_dropped() {
    let mut peer = Peer::publishing();
    let script = |values: &[Amf0Value]| rml_amf0::serialize(&values.to_vec()).unwrap();
    for (kind, data, reason) in [
        (19, vec![1], "type"),
        (kind::USER_CONTROL, vec![0, 31, 0], "user_control"),
        (kind::USER_CONTROL, vec![0], "user_control"),
        (kind::USER_CONTROL, vec![0, 6, 1], "user_control"),
        (kind::WINDOW_ACKNOWLEDGEMENT_SIZE, vec![0, 0, 0x0f, 0xff], "window"),
        (kind::WINDOW_ACKNOWLEDGEMENT_SIZE, vec![0], "window"),
        (kind::DATA, script(&[string("@setDataFrame")]), "empty"),
        (kind::AGGREGATE, vec![9, 0, 0], "aggregate"),
    ] {
        peer.message(kind, 1, data);
        assert_eq!(peer.take_did(), [Did::Drop(reason)], "{kind}");
    }
    for (kind, data) in [
        (kind::USER_CONTROL, vec![0, 3, 0, 0, 0, 1, 0, 0, 0, 9]),
        (kind::USER_CONTROL, vec![0, 7, 0, 0, 0, 1]),
        (kind::SET_PEER_BANDWIDTH, vec![0]),
        (kind::ACKNOWLEDGEMENT, vec![]),
        (kind::ACKNOWLEDGEMENT, vec![1]),
    ] {
        peer.message(kind, 0, data);
        assert_eq!(peer.take_did(), [], "{kind}");
    }
    peer.command(1, "closeStream", 0.0, &[]);
    peer.message(kind::AUDIO, 1, vec![0x2f, 0]);
    peer.message(kind::DATA, 1, script(&[string("onMetaData")]));
    assert_eq!(peer.take_did(), [Did::Unpublish, Did::Drop("unpublished"), Did::Drop("unpublished")]);
}

#[test]
fn pings_and_bandwidth_are_answered() {
    let mut peer = Peer::publishing();
    peer.message(kind::USER_CONTROL, 0, vec![0, 6, 0, 0, 1, 2]);
    peer.message(kind::SET_PEER_BANDWIDTH, 0, vec![0, 0x10, 0, 0, 2]);
    peer.message(kind::SET_PEER_BANDWIDTH, 0, vec![0, 0x10, 0, 0, 2]);
    let pong = RtmpMessage::UserControl {
        event_type: UserControlEventType::PingResponse,
        stream_id: None,
        buffer_length: None,
        timestamp: Some(RtmpTimestamp::new(0x0102)),
    };
    assert_eq!(peer.answers, [pong, RtmpMessage::WindowAcknowledgement { size: 0x0010_0000 }]);
}

/// §5.4.3: the sequence number is all bytes received so far; here it passes 2^32 too.
#[test]
fn acknowledgements_count_all_bytes() {
    let mut peer = Peer::publishing();
    peer.message(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, 0, 100_000u32.to_be_bytes().to_vec());
    let start = u32::MAX - 99_000;
    peer.session.window = Window { size: 100_000, received: start, acknowledged: start, told: WINDOW };
    let bytes = peer.bytes_of(99, 1, vec![0; 990]);
    let mut last = start;
    let mut sent = 0;
    for _ in 0..300 {
        peer.send(&bytes);
        sent += bytes.len() as u32;
        for answer in peer.answers.drain(..) {
            let RtmpMessage::Acknowledgement { sequence_number } = answer else { panic!("{answer:?}") };
            assert_eq!(sequence_number, start.wrapping_add(sent));
            last = sequence_number;
        }
        assert!(start.wrapping_add(sent).wrapping_sub(last) < 50_000, "half a window without a word");
    }
    assert!(last < start, "the count has wrapped");
}

#[test]
fn each_timer_closes() {
    let default = Settings::default();
    let now = Instant::now();
    let timeout = |waited_for| Did::Close(Close::Timeout { waited_for });
    let run_out = |mut peer: Peer, after: Duration, expected: &[Did]| {
        assert_eq!(peer.deadline, Some(peer.now + after));
        peer.session.handle_timeout(peer.now + after.saturating_sub(Duration::from_millis(1)));
        peer.drain();
        assert_eq!(peer.take_did(), []);
        peer.session.handle_timeout(peer.now + after);
        peer.drain();
        assert_eq!(peer.take_did(), expected);
    };
    let mut silent = Peer::silent(now);
    silent.drain();
    run_out(silent, default.handshake_timeout, &[timeout("no handshake")]);
    // Half a handshake gives no more time than none.
    let mut half = Peer::silent(now);
    half.session.handle_bytes(&[3], now + Duration::from_secs(5));
    while !matches!(half.session.poll_output(), Output::Wait(Some(at)) if at == now + default.handshake_timeout)
    {
    }
    let mut connected = Peer::new();
    connected.connect("live");
    run_out(connected, default.publish_timeout, &[timeout("neither publish nor play")]);
    run_out(Peer::publishing(), default.publish_idle, &[Did::Unpublish, timeout("no media")]);
    // Media keeps it alive; metadata, pings and commands do not.
    let mut peer = Peer::publishing();
    peer.now += Duration::from_secs(7);
    peer.message(kind::AUDIO, 1, vec![0x2f, 0]);
    let alive = peer.deadline;
    assert_eq!(alive, Some(peer.now + default.publish_idle));
    peer.now += Duration::from_secs(7);
    peer.message(kind::DATA, 1, rml_amf0::serialize(&vec![string("onMetaData")]).unwrap());
    peer.message(kind::USER_CONTROL, 0, vec![0, 6, 0, 0, 1, 2]);
    peer.command(0, "_checkbw", 0.0, &[]);
    assert_eq!(peer.deadline, alive);
}

#[test]
fn an_end_from_outside_ends_the_publish() {
    let mut peer = Peer::publishing();
    assert!(!peer.session.is_closing());
    peer.session.handle_end(Close::Ended);
    peer.session.handle_end(Close::Stopping);
    assert!(peer.session.is_closing(), "which is no goodbye");
    peer.drain();
    assert_eq!(peer.take_did(), [Did::Unpublish, Did::Close(Close::Ended)]);
    peer.publish("mark");
    assert_eq!(peer.take_did(), [Did::Close(Close::Ended)], "nothing is taken behind the end");
}

#[test]
fn what_is_no_rtmp_is_closed() {
    let mut peer = Peer::silent(Instant::now());
    peer.send(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(peer.take_did(), [Did::Close(Close::Handshake(handshake::Error))]);
    let mut peer = Peer::new();
    peer.message(kind::COMMAND, 0, [3, 0, 1, b'a'].repeat(3000));
    assert_eq!(peer.take_did(), [Did::Close(Close::Command(amf::Error::TooDeep))]);
}

/// Bytes of a whole session behind the handshake.
fn whole_session() -> Vec<u8> {
    let mut peer = Peer::new();
    let name = [Amf0Value::Null, string("mark"), string("live")];
    let mut bytes = Vec::new();
    for (stream_id, body) in [
        (0, command("connect", 1.0, &[connect_object("live")])),
        (0, command("releaseStream", 2.0, &name)),
        (0, command("FCPublish", 3.0, &name)),
        (0, command("createStream", 4.0, &[Amf0Value::Null])),
        (1, command("publish", 5.0, &name)),
    ] {
        bytes.extend(peer.bytes_of(kind::COMMAND, stream_id, body));
    }
    bytes.extend(peer.serializer.set_max_chunk_size(200, RtmpTimestamp::new(0)).unwrap().bytes);
    let script =
        rml_amf0::serialize(&vec![string("@setDataFrame"), string("onMetaData"), connect_object("x")]);
    bytes.extend(peer.bytes_of(kind::DATA, 1, script.unwrap()));
    for n in 0..20u8 {
        bytes.extend(peer.bytes_of(kind::VIDEO, 1, vec![0x17, 1, 0, 0, n, 0, 0, 0, 1, 0x65]));
        bytes.extend(peer.bytes_of(kind::AUDIO, 1, vec![0xaf; 300]));
    }
    bytes.extend(peer.bytes_of(kind::COMMAND, 0, command("FCUnpublish", 6.0, &name)));
    bytes.extend(peer.bytes_of(kind::COMMAND, 0, command("deleteStream", 7.0, &name)));
    bytes
}

proptest! {
    /// Whatever comes after the handshake, in any split: no panic, the same end, and no more held than allowed.
    #[test]
    fn mutated_sessions_end_the_same_in_any_split(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut bytes = whole_session();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let mut split = Peer::new();
        for pair in cuts.windows(2) {
            let was_closed = split.is_closed();
            if !was_closed {
                split.send(&bytes[pair[0]..pair[1]]);
            }
            prop_assert!(split.session.held.len() <= UNPUBLISHED_BYTES_MAX);
        }
        let mut whole = Peer::new();
        whole.send(&bytes);
        // What the demuxer drops is told once a read: how often depends on the split.
        let without_drops = |did: Vec<Did>| did.into_iter().filter(|did| !matches!(did, Did::Drop(_)));
        prop_assert!(without_drops(whole.take_did()).eq(without_drops(split.take_did())));
        prop_assert_eq!(whole.codes(), split.codes());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..4000), handshake: bool) {
        let mut peer = if handshake { Peer::new() } else { Peer::silent(Instant::now()) };
        peer.session.handle_bytes(&bytes, peer.now);
        let mut outputs = 0;
        loop {
            match peer.session.poll_output() {
                Output::Publish(_) | Output::Play(_) => peer.session.decide(Ok(()), peer.now),
                Output::Wait(_) | Output::Close(_) => break,
                _ => outputs += 1,
            }
        }
        prop_assert!(outputs <= bytes.len() + 1);
    }
}
