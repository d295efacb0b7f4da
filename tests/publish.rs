//! `publish` against `rml_rtmp`'s server session over a real socket.

use std::time::Duration;

use bytes::Bytes;
use grandstand::media::flv::TagKind;
use grandstand::publish::{Destination, Error, FlvFile, Meter, SessionError, publish};
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use rml_rtmp::sessions::{
    ServerSession, ServerSessionConfig, ServerSessionEvent, ServerSessionResult, StreamMetadata,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What a server got from one publisher.
#[derive(Debug, Default)]
struct Received {
    key: String,
    metadata: Option<StreamMetadata>,
    media: Vec<(TagKind, u32, Bytes)>,
    finished: bool,
}

/// Serves one publisher until it closes, or refuses it. Cancels `stop` once enough media messages are there.
async fn serve(mut socket: TcpStream, refuse: bool, enough: usize, stop: CancellationToken) -> Received {
    let mut handshake = Handshake::new(PeerType::Server);
    let mut received = Received::default();
    let mut session = None;
    let mut buffer = vec![0; 65_536];
    loop {
        let len = socket.read(&mut buffer).await.unwrap();
        if len == 0 {
            return received;
        }
        let mut bytes = buffer[..len].to_vec();
        if session.is_none() {
            match handshake.process_bytes(&bytes).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => {
                    socket.write_all(&response_bytes).await.unwrap();
                    continue;
                }
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    socket.write_all(&response_bytes).await.unwrap();
                    let (new, results) = ServerSession::new(ServerSessionConfig::new()).unwrap();
                    session = Some(new);
                    write(&mut socket, results).await;
                    bytes = remaining_bytes;
                }
            }
        }
        let session = session.as_mut().unwrap();
        let mut results = session.handle_input(&bytes).unwrap();
        while let Some(at) =
            results.iter().position(|result| matches!(result, ServerSessionResult::RaisedEvent(_)))
        {
            let ServerSessionResult::RaisedEvent(event) = results.remove(at) else { unreachable!() };
            match event {
                ServerSessionEvent::PublishStreamRequested { request_id, stream_key, .. } => {
                    received.key = stream_key;
                    results.extend(if refuse {
                        session.reject_request(request_id, "NetStream.Publish.BadName", "taken").unwrap()
                    } else {
                        session.accept_request(request_id).unwrap()
                    });
                }
                ServerSessionEvent::ConnectionRequested { request_id, .. }
                | ServerSessionEvent::ReleaseStreamRequested { request_id, .. } => {
                    results.extend(session.accept_request(request_id).unwrap());
                }
                ServerSessionEvent::StreamMetadataChanged { metadata, .. } => {
                    received.metadata = Some(metadata);
                }
                ServerSessionEvent::AudioDataReceived { data, timestamp, .. } => {
                    received.media.push((TagKind::Audio, timestamp.value, data));
                }
                ServerSessionEvent::VideoDataReceived { data, timestamp, .. } => {
                    received.media.push((TagKind::Video, timestamp.value, data));
                }
                ServerSessionEvent::PublishStreamFinished { .. } => received.finished = true,
                _ => {}
            }
        }
        write(&mut socket, results).await;
        if received.media.len() >= enough {
            stop.cancel();
        }
    }
}

async fn write(socket: &mut TcpStream, results: Vec<ServerSessionResult>) {
    for result in results {
        if let ServerSessionResult::OutboundResponse(packet) = result {
            socket.write_all(&packet.bytes).await.unwrap();
        }
    }
}

/// The first `ms` milliseconds of match.flv, without the end of the sequence.
fn short_match(ms: u32) -> FlvFile {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/match.flv");
    let file = FlvFile::read(&std::fs::read(path).unwrap().into()).unwrap();
    let mut bytes = b"FLV\x01\x05\0\0\0\x09\0\0\0\0".to_vec();
    for tag in file.tags().iter().filter(|tag| tag.timestamp_ms < ms) {
        let kind = match tag.kind {
            TagKind::Audio => 8,
            TagKind::Video => 9,
            TagKind::Data => 18,
        };
        let [t3, t2, t1, t0] = tag.timestamp_ms.to_be_bytes();
        let [_, a, b, c] = (tag.body.len() as u32).to_be_bytes();
        bytes.extend([kind, a, b, c, t2, t1, t0, t3, 0, 0, 0]);
        bytes.extend(&tag.body);
        bytes.extend([0; 4]);
    }
    FlvFile::read(&bytes.into()).unwrap()
}

fn spawn(
    listener: TcpListener,
    refuse: bool,
    enough: usize,
    stop: &CancellationToken,
) -> JoinHandle<Received> {
    let stop = stop.clone();
    tokio::spawn(async move { serve(listener.accept().await.unwrap().0, refuse, enough, stop).await })
}

async fn listen() -> (TcpListener, Destination) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtmp://{}/live/mark?key=secret", listener.local_addr().unwrap());
    (listener, Destination::parse(&url).unwrap())
}

#[tokio::test]
async fn a_server_receives_exactly_the_files_tags_in_real_time() {
    let file = short_match(1_000);
    let (listener, to) = listen().await;
    let (meter, stop) = (Meter::default(), CancellationToken::new());
    let server = spawn(listener, false, usize::MAX, &stop);
    let start = std::time::Instant::now();
    publish(&file, &to, false, &meter, &stop).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(900), "faster than real time: {:?}", start.elapsed());

    let received = server.await.unwrap();
    let media: Vec<_> = file.tags().iter().filter(|tag| tag.kind != TagKind::Data).collect();
    assert_eq!(received.media.len(), media.len());
    for (received, sent) in received.media.iter().zip(media) {
        assert_eq!(received, &(sent.kind, sent.timestamp_ms, sent.body.clone()));
    }
    let metadata = received.metadata.unwrap();
    assert_eq!((metadata.video_width, metadata.video_height), (Some(640), Some(360)));
    assert_eq!(received.key, "mark?key=secret");
    assert!(received.finished, "deleteStream ends the broadcast");
    assert_eq!(meter.publishing(), 0);
}

/// 320 ms hold 8 pictures and 15 AAC frames: in each round the grids go on, and neither metadata nor headers return.
#[tokio::test]
async fn a_loop_goes_on_without_a_seam_until_it_is_stopped() {
    let file = short_match(320);
    let (listener, to) = listen().await;
    let (meter, stop) = (Meter::default(), CancellationToken::new());
    let server = spawn(listener, false, 80, &stop);
    publish(&file, &to, true, &meter, &stop).await.unwrap();

    let received = server.await.unwrap();
    assert!(received.finished);
    let pictures: Vec<u32> =
        received.media.iter().filter(|(kind, ..)| *kind == TagKind::Video).map(|(_, at, _)| *at).collect();
    // The sequence header has the first picture's timestamp.
    let (header, pictures) = pictures.split_first().unwrap();
    assert_eq!(header, &pictures[0]);
    assert!(pictures.len() > 20 && pictures.windows(2).all(|pair| pair[1] - pair[0] == 40), "{pictures:?}");
}

#[tokio::test]
async fn a_taken_name_is_told_with_the_servers_code() {
    let file = short_match(1_000);
    let (listener, to) = listen().await;
    let (meter, stop) = (Meter::default(), CancellationToken::new());
    let server = spawn(listener, true, usize::MAX, &stop);
    let refused = publish(&file, &to, false, &meter, &stop).await;
    let Err(Error::Session(SessionError::Refused(code))) = refused else { panic!("{refused:?}") };
    assert_eq!(code, "NetStream.Publish.BadName");
    server.await.unwrap();
}

#[tokio::test]
async fn nobody_listening_is_told_with_the_address() {
    let (listener, to) = listen().await;
    drop(listener);
    let refused = publish(&short_match(100), &to, false, &Meter::default(), &CancellationToken::new()).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::Connect { .. }));
    assert_eq!(error.to_string(), format!("cannot connect to {}", to.address()));
}

/// A server that closes without a word ends the publish at once, and the key is in no message.
#[tokio::test]
async fn a_server_that_hangs_up_is_told_without_the_key() {
    let (listener, to) = listen().await;
    let server = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
    let error = publish(&short_match(100), &to, false, &Meter::default(), &CancellationToken::new())
        .await
        .unwrap_err();
    server.await.unwrap();
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
    assert!(!error.to_string().contains("secret"));
}
