//! An agent with a handler of its own and the controller's end, over a real WebSocket on loopback:
//! what the event loop promises, on both runtimes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use controlplane_driver::{
    Agent, AgentInfo, Failure, Limits, OpenError, Request, Responder, Runtime, State, Token,
};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::{Message, protocol::CloseFrame};

use crate::{
    bench::{PATIENCE, head, ok, on_both, pair, pattern, rest},
    names::TwoAddresses,
};

on_both! {
    a_request_and_its_answer_pass_whole_and_in_order
    p153_a_slow_reader_holds_up_its_own_stream_only
    p158_p174_a_cut_connection_fails_its_requests_and_the_agent_comes_back
    p186_a_dropped_answer_ends_the_handler
    p094_a_handler_that_gives_up_is_told_as_a_failure
    p212_a_shutdown_lets_open_requests_end_and_refuses_new_ones
    a_handler_that_panics_costs_its_own_request
    an_agent_whose_last_handle_is_dropped_stops
    every_address_of_a_name_is_tried
    p148_a_message_above_the_limit_closes_with_1009
    p019_every_close_code_leads_to_a_new_attempt
}

async fn every_address_of_a_name_is_tried<R: Runtime>(runtime: R) {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = closed.local_addr().unwrap();
    drop(closed);
    // It asserts that it registers.
    let (_hub, agent) = pair(TwoAddresses(runtime, Some(dead)), echo).await;
    assert_eq!(agent.stats().registrations, 1);
}

/// A controller that speaks by hand, with an agent that dials it.
async fn by_hand<R: Runtime>(runtime: R, limits: Limits) -> (TcpListener, Agent<R>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let info = AgentInfo {
        agent_id: "agent-1".into(),
        ..AgentInfo::default()
    };
    let agent = Agent::builder(url, Token::new("token").unwrap(), info)
        .runtime(runtime)
        .allow_plaintext(true)
        .handler(echo)
        .limits(limits)
        .start()
        .unwrap();
    (listener, agent)
}

async fn p148_a_message_above_the_limit_closes_with_1009<R: Runtime>(runtime: R) {
    let limits = Limits {
        frame: 10_000,
        ..Limits::agent()
    };
    let (listener, _agent) = by_hand(runtime, limits).await;
    for _ in 0..2 {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().is_text());
        socket
            .send(Message::text(" ".repeat(10_001)))
            .await
            .unwrap();
        let closed = loop {
            if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
                break frame.unwrap();
            }
        };
        assert_eq!(u16::from(closed.code), 1009);
    }
}

async fn p019_every_close_code_leads_to_a_new_attempt<R: Runtime>(runtime: R) {
    let (listener, agent) = by_hand(runtime, Limits::agent()).await;
    for code in [1000, 1008] {
        let (tcp, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(tcp).await.unwrap();
        assert!(socket.next().await.unwrap().unwrap().is_text());
        let frame = CloseFrame {
            code: code.into(),
            reason: "test".into(),
        };
        socket.close(Some(frame)).await.unwrap();
        // The agent echoes the close (P-019) before it comes back.
        let echoed = socket.next().await.unwrap().unwrap();
        let Message::Close(Some(echoed)) = echoed else {
            panic!("{echoed:?}")
        };
        assert_eq!(u16::from(echoed.code), code);
    }
    assert_ne!(agent.state(), State::Stopped);
}

/// Sends back what it gets, piece by piece.
async fn echo(mut request: Request, responder: Responder) {
    let mut body = responder.respond(ok());
    while let Some(piece) = request.body.next().await {
        let Ok(piece) = piece else { return };
        if body.write(piece).await.is_err() {
            return;
        }
    }
    body.finish();
}

/// Begins an answer and never ends it.
async fn hang(request: Request, responder: Responder) {
    let mut body = responder.respond(ok());
    if body.write("begun".into()).await.is_ok() {
        std::future::pending::<()>().await;
    }
    drop(request);
}

async fn a_request_and_its_answer_pass_whole_and_in_order<R: Runtime>(runtime: R) {
    let (hub, _agent) = pair(runtime, echo).await;
    let sent = pattern(3_000_000);
    let (mut body, mut answer) = hub.request(head("/api/v1/echo"), true).await.unwrap();
    let upload = async {
        for piece in sent.chunks(70_001) {
            body.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        body.finish();
    };
    let download = async {
        assert_eq!(answer.head().await.unwrap().status, 200);
        rest(&mut answer).await.unwrap()
    };
    let ((), got) = tokio::join!(upload, download);
    assert!(got == sent, "what came back differs");
    assert_eq!(hub.stats().streams_opened, 1);
}

async fn p153_a_slow_reader_holds_up_its_own_stream_only<R: Runtime>(runtime: R) {
    let handler = |request: Request, responder: Responder| async move {
        let mut body = responder.respond(ok());
        let size = if request.head.path.ends_with("big") {
            64
        } else {
            1
        };
        for _ in 0..size {
            if body.write(vec![7; 100_000].into()).await.is_err() {
                return;
            }
        }
        body.finish();
    };
    let (hub, _agent) = pair(runtime, handler).await;
    // Nobody reads the first: 6.4 MB wait within the controller's bounds.
    let (_, mut slow) = hub.request(head("/api/big"), false).await.unwrap();
    slow.head().await.unwrap();
    for _ in 0..8 {
        let (_, mut quick) = hub.request(head("/api/small"), false).await.unwrap();
        quick.head().await.unwrap();
        assert_eq!(rest(&mut quick).await.unwrap().len(), 100_000);
    }
    assert_eq!(rest(&mut slow).await.unwrap().len(), 6_400_000);
}

async fn p158_p174_a_cut_connection_fails_its_requests_and_the_agent_comes_back<R: Runtime>(
    runtime: R,
) {
    let (hub, agent) = pair(
        runtime,
        |request: Request, responder: Responder| async move {
            match &*request.head.path {
                "/api/hang" => hang(request, responder).await,
                _ => echo(request, responder).await,
            }
        },
    )
    .await;
    let (_, mut answer) = hub.request(head("/api/hang"), false).await.unwrap();
    answer.head().await.unwrap();
    assert_eq!(answer.next().await.unwrap().unwrap(), "begun");
    let registered = agent.state();
    hub.disconnect();
    assert_eq!(answer.next().await, Some(Err(Failure::Disconnected)));
    assert!(matches!(
        agent.changed(&registered).await,
        State::Waiting { attempt: 1, .. }
    ));
    assert_eq!(agent.registered().await.unwrap().cluster_id, "6f1c");
    hub.wait_joined().await.unwrap();
    let (body, mut answer) = hub.request(head("/api/echo"), true).await.unwrap();
    body.finish();
    answer.head().await.unwrap();
    assert_eq!(rest(&mut answer).await.unwrap(), b"");
    assert_eq!(agent.stats().registrations, 2);
}

async fn p186_a_dropped_answer_ends_the_handler<R: Runtime>(runtime: R) {
    struct Guard(tokio::sync::mpsc::UnboundedSender<()>);
    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (dropped, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |request: Request, responder: Responder| {
        let guard = Guard(dropped.clone());
        async move {
            hang(request, responder).await;
            drop(guard);
        }
    };
    let (hub, agent) = pair(runtime, handler).await;
    let (_, mut answer) = hub.request(head("/api/hang"), false).await.unwrap();
    answer.head().await.unwrap();
    drop(answer);
    ended.recv().await.unwrap();
    // Another request proves that the agent has worked off the cancel.
    let (_, mut next) = hub.request(head("/api/hang"), false).await.unwrap();
    next.head().await.unwrap();
    assert_eq!(agent.stats().streams_open, 1);
}

async fn p094_a_handler_that_gives_up_is_told_as_a_failure<R: Runtime>(runtime: R) {
    let (hub, _agent) = pair(
        runtime,
        |request: Request, responder: Responder| async move {
            match &*request.head.path {
                "/api/fail" => responder.fail("no such luck"),
                "/api/abort" => {
                    let mut body = responder.respond(ok());
                    let _ = body.write("half".into()).await;
                    body.abort("broke off");
                }
                _ => drop(responder),
            }
        },
    )
    .await;
    let failure = |text: &str| Failure::Agent(text.into());
    let (_, mut answer) = hub.request(head("/api/fail"), false).await.unwrap();
    assert_eq!(answer.head().await, Err(failure("no such luck")));
    let (_, mut answer) = hub.request(head("/api/abort"), false).await.unwrap();
    answer.head().await.unwrap();
    assert_eq!(rest(&mut answer).await, Err(failure("broke off")));
    let (_, mut answer) = hub.request(head("/api/drop"), false).await.unwrap();
    let Err(Failure::Agent(text)) = answer.head().await else {
        panic!()
    };
    assert!(text.contains("without a complete answer"), "{text}");
}

async fn p212_a_shutdown_lets_open_requests_end_and_refuses_new_ones<R: Runtime>(runtime: R) {
    let (hub, agent) = pair(runtime, echo).await;
    let (mut body, mut answer) = hub.request(head("/api/echo"), true).await.unwrap();
    body.write("a".into()).await.unwrap();
    answer.head().await.unwrap();
    let stopping = agent.clone();
    let seen = agent.state();
    let shutdown = tokio::spawn(async move { stopping.shutdown(PATIENCE).await });
    assert_eq!(agent.changed(&seen).await, State::Draining);
    // In the fast mode the controller knows already that the agent takes no more.
    match hub.request(head("/api/echo"), false).await {
        Err(error) => assert_eq!(error, OpenError::Away),
        Ok((_, mut refused)) => {
            // A stream that meets the news on its way is reset; in JSON there is a text.
            let in_json = Failure::Agent("the agent is shutting down".into());
            let told = refused.head().await.unwrap_err();
            assert!(told == Failure::Reset || told == in_json, "{told:?}");
        }
    }
    body.write("b".into()).await.unwrap();
    body.finish();
    assert_eq!(rest(&mut answer).await.unwrap(), b"ab");
    shutdown.await.unwrap();
    assert_eq!(agent.state(), State::Stopped);
    assert!(agent.registered().await.is_err());
    while hub.joined().is_some() {
        tokio::task::yield_now().await;
    }
    let away = hub.request(head("/api/echo"), false).await;
    assert_eq!(away.unwrap_err(), OpenError::Away);
}

async fn a_handler_that_panics_costs_its_own_request<R: Runtime>(runtime: R) {
    let count = Arc::new(AtomicUsize::new(0));
    let handler = move |request: Request, responder: Responder| {
        let nth = count.fetch_add(1, Ordering::Relaxed);
        async move {
            assert!(nth > 0, "the first request is unlucky");
            echo(request, responder).await;
        }
    };
    let (hub, _agent) = pair(runtime, handler).await;
    let (_, mut answer) = hub.request(head("/api/a"), false).await.unwrap();
    assert!(matches!(answer.head().await, Err(Failure::Agent(_))));
    let (_, mut answer) = hub.request(head("/api/b"), false).await.unwrap();
    assert_eq!(answer.head().await.unwrap().status, 200);
}

async fn an_agent_whose_last_handle_is_dropped_stops<R: Runtime>(runtime: R) {
    let (hub, agent) = pair(runtime, echo).await;
    drop(agent);
    while hub.joined().is_some() {
        tokio::task::yield_now().await;
    }
}
