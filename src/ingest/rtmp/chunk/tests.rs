use proptest::prelude::*;
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;

use super::*;

const LIMITS: Limits = Limits { video_len_max: 8 << 20, unfinished_max: 12 << 20 };

type Outcome = Result<Vec<Message>, (Vec<Message>, Error)>;

/// Reads parts as they would come off a socket.
fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut reader = Reader::new(LIMITS);
    let mut messages = Vec::new();
    for mut part in parts {
        loop {
            match reader.read(&mut part) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return Err((messages, error)),
            }
            assert!(reader.unfinished <= LIMITS.unfinished_max);
        }
        assert!(part.is_empty(), "all is taken");
        let held: usize = reader.streams.iter().filter_map(|s| s.body.as_ref()).map(Vec::capacity).sum();
        assert!(held <= LIMITS.unfinished_max, "{held} bytes held");
    }
    Ok(messages)
}

fn read_split(bytes: &[u8], cuts: &[prop::sample::Index]) -> Outcome {
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    read(cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]))
}

/// In one piece, and byte by byte.
fn read_both(bytes: &[u8]) -> Outcome {
    let outcome = read([bytes]);
    assert_eq!(outcome, read(bytes.chunks(1)));
    outcome
}

fn basic(format: u8, id: u32) -> Vec<u8> {
    let first = format << 6;
    match id {
        2..=63 => vec![first | id as u8],
        64..=319 => vec![first, (id - 64) as u8],
        _ => vec![first | 1, ((id - 64) & 0xff) as u8, ((id - 64) >> 8) as u8],
    }
}

fn time(time_ms: u32) -> Vec<u8> {
    time_ms.min(EXTENDED).to_be_bytes()[1..].to_vec()
}

fn extended(time_ms: u32) -> Vec<u8> {
    if time_ms >= EXTENDED { time_ms.to_be_bytes().to_vec() } else { vec![] }
}

fn len_and_kind(len: u32, kind: u8) -> Vec<u8> {
    let [_, a, b, c] = len.to_be_bytes();
    vec![a, b, c, kind]
}

fn type_0(id: u32, at: u32, len: u32, kind: u8) -> Vec<u8> {
    [basic(0, id), time(at), len_and_kind(len, kind), vec![1, 0, 0, 0], extended(at)].concat()
}

fn type_1(id: u32, delta: u32, len: u32, kind: u8) -> Vec<u8> {
    [basic(1, id), time(delta), len_and_kind(len, kind), extended(delta)].concat()
}

fn type_2(id: u32, delta: u32) -> Vec<u8> {
    [basic(2, id), time(delta), extended(delta)].concat()
}

fn type_3(id: u32) -> Vec<u8> {
    basic(3, id)
}

fn control(kind: u8, value: u32) -> Vec<u8> {
    [type_0(2, 0, 4, kind), value.to_be_bytes().to_vec()].concat()
}

fn message(kind: u8, timestamp_ms: u32, payload: &[u8]) -> Message {
    Message { kind, stream_id: 1, timestamp_ms, payload: Bytes::copy_from_slice(payload) }
}

fn times(bytes: &[u8]) -> Vec<u32> {
    read_both(bytes).unwrap().iter().map(|message| message.timestamp_ms).collect()
}

/// §5.3.1.2: each type leaves out what the one before it said.
#[test]
fn compressed_headers_take_over_what_they_leave_out() {
    let bytes = [
        type_0(4, 1000, 3, 9),
        b"one".to_vec(),
        type_1(4, 20, 2, 8),
        b"tw".to_vec(),
        type_2(4, 30),
        b"th".to_vec(),
        type_3(4),
        b"fo".to_vec(),
    ]
    .concat();
    let expected =
        [message(9, 1000, b"one"), message(8, 1020, b"tw"), message(8, 1050, b"th"), message(8, 1080, b"fo")];
    assert_eq!(read_both(&bytes).unwrap(), expected);
}

/// See [`DELTA_AFTER_ABSOLUTE_MS_MAX`].
#[test]
fn a_type_3_behind_a_type_0_does_not_double_the_time() {
    let after = |at| times(&[type_0(4, at, 1, 8), vec![0], type_3(4), vec![0], type_3(4), vec![0]].concat());
    assert_eq!(after(0), [0, 0, 0]);
    assert_eq!(after(26), [26, 52, 78]);
    assert_eq!(after(5000), [5000, 5000, 5000]);
    assert_eq!(after(0x0200_0000), [0x0200_0000; 3]);
}

#[test]
fn time_wraps_at_32_bits() {
    let bytes = [type_0(4, u32::MAX - 9, 1, 8), vec![0], type_2(4, 20), vec![0]].concat();
    assert_eq!(times(&bytes), [u32::MAX - 9, 10]);
}

/// §5.3.1.1, all three forms; hardware encoders use the long ones.
#[test]
fn chunk_stream_ids_have_one_to_three_bytes() {
    for id in [2, 3, 63, 64, 319, 320, 65_599] {
        let bytes = [type_0(id, 5, 200, 9), vec![7; 128], type_3(id), vec![7; 72]].concat();
        assert_eq!(read_both(&bytes).unwrap(), [message(9, 5, &[7; 200])], "{id}");
    }
}

/// `rml_rtmp`'s reader has one buffer for all chunk streams; hardware encoders do interleave (`membrane_rtmp` #118).
#[test]
fn chunk_streams_interleave() {
    let bytes = [
        type_0(4, 40, 300, 9),
        vec![1; 128],
        type_0(5, 41, 130, 8),
        vec![2; 128],
        type_3(4),
        vec![1; 128],
        control(kind::WINDOW_ACKNOWLEDGEMENT_SIZE, 5000),
        type_3(5),
        vec![2; 2],
        type_3(4),
        vec![1; 44],
    ]
    .concat();
    let expected =
        [message(5, 0, &5000u32.to_be_bytes()), message(8, 41, &[2; 130]), message(9, 40, &[1; 300])];
    assert_eq!(read_both(&bytes).unwrap(), expected);
}

/// §5.3.1.3 has type-3 chunks repeat it; some encoders do not, and the payload may begin with its first bytes.
#[test]
fn an_extended_timestamp_is_repeated_or_not() {
    let at = 0x0123_4567u32;
    for payload in [[9; 200], [1; 200], { [at.to_be_bytes(); 50].concat().try_into().unwrap() }] {
        let head = [type_0(4, at, 200, 9), payload[..128].to_vec(), type_3(4)].concat();
        let next = [type_2(4, 40), payload[..128].to_vec(), type_3(4), payload[128..].to_vec()].concat();
        let repeated = [&head, &extended(at), &payload[128..], &next].concat();
        let expected = [message(9, at, &payload), message(9, at + 40, &payload)];
        assert_eq!(read_both(&repeated).unwrap(), expected);
        if payload[128..132] != at.to_be_bytes() {
            let not_repeated = [&head, &payload[128..], &next].concat();
            assert_eq!(read_both(&not_repeated).unwrap(), expected);
        }
    }
    // A payload whose rest is shorter than what might be repeated does not wait for more than decides.
    let short = [type_0(4, at, 129, 9), vec![9; 128], type_3(4), vec![9]].concat();
    assert_eq!(read_both(&short).unwrap(), [message(9, at, &[9; 129])]);
    let like =
        [type_0(4, at, 130, 9), vec![1; 128], type_3(4), vec![1, 0x23], type_2(4, 5), vec![1; 128]].concat();
    assert_eq!(read_both(&like).unwrap(), [message(9, at, &[&[1; 129][..], &[0x23]].concat())]);
}

/// librtmp's ping begins a chunk stream with a type 1; a type 2 or 3 says too little.
#[test]
fn a_chunk_stream_begins_with_a_length() {
    let ping = [type_1(2, 0, 6, 4), vec![0, 6, 0, 0, 0, 1]].concat();
    assert_eq!(read_both(&ping).unwrap()[0].kind, kind::USER_CONTROL);
    for (bytes, format) in [(type_2(7, 5), 2), (type_3(7), 3)] {
        assert_eq!(read_both(&bytes), Err((vec![], Error::NoHeader { id: 7, format })));
    }
}

/// The limits table: refused at the header, before anything is buffered.
#[test]
fn each_kind_has_its_length() {
    for (kind, max) in [
        (1, 16),
        (3, 16),
        (4, 16),
        (6, 16),
        (17, 16 << 10),
        (20, 16 << 10),
        (15, 256 << 10),
        (18, 256 << 10),
        (8, 256 << 10),
        (99, 256 << 10),
        (9, 8 << 20),
        (22, 8 << 20),
    ] {
        assert_eq!(read_both(&type_0(3, 0, max, kind)), Ok(vec![]));
        let refused = Error::TooLong { kind, len: max + 1, max };
        assert_eq!(read_both(&type_0(3, 0, max + 1, kind)), Err((vec![], refused)));
    }
}

#[test]
fn chunk_streams_and_unfinished_bytes_are_bounded() {
    let begun =
        |count: u32, len| (0..count).flat_map(move |n| [type_0(2 + n, 0, len, 9), vec![0; 128]].concat());
    let streams: Vec<u8> = begun(64, 200).collect();
    assert_eq!(read([&streams[..]]), Ok(vec![]));
    let streams: Vec<u8> = begun(65, 200).collect();
    assert_eq!(read([&streams[..]]), Err((vec![], Error::Streams)));
    let long: Vec<u8> = begun(4, 4 << 20).collect();
    assert_eq!(read([&long[..]]), Err((vec![], Error::Unfinished { len: 16 << 20, max: 12 << 20 })));
}

/// FFmpeg CVE-2016-10191.
#[test]
fn a_message_keeps_its_length_and_type() {
    let with =
        |second: Vec<u8>| read_both(&[type_0(4, 9, 200, 9), vec![0; 128], second, vec![0; 72]].concat());
    for changed in [type_0(4, 9, 201, 9), type_0(4, 9, 100, 9), type_1(4, 0, 200, 8)] {
        assert_eq!(with(changed), Err((vec![], Error::Changed)));
    }
    // Full headers on every chunk, as rml_rtmp writes when forced to, say nothing new.
    for same in [type_0(4, 9, 200, 9), type_1(4, 3, 200, 9), type_2(4, 3)] {
        assert_eq!(with(same).unwrap(), [message(9, 9, &[0; 200])]);
    }
}

#[test]
fn an_aborted_message_is_forgotten() {
    let bytes = [
        type_0(4, 9, 200, 9),
        vec![0; 128],
        control(kind::ABORT, 4),
        control(kind::ABORT, 4),
        control(kind::ABORT, 77),
        type_1(4, 1, 2, 9),
        vec![5, 6],
    ]
    .concat();
    assert_eq!(read_both(&bytes).unwrap(), [message(9, 10, &[5, 6])]);
    let short = [type_0(2, 0, 3, kind::ABORT), vec![0; 3]].concat();
    assert_eq!(read_both(&short), Err((vec![], Error::Control { kind: kind::ABORT })));
}

/// §5.4.1: at least 1, the first bit is 0. It never sizes a buffer.
#[test]
fn chunk_sizes_run_from_1_to_2_to_the_31() {
    for size in [1, 2, 127, 128, 4096, 0x7FFF_FFFF] {
        let body = [3; 300];
        let mut bytes = control(kind::SET_CHUNK_SIZE, size);
        for (n, part) in body.chunks(size as usize).enumerate() {
            bytes.extend(if n == 0 { type_0(4, 1, 300, 9) } else { type_3(4) });
            bytes.extend(part);
        }
        assert_eq!(read_both(&bytes).unwrap(), [message(9, 1, &body)], "{size}");
    }
    for size in [0, 0x8000_0000, u32::MAX] {
        let refused = Error::Control { kind: kind::SET_CHUNK_SIZE };
        assert_eq!(read_both(&control(kind::SET_CHUNK_SIZE, size)), Err((vec![], refused)));
    }
}

#[test]
fn an_empty_message_is_a_header() {
    let bytes = [type_0(4, 1, 0, 8), type_1(4, 1, 0, 9), type_3(4)].concat();
    assert_eq!(read_both(&bytes).unwrap(), [message(8, 1, b""), message(9, 2, b""), message(9, 3, b"")]);
}

/// Messages, the chunk size before each (0: as it was), written by `rml_rtmp`.
fn written() -> impl Strategy<Value = (Vec<Message>, Vec<u8>)> {
    let size = prop_oneof![4 => Just(0u32), 1 => 1u32..300, 1 => Just(4096), 1 => Just(60_000)];
    let kind = prop::sample::select(vec![8u8, 9, 18, 20, 22]);
    // The serializer leaves a delta out that equals the time before it; only times over the heuristic's bound
    // are unmistakable.
    let delta = prop_oneof![3 => 0u32..100, 1 => Just(0x00FF_FFFF), 1 => 0x0100_0000u32..0x1000_0000];
    prop::collection::vec((size, kind, delta, 1usize..1000, any::<u8>()), 1..20).prop_map(|rows| {
        let mut serializer = ChunkSerializer::new();
        let mut bytes = Vec::new();
        let mut now = 0x2000_0000u32;
        let messages = rows.into_iter().map(|(size, kind, delta, len, fill)| {
            now += delta;
            if size > 0 {
                bytes.extend(serializer.set_max_chunk_size(size, RtmpTimestamp::new(0)).unwrap().bytes);
            }
            let message = message(kind, now, &vec![fill; len]);
            let payload = MessagePayload {
                timestamp: RtmpTimestamp::new(now),
                type_id: kind,
                message_stream_id: 1,
                data: message.payload.clone(),
            };
            bytes.extend(serializer.serialize(&payload, false, false).unwrap().bytes);
            message
        });
        (messages.collect(), bytes)
    })
}

proptest! {
    /// `rml_rtmp` writes, we read, in any split.
    #[test]
    fn what_an_independent_writer_wrote_is_read_in_any_split(
        (messages, bytes) in written(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        prop_assert_eq!(read_split(&bytes, &cuts), Ok(messages));
    }

    #[test]
    fn mutated_bytes_read_the_same_in_any_split(
        (_, mut bytes) in written(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(read_split(&bytes, &cuts), read([&bytes[..]]));
    }

    #[test]
    fn arbitrary_bytes_read_the_same_in_any_split(
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
    ) {
        prop_assert_eq!(read_split(&bytes, &cuts), read([&bytes[..]]));
    }
}
