//! Media messages to FLV tags: audio, video, data, and aggregates of them (Adobe RTMP 1.0, §7.1).

use std::iter;

use bytes::Bytes;

use super::message::{Message, kind};
use crate::media::flv::{Tag, TagKind};

/// One type byte, a length, a timestamp, its upper byte, a stream id (FLV specification, E.4.1).
const TAG_HEADER_LEN: usize = 11;

/// The length of a tag, repeated behind it.
const BACK_POINTER_LEN: usize = 4;

/// `"@setDataFrame"` as an AMF0 string: RTMP's word to the server that what follows is to be kept.
const SET_DATA_FRAME: &[u8] = b"\x02\0\x0d@setDataFrame";

/// The tags of one message in order, or the reasons why a part of it is none.
pub(super) fn of(message: Message) -> impl Iterator<Item = Result<Tag, &'static str>> {
    let is_aggregate = message.kind == kind::AGGREGATE;
    let mut aggregate = is_aggregate.then(|| Aggregate::new(message.clone()));
    let mut single = (!is_aggregate).then_some(message);
    iter::from_fn(move || match &mut aggregate {
        Some(aggregate) => match aggregate.next() {
            Some(message) => Some(tag(message)),
            None => aggregate.take_remains().then_some(Err("aggregate")),
        },
        None => single.take().map(tag),
    })
}

fn tag(message: Message) -> Result<Tag, &'static str> {
    let Message { kind, timestamp_ms, payload: mut body, .. } = message;
    let kind = match kind {
        kind::AUDIO => TagKind::Audio,
        kind::VIDEO => TagKind::Video,
        kind::DATA | kind::DATA_AMF3 => TagKind::Data,
        _ => return Err("type"),
    };
    if kind == TagKind::Data {
        // The format byte of AMF3 messages whose content is AMF0: no AMF0 string starts so.
        if body.starts_with(&[0, 2]) {
            body = body.slice(1..);
        }
        if body.starts_with(SET_DATA_FRAME) {
            body = body.slice(SET_DATA_FRAME.len()..);
        }
    }
    if body.is_empty() { Err("empty") } else { Ok(Tag { kind, timestamp_ms, body }) }
}

/// The messages inside one aggregate message.
#[derive(Debug)]
struct Aggregate {
    rest: Bytes,
    stream_id: u32,
    timestamp_ms: u32,
    /// Time of the first tag: the times inside count from it, the aggregate's own says where it lies.
    first_ms: Option<u32>,
}

impl Aggregate {
    fn new(message: Message) -> Self {
        let Message { stream_id, timestamp_ms, payload, .. } = message;
        Self { rest: payload, stream_id, timestamp_ms, first_ms: None }
    }

    /// Gives up what is no whole tag; whether there was anything.
    fn take_remains(&mut self) -> bool {
        !std::mem::take(&mut self.rest).is_empty()
    }
}

impl Iterator for Aggregate {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let [kind, l2, l1, l0, t2, t1, t0, t3, ..] = *self.rest.first_chunk::<TAG_HEADER_LEN>()?;
        let len = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        if self.rest.len() - TAG_HEADER_LEN < len {
            return None;
        }
        let tag_ms = u32::from_be_bytes([t3, t2, t1, t0]);
        let first_ms = *self.first_ms.get_or_insert(tag_ms);
        let mut tag = self.rest.split_to(TAG_HEADER_LEN + len);
        let payload = tag.split_off(TAG_HEADER_LEN);
        // The last back pointer is missing from some encoders.
        let _ = self.rest.split_to(BACK_POINTER_LEN.min(self.rest.len()));
        let timestamp_ms = self.timestamp_ms.wrapping_add(tag_ms.wrapping_sub(first_ms));
        Some(Message { kind, stream_id: self.stream_id, timestamp_ms, payload })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flv_tag(kind: u8, timestamp_ms: u32, body: &[u8]) -> Vec<u8> {
        let [t3, t2, t1, t0] = timestamp_ms.to_be_bytes();
        let [_, l2, l1, l0] = (body.len() as u32).to_be_bytes();
        let mut bytes = vec![kind, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0];
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&(11 + body.len() as u32).to_be_bytes());
        bytes
    }

    fn message(kind: u8, timestamp_ms: u32, payload: impl Into<Bytes>) -> Message {
        Message { kind, stream_id: 1, timestamp_ms, payload: payload.into() }
    }

    fn read(message: Message) -> Vec<Result<(TagKind, u32, Bytes), &'static str>> {
        of(message)
            .map(|tag| tag.map(|Tag { kind, timestamp_ms, body }| (kind, timestamp_ms, body)))
            .collect()
    }

    /// §7.1.6: the difference of the aggregate's time and the first tag's is added to all.
    #[test]
    fn times_in_an_aggregate_are_moved_to_its_own() {
        let bytes =
            [flv_tag(9, 0xFFFF_FFF0, b"v"), flv_tag(8, 0x10, b"aa"), flv_tag(18, 0x20, b"\x02\0\0")].concat();
        let tags = [
            Ok((TagKind::Video, 1000, Bytes::from_static(b"v"))),
            Ok((TagKind::Audio, 1032, Bytes::from_static(b"aa"))),
            Ok((TagKind::Data, 1048, Bytes::from_static(b"\x02\0\0"))),
        ];
        for back_pointer_cut in [0, 4] {
            let bytes = bytes[..bytes.len() - back_pointer_cut].to_vec();
            assert_eq!(read(message(kind::AGGREGATE, 1000, bytes)), tags);
        }
    }

    #[test]
    fn what_is_cut_off_in_an_aggregate_is_dropped_with_a_reason() {
        let bytes = [flv_tag(9, 0, b"v"), flv_tag(8, 5, b"aa")].concat();
        let cut = bytes[..bytes.len() - 5].to_vec();
        let tags = [Ok((TagKind::Video, 0, Bytes::from_static(b"v"))), Err("aggregate")];
        assert_eq!(read(message(kind::AGGREGATE, 0, cut)), tags);
        let nested = flv_tag(kind::AGGREGATE, 0, &flv_tag(9, 0, b"v"));
        assert_eq!(read(message(kind::AGGREGATE, 0, nested)), [Err("type")]);
    }

    #[test]
    fn script_data_loses_what_only_rtmp_says() {
        let script = Bytes::from_static(b"\x02\0\x0aonMetaData\x05");
        let with_set = [SET_DATA_FRAME, &script].concat();
        for (kind, payload) in [
            (kind::DATA, script.to_vec()),
            (kind::DATA, with_set.clone()),
            (kind::DATA_AMF3, with_set.clone()),
            (kind::DATA_AMF3, [&[0], &with_set[..]].concat()),
        ] {
            assert_eq!(read(message(kind, 5, payload)), [Ok((TagKind::Data, 5, script.clone()))]);
        }
        assert_eq!(read(message(kind::DATA, 5, SET_DATA_FRAME)), [Err("empty")]);
    }

    #[test]
    fn empty_messages_are_dropped() {
        assert_eq!(read(message(kind::AUDIO, 5, Bytes::new())), [Err("empty")]);
        assert_eq!(read(message(kind::VIDEO, 5, Bytes::new())), [Err("empty")]);
        assert_eq!(read(message(kind::AGGREGATE, 5, Bytes::new())), []);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let len = bytes.len();
            let bodies: usize =
                of(message(kind::AGGREGATE, 7, bytes)).flatten().map(|tag| tag.body.len()).sum();
            prop_assert!(bodies <= len);
        }
    }
}
