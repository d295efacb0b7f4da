//! FLV tags in, events out.

use super::Event;
use super::flv::Tag;

/// Turns one publisher's tags into events: parses, places on the timeline, retimes.
#[derive(Debug, Default)]
pub struct Demuxer {}

impl Demuxer {
    /// For one publish.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes one tag. Drain [`Demuxer::poll_event`] after each.
    pub fn push(&mut self, _tag: Tag) {}

    /// The next event, `None` when more tags are needed.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// The publisher is done: what is held back comes out, then [`Event::End`].
    pub fn finish(&mut self) {}
}
