//! Settings that are right one by one and wrong together.

use std::net::SocketAddr;
use std::time::Duration;

use toml::{Table, Value};

use super::Config;

/// Apple's authoring specification 8.11: a live playlist lists at least six segments.
const WINDOW_SEGMENTS_MIN: u32 = 6;

/// rfc8216bis 6.2.2: segments are not removed from a playlist that would then be shorter than three target durations.
const WINDOW_TARGETS_MIN: u32 = 3;

/// A live playlist is sent whole at every reload: a day of 2 s segments is 43,200 entries.
const WINDOW_MAX: Duration = Duration::from_hours(24);

/// A stop takes less than the 10 s after which service managers kill: `app` gives HTTP this much of it.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// Promises to players: nobody waits longer than half an hour for a publisher.
const RECONNECT_MAX: Duration = Duration::from_mins(30);

/// Settings for which nothing is an amount.
const MAY_BE_ZERO: [&str; 3] = ["flv.merge_max", "flv.wait", "live.reconnect"];

/// What cannot be, and the settings that say it, as `section.key`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Contradiction {
    pub(super) keys: Vec<String>,
    pub(super) text: String,
}

fn against<const N: usize>(keys: [&str; N], text: String) -> Result<(), Contradiction> {
    Err(Contradiction { keys: keys.map(str::to_owned).to_vec(), text })
}

/// The first contradiction, if there is one.
pub(super) fn check(config: &Config) -> Result<(), Contradiction> {
    nothing_is_zero(config)?;
    listeners(config)?;
    durations(config)?;
    config.log.filter().map(drop).or_else(|error| against(["log.level"], format!("[log] level: {error}")))
}

/// An amount, a size or a duration of nothing: it would switch off what every default has switched on. Found in the
/// configuration as it would be written to a file, so that no module's setting is left out.
fn nothing_is_zero(config: &Config) -> Result<(), Contradiction> {
    let written = Table::try_from(config).expect("a configuration is a TOML table");
    for (section, table) in &written {
        for (key, value) in table.as_table().into_iter().flatten() {
            let zero = match value {
                Value::Integer(number) => *number == 0,
                Value::String(text) => ["0s", "0 B"].contains(&text.as_str()),
                _ => false,
            };
            let path = format!("{section}.{key}");
            if zero && !MAY_BE_ZERO.contains(&path.as_str()) {
                return against([&path], format!("{} must not be zero", label(&path)));
            }
        }
    }
    Ok(())
}

fn listeners(config: &Config) -> Result<(), Contradiction> {
    let (rtmp, http) = (config.rtmp.listen, config.http.listen);
    let drain = config.http.drain_timeout;
    if drain > DRAIN_MAX {
        let text = format!("[http] drain_timeout ({drain:?}) is longer than {DRAIN_MAX:?}");
        return against(["http.drain_timeout"], text);
    }
    if overlap(rtmp, http) {
        let text = format!("[rtmp] listen ({rtmp}) and [http] listen ({http}) need the same port");
        return against(["rtmp.listen", "http.listen"], text);
    }
    Ok(())
}

/// Whether the two cannot be bound at once. Port 0 is always another port.
fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || everywhere)
}

fn durations(config: &Config) -> Result<(), Contradiction> {
    if config.live.reconnect > RECONNECT_MAX {
        let text = format!("[live] reconnect ({:?}) is longer than {RECONNECT_MAX:?}", config.live.reconnect);
        return against(["live.reconnect"], text);
    }
    if config.flv.wait >= config.http.write_timeout {
        let (wait, write) = (config.flv.wait, config.http.write_timeout);
        let text = format!("[flv] wait ({wait:?}) is not shorter than [http] write_timeout ({write:?})");
        return against(["flv.wait", "http.write_timeout"], text);
    }
    let hls = &config.hls;
    let show = humantime_serde::re::humantime::format_duration;
    let (segment, target, window) = (show(hls.segment), show(hls.target_duration), show(hls.window));
    if hls.target_duration.subsec_nanos() != 0 {
        let text = format!("[hls] target_duration ({target}) must be whole seconds (RFC 8216, 4.3.3.1)");
        return against(["hls.target_duration"], text);
    }
    if hls.segment > hls.target_duration {
        let text = format!("[hls] segment ({segment}) is longer than target_duration ({target})");
        return against(["hls.segment", "hls.target_duration"], text);
    }
    if hls.gop_max < hls.target_duration {
        let gop_max = show(hls.gop_max);
        let text = format!("[hls] gop_max ({gop_max}) is shorter than target_duration ({target})");
        return against(["hls.gop_max", "hls.target_duration"], text);
    }
    if hls.window < hls.target_duration.saturating_mul(WINDOW_TARGETS_MIN) {
        let text = format!(
            "[hls] window ({window}) is shorter than {WINDOW_TARGETS_MIN} times target_duration ({target})"
        );
        return against(["hls.window", "hls.target_duration"], text);
    }
    if hls.window < hls.segment.saturating_mul(WINDOW_SEGMENTS_MIN) {
        let text = format!(
            "[hls] window ({window}) is shorter than {WINDOW_SEGMENTS_MIN} times segment ({segment})"
        );
        return against(["hls.window", "hls.segment"], text);
    }
    if hls.window > WINDOW_MAX {
        let text = format!("[hls] window ({window}) is longer than {}", show(WINDOW_MAX));
        return against(["hls.window"], text);
    }
    Ok(())
}

/// `hls.memory` as people find it in the file: `[hls] memory`.
pub(super) fn label(key: &str) -> String {
    match key.split_once('.') {
        Some((section, key)) => format!("[{section}] {key}"),
        None => format!("[{key}]"),
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;

    type Change = fn(&mut Config);

    #[test]
    fn the_defaults_agree() {
        assert_eq!(check(&Config::default()), Ok(()));
    }

    /// PL.TARGET_*, PL.WINDOW_*: what hls rule A1 asks of a playlist cannot be configured away.
    #[test]
    fn settings_that_contradict_each_other_are_named() {
        let cases: [(&str, Change); 15] = [
            ("flv.wait http.write_timeout", |c| c.flv.wait = Duration::from_secs(20)),
            ("hls.segment hls.target_duration", |c| c.hls.segment = Duration::from_secs(5)),
            ("hls.target_duration", |c| c.hls.target_duration = Duration::from_millis(4500)),
            ("hls.target_duration", |c| c.hls.target_duration = Duration::ZERO),
            ("hls.gop_max hls.target_duration", |c| c.hls.gop_max = Duration::from_secs(3)),
            ("hls.window hls.target_duration", |c| c.hls.window = Duration::from_secs(11)),
            ("hls.window hls.segment", |c| {
                c.hls.segment = Duration::from_secs(4);
                c.hls.window = Duration::from_secs(23);
            }),
            ("hls.window", |c| c.hls.window = Duration::from_secs(90_000)),
            ("hls.segment", |c| c.hls.segment = Duration::ZERO),
            ("hls.memory", |c| c.hls.memory = ByteSize(0)),
            ("hls.segment_max", |c| c.hls.segment_max = ByteSize(0)),
            ("live.queue", |c| c.live.queue = ByteSize(0)),
            ("live.broadcasts_max", |c| c.live.broadcasts_max = 0),
            ("http.drain_timeout", |c| c.http.drain_timeout = Duration::from_secs(4)),
            ("log.level", |c| c.log.level = "ifno".to_owned()),
        ];
        for (keys, change) in cases {
            let mut config = Config::default();
            change(&mut config);
            assert_eq!(check(&config).unwrap_err().keys.join(" "), keys);
        }
    }

    #[test]
    fn two_listeners_need_two_ports() {
        for (rtmp, http, conflict) in [
            ("127.0.0.1:8000", "127.0.0.1:8000", true),
            ("0.0.0.0:8000", "127.0.0.1:8000", true),
            ("127.0.0.1:8000", "127.0.0.2:8000", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
            ("0.0.0.0:1935", "0.0.0.0:8000", false),
        ] {
            let mut config = Config::default();
            config.rtmp.listen = rtmp.parse().unwrap();
            config.http.listen = http.parse().unwrap();
            assert_eq!(check(&config).is_err(), conflict, "{rtmp} {http}");
        }
    }
}
