//! A broadcast as one player gets it: events in, media messages out.

use std::sync::Arc;

use super::writer::Writer;
use crate::media::flv::{TagKind, write};
use crate::media::rebase::Rebase;
use crate::media::{Event, Frame, Track, TrackSet};

/// What one `play` has been sent, and what it needs next.
#[derive(Debug)]
pub(super) struct Player {
    stream_id: u32,
    tracks: Arc<TrackSet>,
    rebase: Rebase,
    paused: bool,
    /// Metadata and sequence headers go out before the next frame.
    heads_due: bool,
    /// Pictures are left out, up to one where decoding may start. Audio may start anywhere.
    skipping: bool,
}

impl Player {
    /// Of the message stream that the `play` came on.
    pub(super) fn new(stream_id: u32) -> Self {
        Self {
            stream_id,
            tracks: Arc::default(),
            rebase: Rebase::default(),
            paused: false,
            heads_due: false,
            // A joiner for whom there was no cached group comes into the middle of one.
            skipping: true,
        }
    }

    /// The message stream.
    pub(super) fn stream_id(&self) -> u32 {
        self.stream_id
    }

    /// Leaves out frames while paused; goes on one frame after the last, as if nothing had been between.
    pub(super) fn pause(&mut self, paused: bool) {
        self.paused = paused;
        self.skip();
    }

    /// Writes what an event means to the player; `false` when the broadcast is over. A publisher that is gone means
    /// nothing: whoever waits for the next one must not be told, since players hang up at `UnpublishNotify`.
    pub(super) fn push(&mut self, event: &Event, writer: &mut Writer) -> bool {
        match event {
            Event::Start(_) | Event::Discontinuity => self.skip(),
            Event::Tracks(tracks) => {
                // Pictures of another coding mean nothing before its first random access point.
                self.skipping |= tracks.video != self.tracks.video;
                self.tracks = Arc::clone(tracks);
                self.heads_due = true;
            }
            Event::Frame(frame) => self.frame(frame, writer),
            Event::Stop => {}
            Event::End => return false,
        }
        true
    }

    fn skip(&mut self) {
        self.skipping = true;
        self.rebase.restart();
    }

    fn frame(&mut self, frame: &Frame, writer: &mut Writer) {
        if self.paused {
            return;
        }
        if frame.track == Track::Video {
            self.skipping &= !frame.random_access;
            if self.skipping {
                return;
            }
        }
        let stamp = self.rebase.place(frame);
        if std::mem::take(&mut self.heads_due) {
            let metadata = write::metadata(&self.tracks);
            writer.media(TagKind::Data, self.stream_id, stamp.dts_ms, &[], &metadata);
            for (kind, body) in write::sequence_headers(&self.tracks) {
                writer.media(kind, self.stream_id, stamp.dts_ms, &[], &body);
            }
        }
        let head = write::frame_head(frame, &self.tracks, stamp.composition_ms);
        let kind = write::kind(frame.track);
        writer.media(kind, self.stream_id, stamp.dts_ms, head.as_ref(), &frame.payload);
    }
}
