//! HLS: playlists from the board, segments from the store.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::Response;
use http::header::USER_AGENT;
use http::{HeaderMap, Method};

use super::error::HttpError;
use super::respond::{Forms, Resource, respond};
use super::{Peer, Site, caching};
use crate::name::StreamName;
use crate::package::{Document, Life};
use crate::store::SegmentKey;
use crate::store::layout::MULTIVARIANT_FILE;

const PLAYLIST_TYPE: &str = "application/vnd.apple.mpegurl";
const SEGMENT_TYPE: &str = "video/mp2t";

/// What follows a broadcast's name in the path of its multivariant playlist.
pub(super) const ALIAS_SUFFIX: &str = ".m3u8";

/// Target durations for which a viewer counts after asking for a media playlist.
const VIEWER_STAYS: u32 = 3;

/// `/live/mark/index.m3u8`, and the media playlists beside it.
pub(super) async fn playlist(
    State(site): State<Arc<Site>>,
    Path((app, stream, file)): Path<(String, String, String)>,
    method: Method,
    peer: Option<Extension<Peer>>,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let name = StreamName::new(&app, &stream).map_err(|_| HttpError::NotFound)?;
    let document = find(&site, &name, &file)?;
    if let Life::Live { target } = document.life
        && file != MULTIVARIANT_FILE
    {
        let stay = Duration::from_micros(u64::try_from(target.as_us()).unwrap_or(0)) * VIEWER_STAYS;
        let user_agent = headers.get(USER_AGENT).map_or(&[][..], |value| value.as_bytes());
        site.saw_viewer(&name, peer.map(|Extension(peer)| peer), user_agent, stay);
    }
    answer(&site, &method, &headers, &document)
}

/// `/live/mark.m3u8`: the multivariant playlist once more, under the name that players of other servers' streams
/// are used to. Not a redirect: players must not meet one (Apple's Authoring Specification 8.18).
pub(super) fn alias(
    site: &Site,
    name: &StreamName,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, HttpError> {
    let document = find(site, name, MULTIVARIANT_FILE)?;
    let text = std::str::from_utf8(&document.text).map_err(|_| HttpError::NotFound)?;
    let moved = Document::new(one_folder_up(text, name.stream()), document.modified, document.life);
    answer(site, method, headers, &moved)
}

/// `/live/mark/1795716584125/1795716584.ts`.
pub(super) async fn segment(
    State(site): State<Arc<Site>>,
    Path((app, stream, epoch, file)): Path<(String, String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, HttpError> {
    let name = StreamName::new(&app, &stream).map_err(|_| HttpError::NotFound)?;
    let key = SegmentKey::parse(&name, &epoch, &file).ok_or(HttpError::NotFound)?;
    let stored = site.context.store.read(&key).await?.ok_or(HttpError::NotFound)?;
    site.count("segment");
    // A key never stands for other bytes, so it is a strong tag; the length guards against a store that lost some.
    let etag = format!("{}-{}-{}", key.epoch, key.sequence, stored.bytes.len());
    let resource = Resource {
        content_type: SEGMENT_TYPE,
        cache_control: caching::SEGMENT,
        etag: &etag,
        modified: Some(stored.modified),
        bytes: stored.bytes,
        forms: Forms::Ranges,
    };
    respond(&method, &headers, resource)
}

fn find(site: &Site, name: &StreamName, file: &str) -> Result<Arc<Document>, HttpError> {
    let published = site.context.board.get(name).ok_or(HttpError::NotFound)?;
    let document = published.borrow().document(file).cloned();
    document.ok_or(HttpError::NotFound)
}

fn answer(
    site: &Site,
    method: &Method,
    headers: &HeaderMap,
    document: &Document,
) -> Result<Response, HttpError> {
    site.count("playlist");
    let resource = Resource {
        content_type: PLAYLIST_TYPE,
        cache_control: caching::playlist(document.life),
        etag: &document.etag,
        modified: Some(document.modified),
        bytes: document.text.clone(),
        forms: Forms::Gzip(&|| document.gzip()),
    };
    respond(method, headers, resource)
}

/// A playlist of relative URIs, as it reads from the folder above `stream`'s.
fn one_folder_up(playlist: &str, stream: &str) -> String {
    let mut text = String::with_capacity(playlist.len() + 8 * stream.len());
    for line in playlist.lines() {
        if line.starts_with('#') {
            text.push_str(&line.replace("URI=\"", &format!("URI=\"{stream}/")));
        } else if !line.is_empty() {
            text.push_str(stream);
            text.push('/');
            text.push_str(line);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_uri_moves_and_nothing_else() {
        let playlist = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"audio.m3u8\"\n\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"mp4a.40.2\"\nmedia.m3u8\n";
        let expected = "#EXTM3U\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",URI=\"mark/audio.m3u8\"\n\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1,CODECS=\"mp4a.40.2\"\nmark/media.m3u8\n";
        assert_eq!(one_folder_up(playlist, "mark"), expected);
    }
}
