//! Aggregate messages (Adobe RTMP 1.0, §7.1.6): FLV tags in a row, with times of their own.

use bytes::Bytes;

use super::chunk::{Message, kind};

/// One type byte, a length, a timestamp, its upper byte, a stream id (FLV specification, E.4.1).
const TAG_HEADER_LEN: usize = 11;

/// The length of a tag, repeated behind it.
const BACK_POINTER_LEN: usize = 4;

/// The messages inside one aggregate message.
#[derive(Debug)]
pub(super) struct Aggregate {
    rest: Bytes,
    stream_id: u32,
    timestamp_ms: u32,
    /// Time of the first tag: the times inside count from it, the aggregate's own says where it lies.
    first_ms: Option<u32>,
}

impl Aggregate {
    pub(super) fn new(message: Message) -> Self {
        let Message { stream_id, timestamp_ms, payload, .. } = message;
        Self { rest: payload, stream_id, timestamp_ms, first_ms: None }
    }

    /// Whether bytes are left that are no whole tag. Meaningful after the last message.
    pub(super) fn is_cut_off(&self) -> bool {
        !self.rest.is_empty()
    }
}

impl Iterator for Aggregate {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let [kind, l2, l1, l0, t2, t1, t0, t3, ..] = *self.rest.first_chunk::<TAG_HEADER_LEN>()?;
        let len = u32::from_be_bytes([0, l2, l1, l0]) as usize;
        if self.rest.len() - TAG_HEADER_LEN < len || kind == kind::AGGREGATE {
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

    fn tag(kind: u8, timestamp_ms: u32, body: &[u8]) -> Vec<u8> {
        let [t3, t2, t1, t0] = timestamp_ms.to_be_bytes();
        let [_, l2, l1, l0] = (body.len() as u32).to_be_bytes();
        let mut bytes = vec![kind, l2, l1, l0, t2, t1, t0, t3, 0, 0, 0];
        bytes.extend_from_slice(body);
        bytes.extend_from_slice(&(11 + body.len() as u32).to_be_bytes());
        bytes
    }

    fn aggregate(timestamp_ms: u32, payload: Vec<u8>) -> Aggregate {
        Aggregate::new(Message { kind: kind::AGGREGATE, stream_id: 1, timestamp_ms, payload: payload.into() })
    }

    /// §7.1.6: the difference of the aggregate's time and the first tag's is added to all.
    #[test]
    fn times_inside_are_moved_to_the_aggregates_own() {
        let bytes = [tag(9, 0xFFFF_FFF0, b"v"), tag(8, 0x10, b"aa"), tag(9, 0x20, b"w")].concat();
        for cut in [0, 4] {
            let mut aggregate = aggregate(1000, bytes[..bytes.len() - cut].to_vec());
            let read: Vec<_> =
                aggregate.by_ref().map(|m| (m.kind, m.timestamp_ms, m.payload.len(), m.stream_id)).collect();
            assert_eq!(read, [(9, 1000, 1, 1), (8, 1032, 2, 1), (9, 1048, 1, 1)]);
            assert!(!aggregate.is_cut_off());
        }
    }

    #[test]
    fn a_tag_cut_off_ends_it() {
        let bytes = [tag(9, 0, b"v"), tag(8, 5, b"aa")].concat();
        let mut aggregate = aggregate(0, bytes[..bytes.len() - 5].to_vec());
        assert_eq!(aggregate.by_ref().count(), 1);
        assert!(aggregate.is_cut_off());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let len = bytes.len();
            prop_assert!(aggregate(7, bytes).map(|m| m.payload.len()).sum::<usize>() <= len);
        }
    }
}
