//! What the multivariant playlist says of a rendition: its codecs, size and rates, as measured.

use std::collections::VecDeque;

use m3u8_rs::{AlternativeMedia, MasterPlaylist, Resolution, VariantStream};

use crate::media::{Span, TrackSet};

/// The bitrate of what was listed: the peak that a player's buffer must bear, and the average; and what of it was
/// declared, which changes rarely so that the multivariant playlist does.
#[derive(Debug, Default)]
pub struct Rates {
    bytes: u64,
    span: Span,
    peak: u64,
    /// The newest segments, together at most 1.5 target durations.
    recent: VecDeque<(u64, Span)>,
    declared: Declared,
}

/// What the playlist says. The measured peak stays below it; the measured average within 5 % of it.
/// Apple allows a live broadcast a peak below 125 % and an average below 110 % of it (authoring specification 9.13 to
/// 9.15).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Declared {
    /// `BANDWIDTH`, bits per second.
    pub peak: u64,
    /// `AVERAGE-BANDWIDTH`, bits per second.
    pub average: u64,
}

/// How far the measured average may move before it is declared anew.
const DRIFT_PERCENT: u64 = 5;

/// What a new peak is given above the measured one. Players load the multivariant playlist once, mostly after a few
/// segments, and encoders start low: with this, a peak that becomes half as high again is still below 125 % of what
/// the first version said.
const HEADROOM_PERCENT: u64 = 20;

/// What the average is over, about: Apple measures it over an hour. Ten hours of a test card before a match must not
/// hide the match.
const AVERAGE_OVER: Span = Span::from_ms(3_600_000);

impl Rates {
    /// Counts a segment. The peak is the largest bitrate of any run of segments that lasts 0.5 to 1.5 target
    /// durations (rfc8216bis 4.1).
    pub fn push(&mut self, bytes: u64, duration: Span, target: Span) {
        if self.span > AVERAGE_OVER {
            self.bytes /= 2;
            self.span = Span(self.span.0 / 2);
        }
        self.bytes += bytes;
        self.span += duration;
        self.recent.push_back((bytes, duration));
        let (mut run_bytes, mut run) = (0, Span::ZERO);
        let mut fitting = 0;
        for (bytes, duration) in self.recent.iter().rev() {
            run_bytes += bytes;
            run += *duration;
            if run.0 * 2 > target.0 * 3 {
                break;
            }
            fitting += 1;
            if run.0 * 2 >= target.0 {
                self.peak = self.peak.max(bits_per_second(run_bytes, run));
            }
        }
        self.recent.drain(..self.recent.len() - fitting.max(1));
        self.declare();
    }

    fn declare(&mut self) {
        let average = bits_per_second(self.bytes, self.span);
        let peak = self.peak.max(average);
        if peak > self.declared.peak {
            self.declared.peak = peak + peak * HEADROOM_PERCENT / 100;
        }
        if average.abs_diff(self.declared.average) * 100 > self.declared.average * DRIFT_PERCENT {
            self.declared.average = average;
        }
    }

    /// What the playlist should say.
    pub fn declared(&self) -> Declared {
        self.declared
    }
}

/// Rounded up; 0 of nothing.
fn bits_per_second(bytes: u64, span: Span) -> u64 {
    let ticks = u128::try_from(span.0).unwrap_or(0);
    let bits = u128::from(bytes) * 8 * 90_000;
    bits.div_ceil(ticks.max(1)).try_into().unwrap_or(u64::MAX)
}

/// The multivariant playlist of one rendition. Written by m3u8-rs: each of its attributes is a field there, so the
/// order is fixed. `pictures_per_second` is used where the stream itself does not tell its frame rate.
pub fn multivariant(uri: &str, tracks: &TrackSet, rates: Declared, pictures_per_second: f64) -> String {
    let video = tracks.video.as_deref();
    let codecs = video.map(|video| video.codec.clone()).into_iter();
    let codecs = codecs.chain(tracks.audio.as_deref().map(crate::media::AudioConfig::codec));
    let frame_rate = video.map(|video| {
        video.frame_rate.map_or(pictures_per_second, |(num, den)| f64::from(num) / f64::from(den.max(1)))
    });
    let variant = VariantStream {
        uri: uri.to_owned(),
        bandwidth: rates.peak,
        average_bandwidth: Some(rates.average),
        codecs: Some(codecs.collect::<Vec<_>>().join(",")),
        resolution: video.map(|video| Resolution { width: video.width.into(), height: video.height.into() }),
        // Three decimals (rfc8216bis 4.4.6.2).
        frame_rate: frame_rate.map(|rate| (rate * 1000.0).round() / 1000.0),
        ..VariantStream::default()
    };
    let playlist = MasterPlaylist {
        version: Some(3),
        variants: vec![variant],
        independent_segments: true,
        alternatives: Vec::<AlternativeMedia>::new(),
        ..MasterPlaylist::default()
    };
    let mut text = Vec::with_capacity(512);
    playlist.write_to(&mut text).expect("a Vec takes every write");
    String::from_utf8(text).expect("m3u8-rs writes the strings it was given")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::media::h264::VideoConfig;
    use crate::media::{AudioConfig, sample};

    fn seconds(s: i64) -> Span {
        Span::from_ms(s * 1000)
    }

    /// rfc8216bis 4.1: a run shorter than half a target duration is no peak, however dense.
    #[test]
    fn the_peak_is_over_runs_of_half_to_one_and_a_half_targets() {
        let mut rates = Rates::default();
        rates.push(125_000, seconds(2), seconds(4));
        assert_eq!(rates.declared(), Declared { peak: 600_000, average: 500_000 });
        rates.push(1_000_000, Span::from_ms(500), seconds(4));
        let both = 1_125_000 * 8 * 10 / 25;
        assert_eq!(rates.declared(), Declared { peak: both + both / 5, average: both });
    }

    /// A playlist that says something new with each segment can't be cached.
    #[test]
    fn what_is_declared_stands_while_the_rates_wander_a_little() {
        let mut rates = Rates::default();
        rates.push(500_000, seconds(2), seconds(4));
        let declared = rates.declared();
        for n in 0..50 {
            rates.push(495_000 + n * 300, seconds(2), seconds(4));
        }
        assert_eq!(rates.declared(), declared);
    }

    /// AS 9.15: the average of an hour is below 110 % of what is said, whatever was on before.
    #[test]
    fn what_was_hours_ago_is_forgotten() {
        let mut rates = Rates::default();
        (0..18_000).for_each(|_| rates.push(125_000, seconds(2), seconds(4)));
        (0..3600).for_each(|_| rates.push(1_250_000, seconds(2), seconds(4)));
        let average = rates.declared().average;
        assert!(average * 110 > 5_000_000 * 100 && average <= 5_000_000, "{average}");
    }

    #[test]
    fn every_attribute_is_there_and_reads_back() {
        let tracks = TrackSet {
            video: Some(Arc::new(VideoConfig {
                width: 1280,
                height: 720,
                frame_rate: Some((30_000, 1001)),
                ..sample::video()
            })),
            audio: Some(Arc::new(AudioConfig::Aac(sample::aac()))),
        };
        let rates = Declared { peak: 1_100_000, average: 1_000_000 };
        assert_eq!(
            multivariant("media-4s.m3u8", &tracks, rates, 0.0),
            "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-INDEPENDENT-SEGMENTS\n\
             #EXT-X-STREAM-INF:BANDWIDTH=1100000,AVERAGE-BANDWIDTH=1000000,CODECS=\"avc1.64001F,mp4a.40.2\",\
             RESOLUTION=1280x720,FRAME-RATE=29.97\nmedia-4s.m3u8\n"
        );
    }

    #[test]
    fn audio_alone_has_no_size() {
        let text = multivariant("media-4s.m3u8", &TrackSet::default(), Declared::default(), 0.0);
        assert!(!text.contains("RESOLUTION") && !text.contains("FRAME-RATE"));
    }
}
