//! A broadcast as chunks that are ready to send: cut up once, sent by every publisher.

use bytes::Bytes;
use grandstand::media::flv::TagKind;
use grandstand::publish::FlvFile;
use grandstand::publish::pace::Pace;

/// The message stream that every server here gives to the first `createStream`.
const MESSAGE_STREAM: u32 = 1;

/// What a publisher sends: `first` once, then `next` for ever. Timestamps after the first message of each chunk stream
/// are deltas, so a later round needs no patching.
pub(crate) struct Feed {
    pub(crate) first: Lane,
    pub(crate) next: Lane,
    /// Length of each lane in milliseconds.
    pub(crate) period_ms: u64,
}

/// One round: bytes in sending order.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) bytes: Vec<u8>,
    /// When, in milliseconds from the lane's start, everything up to which byte is due. Both rise.
    pub(crate) due: Vec<(u64, usize)>,
}

/// What a feed is made of: the same rounds as messages.
pub(crate) struct Plan {
    pub(crate) first: Vec<Message>,
    pub(crate) next: Vec<Message>,
    period_ms: u64,
}

/// One message and when it is due in its round.
pub(crate) struct Message {
    pub(crate) kind: TagKind,
    pub(crate) body: Bytes,
    at_ms: u64,
    timestamp_ms: u32,
}

impl Plan {
    /// The rounds in which `file` is sent.
    pub(crate) fn new(file: &FlvFile) -> Self {
        let mut pace = Pace::new(file, true);
        let period_ms = pace.period_ms();
        let mut plan = Self { first: Vec::new(), next: Vec::new(), period_ms };
        // Some tags of a round may be due a little after its end; one second covers any real interleaving.
        while let Some(due) = pace.next().filter(|due| (due.at.as_millis() as u64) < 2 * period_ms + 1_000) {
            let at_ms = due.at.as_millis() as u64;
            let (round, at_ms) = if at_ms < period_ms {
                (&mut plan.first, at_ms)
            } else if at_ms < 2 * period_ms {
                (&mut plan.next, at_ms - period_ms)
            } else {
                continue;
            };
            let at_ms = round.last().map_or(at_ms, |last| at_ms.max(last.at_ms));
            round.push(Message {
                kind: due.tag.kind,
                body: due.tag.body.clone(),
                at_ms,
                timestamp_ms: due.timestamp_ms,
            });
        }
        plan
    }
}

impl Feed {
    /// Cuts `plan` into chunks of `chunk_bytes`.
    pub(crate) fn new(plan: &Plan, chunk_bytes: usize) -> Self {
        // Timestamps of the last message on chunk streams 3, 4 and 5.
        let mut last = [None; 3];
        let mut cut = |messages: &[Message]| {
            let mut lane = Lane::default();
            for message in messages {
                let (slot, type_id, prefix) = match message.kind {
                    TagKind::Data => (0, 18, &b"\x02\0\x0d@setDataFrame"[..]),
                    TagKind::Video => (1, 9, &b""[..]),
                    TagKind::Audio => (2, 8, &b""[..]),
                };
                let body = [prefix, &message.body].concat();
                let before: Option<u32> = last[slot].replace(message.timestamp_ms);
                let time = match before {
                    Some(before) => Time::Since(message.timestamp_ms.wrapping_sub(before)),
                    None => Time::At(message.timestamp_ms),
                };
                write_message(&mut lane.bytes, slot as u8 + 3, type_id, time, &body, chunk_bytes);
                lane.due.push((message.at_ms, lane.bytes.len()));
            }
            lane
        };
        let (first, next) = (cut(&plan.first), cut(&plan.next));
        Self { first, next, period_ms: plan.period_ms }
    }

    /// Bits per second on the wire.
    pub(crate) fn bits_per_second(&self) -> u64 {
        self.next.bytes.len() as u64 * 8_000 / self.period_ms.max(1)
    }
}

/// What a chunk's header says of time.
#[derive(Clone, Copy)]
enum Time {
    At(u32),
    Since(u32),
}

/// RTMP 1.0 §5.3.1: a type 0 header, or type 1 with a delta where the chunk stream has had a message.
fn write_message(
    out: &mut Vec<u8>,
    chunk_stream: u8,
    type_id: u8,
    time: Time,
    body: &[u8],
    chunk_bytes: usize,
) {
    let (format, time_ms) = match time {
        Time::At(time_ms) => (0, time_ms),
        Time::Since(time_ms) => (1, time_ms),
    };
    assert!(
        time_ms < 0x00ff_ffff,
        "the file starts within the first hours of its timeline and never steps back"
    );
    let [_, l2, l1, l0] = (body.len() as u32).to_be_bytes();
    let [_, t2, t1, t0] = time_ms.to_be_bytes();
    out.extend([format << 6 | chunk_stream, t2, t1, t0, l2, l1, l0, type_id]);
    if let Time::At(_) = time {
        out.extend(MESSAGE_STREAM.to_le_bytes());
    }
    for (n, chunk) in body.chunks(chunk_bytes).enumerate() {
        if n > 0 {
            out.push(3 << 6 | chunk_stream);
        }
        out.extend_from_slice(chunk);
    }
}
