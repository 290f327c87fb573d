//! A thousand streams at once, over one link, in both modes.

use bytes::Bytes;
use controlplane_driver::{Hub, Request, Responder, Runtime};
use futures_util::{StreamExt, future::join_all, stream};

use crate::bench::{head, ok, on_both, pair_in, pattern, rest};

on_both! {
    a_thousand_streams_at_once_are_all_whole
}

const STREAMS: usize = 1000;

/// Answers when the whole body is there, with the same.
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

/// All are open before the first one ends.
async fn all_at_once(hub: &Hub) {
    let opened = (0..STREAMS).map(async |i| {
        let opened = hub.request(head("/api/v1/echo"), true).await;
        let (mut body, mut answer) = opened.unwrap_or_else(|e| panic!("stream {i}: {e}"));
        let sent = pattern(500 + i);
        body.write(Bytes::copy_from_slice(&sent)).await.unwrap();
        let head = answer.head().await;
        assert_eq!(
            head.unwrap_or_else(|e| panic!("stream {i}: {e}")).status,
            200
        );
        (sent, body, answer)
    });
    // An end need not accept more than 256 new streams at a time (P-119).
    let opened: Vec<_> = stream::iter(opened).buffered(100).collect().await;
    assert_eq!(opened.len(), STREAMS);
    let ended = opened
        .into_iter()
        .map(async |(mut sent, mut body, mut answer)| {
            body.write(Bytes::from_static(b"last")).await.unwrap();
            body.finish();
            sent.extend(b"last");
            let got = rest(&mut answer).await.unwrap();
            assert!(got == sent, "the stream of {} bytes differs", sent.len());
        });
    join_all(ended).await;
}

async fn a_thousand_streams_at_once_are_all_whole<R: Runtime>(runtime: R) {
    for fast in [true, false] {
        let (hub, agent) = pair_in(fast, runtime.clone(), echo).await;
        all_at_once(&hub).await;
        assert!(
            agent.stats().streams_opened >= STREAMS as u64,
            "fast: {fast}"
        );
    }
}
