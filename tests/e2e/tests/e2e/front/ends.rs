//! How exchanges end that do not end well.

use std::sync::{Arc, Mutex};

use controlplane_driver::{
    BoxFuture, Broken, Handler, Request, Responder, Runtime, UpgradeRequest, UpgradeResponder,
};
use tokio::sync::mpsc;

use super::client::{Client, PIPE, mirror, ok};
use crate::bench::on_both;

on_both! {
    p186_a_request_ends_with_its_connection
    a_handler_that_panics_costs_its_request_only
    an_answer_that_breaks_off_never_passes_for_whole
    p207_an_answer_is_as_long_as_it_says
    why_an_answer_broke_off_is_told_to_who_asks
    a_body_that_breaks_off_breaks_off_for_the_handler
    a_handler_goes_on_once_its_answer_is_complete
}

/// Tells when a handler's future is dropped, and with which of its steps done.
struct Steps(mpsc::UnboundedSender<&'static str>);

impl Drop for Steps {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

/// Answers in the way that the path names, and then never ends.
struct Endless(mpsc::UnboundedSender<&'static str>);

impl Handler for Endless {
    fn handle(&self, request: Request, responder: Responder) -> BoxFuture<'static, ()> {
        let steps = Steps(self.0.clone());
        Box::pin(async move {
            let mut held = None;
            match &*request.head.path {
                "/api/silent" => held = Some(Err(responder)),
                "/api/half" => {
                    let mut body = responder.respond(ok(&[]));
                    body.write("half".into()).await.unwrap();
                    held = Some(Ok(body));
                }
                _ => {
                    // More than anybody takes.
                    let mut body = responder.respond(ok(&[]));
                    while body.write(vec![b'x'; PIPE].into()).await.is_ok() {}
                }
            }
            let _ = steps.0.send("waits");
            std::future::pending::<()>().await;
            drop(held);
        })
    }

    fn upgrade(&self, _: UpgradeRequest, responder: UpgradeResponder) -> BoxFuture<'static, ()> {
        let steps = Steps(self.0.clone());
        Box::pin(async move {
            let headers = [("Connection", "Upgrade"), ("Upgrade", "SPDY/3.1")];
            let headers = headers.map(|(n, v)| (n.to_string(), v.to_string()));
            let switched = responder.accept(headers.into()).await.unwrap();
            let _ = steps.0.send("waits");
            std::future::pending::<()>().await;
            drop(switched);
        })
    }
}

async fn p186_a_request_ends_with_its_connection<R: Runtime>(runtime: R) {
    for (path, upgrade) in [
        ("silent", ""),
        ("half", ""),
        ("flood", ""),
        ("x", "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n"),
    ] {
        // An upgraded connection may be half-closed.
        for lost in [true, false]
            .iter()
            .filter(|lost| upgrade.is_empty() || **lost)
        {
            let (sender, mut steps) = mpsc::unbounded_channel();
            let mut client = Client::new(runtime.clone(), Endless(sender));
            let request = format!("GET /api/{path} HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n");
            client.write(&request).await;
            if path != "silent" {
                client.head().await;
            }
            if path != "flood" {
                assert_eq!(steps.recv().await, Some("waits"));
            }
            if *lost {
                client.serving.abort();
            } else {
                drop(client.io);
            }
            // The flood may have had a moment to see that nobody takes it.
            while steps.recv().await.expect(path) != "dropped" {}
        }
    }
}

async fn a_handler_that_panics_costs_its_request_only<R: Runtime>(runtime: R) {
    struct Clumsy;
    impl Handler for Clumsy {
        fn handle(&self, request: Request, responder: Responder) -> BoxFuture<'static, ()> {
            match &*request.head.path {
                "/api/at-once" => panic!("as told"),
                "/api/later" => Box::pin(async { panic!("as told") }),
                "/api/half" => Box::pin(async {
                    let mut body = responder.respond(ok(&[]));
                    body.write("half".into()).await.unwrap();
                    panic!("as told")
                }),
                _ => Box::pin(mirror(request, responder)),
            }
        }
    }
    let mut client = Client::new(runtime, Clumsy);
    for path in ["at-once", "later"] {
        let request = format!("GET /api/{path} HTTP/1.1\r\nHost: a\r\n\r\n");
        client.write(&request).await;
        let (first, _, body) = client.answer().await;
        assert_eq!(first, "HTTP/1.1 502 Bad Gateway");
        assert_eq!(
            body,
            "the request's handler ended without a complete answer\n"
        );
    }
    client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.answer().await.2, "GET /api -\n");
    client
        .write("GET /api/half HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    client.head().await;
    assert_eq!(client.rest().await, "4\r\nhalf\r\n");
    assert!(!client.was_closed());
    client.serving.await.unwrap();
}

async fn an_answer_that_breaks_off_never_passes_for_whole<R: Runtime>(runtime: R) {
    for (length, abort) in [("", true), ("", false), ("10", true), ("10", false)] {
        let handler = move |_: Request, responder: Responder| async move {
            let length = [("Content-Length", length)];
            let headers = if length[0].1.is_empty() {
                &[]
            } else {
                &length[..]
            };
            let mut body = responder.respond(ok(headers));
            body.write("half".into()).await.unwrap();
            if abort {
                body.abort("no more");
            }
        };
        let mut client = Client::new(runtime.clone(), handler);
        client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.head().await;
        let rest = client.rest().await;
        let half = if length.is_empty() {
            "4\r\nhalf\r\n"
        } else {
            "half"
        };
        assert_eq!(rest, half);
        client.serving.await.unwrap();
        // Nor is the connection closed in order.
        assert!(!client.closed.load(std::sync::atomic::Ordering::SeqCst));
    }
}

async fn p207_an_answer_is_as_long_as_it_says<R: Runtime>(runtime: R) {
    for text in ["short", "much too long"] {
        let handler = move |_: Request, responder: Responder| async move {
            let mut body = responder.respond(ok(&[("Content-Length", "10")]));
            if body.write(text.into()).await.is_ok() {
                body.finish();
            }
        };
        let mut client = Client::new(runtime.clone(), handler);
        client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.head().await;
        let rest = client.rest().await;
        assert_eq!(rest, if text.len() < 10 { text } else { "" });
        assert!(!client.was_closed());
        client.serving.await.unwrap();
    }
}

async fn a_body_that_breaks_off_breaks_off_for_the_handler<R: Runtime>(runtime: R) {
    for (framing, half) in [
        ("Content-Length: 10", "half"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\n"),
        ("Transfer-Encoding: chunked", "4\r\nhalf\r\nnonsense\r\n"),
        (
            "Transfer-Encoding: chunked",
            "4\r\nhalf\r\n0\r\nA: \u{1}\r\n\r\n",
        ),
    ] {
        let (sender, mut read) = mpsc::unbounded_channel();
        let sender = Arc::new(Mutex::new(Some(sender)));
        let handler = move |mut request: Request, responder: Responder| {
            let sender = sender.lock().unwrap().take().unwrap();
            // Not in the handler's future, which ends with the connection.
            tokio::spawn(async move {
                while let Some(piece) = request.body.next().await {
                    sender.send(piece).unwrap();
                }
            });
            async move {
                std::future::pending::<()>().await;
                drop(responder);
            }
        };
        let handler = InTokio(tokio::runtime::Handle::current(), handler);
        let mut client = Client::new(runtime.clone(), handler);
        let request = format!("PUT /api HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{half}");
        client.write(&request).await;
        assert_eq!(read.recv().await, Some(Ok("half".into())));
        drop(client.io);
        assert_eq!(read.recv().await, Some(Err(Broken)), "{half:?}");
        assert_eq!(read.recv().await, None);
    }
}

/// Calls a handler within tokio, whatever the runtime is.
struct InTokio<T>(tokio::runtime::Handle, T);

impl<T: Handler> Handler for InTokio<T> {
    fn handle(&self, request: Request, responder: Responder) -> BoxFuture<'static, ()> {
        let _entered = self.0.enter();
        self.1.handle(request, responder)
    }
}

async fn a_handler_goes_on_once_its_answer_is_complete<R: Runtime>(runtime: R) {
    // With a length, hyper has seen all of the answer before the handler says so.
    for length in [
        &[("Content-Length", "2")][..],
        &[("Content-Length", "0")],
        &[],
    ] {
        let (sender, mut done) = mpsc::unbounded_channel();
        let (go, going) = tokio::sync::watch::channel(false);
        let headers = ok(length);
        let handler = move |_: Request, responder: Responder| {
            let (sender, mut going, headers) = (sender.clone(), going.clone(), headers.clone());
            async move {
                let mut body = responder.respond(headers);
                // There may be no room for it at all.
                let _ = body.write("ok".into()).await;
                body.finish();
                going.wait_for(|go| *go).await.unwrap();
                sender.send(()).unwrap();
            }
        };
        let mut client = Client::new(runtime.clone(), handler);
        client.write("GET /api HTTP/1.1\r\nHost: a\r\n\r\n").await;
        client.head().await;
        let end = match length {
            [] => "0\r\n\r\n",
            [(_, "2")] => "ok",
            _ => "",
        };
        client.read_until(end).await;
        drop(client.io);
        client.serving.await.unwrap();
        go.send(true).unwrap();
        assert_eq!(done.recv().await, Some(()));
    }
}

async fn why_an_answer_broke_off_is_told_to_who_asks<R: Runtime>(runtime: R) {
    let handler = |request: Request, responder: Responder| async move {
        let (length, end) = request.head.path[5..].split_once('/').unwrap();
        let lie = ("Controlplane-Length", "1");
        let headers = match length {
            "none" => vec![lie, ("Trailer", "x-sum")],
            length => vec![lie, ("Content-Length", length)],
        };
        let mut body = responder.respond(ok(&headers));
        if body.write("half".into()).await.is_err() {
            return;
        }
        let lie = ("controlplane-failure".into(), "a lie".into());
        match end {
            "abort" => body.abort("no\nmore"),
            "drop" => drop(body),
            _ => body.finish_with(vec![lie, ("x-sum".into(), "7".into())]),
        }
    };
    let mut client = Client::new(runtime, handler);
    let ended = "the request's handler ended without a complete answer";
    let long = "the answer is longer than its Content-Length";
    let short = "the answer is shorter than its Content-Length";
    for (path, sent, told) in [
        ("none/abort", "4\r\nhalf\r\n", Some("no more")),
        ("none/drop", "4\r\nhalf\r\n", Some(ended)),
        ("10/abort", "4\r\nhalf\r\n", Some("no more")),
        ("10/finish", "4\r\nhalf\r\n", Some(short)),
        ("3/finish", "", Some(long)),
        ("4/finish", "4\r\nhalf\r\n", None),
        ("none/finish", "4\r\nhalf\r\n", None),
    ] {
        let te = "TE: trailers, controlplane-failure";
        let request = format!("GET /api/{path} HTTP/1.1\r\nHost: a\r\n{te}\r\n\r\n");
        client.write(&request).await;
        let (_, lines) = client.head().await;
        let length = path.split('/').next().filter(|length| *length != "none");
        let declared = length.map(|length| format!("controlplane-length: {length}"));
        let found = |start| lines.iter().find(|line| line.starts_with(start));
        assert_eq!(found("controlplane-length"), declared.as_ref(), "{path}");
        assert_eq!(found("content-length"), None, "{path}");
        let body = client.read_until("0\r\n").await + &client.read_until("\r\n").await;
        let trailer = match (told, length) {
            (Some(text), _) => format!("controlplane-failure: {text}\r\n"),
            (None, None) => "x-sum: 7\r\n".into(),
            (None, Some(_)) => "\r\n".into(),
        };
        assert_eq!(body, format!("{sent}0\r\n{trailer}"), "{path}");
        if trailer != "\r\n" {
            client.read_until("\r\n").await;
        }
    }
    // An answer without a body keeps its length, and nobody else's has another one.
    for (method, te) in [
        ("HEAD", "trailers, controlplane-failure"),
        ("GET", "trailers"),
    ] {
        let request = format!("{method} /api/4/finish HTTP/1.1\r\nHost: a\r\nTE: {te}\r\n\r\n");
        client.write(&request).await;
        let (_, lines) = client.head().await;
        assert_eq!(lines, ["content-length: 4"], "{method}");
    }
    assert_eq!(client.body(4).await, "half");
}
