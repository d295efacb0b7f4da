//! Where everything lies: the one file that knows the form of paths and keys.
//!
//! URL and object key are the same path: `{app}/{stream}/{file}` for playlists, and
//! `{app}/{stream}/{epoch}/{sequence}.ts` for segments. A segment's path is never written twice.

use std::fmt;

use object_store::path::Path;

use crate::live::Epoch;
use crate::name::StreamName;

/// The multivariant playlist's file name: what players are given.
pub const MULTIVARIANT_FILE: &str = "index.m3u8";

/// Names one segment for ever.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SegmentKey {
    /// The broadcast.
    pub name: StreamName,
    /// The publishing session.
    pub epoch: Epoch,
    /// The media sequence number.
    pub sequence: u64,
}

impl SegmentKey {
    /// From the two last parts of a path: `1795716584125`, `1795716584.ts`. `None` unless they are exactly what
    /// [`SegmentKey::relative`] writes, so that one segment has one URL.
    pub fn parse(name: &StreamName, epoch: &str, file: &str) -> Option<Self> {
        let sequence = file.strip_suffix(".ts")?;
        let key =
            Self { name: name.clone(), epoch: Epoch(epoch.parse().ok()?), sequence: sequence.parse().ok()? };
        (key.epoch.to_string() == epoch && key.sequence.to_string() == sequence).then_some(key)
    }

    /// The URI that a playlist beside the epoch folder uses: `1795716584125/1795716584.ts`.
    pub fn relative(&self) -> String {
        format!("{}/{}.ts", self.epoch, self.sequence)
    }

    /// The object's key in the store.
    pub fn path(&self) -> Path {
        Path::from(self.to_string())
    }
}

impl fmt::Display for SegmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}.ts", self.name, self.epoch, self.sequence)
    }
}

/// The key of a broadcast's playlist.
pub fn playlist_path(name: &StreamName, file: &str) -> Path {
    Path::from(format!("{name}/{file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_has_one_path_and_it_reads_back() {
        let name: StreamName = "live/mark".parse().unwrap();
        let key = SegmentKey { name: name.clone(), epoch: Epoch(1_795_716_584_125), sequence: 7 };
        assert_eq!(key.path().to_string(), "live/mark/1795716584125/7.ts");
        assert_eq!(SegmentKey::parse(&name, "1795716584125", "7.ts"), Some(key));
        for (epoch, file) in [("1", "07.ts"), ("+1", "7.ts"), ("1", "7"), ("..", "7.ts"), ("1", "-7.ts")] {
            assert_eq!(SegmentKey::parse(&name, epoch, file), None, "{epoch}/{file}");
        }
    }
}
