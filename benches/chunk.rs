//! Chunk reading: bytes per second on one core, at the chunk sizes of GStreamer and librtmp (128), OBS (4096) and
//! ffmpeg (60,000), of a broadcast of 1.5 Mbit/s and one of 6, read in pieces as a socket gives them.

#![expect(clippy::unwrap_used, reason = "a bench fails loudly")]

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use grandstand::ingest::rtmp::chunk::Reader;
use grandstand::ingest::rtmp::message::{Limits, kind};
use rml_rtmp::chunk_io::ChunkSerializer;
use rml_rtmp::messages::MessagePayload;
use rml_rtmp::time::RtmpTimestamp;

/// Ten seconds of 25 pictures and 43 audio frames a second; a picture in 50 is eight times the others.
fn broadcast(chunk_size: u32, bits_per_second: usize) -> Vec<u8> {
    let mut serializer = ChunkSerializer::new();
    let mut bytes = serializer.set_max_chunk_size(chunk_size, RtmpTimestamp::new(0)).unwrap().bytes;
    let picture = bits_per_second / 8 / 25 * 50 / 57;
    let mut write = |type_id, at_ms, len| {
        let payload = MessagePayload {
            timestamp: RtmpTimestamp::new(at_ms),
            type_id,
            message_stream_id: 1,
            data: Bytes::from(vec![type_id; len]),
        };
        bytes.extend(serializer.serialize(&payload, false, false).unwrap().bytes);
    };
    let (mut pictures, mut sounds) = (0u32, 0u32);
    while pictures < 250 {
        if pictures * 40 <= sounds * 1024 / 44 {
            write(
                kind::VIDEO,
                pictures * 40,
                if pictures.is_multiple_of(50) { picture * 8 } else { picture },
            );
            pictures += 1;
        } else {
            write(kind::AUDIO, sounds * 1024 / 44, 360);
            sounds += 1;
        }
    }
    bytes
}

fn chunk_reading(criterion: &mut Criterion) {
    let limits = Limits { video_len_max: 8 << 20, unfinished_max: 12 << 20 };
    for (name, bits_per_second) in [("1.5 Mbit/s", 1_500_000), ("6 Mbit/s", 6_000_000)] {
        let mut group = criterion.benchmark_group(format!("chunk reading, {name}"));
        for chunk_size in [128, 4096, 60_000] {
            let bytes = broadcast(chunk_size, bits_per_second);
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_with_input(BenchmarkId::from_parameter(chunk_size), &bytes, |bencher, bytes| {
                bencher.iter(|| {
                    let mut reader = Reader::new(limits);
                    let mut read = 0;
                    for mut piece in bytes.chunks(64 << 10) {
                        while let Some(message) = reader.read(&mut piece).unwrap() {
                            read += message.payload.len();
                        }
                    }
                    read
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, chunk_reading);
criterion_main!(benches);
