//! WebSocket streams that the controller ends: at a limit, or because their user may no longer.

use std::{sync::Arc, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::{
    socket::{EXEC, V5, close, closed, cut, passes},
    world::{World, status, within},
};

#[tokio::test]
async fn a_message_above_the_limit_is_1009_at_both_ends() {
    within(async {
        let world = World::with(|config| config.agent_limits.message = 1000);
        let world = Arc::new(world.await);
        let mut agent = world.agent().await;
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        let longest = Message::binary(vec![0; 1000]);
        passes(&mut client, &mut agent, &id, longest).await;
        client.send(Message::text("last")).await.unwrap();
        client.send(Message::binary(vec![0; 1001])).await.unwrap();
        let reason = "a message of the client is longer than 1000 bytes";
        assert_eq!(closed(&mut client).await, Some((1009, reason.into())));
        assert_eq!(agent.message(&id).await, (1, b"last".to_vec()));
        assert_eq!(agent.close_of(&id).await, (json!(1009), json!(reason)));

        // A client that is still sending it sees why it is not wanted.
        let (id, client) = world.open(&mut agent, EXEC, V5).await;
        let (mut sink, mut source) = client.split();
        let (_, message) =
            tokio::join!(sink.send(Message::binary(vec![0; 8 << 20])), source.next());
        assert_eq!(message.unwrap().unwrap(), close(1009, reason));
        assert_eq!(agent.close_of(&id).await, (json!(1009), json!(reason)));

        // In fragments, too.
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        for kind in [Data::Binary, Data::Continue] {
            let frame = Frame::message(vec![0; 600], OpCode::Data(kind), false);
            client.send(Message::Frame(frame)).await.unwrap();
        }
        assert_eq!(closed(&mut client).await, Some((1009, reason.into())));
        assert_eq!(agent.close_of(&id).await, (json!(1009), json!(reason)));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_breaks_the_rules_is_told_which() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let reserved = OpCode::Data(Data::Reserved(3));
        let text = OpCode::Data(Data::Text);
        for (data, opcode, code) in [(&b"x"[..], reserved, 1002), (b"\xff", text, 1007)] {
            let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
            let frame = Frame::message(data, opcode, true);
            client.send(Message::Frame(frame)).await.unwrap();
            let (told, reason) = closed(&mut client).await.unwrap();
            assert_eq!(told, code, "{reason}");
            let expected = (json!(code), json!(reason));
            assert_eq!(agent.close_of(&id).await, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_loses_its_stream_and_delays_nobody() {
    within(async {
        let world = World::with(|config| {
            config.limits.stream_write = Duration::from_millis(50);
            config.agent_limits.recv_stream = usize::MAX;
            config.agent_limits.recv_total = usize::MAX;
        });
        let world = Arc::new(world.await);
        let mut agent = world.agent().await;
        let (slow, mut client) = world.open(&mut agent, EXEC, V5).await;
        let chunk = Message::binary(vec![1; 1 << 15]);
        let close = loop {
            agent.says(&slow, &chunk).await;
            tokio::select! {
                biased;
                message = agent.recv() => break message,
                () = std::future::ready(()) => {}
            }
        };
        assert_eq!(close["type"], "proxy_websocket_close");
        let reason = "the client took nothing for too long";
        assert_eq!(close["payload"]["reason"], reason);
        let (id, mut quick) = world.open(&mut agent, EXEC, V5).await;
        passes(&mut quick, &mut agent, &id, Message::text("quick")).await;
        cut(&mut client).await;
    })
    .await;
}

#[tokio::test]
async fn a_client_that_shows_no_life_is_gone() {
    within(async {
        let world = World::with(|config| {
            config.limits.stream_ping = Duration::from_millis(10);
            config.limits.stream_silence = Duration::from_millis(50);
        });
        let world = Arc::new(world.await);
        let mut agent = world.agent().await;
        // It is there, but does not read, so that it answers no ping.
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        let gone = (json!(1001), json!("the client is gone"));
        assert_eq!(agent.close_of(&id).await, gone);
        let (code, reason) = closed(&mut client).await.unwrap();
        assert_eq!(code, 1008, "{reason}");
    })
    .await;
}

#[tokio::test]
async fn a_revoked_user_loses_a_stream_on_which_nothing_happens() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let (id, mut client) = world.open(&mut agent, EXEC, V5).await;
        // Another user is none of this one's business.
        world.add_user(&["demo"], None);
        let nowhere = world.ask("GET", "/clusters/nowhere/api").await;
        status(nowhere, 404, "NotFound").await;
        passes(&mut client, &mut agent, &id, Message::text("still")).await;

        let user = world.credentials.load().unwrap().users[0].id.clone();
        world.credentials.revoke(&user).unwrap();
        let reason = "the user's right to reach the cluster was withdrawn";
        assert_eq!(closed(&mut client).await, Some((1008, reason.into())));
        assert_eq!(agent.close_of(&id).await, (json!(1001), json!(reason)));
    })
    .await;
}

#[tokio::test]
async fn a_revoked_user_sends_and_gets_nothing_more() {
    within(async {
        let world = Arc::new(World::start().await);
        let mut agent = world.agent().await;
        let sent = world.open(&mut agent, EXEC, V5).await;
        let got = world.open(&mut agent, EXEC, V5).await;
        let user = world.credentials.load().unwrap().users[0].id.clone();
        world.credentials.revoke(&user).unwrap();
        // Now it is known.
        let refused = world.ask("GET", "/clusters/demo/api").await;
        status(refused, 401, "Unauthorized").await;
        let ((first, mut sender), (second, mut getter)) = (sent, got);
        sender.send(Message::text("after")).await.unwrap();
        assert_eq!(agent.close_of(&first).await.0, json!(1001));
        agent.says(&second, &Message::text("after")).await;
        assert_eq!(closed(&mut sender).await.unwrap().0, 1008);
        assert_eq!(closed(&mut getter).await.unwrap().0, 1008);
    })
    .await;
}
