//! `[log]`.

use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// `[log]`: what is written to standard error, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, with exceptions by module behind commas:
    /// `info,grandstand::ingest=debug`.
    pub level: String,
    /// One line of text, or one JSON object, per event.
    pub format: Format,
}

/// The form of one event in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Human,
    /// For machines: one object per line, the event's fields beside `timestamp`, `level`, `target`, `message`.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".to_owned(), format: Format::Human }
    }
}

/// Why a `level` is no filter.
#[derive(Debug, Error)]
pub enum FilterError {
    /// A lone word that is no level.
    #[error("{word:?} is none of error, warn, info, debug, trace, off")]
    Level {
        /// The word.
        word: String,
    },
    /// An exception that tracing cannot read.
    #[error(transparent)]
    Directive(#[from] ParseError),
}

impl Settings {
    /// The filter that `level` describes. A lone word that is no level is refused: tracing would take `ifno` for the
    /// name of a module and silence everything else.
    pub fn filter(&self) -> Result<EnvFilter, FilterError> {
        let lone = |word: &&str| !word.contains(['=', '[']);
        let known = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
        if let Some(word) = self.level.split(',').map(str::trim).filter(lone).find(|word| !known(word)) {
            return Err(FilterError::Level { word: word.to_owned() });
        }
        Ok(EnvFilter::builder().parse(&self.level)?)
    }
}

const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_level_is_refused() {
        for (level, taken) in [
            ("info", true),
            ("off", true),
            ("warn,grandstand::ingest=debug", true),
            ("ifno", false),
            ("", false),
            ("info,grandstand", false),
            ("grandstand=loud", false),
        ] {
            let settings = Settings { level: level.to_owned(), ..Settings::default() };
            assert_eq!(settings.filter().is_ok(), taken, "{level}");
        }
    }
}
