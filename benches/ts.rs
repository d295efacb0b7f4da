//! Muxing one segment: bytes of MPEG-TS per second on one core, walking and writing together.
#![allow(missing_docs)] // `criterion_group!` makes public items.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use grandstand::media::aac::AacConfig;
use grandstand::media::h264::VideoConfig;
use grandstand::media::{AudioConfig, Frame, Ticks, Track, TrackSet};
use grandstand::package::ts::SegmentMuxer;

fn tracks() -> Arc<TrackSet> {
    let video = VideoConfig {
        record: Bytes::new(),
        sps: vec![Bytes::from_static(&[0x67; 24])],
        pps: vec![Bytes::from_static(&[0x68; 6])],
        nal_length_size: 4,
        codec: String::new(),
        width: 0,
        height: 0,
        frame_rate: None,
        reorder: None,
    };
    let audio = AacConfig {
        config: Bytes::new(),
        object_type: 2,
        sample_rate: 48_000,
        channels: 2,
        samples_per_frame: 1024,
        sbr: false,
        ps: false,
    };
    Arc::new(TrackSet { video: Some(Arc::new(video)), audio: Some(Arc::new(AudioConfig::Aac(audio))) })
}

/// Two seconds: 25 pictures per second of four slices, the first eight times as large; audio of 128 kbit/s.
fn frames(video_bits: usize) -> Vec<Arc<Frame>> {
    let unit = video_bits / 8 * 2 / 57;
    let picture = |index: i64| {
        let slice = unit * if index == 0 { 8 } else { 1 } / 4;
        let nal = [&(slice as u32).to_be_bytes()[..], &vec![0x41; slice]].concat();
        let (dts, pts) = (Ticks(index * 3600), Ticks(index * 3600 + 7200));
        Frame { track: Track::Video, dts, pts, random_access: index == 0, payload: nal.repeat(4).into() }
    };
    let sound = |index: i64| {
        let time = Ticks(7200 + index * 1920);
        Frame {
            track: Track::Audio,
            dts: time,
            pts: time,
            random_access: true,
            payload: vec![0x21; 341].into(),
        }
    };
    let mut frames: Vec<_> = (0..50).map(picture).chain((0..94).map(sound)).map(Arc::new).collect();
    frames.sort_by_key(|frame| frame.dts);
    frames
}

fn mux(tracks: &Arc<TrackSet>, frames: &[Arc<Frame>]) -> Bytes {
    let mut muxer = SegmentMuxer::new(Arc::clone(tracks)).expect("ordinary tracks");
    for frame in frames {
        muxer.push(frame).expect("well-formed frames");
    }
    muxer.finish(None)
}

fn segments(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ts");
    for (name, video_bits) in
        [("700k", 572_000), ("1500k", 1_372_000), ("6000k", 5_872_000), ("25M", 25_000_000)]
    {
        let (tracks, frames) = (tracks(), frames(video_bits));
        group.throughput(Throughput::Bytes(mux(&tracks, &frames).len() as u64));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(mux(&tracks, &frames))));
    }
    group.finish();
}

criterion_group!(benches, segments);
criterion_main!(benches);
