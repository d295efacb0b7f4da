//! What the demuxer left out, and what it mended: counted, so that nothing is lost in silence.

/// Why a tag, or a part of one, was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dropped {
    /// A codec nobody here carries.
    Codec,
    /// A tag body that is cut short or undefined.
    Tag,
    /// A sequence header that makes no sense; the one before stays in force.
    Config,
    /// A frame before its track's sequence header.
    ConfigMissing,
    /// No payload.
    Empty,
    /// An access unit whose NAL unit lengths overrun it.
    NalUnits,
    /// An access unit without a slice: parameter sets, SEI or delimiters alone.
    NoPicture,
    /// Bytes that are no whole MP3 frame.
    Mp3,
    /// A data message that cannot be read.
    MetaData,
}

impl Dropped {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Codec,
        Self::Tag,
        Self::Config,
        Self::ConfigMissing,
        Self::Empty,
        Self::NalUnits,
        Self::NoPicture,
        Self::Mp3,
        Self::MetaData,
    ];

    /// The word for the `reason` label of `grandstand_media_drops_total`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::Tag => "tag",
            Self::Config => "config",
            Self::ConfigMissing => "config_missing",
            Self::Empty => "empty",
            Self::NalUnits => "nal_units",
            Self::NoPicture => "no_picture",
            Self::Mp3 => "mp3",
            Self::MetaData => "metadata",
        }
    }
}

/// How many tags were dropped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drops([u64; Dropped::ALL.len()]);

impl Drops {
    /// Counts one.
    pub(super) fn add(&mut self, drop: Dropped) {
        if let Some(count) = self.0.get_mut(drop as usize) {
            *count += 1;
        }
    }

    /// The count of one reason.
    pub fn count(&self, drop: Dropped) -> u64 {
        self.0.get(drop as usize).copied().unwrap_or(0)
    }

    /// Reasons that occurred, and how often.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Dropped::ALL.into_iter().map(|drop| (drop.as_str(), self.count(drop))).filter(|(_, count)| *count > 0)
    }

    /// Of all reasons together.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// How often time had to be mended since the publish began. An encoder in order needs none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repairs {
    /// Frames whose stamp was not after the one before; they came out one tick after it.
    pub nudges: u64,
    /// Times the audio sample clock was more than a frame off the stamps and gave way.
    pub resyncs: u64,
    /// Timelines ended because time jumped.
    pub jumps: u64,
    /// Timelines ended because a composition offset was more negative than all before.
    pub shifts: u64,
    /// Composition offsets that no reordering explains; taken as zero.
    pub offsets: u64,
    /// Tracks moved to where the other is, as their clocks had nothing in common.
    pub alignments: u64,
}
