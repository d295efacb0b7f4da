//! `StreamName`: what a broadcast is called, checked once at the door.
//!
//! A name that exists is safe as a path, an object key, a URL part, a log field and a metric label;
//! nothing downstream checks again. Paths in names wrote files anywhere in Node-Media-Server (#689) and
//! MediaMTX (#5602), so the alphabet is small on purpose.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

/// Longest app or stream part, in bytes. nginx-http-flv overflowed at 256 (#170).
pub const PART_BYTES_MAX: usize = 128;

/// First path segments that the HTTP side uses for itself.
const RESERVED_APPS: [&str; 7] = ["api", "assets", "healthz", "hls", "metrics", "play", "readyz"];

/// App and stream of a broadcast: `live/mark`. Each part is `[A-Za-z0-9_.-]{1,128}`, does not start with
/// a dot, and the app is none of the HTTP side's own paths. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamName {
    /// `app/stream`: one allocation, shared by every clone.
    path: Arc<str>,
    slash: usize,
}

/// Why a name was refused. The refused text itself is not kept: it may hold a key or a control character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NameError {
    /// A part is empty.
    #[error("the {part} name is empty")]
    Empty {
        /// `app` or `stream`.
        part: &'static str,
    },
    /// A part is longer than [`PART_BYTES_MAX`].
    #[error("the {part} name has {len} bytes, more than {PART_BYTES_MAX}")]
    TooLong {
        /// `app` or `stream`.
        part: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// A part has a character outside the alphabet, or starts with a dot.
    #[error("the {part} name may hold only letters, digits, '_', '-' and '.', and not start with '.'")]
    Alphabet {
        /// `app` or `stream`.
        part: &'static str,
    },
    /// The app is a path that the HTTP side uses for itself.
    #[error("the app name is reserved")]
    Reserved,
    /// There is no `/` between app and stream.
    #[error("a name has the form app/stream")]
    Form,
}

impl StreamName {
    /// Checks both parts. Query strings (`?key=…`) are split off by the caller before.
    pub fn new(app: &str, stream: &str) -> Result<Self, NameError> {
        check("app", app)?;
        check("stream", stream)?;
        if RESERVED_APPS.contains(&app) {
            return Err(NameError::Reserved);
        }
        Ok(Self { path: format!("{app}/{stream}").into(), slash: app.len() })
    }

    /// The first part: `live`.
    pub fn app(&self) -> &str {
        &self.path[..self.slash]
    }

    /// The second part: `mark`.
    pub fn stream(&self) -> &str {
        &self.path[self.slash + 1..]
    }

    /// Both parts with the slash between: `live/mark`.
    pub fn as_str(&self) -> &str {
        &self.path
    }
}

fn check(part: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty { part });
    }
    if text.len() > PART_BYTES_MAX {
        return Err(NameError::TooLong { part, len: text.len() });
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if text.starts_with('.') || !text.bytes().all(allowed) {
        return Err(NameError::Alphabet { part });
    }
    Ok(())
}

impl FromStr for StreamName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (app, stream) = text.split_once('/').ok_or(NameError::Form)?;
        Self::new(app, stream)
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.path, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_field_are_taken() {
        for text in ["live/mark", "app_1/Stream-2.main", "a/b", "live/a..b"] {
            let name: StreamName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(format!("{}/{}", name.app(), name.stream()), text);
        }
    }

    #[test]
    fn a_name_is_never_a_path() {
        for (app, stream) in [
            ("..", "x"),
            ("live", ".."),
            ("live", "../../etc/passwd"),
            ("live", "a/b"),
            ("live", "a\\b"),
            ("live", "a\0b"),
            ("live", "a\r\nb"),
            ("live", "%2e%2e"),
            ("live", "é"),
            ("live", ".hidden"),
        ] {
            assert!(StreamName::new(app, stream).is_err(), "{app}/{stream}");
        }
        assert_eq!(StreamName::new("", "x"), Err(NameError::Empty { part: "app" }));
        assert_eq!(
            StreamName::new("live", &"a".repeat(5000)),
            Err(NameError::TooLong { part: "stream", len: 5000 })
        );
        assert_eq!(StreamName::new("api", "v1"), Err(NameError::Reserved));
    }
}
