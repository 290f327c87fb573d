//! WebSocket streams that are open: their messages, and how either side ends them.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::{
    socket::{EXEC, FORWARD, TUNNEL, V5, close, closed, message, passes},
    world::{World, within},
};

/// What the result of a command is that nobody knows.
fn failure(message: &Message) -> Value {
    let Message::Binary(data) = message else {
        panic!("{message:?}")
    };
    assert_eq!(data[0], 3, "the error channel");
    serde_json::from_slice(&data[1..]).unwrap()
}

#[tokio::test]
async fn messages_pass_as_they_are_with_their_type() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        let all: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let messages = [
            Message::binary(&b"\x00input"[..]),
            Message::text("täxt"),
            Message::binary(&b""[..]),
            Message::text(""),
            Message::binary(&b"\xff\x00"[..]),
            Message::binary(all.clone()),
            Message::text("x".repeat(1 << 20)),
        ];
        for expected in &messages {
            passes(&mut client, &mut agent, &id, expected.clone()).await;
            agent.says(&id, expected).await;
            assert!(&message(&mut client).await == expected, "another message");
        }
        // Many at once, in both directions, in order.
        let sent: Vec<Message> = (0..200).map(|n| Message::text(format!("{n}"))).collect();
        for message in &sent {
            client.feed(message.clone()).await.unwrap();
            agent.says(&id, message).await;
        }
        client.flush().await.unwrap();
        for expected in &sent {
            assert_eq!(&message(&mut client).await, expected);
            let data = expected.clone().into_data().to_vec();
            assert_eq!(agent.message(&id).await, (1, data));
        }
    })
    .await;
}

#[tokio::test]
async fn a_message_in_fragments_goes_out_as_one_and_a_ping_not_at_all() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        let part = |data: &'static [u8], kind, last| {
            Message::Frame(Frame::message(data, OpCode::Data(kind), last))
        };
        let parts = [
            part(b"\x00one", Data::Binary, false),
            Message::Ping("?".into()),
            part(b" two", Data::Continue, false),
            part(b" three", Data::Continue, true),
        ];
        for part in parts {
            client.send(part).await.unwrap();
        }
        let expected = b"\x00one two three".to_vec();
        assert_eq!(agent.message(&id).await, (2, expected));
        let pong = client.next().await.unwrap().unwrap();
        assert_eq!(pong, Message::Pong("?".into()));
    })
    .await;
}

#[tokio::test]
async fn the_clusters_close_comes_after_its_messages_with_its_code() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let status = Message::binary(&b"\x03{\"metadata\":{},\"status\":\"Success\"}"[..]);
        for (code, reason, expected) in [
            (Some(1000), "", Some((1000, ""))),
            (Some(1000), "done", Some((1000, "done"))),
            (Some(1011), "broken", Some((1011, "broken"))),
            (Some(4321), "own", Some((4321, "own"))),
            // As an original agent closes it, which knows no codes (P-047).
            (None, "", Some((1000, ""))),
        ] {
            let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
            let last = Message::binary(vec![1; 1 << 19]);
            agent.says(&id, &last).await;
            agent.says(&id, &status).await;
            agent.closes(&id, code, reason).await;
            assert!(message(&mut client).await == last, "another message");
            assert_eq!(message(&mut client).await, status);
            let expected = expected.map(|(code, reason)| (code, reason.to_owned()));
            assert_eq!(closed(&mut client).await, expected);
        }
        // Where no result says how it went, nothing is made up.
        let (id, mut client) = world.open(&mut agent, FORWARD, TUNNEL).await;
        agent.closes(&id, None, "").await;
        assert_eq!(closed(&mut client).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_client_that_still_sends_sees_the_end_all_the_same() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let (id, client) = world.open(&mut agent, FORWARD, TUNNEL).await;
        let (mut sink, mut source) = client.split();
        // It would reset the connection, if what it sends were left unread.
        let sending = tokio::spawn(async move {
            let message = Message::binary(vec![0; 1 << 16]);
            while sink.send(message.clone()).await.is_ok() {}
        });
        agent.message(&id).await;
        agent.closes(&id, Some(1000), "over").await;
        let frame = loop {
            match source.next().await.unwrap().unwrap() {
                Message::Close(frame) => break frame.unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            (u16::from(frame.code), frame.reason.as_str()),
            (1000, "over")
        );
        assert!(source.next().await.is_none());
        sending.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_clients_close_is_answered_and_reaches_the_cluster_after_its_messages() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        for (frame, code, reason) in [
            (close(1000, ""), json!(1000), Value::Null),
            (close(1000, "bye"), json!(1000), json!("bye")),
            (close(4000, "own"), json!(4000), json!("own")),
            (Message::Close(None), Value::Null, Value::Null),
        ] {
            let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
            client.feed(Message::text("last")).await.unwrap();
            client.send(frame.clone()).await.unwrap();
            assert_eq!(message(&mut client).await, frame);
            assert!(client.next().await.is_none());
            assert_eq!(agent.message(&id).await, (1, b"last".to_vec()));
            assert_eq!(agent.close_of(&id).await, (code, reason));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_stream_after_its_messages() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        client.send(Message::text("last")).await.unwrap();
        drop(client);
        assert_eq!(agent.message(&id).await, (1, b"last".to_vec()));
        let gone = (json!(1001), json!("the client is gone"));
        assert_eq!(agent.close_of(&id).await, gone);
    })
    .await;
}

#[tokio::test]
async fn an_agent_that_is_lost_is_never_a_success() {
    within(async {
        let world = Arc::new(World::start().await);
        let text = "the connection to the cluster's agent was lost";
        let mut agent = world.agent().await;
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        agent.says(&id, &Message::binary(&b"\x01half"[..])).await;
        message(&mut client).await;
        world.running.drop_agent_connections();
        let status = failure(&message(&mut client).await);
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["message"], text);
        assert_eq!(closed(&mut client).await, Some((1000, String::new())));

        // Without a place for a result, the code says it.
        let mut agent = world.agent().await;
        let (_, mut client) = world.open(&mut agent, FORWARD, TUNNEL).await;
        world.running.drop_agent_connections();
        assert_eq!(closed(&mut client).await, Some((1011, text.into())));
    })
    .await;
}

#[tokio::test]
async fn an_upstream_that_fails_or_ends_without_a_result_is_never_a_success() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        let payload = json!({"error": "the Kubernetes API is gone"});
        agent.send("proxy_error", &id, payload).await;
        let status = failure(&message(&mut client).await);
        assert_eq!(status["message"], "the Kubernetes API is gone");
        assert_eq!(closed(&mut client).await, Some((1000, String::new())));

        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        agent.closes(&id, Some(1000), "").await;
        let status = failure(&message(&mut client).await);
        assert_eq!(status["status"], "Failure");
        assert_eq!(closed(&mut client).await, Some((1000, String::new())));
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_gives_streams_their_grace() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        let World { running, .. } = Arc::into_inner(world).unwrap();
        let stopping = tokio::spawn(running.shutdown(Duration::from_secs(30)));
        passes(&mut client, &mut agent, &id, Message::text("on")).await;
        let status = Message::binary(&b"\x03{\"status\":\"Success\"}"[..]);
        agent.says(&id, &status).await;
        agent.closes(&id, Some(1000), "").await;
        assert_eq!(message(&mut client).await, status);
        assert_eq!(closed(&mut client).await, Some((1000, String::new())));
        assert_eq!(agent.closed().await.0, 1001);
        stopping.await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_outlives_the_grace_is_told_why_it_ends() {
    within(async {
        let text = "the controller is shutting down";
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let (_, mut exec) = world.open(&mut agent, EXEC, V5).await;
        let (_, mut forward) = world.open(&mut agent, FORWARD, TUNNEL).await;
        let World { running, .. } = Arc::into_inner(world).unwrap();
        running.shutdown(Duration::from_millis(1)).await;
        // Nothing goes on, and only now do they read what they were told.
        let tasks = tokio::runtime::Handle::current().metrics();
        assert_eq!(tasks.num_alive_tasks(), 0);
        let status = failure(&message(&mut exec).await);
        assert_eq!(status["message"], text);
        assert_eq!(closed(&mut exec).await, Some((1000, String::new())));
        assert_eq!(closed(&mut forward).await, Some((1011, text.into())));
    })
    .await;
}
