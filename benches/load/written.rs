//! What a server has really written: a figure for work that was not done is worth nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::Failure;

/// Segments of some broadcasts on disk.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) broadcasts: usize,
    pub(crate) segments: usize,
    /// Sum of their durations as ffprobe reads them.
    pub(crate) duration_s: f64,
    pub(crate) bytes: u64,
}

impl Written {
    /// Looks at the first, the middle and the last of `count` broadcasts below `media`.
    pub(crate) fn look(media: &Path, count: u32) -> Result<Self, Failure> {
        let mut written = Self::default();
        let mut numbers = vec![0, count / 2, count - 1];
        numbers.dedup();
        for number in numbers {
            let mut segments = Vec::new();
            find_segments(&media.join(format!("live/load-{number}")), &mut segments)?;
            if segments.is_empty() {
                find_segments(&media.join(format!("load-{number}")), &mut segments)?;
            }
            written.broadcasts += 1;
            for path in segments {
                let duration_s = duration_s(&path)?;
                // A server that appends to the open segment has a short one at the end.
                if duration_s > 1.9 {
                    written.segments += 1;
                    written.duration_s += duration_s;
                    written.bytes += fs::metadata(&path)?.len();
                }
            }
        }
        Ok(written)
    }

    /// Whole segments per broadcast.
    pub(crate) fn segments_each(&self) -> f64 {
        self.segments as f64 / self.broadcasts.max(1) as f64
    }

    /// Segments are of 2 s and there are as many as fit into `time_s`, but for the open one, one still on its way and
    /// the wait for the first picture; and they hold the media, not only its names.
    pub(crate) fn holds(&self, time_s: f64, bits_per_second: u64) -> bool {
        let mean_s = self.duration_s / self.segments.max(1) as f64;
        let bits = self.bytes as f64 * 8.0;
        self.segments_each() >= time_s / 2.0 - 3.0
            && (1.9..2.2).contains(&mean_s)
            && bits > self.duration_s * bits_per_second as f64 * 0.9
    }
}

fn find_segments(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_segments(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "ts") {
            found.push(path);
        }
    }
    Ok(())
}

/// 25 pictures a second: their number is the duration, and doesn't depend on what the audio does at the ends.
fn duration_s(segment: &Path) -> Result<f64, Failure> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-count_packets", "-of", "csv=p=0"])
        .args(["-show_entries", "stream=nb_read_packets"])
        .arg(segment)
        .output()?;
    // In transport streams ffprobe lists the stream once for its program and once for itself.
    let text = String::from_utf8(output.stdout)?;
    let pictures: f64 = text.lines().find_map(|line| line.trim_matches(',').parse().ok()).unwrap_or(0.0);
    Ok(pictures / 25.0)
}
