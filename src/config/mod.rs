//! Configuration: every module's settings put together.
//!
//! ```text
//! defaults ◄─ file (TOML) ◄─ GRANDSTAND_<SECTION>_<KEY> ◄─ flags      the right one wins
//! ```
//! A setting that does not exist, a value that cannot be read, and settings that contradict each other are errors that
//! name the key and the line, variable or flag: an origin never starts with something else than it was told.

mod check;
pub mod layered;
pub mod log;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use layered::{Layered, Origin};

use crate::{deliver, ingest::rtmp, live, package, store};

/// All settings. `config/grandstand.toml` lists them with their defaults.
///
/// A setting always has a value that can be written out (no `Option`): the environment's names come from that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// RTMP in.
    pub rtmp: rtmp::Settings,
    /// HTTP out.
    pub http: deliver::Settings,
    /// HTTP-FLV beside HLS.
    pub flv: deliver::flv::Settings,
    /// Where objects live.
    pub store: store::Settings,
    /// Segments and playlists.
    pub hls: package::Settings,
    /// Limits of what is live.
    pub live: live::Settings,
    /// The origin's own log.
    pub log: log::Settings,
}

/// Why there is no configuration. The text is for the operator.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The file is no TOML, a setting does not exist, or its value cannot be read.
    #[error("{origin}: {problem}")]
    Value {
        /// Where it was written.
        origin: Origin,
        /// The key and what is wrong with it.
        problem: String,
    },
    /// A variable that looks like a setting is none.
    #[error("{name}: there is no such setting")]
    UnknownVariable {
        /// Its name.
        name: String,
    },
    /// Settings contradict each other.
    #[error("{}{problem}", prefix(origins))]
    Contradiction {
        /// Where they were written; a default was written nowhere.
        origins: Vec<Origin>,
        /// The keys, their values and why they can't be.
        problem: String,
    },
}

fn prefix(origins: &[Origin]) -> String {
    let origins: Vec<_> = origins.iter().map(Origin::to_string).collect();
    if origins.is_empty() { String::new() } else { format!("{}: ", origins.join(" and ")) }
}

impl Config {
    /// The settings of `file` alone over the defaults.
    pub fn from_file(file: &Path) -> Result<Self, ConfigError> {
        let mut layered = Layered::default();
        read(&mut layered, file)?;
        layered.finish()
    }

    /// The settings of `file`, then `variables`, then `flags` (name with dashes, value), over the defaults.
    pub fn load(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Self, ConfigError> {
        let mut layered = Layered::default();
        if let Some(file) = file {
            read(&mut layered, file)?;
        }
        layered.environment(variables)?;
        for (name, value) in flags {
            layered.flag(name, value)?;
        }
        layered.finish()
    }
}

fn read(layered: &mut Layered, path: &Path) -> Result<(), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    layered.file(path, &text)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use toml::Table;

    use super::*;

    const EXAMPLE: &str = include_str!("../../config/grandstand.toml");

    fn file(text: &str) -> Result<Config, ConfigError> {
        let mut layered = Layered::default();
        layered.file(Path::new("g.toml"), text)?;
        layered.finish()
    }

    fn load(variables: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Result<Config, ConfigError> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Config::load(
            None,
            variables.iter().map(owned),
            flags.iter().map(|(name, value)| (*name, (*value).to_owned())),
        )
    }

    #[test]
    fn the_example_is_the_default_and_lists_every_setting() {
        assert_eq!(file(EXAMPLE).unwrap(), Config::default());
        let example: Table = EXAMPLE.parse().unwrap();
        let defaults = Table::try_from(Config::default()).unwrap();
        assert_eq!(
            keys(&example),
            keys(&defaults),
            "config/grandstand.toml lists exactly the settings there are"
        );
    }

    fn keys(table: &Table) -> Vec<String> {
        let section = |(section, keys): (&String, &toml::Value)| {
            let keys = keys.as_table().cloned().unwrap_or_default();
            keys.into_iter().map(|(key, _)| format!("{section}.{key}")).collect::<Vec<_>>()
        };
        let mut keys: Vec<_> = table.iter().flat_map(section).collect();
        keys.sort();
        keys
    }

    #[test]
    fn an_empty_file_is_the_default() {
        assert_eq!(file("").unwrap(), Config::default());
        assert_eq!(file("[hls]\n").unwrap(), Config::default());
    }

    /// Each setting that exists can be given its own default by its variable.
    #[test]
    fn every_setting_has_a_variable() {
        let defaults = Table::try_from(Config::default()).unwrap();
        for path in keys(&defaults) {
            let (section, key) = path.split_once('.').unwrap();
            let value = &defaults[section][key];
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let name = format!("GRANDSTAND_{section}_{key}").to_uppercase();
            assert_eq!(load(&[(&name, &text)], &[]).unwrap(), Config::default(), "{name}");
        }
    }

    #[test]
    fn flags_go_over_the_environment_over_the_file() {
        let mut layered = Layered::default();
        layered.file(Path::new("g.toml"), "[hls]\nwindow = \"30s\"\n[store]\nurl = \"a\"\n").unwrap();
        layered.environment([("GRANDSTAND_STORE_URL".to_owned(), "b".to_owned())]).unwrap();
        layered.flag("--rtmp-listen", "127.0.0.1:1".to_owned()).unwrap();
        layered.environment([("GRANDSTAND_LIVE_BROADCASTS_MAX".to_owned(), "7".to_owned())]).unwrap();
        let config = layered.finish().unwrap();
        assert_eq!(config.hls.window, Duration::from_secs(30));
        assert_eq!(config.store.url, "b");
        assert_eq!(config.rtmp.listen.to_string(), "127.0.0.1:1");
        assert_eq!(config.live.broadcasts_max, 7);
        assert_eq!(load(&[("GRANDSTAND_STORE_URL", "b")], &[("--store-url", "c")]).unwrap().store.url, "c");
    }

    /// A folder whose name is digits stays a text; other programs' variables are none of ours.
    #[test]
    fn the_type_of_a_variable_is_that_of_its_setting() {
        assert_eq!(load(&[("GRANDSTAND_STORE_URL", "2026")], &[]).unwrap().store.url, "2026");
        assert_eq!(load(&[("PATH", "x"), ("GRANDSTANDX", "y")], &[]).unwrap(), Config::default());
        for value in ["many", "", "-1", "1.5", "true", "[1]"] {
            let error = load(&[("GRANDSTAND_LIVE_BROADCASTS_MAX", value)], &[]).unwrap_err();
            assert!(matches!(error, ConfigError::Value { origin: Origin::Variable(_), .. }), "{value}");
        }
    }

    #[test]
    fn errors_name_the_key_and_where_it_stands() {
        for (text, start) in [
            ("[hls]\n\nsegmnt = \"2s\"\n", "g.toml:3: [hls] segmnt: unknown field `segmnt`, expected one of"),
            ("# x\n[rtpm]\n", "g.toml:2: [rtpm]: unknown field `rtpm`"),
            ("listen = 3\n", "g.toml:1: \"listen\" is no section"),
            ("[hls]\nsegment = 2\n", "g.toml:2: [hls] segment: invalid type: integer `2`"),
            ("[rtmp]\nlisten = \"1935\"\n", "g.toml:2: [rtmp] listen: invalid socket address"),
            ("[hls]\nmemory = \"big\"\n", "g.toml:2: [hls] memory: invalid value: string \"big\""),
            ("[live]\nbroadcasts_max = -1\n", "g.toml:2: [live] broadcasts_max: invalid value: integer `-1`"),
            ("[hls]\nsegment = \"1s\"\nsegment = \"2s\"\n", "g.toml:3: duplicate key"),
            ("[hls]\nsegment = \"5s\"\n", "g.toml:2: [hls] segment (5s) is longer than target_duration (4s)"),
            (
                "[hls]\nsegment = \"7s\"\ntarget_duration = \"6s\"\n",
                "g.toml:2 and g.toml:3: [hls] segment (7s) is longer than target_duration (6s)",
            ),
        ] {
            let error = file(text).unwrap_err().to_string();
            assert!(error.starts_with(start), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
        let error = load(&[("GRANDSTAND_HLS_SEGMENT", "5s")], &[]).unwrap_err().to_string();
        assert!(error.starts_with("GRANDSTAND_HLS_SEGMENT: [hls] segment (5s)"), "{error}");
        let error = load(&[("GRANDSTAND_HLS_SEGMNT", "5s")], &[]).unwrap_err().to_string();
        assert_eq!(error, "GRANDSTAND_HLS_SEGMNT: there is no such setting");
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_configuration_or_one_line_of_error(text in "[\\[\\]a-z=\"0-9\n. ]{0,80}") {
            if let Err(error) = file(&text) {
                proptest::prop_assert!(!error.to_string().contains('\n'), "{}", error);
            }
        }
    }
}
