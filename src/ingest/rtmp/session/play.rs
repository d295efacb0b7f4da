//! The commands of a player (Adobe RTMP 1.0, §7.2.2), and what it is sent.

use std::time::Instant;

use super::super::command::bare_name;
use super::super::output::{Close, Output};
use super::super::writer::Status;
use super::{Role, Session, Wish};
use crate::media::Event;
use crate::name::StreamName;

impl Session {
    /// The next event of the broadcast that is played. Ignored when none is.
    pub fn handle_event(&mut self, event: &Event, now: Instant) {
        let Role::Player(player) = &mut self.role else { return };
        if !player.push(event, &mut self.writer) {
            self.writer.ended(player.stream_id());
            self.leave_role();
            self.begin_wait(now);
        }
    }

    /// A `play` while playing goes over to another broadcast.
    pub(super) fn play(&mut self, stream_id: u32, stream: &str) {
        const FAILED: &str = "NetStream.Play.Failed";
        if !self.play_allowed {
            return self.refuse(stream_id, FAILED, Close::Play);
        }
        let Some(app) = &self.app else {
            return self.refuse(stream_id, FAILED, Close::Order("play before connect"));
        };
        match (StreamName::new(app, bare_name(stream)), &self.role) {
            (_, Role::Publisher(_)) => {
                self.refuse(stream_id, FAILED, Close::Order("play while publishing"));
            }
            (Ok(name), _) => {
                self.leave_role();
                self.role = Role::Asked { stream_id, wish: Wish::Play };
                self.outputs.push_back(Output::Play(name));
            }
            (Err(error), _) => self.refuse(stream_id, "NetStream.Play.StreamNotFound", error.into()),
        }
    }

    /// While paused nothing is sent, and behind it the broadcast goes on from where it is then.
    pub(super) fn pause(&mut self, paused: bool) {
        let Role::Player(player) = &mut self.role else { return };
        player.pause(paused);
        let code = if paused { "NetStream.Pause.Notify" } else { "NetStream.Unpause.Notify" };
        let status = Status { code, description: "live".to_owned() };
        self.writer.status("status", &status, player.stream_id());
    }

    /// librtmp drops all media until its seek is answered; there is nowhere to go, so nothing else happens.
    pub(super) fn seek(&mut self) {
        let Role::Player(player) = &self.role else { return };
        let status = Status { code: "NetStream.Seek.Notify", description: "live".to_owned() };
        self.writer.status("status", &status, player.stream_id());
    }
}

#[cfg(test)]
mod tests;
