//! Streams of which one end or one direction does not move.

use std::time::Duration;

use controlplane_driver::{Message, Runtime, StreamClose};
use tokio::io::AsyncWriteExt;

use super::peer::{
    BINARY, CLOSE, PING, PONG, Peer, accepted, ask, broken, close, end, frame, next, open, opened,
};
use crate::{
    bench::{on_both, pattern},
    upstream::{Api, agent_said, tunnel},
};

on_both! {
    p173_an_api_that_never_answers_the_upgrade_is_given_up
    an_api_that_answers_no_pings_is_given_up
    an_api_that_answers_pings_is_kept
    an_api_that_takes_nothing_is_given_up
    an_api_that_takes_nothing_is_still_heard
    a_client_that_takes_nothing_ends_no_stream
}

/// For what has to run out.
const SHORT: Duration = Duration::from_millis(200);

fn message(len: usize) -> Message {
    Message::Binary(pattern(len).into())
}

async fn p173_an_api_that_never_answers_the_upgrade_is_given_up<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    config.limits.head = SHORT;
    let (hub, _agent) = tunnel(runtime, config).await;
    let upgrade = ask(&hub, &[]).await;
    let (mut connection, answer) = tokio::join!(api.accept(), upgrade.answer());
    let text = agent_said(answer.unwrap_err());
    assert!(text.contains("timeout: no answer in time"), "{text}");
    connection.closed().await;
}

async fn an_api_that_answers_no_pings_is_given_up<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    config.limits.silence = SHORT;
    let (hub, _agent) = tunnel(runtime, config).await;
    let mut stream = open(&hub, &mut api).await;
    let text = broken(&mut stream.reader).await;
    assert!(text.contains("did not answer pings for"), "{text}");
    // It was asked, although the period for pings is longer than the silence.
    assert_eq!(stream.peer.frame().await, Some((PING, vec![0; 8])));
    stream.peer.ended().await;
}

async fn an_api_that_answers_pings_is_kept<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    config.limits.ping = SHORT / 4;
    let (hub, _agent) = tunnel(runtime, config).await;
    let mut stream = open(&hub, &mut api).await;
    for _ in 0..3 {
        let (kind, _) = stream.peer.frame().await.unwrap();
        assert_eq!(kind, PING);
        stream.peer.send(PONG, b"").await;
    }
    stream.peer.send(BINARY, b"hello").await;
    assert_eq!(
        next(&mut stream.reader).await,
        Message::Binary("hello".into())
    );
}

async fn an_api_that_takes_nothing_is_given_up<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    config.limits.stall = SHORT;
    let (hub, _agent) = tunnel(runtime, config).await;
    let mut stream = open(&hub, &mut api).await;
    // More than any buffer takes; the stream ends under it (P-172).
    while stream.writer.write(message(1 << 20)).await.is_ok() {}
    let text = broken(&mut stream.reader).await;
    assert!(
        text.contains("took nothing of what was written for"),
        "{text}"
    );
    stream.peer.ended().await;
}

/// A process that reads no input and has much to say.
async fn an_api_that_takes_nothing_is_still_heard<R: Runtime>(runtime: R) {
    const MESSAGES: usize = 16;
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let mut stream = open(&hub, &mut api).await;
    let mut writer = stream.writer;
    let typing = tokio::spawn(async move {
        // More than all buffers on the way hold.
        for _ in 0..MESSAGES {
            writer.write(message(1 << 20)).await.unwrap();
        }
        writer.close(StreamClose::new(1000, ""));
    });
    for _ in 0..100 {
        stream.peer.send(BINARY, &pattern(20_000)).await;
        assert!(next(&mut stream.reader).await == message(20_000));
    }
    assert!(!typing.is_finished());
    for _ in 0..MESSAGES {
        let (first, payload) = stream.peer.next().await.unwrap();
        assert!(first == BINARY && payload == pattern(1 << 20));
    }
    assert_eq!(stream.peer.next().await, Some((CLOSE, close(1000, ""))));
    typing.await.unwrap();
}

/// Somebody who looks at the first page of the output for long: the API is not read for that
/// long, and that it answers no pings meanwhile says nothing about it.
async fn a_client_that_takes_nothing_ends_no_stream<R: Runtime>(runtime: R) {
    // More than the tunnel holds for a client, and little enough that the API is done with it: of
    // its own accord it is never silent.
    const LEN: usize = 5 << 20;
    let silence = Duration::from_secs(2);
    let mut api = Api::new().await;
    let mut config = api.config();
    config.limits.silence = silence;
    let (hub, _agent) = tunnel(runtime, config).await;
    let upgrade = ask(&hub, &[]).await;
    let mut connection = api.accept().await;
    let request = connection.head().await;
    let mut sent = accepted(&request, "").into_bytes();
    for _ in 0..LEN / 0x8000 {
        sent.extend(frame(BINARY, &[7; 0x8000]));
    }
    sent.extend(frame(CLOSE, &close(1000, "")));
    connection.0.write_all(&sent).await.unwrap();
    tokio::time::sleep(silence * 3).await;
    let mut stream = opened(upgrade.answer().await, Peer(connection.0));
    let expected = (LEN, StreamClose::new(1000, ""), None);
    assert_eq!(end(&mut stream.reader).await, expected);
}
