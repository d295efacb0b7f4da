//! A broadcast as chunks that are ready to send: cut up once, sent by every publisher.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use grandstand::media::flv::TagKind;
use grandstand::publish::FlvFile;
use grandstand::publish::pace::Pace;

use crate::{Failure, Options};

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

impl Feed {
    /// Cuts `file` into chunks of `chunk_bytes`.
    pub(crate) fn new(file: &FlvFile, chunk_bytes: usize) -> Self {
        let mut pace = Pace::new(file, true);
        let period_ms = pace.period_ms();
        let mut feed = Self { first: Lane::default(), next: Lane::default(), period_ms };
        // Timestamps of the last message on chunk streams 3, 4 and 5.
        let mut last = [None; 3];
        // Some tags of a round may be due a little after its end; one second covers any real interleaving.
        while let Some(due) = pace.next().filter(|due| (due.at.as_millis() as u64) < 2 * period_ms + 1_000) {
            let (slot, type_id, prefix) = match due.tag.kind {
                TagKind::Data => (0, 18, &b"\x02\0\x0d@setDataFrame"[..]),
                TagKind::Video => (1, 9, &b""[..]),
                TagKind::Audio => (2, 8, &b""[..]),
            };
            let at_ms = due.at.as_millis() as u64;
            let (lane, at_ms) = if at_ms < period_ms {
                (&mut feed.first, at_ms)
            } else if at_ms < 2 * period_ms {
                (&mut feed.next, at_ms - period_ms)
            } else {
                continue;
            };
            let body = [prefix, &due.tag.body].concat();
            let before = last[slot].replace(due.timestamp_ms);
            let delta_ms = before.map(|before| due.timestamp_ms.wrapping_sub(before));
            write_message(
                &mut lane.bytes,
                slot as u8 + 3,
                type_id,
                delta_ms,
                due.timestamp_ms,
                &body,
                chunk_bytes,
            );
            let at_ms = lane.due.last().map_or(at_ms, |(last, _)| at_ms.max(*last));
            lane.due.push((at_ms, lane.bytes.len()));
        }
        feed
    }

    /// Bits per second on the wire.
    pub(crate) fn bits_per_second(&self) -> u64 {
        self.next.bytes.len() as u64 * 8_000 / self.period_ms.max(1)
    }
}

/// RTMP 1.0 §5.3.1: a type 0 header, or type 1 with a delta where the chunk stream has had a message.
fn write_message(
    out: &mut Vec<u8>,
    chunk_stream: u8,
    type_id: u8,
    delta_ms: Option<u32>,
    timestamp_ms: u32,
    body: &[u8],
    chunk_bytes: usize,
) {
    let time = delta_ms.unwrap_or(timestamp_ms);
    assert!(
        time < 0x00ff_ffff,
        "the file starts within the first hours of its timeline and never steps back"
    );
    let [_, l2, l1, l0] = (body.len() as u32).to_be_bytes();
    let [_, t2, t1, t0] = time.to_be_bytes();
    let format = u8::from(delta_ms.is_some());
    out.extend([format << 6 | chunk_stream, t2, t1, t0, l2, l1, l0, type_id]);
    if delta_ms.is_none() {
        out.extend(MESSAGE_STREAM.to_le_bytes());
    }
    for (n, chunk) in body.chunks(chunk_bytes).enumerate() {
        if n > 0 {
            out.push(3 << 6 | chunk_stream);
        }
        out.extend_from_slice(chunk);
    }
}

/// The file for a bitrate, made by ffmpeg the first time: moving picture with noise at a constant bitrate, GOPs of 2 s,
/// 25 pictures a second, AAC.
pub(crate) fn flv(options: &Options, folder: &Path) -> Result<PathBuf, Failure> {
    const AUDIO_KBIT_S: u32 = 128;
    let path = folder.join(format!("load-{}k.flv", options.bitrate));
    if path.exists() {
        return Ok(path);
    }
    let video = options.bitrate.saturating_sub(AUDIO_KBIT_S).max(100);
    let part = path.with_extension("part");
    let status = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=25,noise=alls=30:allf=t,format=yuv420p"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000,aformat=channel_layouts=stereo"])
        .args([
            "-t",
            "20",
            "-c:v",
            "libx264",
            "-preset",
            "veryfast",
            "-g",
            "50",
            "-sc_threshold",
            "0",
            "-bf",
            "2",
        ])
        .args([
            "-b:v",
            &format!("{video}k"),
            "-minrate",
            &format!("{video}k"),
            "-maxrate",
            &format!("{video}k"),
        ])
        .args(["-bufsize", &format!("{}k", video / 2), "-x264-params", "nal-hrd=cbr"])
        .args(["-c:a", "aac", "-b:a", &format!("{AUDIO_KBIT_S}k"), "-f", "flv"])
        .arg(&part)
        .status()
        .map_err(|error| format!("ffmpeg does not run: {error}"))?;
    if !status.success() {
        return Err("ffmpeg could not make the broadcast".into());
    }
    fs::rename(&part, &path)?;
    Ok(path)
}
