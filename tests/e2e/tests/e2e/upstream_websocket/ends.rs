//! How streams end: closed by either side, or broken.

use controlplane_driver::{Failure, Message, Runtime, StreamClose};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::peer::{
    BINARY, ByHand, CLOSE, Peer, TEXT, accepted, ask, broken, close, end, frame, open, opened,
};
use crate::{
    bench::on_both,
    upstream::{Api, tunnel},
};

on_both! {
    a_close_of_the_api_comes_after_its_messages_and_with_its_code
    a_close_of_the_client_comes_after_its_messages_and_with_its_code
    p161_a_close_of_the_controller_is_answered_with_that_of_the_api
    a_client_that_closes_does_not_wait_for_an_api_that_talks_on
    what_comes_with_the_upgrade_is_not_lost
    the_last_words_of_an_api_outlive_what_it_does_not_read
    an_api_that_ends_without_a_close_breaks_the_stream
    an_api_that_breaks_the_rules_is_told_and_breaks_the_stream
}

async fn a_close_of_the_api_comes_after_its_messages_and_with_its_code<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    for (payload, expected) in [
        (close(1000, ""), None),
        (close(1000, "done"), None),
        (close(1001, "going"), Some("with code 1001: going")),
        (close(4321, "häh?"), Some("with code 4321: häh?")),
        (vec![], Some("without a code")),
    ] {
        let mut stream = open(&hub, &mut api).await;
        let mut sent = frame(BINARY, &[7; 100_000]);
        sent.extend(frame(TEXT, b"last"));
        sent.extend(frame(CLOSE, &payload));
        stream.peer.0.write_all(&sent).await.unwrap();
        // As it is answered; the API does not wait for that.
        assert_eq!(stream.peer.next().await, Some((CLOSE, payload.clone())));
        stream.peer.0.shutdown().await.unwrap();
        let (len, close, failure) = end(&mut stream.reader).await;
        assert_eq!(len, 100_004);
        match (expected, failure) {
            (None, None) => {
                let reason = String::from_utf8_lossy(&payload[2..]);
                assert_eq!(close, StreamClose::new(1000, &reason));
            }
            (Some(expected), Some(Failure::Agent(text))) => {
                assert!(text.ends_with(expected), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn a_close_of_the_client_comes_after_its_messages_and_with_its_code<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    for (code, reason, payload) in [
        (1000, "done", close(1000, "done")),
        (4321, "", close(4321, "")),
        (StreamClose::NO_CODE, "", vec![]),
    ] {
        let mut stream = open(&hub, &mut api).await;
        for len in [300_000, 0, 1] {
            let message = Message::Binary(vec![7; len].into());
            stream.writer.write(message).await.unwrap();
        }
        stream.writer.close(StreamClose::new(code, reason));
        for len in [300_000, 0, 1] {
            let (first, payload) = stream.peer.next().await.unwrap();
            assert_eq!((first, payload.len()), (BINARY, len));
        }
        assert_eq!(stream.peer.next().await, Some((CLOSE, payload.clone())));
        stream.peer.send(CLOSE, &payload).await;
        stream.peer.0.shutdown().await.unwrap();
        assert_eq!(stream.peer.next().await, None);
    }
}

async fn p161_a_close_of_the_controller_is_answered_with_that_of_the_api<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut controller = ByHand::new(runtime, &api).await;
    for answer in [Some(close(1000, "done")), None] {
        controller.start().await;
        let mut peer = Peer::accept(&mut api, "").await;
        // The start has no other answer.
        peer.send(BINARY, b"hello").await;
        controller.next("proxy_websocket_data").await;
        let asked = json!({"code": 4321, "reason": "bye"});
        controller.tell("close", asked.clone()).await;
        assert_eq!(peer.next().await, Some((CLOSE, close(4321, "bye"))));
        peer.send(BINARY, b"too late").await;
        let expected = match answer {
            Some(answer) => {
                peer.send(CLOSE, &answer).await;
                json!({"code": 1000, "reason": "done"})
            }
            None => asked,
        };
        peer.0.shutdown().await.unwrap();
        let closed = &controller.next("proxy_websocket_close").await["payload"];
        assert_eq!(closed["code"], expected["code"]);
        assert_eq!(closed["reason"], expected["reason"]);
    }
}

async fn a_client_that_closes_does_not_wait_for_an_api_that_talks_on<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, agent) = tunnel(runtime, api.config()).await;
    let mut stream = open(&hub, &mut api).await;
    stream.writer.close(StreamClose::new(1000, ""));
    assert_eq!(stream.peer.next().await, Some((CLOSE, close(1000, ""))));
    // It neither answers nor stops, until nobody is there any more.
    let talk = frame(BINARY, &[7; 1000]);
    while stream.peer.0.write_all(&talk).await.is_ok() {}
    drop(agent);
}

async fn what_comes_with_the_upgrade_is_not_lost<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    let upgrade = ask(&hub, &[]).await;
    let mut connection = api.accept().await;
    let request = connection.head().await;
    let mut sent = accepted(&request, "").into_bytes();
    for (first, payload) in [(BINARY, &[1][..]), (BINARY, b"hello"), (CLOSE, &[3, 232])] {
        sent.extend(frame(first, payload));
    }
    connection.0.write_all(&sent).await.unwrap();
    let mut stream = opened(upgrade.answer().await, Peer(connection.0));
    let expected = (6, StreamClose::new(1000, ""), None);
    assert_eq!(end(&mut stream.reader).await, expected);
}

/// A command that ends while input is on its way to it: the connection breaks on what was not
/// read, and its output and result still arrive.
async fn the_last_words_of_an_api_outlive_what_it_does_not_read<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    for _ in 0..30 {
        let mut stream = open(&hub, &mut api).await;
        let input = Message::Binary(vec![7; 10_000].into());
        stream.writer.write(input.clone()).await.unwrap();
        assert!(stream.peer.next().await.is_some());
        let mut sent = frame(BINARY, &[7; 50_000]);
        sent.extend(frame(CLOSE, &close(1000, "")));
        let mut writer = stream.writer;
        let typing = tokio::spawn(async move {
            // More than it reads, and more after it has gone.
            while writer.write(input.clone()).await.is_ok() {}
            // Without it the stream would be given up.
            writer
        });
        stream.peer.0.readable().await.unwrap();
        stream.peer.0.write_all(&sent).await.unwrap();
        drop(stream.peer);
        let expected = (50_000, StreamClose::new(1000, ""), None);
        assert_eq!(end(&mut stream.reader).await, expected);
        drop(typing.await.unwrap());
    }
}

async fn an_api_that_ends_without_a_close_breaks_the_stream<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let (hub, _agent) = tunnel(runtime, api.config()).await;
    // Between two messages, and in the middle of one.
    for sent in [
        frame(BINARY, b"half"),
        frame(BINARY, &[7; 500])[..200].to_vec(),
    ] {
        let mut stream = open(&hub, &mut api).await;
        stream.peer.0.write_all(&sent).await.unwrap();
        stream.peer.0.shutdown().await.unwrap();
        let expected = "the Kubernetes API ended the stream without a close frame";
        assert_eq!(broken(&mut stream.reader).await, expected);
        stream.peer.ended().await;
    }
}

async fn an_api_that_breaks_the_rules_is_told_and_breaks_the_stream<R: Runtime>(runtime: R) {
    let mut api = Api::new().await;
    let mut config = api.config();
    config.limits.message = 1000;
    let (hub, _agent) = tunnel(runtime, config).await;
    let masked = [0x82, 0x81, 1, 2, 3, 4, 5].to_vec();
    let fragments = [frame(0x02, &[7; 900]), frame(0x80, &[7; 900])].concat();
    for (sent, code, expected) in [
        (frame(0xc2, b"?"), 1002, "broke the rules of WebSocket"),
        (masked, 1002, "broke the rules of WebSocket"),
        (frame(TEXT, &[0xff]), 1007, "broke the rules of WebSocket"),
        (
            frame(BINARY, &[7; 1001]),
            1009,
            "sent a message of more than 1000 bytes",
        ),
        (fragments, 1009, "sent a message of more than 1000 bytes"),
    ] {
        let mut stream = open(&hub, &mut api).await;
        stream.peer.send(BINARY, &[7; 1000]).await;
        stream.peer.0.write_all(&sent).await.unwrap();
        let (first, payload) = stream.peer.next().await.unwrap();
        assert_eq!((first, &payload[..2]), (CLOSE, &close(code, "")[..]));
        let text = broken(&mut stream.reader).await;
        assert!(text.contains(expected), "{text}");
        stream.peer.0.shutdown().await.unwrap();
        stream.peer.ended().await;
    }
}
