//! exec and attach over SPDY.

use super::client::query;
use super::spdy_client::{Client, Seen, Stream, ask};
use super::{start, status};
use crate::standin::spdy::{CANCEL, Frame};
use crate::standin::{StandIn, WebSockets};

const V4: &str = "v4.channel.k8s.io";

async fn exec(standin: &StandIn, streams: &str, argv: &[&str]) -> Client {
    Client::connect(standin, &query("exec", streams, argv), V4).await
}

async fn open(client: &mut Client, kinds: &[&str]) -> Vec<u32> {
    let mut numbers = Vec::new();
    for kind in kinds {
        numbers.push(client.open(&[("streamtype", kind)]).await);
    }
    numbers
}

fn text(seen: &Seen, stream: u32) -> &str {
    std::str::from_utf8(&seen.streams[&stream].data).unwrap()
}

#[tokio::test]
async fn runs_a_command_to_its_status() {
    let standin = start().await;
    let script = "cat; echo err >&2; exit 3";
    let streams = "stdin=true&stdout=true&stderr=true";
    let mut client = exec(&standin, streams, &["sh", "-c", script]).await;
    let kinds = ["error", "stdin", "stdout", "stderr"];
    assert_eq!(open(&mut client, &kinds).await, [1, 3, 5, 7]);
    client.send(Frame::Ping(9)).await;
    client.data(3, b"typed", false).await;
    client.data(3, b"", true).await;
    let end = client.end().await;
    assert_eq!(end.pings, [9]);
    assert_eq!(text(&end, 5), "typed");
    assert_eq!(text(&end, 7), "err\n");
    assert!(text(&end, 1).contains(&status("3")), "{}", text(&end, 1));
    let closed = |stream: &Stream| (stream.fin, stream.reset);
    let ends: Vec<_> = end.streams.values().map(closed).collect();
    let reset = (false, Some(CANCEL));
    assert_eq!(ends, [reset, reset, (true, None), (true, None)]);
    assert_eq!(end.go_away, Some(7));
    standin.processes_become(0).await;
    standin.streams_become(0).await;
}

/// What is typed before all streams are there, is typed when they are.
#[tokio::test]
async fn nothing_that_comes_early_is_lost() {
    let standin = start().await;
    let mut client = exec(&standin, "stdin=true&stdout=true", &["cat"]).await;
    assert_eq!(open(&mut client, &["error", "stdin"]).await, [1, 3]);
    client.data(3, b"early ", false).await;
    client.data(3, b"end", true).await;
    let stdout = client.begin(&[("streamtype", "stdout")]).await;
    let end = client.end().await;
    assert_eq!(text(&end, stdout), "early end");
    assert_eq!(text(&end, 1), r#"{"metadata":{},"status":"Success"}"#);
}

#[tokio::test]
async fn a_terminal_is_resized() {
    let standin = start().await;
    let script = "read -r line; stty size; exit 0";
    let streams = "stdin=true&stdout=true&tty=true";
    let mut client = exec(&standin, streams, &["sh", "-c", script]).await;
    open(&mut client, &["error", "stdin", "stdout", "resize"]).await;
    client
        .data(7, b"{\"Width\":100,\"Height\":40}\n", false)
        .await;
    client.data(3, b"go\n", false).await;
    let end = client.end().await;
    assert!(text(&end, 5).ends_with("40 100\r\n"), "{:?}", text(&end, 5));
}

#[tokio::test]
async fn a_command_that_is_not_found_is_told() {
    let standin = start().await;
    let mut client = exec(&standin, "stdout=true", &["nosuchcommand"]).await;
    open(&mut client, &["error", "stdout"]).await;
    let end = client.end().await;
    assert!(text(&end, 1).contains("executable file not found"));
    assert_eq!(end.streams[&3].reset, Some(CANCEL));
}

/// Who opens other streams than it asked for, gets nothing started.
#[tokio::test]
async fn other_streams_than_those_asked_for_end_it() {
    let standin = start().await;
    for kinds in [["error", "error"], ["error", "stdin"], ["error", "bogus"]] {
        let mut client = exec(&standin, "stdout=true", &["sleep", "1000"]).await;
        for kind in kinds {
            client.begin(&[("streamtype", kind)]).await;
        }
        let end = client.end().await;
        assert_eq!(end.streams.len(), 1, "{kinds:?}: {end:?}");
        assert_eq!(standin.running_processes(), 0);
    }
    standin.streams_become(0).await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_what_is_typed() {
    let standin = start().await;
    let mut client = exec(&standin, "stdin=true&stdout=true", &["cat"]).await;
    open(&mut client, &["error", "stdin", "stdout"]).await;
    assert_eq!(standin.running_processes(), 1);
    drop(client);
    standin.processes_become(0).await;
    standin.streams_become(0).await;
}

#[tokio::test]
async fn attach_shows_and_types() {
    let standin = start().await;
    standin.set_main("web-0", &["cat"], false).unwrap();
    let path = query("attach", "stdin=true&stdout=true", &[]);
    let mut client = Client::connect(&standin, &path, V4).await;
    open(&mut client, &["error", "stdin", "stdout"]).await;
    client.data(3, b"hello\n", false).await;
    client.until(5, |stdout| stdout.data == b"hello\n").await;
    client.data(3, b"", true).await;
    let end = client.end().await;
    assert_eq!(text(&end, 1), r#"{"metadata":{},"status":"Success"}"#);
    assert_eq!(standin.running_processes(), 1);
}

#[tokio::test]
async fn a_cut_connection_says_nothing() {
    let standin = start().await;
    let mut client = exec(&standin, "stdout=true", &["sleep", "1000"]).await;
    open(&mut client, &["error", "stdout"]).await;
    standin.drop_streams();
    let end = client.end().await;
    assert_eq!((text(&end, 1), end.go_away), ("", None));
    standin.streams_become(0).await;
}

#[tokio::test]
async fn only_known_streams_are_agreed_on() {
    let standin = start().await;
    let path = query("exec", "stdout=true", &["true"]);
    for offer in [&["v5.channel.k8s.io"][..], &["portforward.k8s.io"], &[]] {
        let (_, head) = ask(&standin, &path, offer).await;
        assert!(head.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{head}");
    }
    // The refusal of WebSockets does not touch it.
    standin.set_web_sockets(WebSockets::Forbidden);
    let (_, head) = ask(&standin, &path, &["v5.channel.k8s.io", V4]).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
}
