//! The broadcast that is published, as an FLV file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Failure;

/// The file for a bitrate, made by ffmpeg the first time: moving picture with noise at a constant bitrate, GOPs of 2 s,
/// 25 pictures a second, AAC of noise: no two frames are alike, so that each can be told from the others.
pub(crate) fn flv(bitrate: u32, folder: &Path) -> Result<PathBuf, Failure> {
    const AUDIO_KBIT_S: u32 = 128;
    let path = folder.join(format!("broadcast-{bitrate}k.flv"));
    if path.exists() {
        return Ok(path);
    }
    let video = bitrate.saturating_sub(AUDIO_KBIT_S).max(100);
    let part = path.with_extension("part");
    let status = Command::new("ffmpeg")
        .args(["-hide_banner", "-loglevel", "error", "-nostdin", "-y"])
        .args(["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=25,noise=alls=30:allf=t,format=yuv420p"])
        .args([
            "-f",
            "lavfi",
            "-i",
            "anoisesrc=color=pink:seed=1:amplitude=0.3:sample_rate=48000,aformat=channel_layouts=stereo",
        ])
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
