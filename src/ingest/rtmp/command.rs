//! Commands (Adobe RTMP 1.0, §7.2): what a peer asks.

use crate::media::amf::{self, Value};

/// What of a command this origin acts on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Command {
    /// What the answer goes to; 0 for none.
    pub(super) transaction: f64,
    pub(super) verb: Verb,
}

/// Which command.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Verb {
    /// `connect`, with the `app` of its command object as it came.
    Connect { app: String },
    /// `createStream`.
    CreateStream,
    /// `publish`, with the stream name as it came.
    Publish { stream: String },
    /// `FCPublish`: of FMLE's making, announces a publish.
    FcPublish,
    /// `FCUnpublish` and `closeStream`: the publish or the play ends.
    Unpublish,
    /// `deleteStream`: a publish or a play on this message stream ends.
    DeleteStream { stream_id: Option<u32> },
    /// `releaseStream`, `_checkbw` and the like: wait for an answer that says nothing.
    Acknowledge,
    /// `getStreamLength`: of a live stream, 0.
    StreamLength,
    /// `play`, and `play2` with its parameters as an object; the stream name as it came.
    Play { stream: String },
    /// `pause`: on or off.
    Pause { paused: bool },
    /// `seek`: of a live stream, a wish.
    Seek,
    /// Anything else, answers to us among them.
    Other,
}

impl Command {
    /// Reads the body of a command message. Values that are missing read as absent, not as an error: encoders
    /// leave out trailing ones.
    pub(super) fn read(body: &[u8]) -> Result<Self, amf::Error> {
        let values = amf::read_all(body)?;
        let text = |at: usize| values.get(at).and_then(Value::as_str).unwrap_or_default().to_owned();
        let number = |at: usize| values.get(at).and_then(Value::as_number);
        let verb = match values.first().and_then(Value::as_str).unwrap_or_default() {
            "connect" => {
                let app = values.get(2).and_then(|object| object.property("app")).and_then(Value::as_str);
                Verb::Connect { app: app.unwrap_or_default().to_owned() }
            }
            "createStream" => Verb::CreateStream,
            "publish" => Verb::Publish { stream: text(3) },
            "FCPublish" => Verb::FcPublish,
            "FCUnpublish" | "closeStream" => Verb::Unpublish,
            "deleteStream" => Verb::DeleteStream { stream_id: number(3).map(|id| id as u32) },
            "releaseStream" | "_checkbw" | "checkBandwidth" | "FCSubscribe" => Verb::Acknowledge,
            "getStreamLength" => Verb::StreamLength,
            "play" => Verb::Play { stream: text(3) },
            "play2" => {
                let name = values.get(3).and_then(|object| object.property("streamName"));
                Verb::Play { stream: name.and_then(Value::as_str).unwrap_or_default().to_owned() }
            }
            // Some players toggle without saying which way: they mean stop.
            "pause" | "pauseRaw" => {
                Verb::Pause { paused: !matches!(values.get(3), Some(Value::Boolean(false))) }
            }
            "seek" => Verb::Seek,
            _ => Verb::Other,
        };
        Ok(Self { transaction: number(1).unwrap_or(0.0), verb })
    }
}

/// A name without its query string, where encoders put keys, and without slashes around it (OBS leaves the one
/// at the end of its server field).
pub(super) fn bare_name(text: &str) -> &str {
    text.split('?').next().unwrap_or_default().trim_matches('/')
}

#[cfg(test)]
mod tests {
    use rml_amf0::Amf0Value;

    use super::*;

    fn command(values: &[Amf0Value]) -> Command {
        Command::read(&rml_amf0::serialize(&values.to_vec()).unwrap()).unwrap()
    }

    fn string(text: &str) -> Amf0Value {
        Amf0Value::Utf8String(text.to_owned())
    }

    #[test]
    fn a_publish_is_read_with_its_name() {
        let read =
            command(&[string("publish"), Amf0Value::Number(5.0), Amf0Value::Null, string("mark?key=k")]);
        assert_eq!(read, Command { transaction: 5.0, verb: Verb::Publish { stream: "mark?key=k".into() } });
    }

    #[test]
    fn what_players_say_is_read() {
        let null = Amf0Value::Null;
        let play = Verb::Play { stream: "mark?key=k".into() };
        let name = string("mark?key=k");
        let number = Amf0Value::Number(-2000.0);
        assert_eq!(command(&[string("play"), number.clone(), null.clone(), name.clone(), number]).verb, play);
        let parameters = Amf0Value::Object([("streamName".to_owned(), name)].into());
        assert_eq!(command(&[string("play2"), null.clone(), null.clone(), parameters]).verb, play);
        for (flag, paused) in [(Amf0Value::Boolean(true), true), (Amf0Value::Boolean(false), false)] {
            let values = [string("pause"), null.clone(), null.clone(), flag];
            assert_eq!(command(&values).verb, Verb::Pause { paused });
        }
        assert_eq!(command(&[string("play2")]).verb, Verb::Play { stream: String::new() });
        assert_eq!(command(&[string("seek")]).verb, Verb::Seek);
    }

    /// `rml_rtmp` panics on commands of fewer than three values.
    #[test]
    fn missing_values_are_absent() {
        assert_eq!(command(&[]), Command { transaction: 0.0, verb: Verb::Other });
        assert_eq!(command(&[string("connect")]).verb, Verb::Connect { app: String::new() });
        assert_eq!(command(&[string("publish")]).verb, Verb::Publish { stream: String::new() });
        assert_eq!(command(&[string("deleteStream")]).verb, Verb::DeleteStream { stream_id: None });
        assert_eq!(command(&[Amf0Value::Number(1.0)]).verb, Verb::Other);
    }

    #[test]
    fn query_strings_and_outer_slashes_go() {
        for (text, name) in [
            ("mark?key=s/../x", "mark"),
            ("live/", "live"),
            ("/live/?a=b", "live"),
            ("?x", ""),
            ("a/b", "a/b"),
        ] {
            assert_eq!(bare_name(text), name);
        }
    }
}
