//! One RTMP connection as a state machine: bytes, events and times in, verdicts out.
//!
//! Call one of the `handle_*` functions or [`Session::decide`], then [`Session::poll_output`] until it answers
//! [`Output::Wait`] or [`Output::Close`], before the next input.

mod play;

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
use super::play::Player;
use super::tags;
use super::writer::{Status, WINDOW, Writer};

/// Bytes behind the handshake, or behind the end of a publish or play, up to an accepted one. Encoders use 1 KB; after
/// an unpublish some media may still be on its way.
pub const UNPUBLISHED_BYTES_MAX: usize = 64 << 10;

/// Commands of one connection, but for those of a player to what it plays. A publish takes five or six.
pub const COMMANDS_MAX: u32 = 64;

/// Smallest window a peer may have its bytes acknowledged by; a smaller one would cost an answer per packet.
pub const WINDOW_MIN: u32 = 4096;

/// What unfinished messages may hold beside one of the longest: audio, metadata, an aggregate's tail.
const UNFINISHED_MARGIN: usize = 4 << 20;

/// One connection's state.
#[derive(Debug)]
pub struct Session {
    timers: Timers,
    play_allowed: bool,
    published_limits: Limits,
    /// Until it is done.
    handshake: Option<Box<Handshake>>,
    reader: Reader,
    writer: Writer,
    outputs: VecDeque<Output>,
    closing: Option<Close>,
    /// Of the accepted `connect`.
    app: Option<String>,
    role: Role,
    /// When the connection, or the time without a role, began.
    since: Instant,
    streams: u32,
    commands: u32,
    unpublished_bytes: usize,
    /// What came behind a publish or play that is not decided.
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
enum Role {
    None,
    Asked { stream_id: u32, wish: Wish },
    Publisher(Box<Live>),
    Player(Box<Player>),
}

/// What a decision is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Publish,
    Play,
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
            play_allowed: settings.play,
            published_limits: Limits { video_len_max, unfinished_max },
            handshake: Some(Box::new(Handshake::new())),
            reader: Reader::new(UNPUBLISHED_LIMITS),
            writer: Writer::new(),
            outputs: VecDeque::new(),
            closing: None,
            app: None,
            role: Role::None,
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
        if !matches!(self.role, Role::Asked { .. }) {
            self.read(bytes, now);
        } else if self.held.len() + bytes.len() > UNPUBLISHED_BYTES_MAX {
            self.close(Close::UnpublishedBytes);
        } else {
            self.held.extend_from_slice(bytes);
        }
    }

    /// The time of the last [`Output::Wait`] has come, or an earlier one.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            let waited_for = match self.role {
                _ if self.handshake.is_some() => "no handshake",
                Role::Publisher(_) => "no media",
                _ => "neither publish nor play",
            };
            self.close(Close::Timeout { waited_for });
        }
    }

    /// The connection is at its end, for a reason that this state machine can't see: the socket's or the origin's.
    pub fn handle_end(&mut self, reason: Close) {
        self.close(reason);
    }

    /// The connection ends. An [`Output::Unpublish`] from here on was not asked for: the publisher is cut off, and may
    /// come back.
    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Answers [`Output::Publish`] or [`Output::Play`]. Without effect when the connection has ended meanwhile.
    ///
    /// # Panics
    /// When nothing was asked.
    pub fn decide(&mut self, verdict: Result<(), Refusal>, now: Instant) {
        let Role::Asked { stream_id, wish } = self.role else {
            assert!(self.closing.is_some(), "nothing waits for a decision");
            return;
        };
        if let Err(refusal) = verdict {
            return self.refuse(stream_id, wish.refused(refusal), refusal.into());
        }
        self.role = match wish {
            Wish::Publish => {
                self.writer.published(stream_id);
                self.reader.limit(self.published_limits);
                let live =
                    Live { stream_id, demuxer: Demuxer::new(), media_at: now, told_unsupported: false };
                Role::Publisher(Box::new(live))
            }
            Wish::Play => {
                self.writer.playing(stream_id);
                Role::Player(Box::new(Player::new(stream_id)))
            }
        };
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

    /// A player may be silent for ever: whether it is still there shows in what it takes.
    fn deadline(&self) -> Option<Instant> {
        match &self.role {
            _ if self.handshake.is_some() => Some(self.since + self.timers.handshake),
            Role::Publisher(live) => Some(live.media_at + self.timers.idle),
            Role::Player(_) => None,
            Role::None | Role::Asked { .. } => Some(self.since + self.timers.publish),
        }
    }

    fn read(&mut self, mut input: &[u8], now: Instant) {
        while !input.is_empty() && self.closing.is_none() {
            if matches!(self.role, Role::Asked { .. }) {
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
        if let Role::Publisher(live) = &mut self.role {
            live.tell(&mut self.outputs);
        }
        if let Some(sequence_number) = self.window.acknowledge() {
            self.writer.acknowledgement(sequence_number);
        }
    }

    /// Up to the end of the next message.
    fn read_chunks(&mut self, input: &mut &[u8], now: Instant) -> Result<(), Close> {
        let accepted = matches!(self.role, Role::Publisher(_) | Role::Player(_));
        let allowed = if accepted { usize::MAX } else { UNPUBLISHED_BYTES_MAX - self.unpublished_bytes };
        let (mut allowed, _) = input.split_at(allowed.min(input.len()));
        if allowed.is_empty() {
            return Err(Close::UnpublishedBytes);
        }
        let before = allowed.len();
        let message = self.reader.read(&mut allowed);
        let taken = before - allowed.len();
        *input = input.get(taken..).unwrap_or_default();
        self.window.received = self.window.received.wrapping_add(taken as u32);
        if !accepted {
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
            match (tag, &mut self.role) {
                (Ok(tag), Role::Publisher(live)) => {
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
        let body = &message.payload[..];
        let body = match message.kind {
            kind::COMMAND_AMF3 => body.strip_prefix(&[0]).unwrap_or(body),
            _ => body,
        };
        let Command { transaction, verb } = Command::read(body)?;
        // Whoever watches for hours may pause as often as they like.
        if !matches!((&verb, &self.role), (Verb::Pause { .. } | Verb::Seek | Verb::Other, Role::Player(_))) {
            self.commands += 1;
        }
        if self.commands > COMMANDS_MAX {
            return Err(Close::Commands);
        }
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
            Verb::Unpublish => self.end_role(now),
            Verb::DeleteStream { stream_id: deleted } => {
                if self.role.stream_id().is_some_and(|own| deleted.is_none_or(|deleted| deleted == own)) {
                    self.end_role(now);
                }
            }
            Verb::Acknowledge => self.answer(transaction, Amf0Value::Undefined),
            Verb::StreamLength => self.answer(transaction, Amf0Value::Number(0.0)),
            Verb::Play { stream } => self.play(message.stream_id, &stream),
            Verb::Pause { paused } => self.pause(paused),
            Verb::Seek => self.seek(),
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
        if !matches!(self.role, Role::None) {
            return self.refuse(stream_id, REJECTED, Close::Order("publish while publishing or playing"));
        }
        match StreamName::new(app, bare_name(stream)) {
            Ok(name) => {
                self.role = Role::Asked { stream_id, wish: Wish::Publish };
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

    /// The peer, or the broadcast, ends what goes on.
    fn end_role(&mut self, now: Instant) {
        match self.leave_role() {
            Role::Publisher(live) => self.writer.unpublished(live.stream_id),
            Role::Player(player) => self.writer.stopped(player.stream_id()),
            Role::None | Role::Asked { .. } => return,
        }
        self.begin_wait(now);
    }

    /// For the next publish or play, with bounds as at the connection's beginning.
    fn begin_wait(&mut self, now: Instant) {
        self.reader.limit(UNPUBLISHED_LIMITS);
        self.unpublished_bytes = 0;
        self.since = now;
    }

    /// Of a publish, lets out what the demuxer held back.
    fn leave_role(&mut self) -> Role {
        let mut role = std::mem::replace(&mut self.role, Role::None);
        match &mut role {
            Role::Publisher(live) => {
                live.demuxer.finish();
                live.emit(&mut self.outputs);
                live.tell(&mut self.outputs);
                self.outputs.push_back(Output::Unpublish);
            }
            Role::Player(_) => self.outputs.push_back(Output::Leave),
            Role::None | Role::Asked { .. } => {}
        }
        role
    }

    fn drop(&mut self, reason: &'static str) {
        self.outputs.push_back(Output::Drop { reason, count: 1 });
    }

    fn close(&mut self, reason: Close) {
        if self.closing.is_none() {
            if let Role::Player(player) = self.leave_role()
                && reason == Close::Stopping
            {
                self.writer.ended(player.stream_id());
            }
            self.closing = Some(reason);
        }
    }
}

impl Role {
    /// The message stream of a publish or play that was accepted.
    fn stream_id(&self) -> Option<u32> {
        match self {
            Self::Publisher(live) => Some(live.stream_id),
            Self::Player(player) => Some(player.stream_id()),
            Self::None | Self::Asked { .. } => None,
        }
    }
}

impl Wish {
    /// The code of a refusal, which players and encoders look at.
    fn refused(self, refusal: Refusal) -> &'static str {
        match (self, refusal) {
            (_, Refusal::Taken) => "NetStream.Publish.BadName",
            (_, Refusal::NotLive) => "NetStream.Play.StreamNotFound",
            (Self::Publish, Refusal::Denied) => "NetStream.Publish.Denied",
            (Self::Publish, Refusal::Full) => "NetStream.Publish.Rejected",
            (Self::Play, Refusal::Denied | Refusal::Full) => "NetStream.Play.Failed",
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

/// A message that begins before a publish, or comes from a player, and could not end within [`UNPUBLISHED_BYTES_MAX`] is refused at its header.
const UNPUBLISHED_LIMITS: Limits =
    Limits { video_len_max: UNPUBLISHED_BYTES_MAX as u32, unfinished_max: UNPUBLISHED_BYTES_MAX };

/// The reason, and for a name the form of a good one, for the log of an encoder.
fn explain(reason: &Close) -> String {
    match reason {
        Close::Name(error) => format!("{error}; the form is rtmp://HOST/app/name"),
        reason => reason.to_string(),
    }
}

#[cfg(test)]
mod tests;
