//! Segmenting, in events per second, and rendering a media playlist as it slides, on one core.

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use grandstand::clock::WallTime;
use grandstand::media::h264::VideoConfig;
use grandstand::media::mp3::Mp3Config;
use grandstand::media::{AudioConfig, Epoch, Event, Frame, Span, Ticks, Track, TrackSet};
use grandstand::package::playlist::{Segment, Window};
use grandstand::package::segmenter::{Limits, Segmenter};
use grandstand::store::SegmentKey;

const WALL: WallTime = WallTime::from_unix_us(1_795_716_584_000_000);

/// A minute of 25 pictures a second, sent 80 ms ahead of their time, a random access point each 2 s, and audio between.
fn minute() -> Vec<Event> {
    let video = VideoConfig {
        record: Bytes::new(),
        sps: Vec::new(),
        pps: Vec::new(),
        nal_length_size: 4,
        codec: "avc1.64001F".to_owned(),
        width: 1280,
        height: 720,
        frame_rate: Some((25, 1)),
        reorder: Some(2),
    };
    let audio = Mp3Config { sample_rate: 48_000, channels: 2, samples_per_frame: 1152, lsf: false };
    let tracks = TrackSet { video: Some(Arc::new(video)), audio: Some(Arc::new(AudioConfig::Mp3(audio))) };
    let frame = |track, at: i64, ahead: i64, random_access| {
        let (dts, pts) = (Ticks(at), Ticks(at + ahead));
        let payload = Bytes::from_static(&[0; 7000]);
        (at, Event::Frame(Arc::new(Frame { track, dts, pts, random_access, payload })))
    };
    let pictures = (0..1500).map(|n| frame(Track::Video, n * 3600, 7200, n % 50 == 0));
    let sounds = (0..2500).map(|n| frame(Track::Audio, n * 2160, 0, true));
    let mut frames: Vec<_> = pictures.chain(sounds).collect();
    frames.sort_by_key(|(at, _)| *at);
    [Event::Start(Epoch(1)), Event::Tracks(Arc::new(tracks))]
        .into_iter()
        .chain(frames.into_iter().map(|(_, event)| event))
        .collect()
}

fn segmenting(c: &mut Criterion) {
    let events = minute();
    let limits =
        Limits { target: Span::from_ms(2000), length_max: Span::from_ms(20_000), bytes_max: 64 << 20 };
    let mut group = c.benchmark_group("segmenter");
    group.throughput(Throughput::Elements(events.len() as u64));
    group.bench_function("minute", |bencher| {
        bencher.iter(|| {
            let mut segmenter = Segmenter::new(limits);
            for event in &events {
                segmenter.handle(event, WALL);
                while let Some(step) = segmenter.poll() {
                    black_box(step);
                }
            }
        });
    });
    group.finish();
}

/// One step of a live playlist: a segment in, one out, and its text.
fn rendering(c: &mut Criterion) {
    let mut group = c.benchmark_group("playlist");
    for entries in [30, 7200] {
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("slide and render", entries), |bencher| {
            let span = Span::from_ms(2000);
            let mut window = Window::new(Span::from_ms(4000), Span(span.0 * entries), 1, 0);
            let mut sequence = 0;
            let mut slide = |window: &mut Window| {
                sequence += 1;
                let key =
                    SegmentKey { name: "live/mark".parse().expect("a name"), epoch: Epoch(1), sequence };
                let date = WALL.plus_us(sequence as i64 * 2_000_000);
                window.push(Segment { key, duration: span, discontinuity: false, date, bytes: 375_000 })
            };
            for _ in 0..entries {
                slide(&mut window).expect("2 s fit");
            }
            bencher.iter(|| {
                slide(&mut window).expect("2 s fit");
                black_box(window.render())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, segmenting, rendering);
criterion_main!(benches);
