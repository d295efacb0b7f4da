//! Where a broadcast's counting goes on: media sequence and discontinuity numbers that never go back.

use bytes::Bytes;
use m3u8_rs::{MasterPlaylist, MediaPlaylist};

use crate::clock::WallTime;
use crate::name::StreamName;
use crate::store::SegmentKey;

/// Numbers for the next playlist of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Continuity {
    /// Media sequence number of the next segment.
    pub sequence: u64,
    /// Discontinuities counted up to it.
    pub discontinuities: u64,
}

impl Continuity {
    /// For a name of which nothing is known. Seconds since 1970: never 0 (hls.js takes 0 for "no number"), below 2^31
    /// for players that count in 32 bits, and above what an earlier broadcast of the name has reached, as long as
    /// its segments were not shorter than a second.
    pub fn fresh(wall: WallTime) -> Self {
        Self { sequence: u64::try_from(wall.unix_s()).unwrap_or(0).max(1), discontinuities: 0 }
    }

    /// For a name whose last media playlist lies in the store.
    pub fn after(playlist: &MediaPlaylist, wall: WallTime) -> Self {
        let listed = playlist.segments.len() as u64;
        let broken = playlist.segments.iter().filter(|segment| segment.discontinuity).count() as u64;
        Self {
            sequence: Self::fresh(wall).sequence.max(playlist.media_sequence.saturating_add(listed)),
            discontinuities: playlist.discontinuity_sequence.saturating_add(broken).saturating_add(1),
        }
    }
}

/// A media playlist that an earlier process left in the store.
#[derive(Debug)]
pub struct Remains {
    /// Its numbers, continued.
    pub continuity: Continuity,
    /// What it lists.
    pub segments: Vec<SegmentKey>,
}

/// The file name of the media playlist that a stored multivariant playlist names. `None` if it can't be read or names
/// something that isn't beside it.
pub fn media_file(multivariant: &Bytes) -> Option<String> {
    let playlist: MasterPlaylist = m3u8_rs::parse_master_playlist_res(multivariant).ok()?;
    let uri = &playlist.variants.first()?.uri;
    let stem = uri.strip_suffix(".m3u8")?;
    (!stem.contains('/')).then(|| uri.clone())
}

/// What a stored media playlist of `name` says. `None` if it can't be read: it is then as good as absent.
pub fn remains(name: &StreamName, text: &Bytes, wall: WallTime) -> Option<Remains> {
    let playlist = m3u8_rs::parse_media_playlist_res(text).ok()?;
    let key = |uri: &str| {
        let (epoch, file) = uri.split_once('/')?;
        SegmentKey::parse(name, epoch, file)
    };
    let segments = playlist.segments.iter().filter_map(|segment| key(&segment.uri)).collect();
    Some(Remains { continuity: Continuity::after(&playlist, wall), segments })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: WallTime = WallTime::from_unix_us(1_000_000_000);

    #[test]
    fn counting_goes_on_after_a_stored_playlist() {
        let text = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:5000\n\
                    #EXT-X-DISCONTINUITY-SEQUENCE:3\n#EXTINF:2.0,\n17/5000.ts\n#EXT-X-DISCONTINUITY\n#EXTINF:2.0,\n\
                    18/5001.ts\n#EXTINF:2.0,\nhttp://elsewhere/x.ts\n";
        let name: StreamName = "live/mark".parse().unwrap();
        let remains = remains(&name, &Bytes::from_static(text.as_bytes()), WALL).unwrap();
        assert_eq!(remains.continuity, Continuity { sequence: 5003, discontinuities: 5 });
        let paths: Vec<_> = remains.segments.iter().map(SegmentKey::relative).collect();
        assert_eq!(paths, ["17/5000.ts", "18/5001.ts"], "what isn't ours is never touched");
    }

    #[test]
    fn without_one_the_clock_counts() {
        assert_eq!(Continuity::fresh(WALL), Continuity { sequence: 1000, discontinuities: 0 });
        assert_eq!(Continuity::fresh(WallTime::from_unix_us(-5)).sequence, 1);
        let name = "live/mark".parse().unwrap();
        assert!(remains(&name, &Bytes::from_static(b"no playlist"), WALL).is_none());
    }
}
