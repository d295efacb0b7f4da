//! One RTMP connection as a state machine: bytes and times in, verdicts out.
//!
//! Call one of the `handle_*` functions or [`Session::decide`], then [`Session::poll_output`] until it answers
//! [`Output::Wait`] or [`Output::Close`], before the next input.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rml_amf0::Amf0Value;

use crate::media::demux::Demuxer;
use crate::media::flv::TagKind;
use crate::name::StreamName;

use super::Settings;
use super::chunk::Reader;
use super::command::{Command, Verb, bare_name};
use super::handshake::Handshake;
use super::message::{Limits, Message, kind};
use super::output::{Close, Output, Refusal};
use super::tags;
use super::writer::{Status, WINDOW, Writer};

/// Bytes behind the handshake, or behind the end of a publish, up to an accepted publish. Encoders use 1 KB; after
/// an unpublish some media may still be on its way.
pub const UNPUBLISHED_BYTES_MAX: usize = 64 << 10;

/// Commands of one connection. A publish takes five or six.
pub const COMMANDS_MAX: u32 = 64;

/// Smallest window a peer may have its bytes acknowledged by; a smaller one would cost an answer per packet.
pub const WINDOW_MIN: u32 = 4096;

/// What unfinished messages may hold beside one of the longest: audio, metadata, an aggregate's tail.
const UNFINISHED_MARGIN: usize = 4 << 20;

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    timers: Timers,
    published_limits: Limits,
    /// Until it is done.
    handshake: Option<Box<Handshake>>,
    reader: Reader,
    writer: Writer,
    outputs: VecDeque<Output>,
    closing: Option<Close>,
    /// Of the accepted `connect`.
    app: Option<String>,
    publish: Publish,
    /// When the connection, or the time without a publish, began.
    since: Instant,
    streams: u32,
    commands: u32,
    unpublished_bytes: usize,
    /// What came behind a publish that is not decided.
    held: Vec<u8>,
    window: Window,
}

#[derive(Debug)]
struct Timers {
    handshake: Duration,
    publish: Duration,
    idle: Duration,
}

#[derive(Debug)]
enum Publish {
    No,
    Asked { stream_id: u32 },
    Live(Box<Live>),
}

#[derive(Debug)]
struct Live {
    stream_id: u32,
    demuxer: Demuxer,
    media_at: Instant,
    /// A codec nobody carries has been told of.
    told_unsupported: bool,
}

/// Counts what is to be acknowledged (§5.4.3).
#[derive(Debug)]
struct Window {
    /// The peer wants to hear at least once in so many bytes.
    size: u32,
    /// Bytes behind the handshake, modulo 2^32.
    received: u32,
    acknowledged: u32,
    /// The window we told the peer to acknowledge by.
    told: u32,
}

impl Session {
    /// For a connection accepted `now`.
    pub fn new(settings: &Settings, now: Instant) -> Self {
        let video_len_max = u32::try_from(settings.video_message_max.as_u64()).unwrap_or(u32::MAX);
        let unfinished_max = (video_len_max as usize).saturating_add(UNFINISHED_MARGIN);
        Self {
            timers: Timers {
                handshake: settings.handshake_timeout,
                publish: settings.publish_timeout,
                idle: settings.publish_idle,
            },
            published_limits: Limits { video_len_max, unfinished_max },
            handshake: Some(Box::new(Handshake::new())),
            reader: Reader::new(UNPUBLISHED_LIMITS),
            writer: Writer::new(),
            outputs: VecDeque::new(),
            closing: None,
            app: None,
            publish: Publish::No,
            since: now,
            streams: 0,
            commands: 0,
            unpublished_bytes: 0,
            held: Vec::new(),
            window: Window { size: WINDOW, received: 0, acknowledged: 0, told: WINDOW },
        }
    }

    /// Takes what the peer sent. Ignored after [`Output::Close`].
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        if !matches!(self.publish, Publish::Asked { .. }) {
            self.read(bytes, now);
        } else if self.held.len() + bytes.len() > UNPUBLISHED_BYTES_MAX {
            self.close(Close::UnpublishedBytes);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    /// The time of the last [`Output::Wait`] has come, or an earlier one.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline() {
            let waited_for = match self.publish {
                _ if self.handshake.is_some() => "no handshake",
                Publish::Live(_) => "no media",
                _ => "no publish",
            };
            self.close(Close::Timeout { waited_for });
        }
    }

    /// The connection is at its end, for a reason that this state machine can't see: the socket's or the origin's.
    pub fn handle_end(&mut self, reason: Close) {
        self.close(reason);
    }

    /// Answers [`Output::Publish`]. Without effect when the connection has ended meanwhile.
    ///
    /// # Panics
    /// When nothing was asked.
    pub fn decide(&mut self, verdict: Result<(), Refusal>, now: Instant) {
        let Publish::Asked { stream_id } = self.publish else {
            assert!(self.closing.is_some(), "no publish waits for a decision");
            return;
        };
        if let Err(refusal) = verdict {
            let code = match refusal {
                Refusal::Taken => "NetStream.Publish.BadName",
                Refusal::Denied => "NetStream.Publish.Denied",
                Refusal::Full => "NetStream.Publish.Rejected",
            };
            return self.refuse(stream_id, code, refusal.into());
        }
        self.writer.published(stream_id);
        let live = Live { stream_id, demuxer: Demuxer::new(), media_at: now, told_unsupported: false };
        self.publish = Publish::Live(Box::new(live));
        self.reader.limit(self.published_limits);
        let held = std::mem::take(&mut self.held);
        self.read(&held, now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Output {
        let out = self.writer.take();
        if !out.is_empty() {
            return Output::Transmit(out);
        }
        match (self.outputs.pop_front(), &self.closing) {
            (Some(output), _) => output,
            (None, Some(reason)) => Output::Close(reason.clone()),
            (None, None) => Output::Wait(self.deadline()),
        }
    }

    fn deadline(&self) -> Instant {
        match &self.publish {
            _ if self.handshake.is_some() => self.since + self.timers.handshake,
            Publish::Live(live) => live.media_at + self.timers.idle,
            _ => self.since + self.timers.publish,
        }
    }

    fn read(&mut self, mut input: &[u8], now: Instant) {
        while !input.is_empty() && self.closing.is_none() {
            if matches!(self.publish, Publish::Asked { .. }) {
                self.held.extend_from_slice(input);
                break;
            }
            let step = match &mut self.handshake {
                Some(handshake) => {
                    handshake.read(&mut input, self.writer.raw()).map_err(Close::from).map(|done| {
                        if done {
                            self.handshake = None;
                            self.since = now;
                        }
                    })
                }
                None => self.read_chunks(&mut input, now),
            };
            if let Err(reason) = step {
                self.close(reason);
            }
        }
        if let Publish::Live(live) = &mut self.publish {
            live.tell(&mut self.outputs);
        }
        if let Some(sequence_number) = self.window.acknowledge() {
            self.writer.acknowledgement(sequence_number);
        }
    }

    /// Up to the end of the next message.
    fn read_chunks(&mut self, input: &mut &[u8], now: Instant) -> Result<(), Close> {
        let published = matches!(self.publish, Publish::Live(_));
        let allowed = if published { usize::MAX } else { UNPUBLISHED_BYTES_MAX - self.unpublished_bytes };
        let (mut allowed, _) = input.split_at(allowed.min(input.len()));
        if allowed.is_empty() {
            return Err(Close::UnpublishedBytes);
        }
        let before = allowed.len();
        let message = self.reader.read(&mut allowed);
        let taken = before - allowed.len();
        *input = input.get(taken..).unwrap_or_default();
        self.window.received = self.window.received.wrapping_add(taken as u32);
        if !published {
            self.unpublished_bytes += taken;
        }
        match message? {
            Some(message) => self.handle_message(message, now),
            None => Ok(()),
        }
    }

    fn handle_message(&mut self, message: Message, now: Instant) -> Result<(), Close> {
        let number = message.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match message.kind {
            kind::AUDIO | kind::VIDEO | kind::AGGREGATE | kind::DATA | kind::DATA_AMF3 => {
                self.handle_media(message, now);
            }
            kind::COMMAND | kind::COMMAND_AMF3 => return self.handle_command(&message, now),
            kind::ACKNOWLEDGEMENT => {}
            kind::USER_CONTROL => self.handle_user_control(&message.payload),
            kind::WINDOW_ACKNOWLEDGEMENT_SIZE => match number {
                Some(size @ WINDOW_MIN..) => self.window.size = size,
                _ => self.drop("window"),
            },
            kind::SET_PEER_BANDWIDTH => match number {
                // §5.4.5: answered when it is not what was said last.
                Some(size) if size != self.window.told => {
                    self.window.told = size;
                    self.writer.window(size);
                }
                _ => {}
            },
            _ => self.drop("type"),
        }
        Ok(())
    }

    /// The message stream is not looked at: there is one publish at a time, and some encoders name another.
    fn handle_media(&mut self, message: Message, now: Instant) {
        for tag in tags::of(message) {
            match (tag, &mut self.publish) {
                (Ok(tag), Publish::Live(live)) => {
                    // Metadata does not keep a publisher alive.
                    if tag.kind != TagKind::Data {
                        live.media_at = now;
                    }
                    live.demuxer.push(tag);
                    live.emit(&mut self.outputs);
                }
                (Ok(_), _) => self.drop("unpublished"),
                (Err(reason), _) => self.drop(reason),
            }
        }
    }

    fn handle_user_control(&mut self, payload: &[u8]) {
        match payload {
            // SetBufferLength and PingResponse (§7.1.7).
            [0, 3 | 7, ..] => {}
            [0, 6, a, b, c, d, ..] => self.writer.ping_response(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => self.drop("user_control"),
        }
    }

    fn handle_command(&mut self, message: &Message, now: Instant) -> Result<(), Close> {
        self.commands += 1;
        if self.commands > COMMANDS_MAX {
            return Err(Close::Commands);
        }
        let body = &message.payload[..];
        let body = match message.kind {
            kind::COMMAND_AMF3 => body.strip_prefix(&[0]).unwrap_or(body),
            _ => body,
        };
        let Command { transaction, verb } = Command::read(body)?;
        match verb {
            Verb::Connect { app } => self.connect(transaction, &app),
            Verb::CreateStream => {
                self.streams += 1;
                self.answer(transaction, Amf0Value::Number(self.streams.into()));
            }
            Verb::Publish { stream } => self.publish(message.stream_id, &stream),
            Verb::FcPublish => {
                self.answer(transaction, Amf0Value::Undefined);
                self.writer.on_fc_publish();
            }
            Verb::Unpublish => self.unpublish(now),
            Verb::DeleteStream { stream_id: deleted } => {
                if let Publish::Live(live) = &self.publish
                    && deleted.is_none_or(|deleted| deleted == live.stream_id)
                {
                    self.unpublish(now);
                }
            }
            Verb::Acknowledge => self.answer(transaction, Amf0Value::Undefined),
            Verb::StreamLength => self.answer(transaction, Amf0Value::Number(0.0)),
            Verb::Play => self.refuse(message.stream_id, "NetStream.Play.Failed", Close::Play),
            Verb::Other => {}
        }
        Ok(())
    }

    fn answer(&mut self, transaction: f64, value: Amf0Value) {
        if transaction != 0.0 {
            self.writer.result(transaction, value);
        }
    }

    fn connect(&mut self, transaction: f64, app: &str) {
        let app = bare_name(app);
        let (code, reason) = if self.app.is_some() {
            // It would change the app of a running publish.
            ("NetConnection.Connect.Rejected", Close::Order("a second connect"))
        } else if let Err(error) = StreamName::new(app, "name") {
            ("NetConnection.Connect.InvalidApp", error.into())
        } else {
            self.app = Some(app.to_owned());
            return self.writer.connected(transaction);
        };
        self.writer.connect_refused(transaction, &Status { code, description: explain(&reason) });
        self.close(reason);
    }

    fn publish(&mut self, stream_id: u32, stream: &str) {
        const REJECTED: &str = "NetStream.Publish.Rejected";
        let Some(app) = &self.app else {
            return self.refuse(stream_id, REJECTED, Close::Order("publish before connect"));
        };
        if !matches!(self.publish, Publish::No) {
            return self.refuse(stream_id, REJECTED, Close::Order("publish while publishing"));
        }
        match StreamName::new(app, bare_name(stream)) {
            Ok(name) => {
                self.publish = Publish::Asked { stream_id };
                self.outputs.push_back(Output::Publish(name));
            }
            Err(error) => self.refuse(stream_id, "NetStream.Publish.BadName", error.into()),
        }
    }

    /// The status that encoders show, then the close.
    fn refuse(&mut self, stream_id: u32, code: &'static str, reason: Close) {
        let status = Status { code, description: explain(&reason) };
        self.writer.status("error", &status, stream_id);
        self.close(reason);
    }

    fn unpublish(&mut self, now: Instant) {
        if let Some(stream_id) = self.end_publish() {
            self.writer.unpublished(stream_id);
            self.reader.limit(UNPUBLISHED_LIMITS);
            self.unpublished_bytes = 0;
            self.since = now;
        }
    }

    /// Lets out what the demuxer held back.
    fn end_publish(&mut self) -> Option<u32> {
        let Publish::Live(mut live) = std::mem::replace(&mut self.publish, Publish::No) else { return None };
        live.demuxer.finish();
        live.emit(&mut self.outputs);
        live.tell(&mut self.outputs);
        self.outputs.push_back(Output::Unpublish);
        Some(live.stream_id)
    }

    fn drop(&mut self, reason: &'static str) {
        self.outputs.push_back(Output::Drop { reason, count: 1 });
    }

    fn close(&mut self, reason: Close) {
        if self.closing.is_none() {
            self.end_publish();
            self.closing = Some(reason);
        }
    }
}

impl Live {
    fn emit(&mut self, outputs: &mut VecDeque<Output>) {
        while let Some(event) = self.demuxer.poll_event() {
            outputs.push_back(Output::Media(event));
        }
    }

    /// What the demuxer could not use.
    fn tell(&mut self, outputs: &mut VecDeque<Output>) {
        for (reason, count) in self.demuxer.take_drops().iter() {
            outputs.push_back(Output::Drop { reason, count });
        }
        if !self.told_unsupported
            && let Some(codec) = self.demuxer.unsupported()
        {
            self.told_unsupported = true;
            outputs.push_back(Output::Unsupported(codec));
        }
    }
}

impl Window {
    /// The sequence number to acknowledge, when half a window has come since the last.
    fn acknowledge(&mut self) -> Option<u32> {
        let since = self.received.wrapping_sub(self.acknowledged);
        (since >= self.size / 2).then(|| {
            self.acknowledged = self.received;
            self.received
        })
    }
}

/// A message that begins before a publish and could not end within [`UNPUBLISHED_BYTES_MAX`] is refused at its header.
const UNPUBLISHED_LIMITS: Limits =
    Limits { video_len_max: UNPUBLISHED_BYTES_MAX as u32, unfinished_max: UNPUBLISHED_BYTES_MAX };

/// The reason, and for a name the form of a good one, for the log of an encoder.
fn explain(reason: &Close) -> String {
    match reason {
        Close::Name(error) => format!("{error}; publish to rtmp://HOST/app/name"),
        reason => reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
