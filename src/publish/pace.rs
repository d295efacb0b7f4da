//! When each tag of a file is due, once or round after round. A core: no clock.

use std::time::Duration;

use crate::media::flv::{Tag, TagKind};
use crate::publish::flv_file::FlvFile;

/// Walks over a file's tags for ever or once. In later rounds timestamps run on by the file's period, so that both
/// tracks keep their grids and nothing tells the receiver that the file started again.
#[derive(Debug, Clone)]
pub struct Pace<'a> {
    tags: &'a [Tag],
    next: usize,
    round: u64,
    rounds_max: u64,
    start_ms: u32,
    period_ms: u64,
    sent_audio_header: Option<&'a Tag>,
    sent_video_header: Option<&'a Tag>,
}

/// One tag and its place in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due<'a> {
    /// What to send.
    pub tag: &'a Tag,
    /// Since the first audio or video tag. Zero for what stands before it.
    pub at: Duration,
    /// The timestamp to send, modulo 2^32 as RTMP has it.
    pub timestamp_ms: u32,
}

impl<'a> Pace<'a> {
    /// A walk over `file`, for ever if `repeat`.
    pub fn new(file: &'a FlvFile, repeat: bool) -> Self {
        let tags = file.tags();
        let media = || tags.iter().filter(|tag| tag.kind != TagKind::Data && !is_sequence_header(tag));
        // A file of sequence headers alone has no media; its headers then start the time.
        let start_ms = media().next().or(tags.first()).map_or(0, |tag| tag.timestamp_ms);
        let period_ms = [TagKind::Audio, TagKind::Video]
            .into_iter()
            .map(|kind| span_ms(media().filter(|tag| tag.kind == kind)))
            .max()
            .unwrap_or(0);
        let rounds_max = if repeat && period_ms > 0 { u64::MAX } else { 1 };
        Self {
            tags,
            next: 0,
            round: 0,
            rounds_max,
            start_ms,
            period_ms,
            sent_audio_header: None,
            sent_video_header: None,
        }
    }

    /// How far timestamps move from one round to the next: the longer track's length with its last frame, in
    /// milliseconds. 0 if no track has two frames: then there is only one round.
    pub fn period_ms(&self) -> u64 {
        self.period_ms
    }

    /// A later round says nothing again that still holds: no metadata, no sequence header like the last one. The
    /// end of the sequence is said only at the end.
    fn repeats(&mut self, tag: &'a Tag) -> bool {
        if is_sequence_header(tag) {
            let sent = match tag.kind {
                TagKind::Audio => &mut self.sent_audio_header,
                TagKind::Video => &mut self.sent_video_header,
                TagKind::Data => return false,
            };
            return sent.replace(tag).is_some_and(|sent| sent.body == tag.body);
        }
        (self.round > 0 && tag.kind == TagKind::Data) || (self.rounds_max > 1 && is_end_of_sequence(tag))
    }
}

impl<'a> Iterator for Pace<'a> {
    type Item = Due<'a>;

    fn next(&mut self) -> Option<Due<'a>> {
        loop {
            let Some(tag) = self.tags.get(self.next) else {
                self.round += 1;
                self.next = 0;
                if self.round >= self.rounds_max {
                    self.next = self.tags.len();
                    return None;
                }
                continue;
            };
            self.next += 1;
            if self.repeats(tag) {
                continue;
            }
            let offset_ms = self.round.wrapping_mul(self.period_ms);
            // Tags a little older than the first one (audio behind a B-frame delay) are due at once; those far
            // older are the far side of the 32-bit wrap.
            let since_start_ms = tag.timestamp_ms.wrapping_sub(self.start_ms).cast_signed().max(0);
            return Some(Due {
                tag,
                at: Duration::from_millis(offset_ms.saturating_add(u64::from(since_start_ms.unsigned_abs()))),
                timestamp_ms: tag.timestamp_ms.wrapping_add(offset_ms as u32),
            });
        }
    }
}

/// A track's length from its first frame to the end of its last, which is as long as the mean of the others: the mean
/// over a whole number of frames has no rounding error that a later round would add up.
fn span_ms<'a>(mut track: impl Iterator<Item = &'a Tag>) -> u64 {
    let Some(first) = track.next() else { return 0 };
    let (last, intervals) = track.fold((first, 0u64), |(_, count), tag| (tag, count + 1));
    let between_ms = last.timestamp_ms.wrapping_sub(first.timestamp_ms).cast_signed().max(0);
    let between_ms = u64::from(between_ms.unsigned_abs());
    let mean_ms = (between_ms + intervals / 2).checked_div(intervals).unwrap_or(0);
    between_ms + mean_ms
}

/// An AAC or H.264 sequence header (FLV specification E.4.2.1, E.4.3.1).
fn is_sequence_header(tag: &Tag) -> bool {
    matches!(
        (tag.kind, tag.body.as_ref()),
        (TagKind::Audio, [0xa0..=0xaf, 0, ..]) | (TagKind::Video, [0x17 | 0x27, 0, ..])
    )
}

/// H.264's end of sequence (FLV specification E.4.3.1, `AVCPacketType` 2).
fn is_end_of_sequence(tag: &Tag) -> bool {
    matches!((tag.kind, tag.body.as_ref()), (TagKind::Video, [0x17 | 0x27, 2, ..]))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn match_flv() -> FlvFile {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/match.flv");
        FlvFile::read(&std::fs::read(path).unwrap().into()).unwrap()
    }

    #[test]
    fn one_round_is_the_file_itself_but_for_the_end_of_sequence_in_its_place() {
        let file = match_flv();
        let due: Vec<Due> = Pace::new(&file, false).collect();
        assert!(due.iter().map(|due| due.tag).eq(file.tags()));
        assert!(due.iter().all(|due| due.timestamp_ms == due.tag.timestamp_ms));
        assert_eq!(due.last().unwrap().at, Duration::from_millis(15_960));
    }

    /// match.flv is made to loop without a seam: 40 ms stay 40 ms between pictures, and AAC frames keep the grid of
    /// 1024 samples at 48 kHz over many rounds, to the rounding of a millisecond.
    #[test]
    fn both_tracks_keep_their_grid_over_rounds() {
        let file = match_flv();
        assert_eq!(Pace::new(&file, true).period_ms(), 16_000);
        let rounds = file.tags().len() * 5;
        let times = |kind| -> Vec<u32> {
            Pace::new(&file, true)
                .take(rounds)
                .filter(|due| due.tag.kind == kind && !is_sequence_header(due.tag))
                .map(|due| due.timestamp_ms)
                .collect()
        };
        let video = times(TagKind::Video);
        assert!(video.len() > 1_600 && video.windows(2).all(|pair| pair[1] - pair[0] == 40));
        let audio = times(TagKind::Audio);
        for (n, at) in audio.iter().enumerate() {
            let exact = f64::from(audio[0]) + n as f64 * 1024.0 / 48.0;
            assert!((f64::from(*at) - exact).abs() <= 1.0, "frame {n} at {at} ms instead of {exact}");
        }
    }

    #[test]
    fn a_later_round_repeats_neither_metadata_nor_headers_nor_the_end() {
        let file = match_flv();
        let first_round = file.tags().iter().filter(|tag| !is_end_of_sequence(tag)).count();
        let mut pace = Pace::new(&file, true);
        assert_eq!(pace.by_ref().take(first_round).filter(|due| is_sequence_header(due.tag)).count(), 2);
        let second: Vec<Due> = pace.take(1_000).collect();
        assert!(second.iter().all(|due| due.tag.kind != TagKind::Data && !is_sequence_header(due.tag)));
        assert_eq!(second[0].timestamp_ms, 16_000);
    }

    #[test]
    fn timestamps_wrap_and_time_does_not() {
        let tag = |timestamp_ms, byte| (8u8, timestamp_ms, vec![0x2f, byte]);
        let mut bytes = b"FLV\x01\x04\0\0\0\x09\0\0\0\0".to_vec();
        for (kind, at, body) in [tag(u32::MAX - 9, 1), tag(0, 2), tag(10, 3)] {
            let [t3, t2, t1, t0] = u32::to_be_bytes(at);
            bytes.extend([kind, 0, 0, 2, t2, t1, t0, t3, 0, 0, 0]);
            bytes.extend(body);
            bytes.extend([0; 4]);
        }
        let file = FlvFile::read(&Bytes::from(bytes)).unwrap();
        let due: Vec<_> =
            Pace::new(&file, true).take(5).map(|due| (due.at.as_millis(), due.timestamp_ms)).collect();
        assert_eq!(due, [(0, u32::MAX - 9), (10, 0), (20, 10), (30, 20), (40, 30)]);
    }

    #[test]
    fn a_single_frame_is_never_repeated_without_end() {
        let mut bytes = b"FLV\x01\x04\0\0\0\x09\0\0\0\0".to_vec();
        bytes.extend([8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x2f]);
        let file = FlvFile::read(&bytes.into()).unwrap();
        assert_eq!(Pace::new(&file, true).count(), 1);
    }
}
