//! Streams over the loopback, with a WebSocket client that keeps to the rules. What breaks them is
//! replayed from the recordings.

mod client;
mod forward;
mod spdy;
mod spdy_client;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use self::client::{Stream, query};
use crate::standin::tests::client::connect;
use crate::standin::{Backend, Options, StandIn};

/// A shell that says what its number is and sleeps.
const SLEEPER: [&str; 3] = ["sh", "-c", "echo $$; exec sleep 1000"];

async fn start() -> StandIn {
    StandIn::start(Options::default()).await.unwrap()
}

fn status(code: &str) -> String {
    format!("\"reason\":\"ExitCode\",\"message\":\"{code}\"")
}

#[tokio::test]
async fn runs_a_command() {
    let standin = start().await;
    let script = "echo out; echo err >&2; echo ${CARGO_MANIFEST_DIR-safe}; exit 3";
    let path = query("exec", "stdout=true&stderr=true", &["sh", "-c", script]);
    let end = Stream::open(&standin, &path, "v5.channel.k8s.io")
        .await
        .end()
        .await;
    assert_eq!(end.stdout, b"out\nsafe\n");
    assert_eq!(end.stderr, b"err\n");
    assert!(end.status.contains(&status("3")), "{}", end.status);
    assert_eq!(end.close, Some(1000));
    standin.processes_become(0).await;
    standin.streams_become(0).await;
}

#[tokio::test]
async fn carries_much_both_ways() {
    let standin = start().await;
    let path = query("exec", "stdin=true&stdout=true", &["cat"]);
    let stream = Stream::open(&standin, &path, "v5.channel.k8s.io").await;
    let much: Vec<u8> = (0..3_000_000_u32)
        .map(|number| (number % 251) as u8)
        .collect();
    let Stream { mut keys, screen } = stream;
    let typed = async {
        for part in much.chunks(100_000) {
            keys.send(0, part).await;
        }
        keys.send(255, &[0]).await;
        keys.send(0, b"late").await;
    };
    let (end, ()) = tokio::join!(screen.end(), typed);
    assert!(end.stdout == much, "{} bytes", end.stdout.len());
    assert!(end.largest <= 32 * 1024 + 1, "{}", end.largest);
    assert_eq!(end.status, r#"{"metadata":{},"status":"Success"}"#);
}

#[tokio::test]
async fn only_v5_ends_what_is_typed() {
    let standin = start().await;
    let path = query("exec", "stdin=true&stdout=true", &["cat"]);
    let mut stream = Stream::open(&standin, &path, "v4.channel.k8s.io").await;
    stream.keys.send(255, &[0]).await;
    stream.keys.send(0, b"still\n").await;
    stream.until(b"still\n").await;
    stream.leave().await;
    standin.processes_become(0).await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_one_output() {
    let standin = start().await;
    let script = "while read -r line; do eval \"$line\"; done";
    let path = query(
        "exec",
        "stdin=true&stdout=true&stderr=true&tty=true",
        &["sh", "-c", script],
    );
    let mut stream = Stream::open(&standin, &path, "v5.channel.k8s.io").await;
    stream
        .keys
        .send(4, b"{\"Width\":101,\"Height\":41}\n")
        .await;
    stream.keys.send(0, b"stty size >&2\r").await;
    stream.until(b"stty size >&2\r\n41 101\r\n").await;
    // A terminal does not end with what is typed.
    stream.keys.send(255, &[0]).await;
    stream.keys.send(4, b"{\"Width\":80,\"Height\":24}").await;
    stream
        .keys
        .send(0, b"tty >/dev/null && stty size; exit 5\n")
        .await;
    let end = stream.end().await;
    assert!(end.stdout.ends_with(b"24 80\r\n"), "{:?}", end.stdout);
    assert!(end.status.contains(&status("5")), "{}", end.status);
}

#[tokio::test]
async fn a_client_that_leaves_ends_only_what_is_typed() {
    let standin = start().await;
    let reads = query(
        "exec",
        "stdin=true&stdout=true",
        &["sh", "-c", "cat; sleep 0"],
    );
    for closes in [true, false] {
        let mut stream = Stream::open(&standin, &reads, "v5.channel.k8s.io").await;
        stream.keys.send(0, b"x").await;
        stream.until(b"x").await;
        if closes {
            stream.leave().await;
        }
        standin.streams_become(usize::from(!closes)).await;
        drop(stream);
        standin.streams_become(0).await;
        standin.processes_become(0).await;
    }
    let sleeps = query("exec", "stdout=true", &SLEEPER);
    let mut stream = Stream::open(&standin, &sleeps, "v5.channel.k8s.io").await;
    stream.until(b"\n").await;
    stream.leave().await;
    standin.streams_become(0).await;
    assert_eq!(standin.running_processes(), 1);
    standin.kill_exec_processes();
    standin.processes_become(0).await;
}

#[tokio::test]
async fn a_pod_takes_its_processes_with_it() {
    let standin = start().await;
    standin.set_main("web-0", &SLEEPER, false).unwrap();
    for (kill, count) in [(true, 1), (false, 0)] {
        let path = query("exec", "stdout=true", &["sh", "-c", "echo up; sleep 1000"]);
        let mut stream = Stream::open(&standin, &path, "v5.channel.k8s.io").await;
        stream.until(b"up\n").await;
        match kill {
            true => standin.kill_exec_processes(),
            false => standin.delete_pod("web-0").unwrap(),
        }
        let end = stream.end().await;
        assert!(end.status.contains(&status("137")), "{}", end.status);
        assert_eq!(end.close, Some(1000));
        standin.processes_become(count).await;
    }
}

#[tokio::test]
async fn attached_clients_share_the_process() {
    let standin = start().await;
    standin.set_main("web-0", &["cat"], false).unwrap();
    let path = query("attach", "stdin=true&stdout=true&stderr=true", &[]);
    let mut first = Stream::open(&standin, &path, "v5.channel.k8s.io").await;
    let mut second = Stream::open(&standin, &path, "v4.channel.k8s.io").await;
    for (text, types) in [("one\n", &mut first), ("two\n", &mut second)] {
        types.keys.send(0, text.as_bytes()).await;
        types.until(text.as_bytes()).await;
    }
    second.leave().await;
    // It reads on, and the first has seen what the second typed.
    first.keys.send(0, b"three\n").await;
    first.until(b"one\ntwo\nthree\n").await;
    first.keys.send(255, &[0]).await;
    assert_eq!(first.end().await.close, Some(1000));
    let third = Stream::open(&standin, &path, "v5.channel.k8s.io").await;
    standin.set_main("web-0", &["true"], true).unwrap();
    let end = third.end().await;
    assert_eq!(end.status, r#"{"metadata":{},"status":"Success"}"#);
    let fails = standin.set_main("web-0", &["/no/such"], false).unwrap_err();
    assert!(fails.to_string().contains("no such file"), "{fails}");
}

#[tokio::test]
async fn without_a_process_attached_clients_see_the_log() {
    let standin = start().await;
    standin.push_log("web-0", "before").unwrap();
    let path = query("attach", "stdout=true", &[]);
    let mut stream = Stream::open(&standin, &path, "v5.channel.k8s.io").await;
    standin.push_log("web-0", "after").unwrap();
    stream.until(b"after\n").await;
    standin.end_log("web-0").unwrap();
    assert_eq!(stream.end().await.stdout, b"after\n");
}

#[tokio::test]
async fn streams_can_be_cut() {
    let standin = start().await;
    let path = query("exec", "stdout=true", &["sh", "-c", "echo up; sleep 1000"]);
    for subprotocol in ["v5.channel.k8s.io", "v4.channel.k8s.io"] {
        let v5 = subprotocol.starts_with("v5");
        let open = async || {
            let mut stream = Stream::open(&standin, &path, subprotocol).await;
            stream.until(b"up\n").await;
            stream
        };
        let stream = open().await;
        standin.drop_streams();
        let end = stream.end().await;
        assert_eq!((end.close, end.status.as_str()), (None, ""));

        let stream = open().await;
        standin.set_backend(Backend::NoKubelet);
        assert_eq!(stream.end().await.close, None);
        standin.set_backend(Backend::Up);

        let stream = open().await;
        standin.set_backend(Backend::NoRuntime);
        let end = stream.end().await;
        assert_eq!(end.close, v5.then_some(1000));
        assert_eq!(end.status.contains("Success"), v5);
        standin.set_backend(Backend::Up);
    }
    assert_eq!(standin.running_processes(), 6);
}

#[tokio::test]
async fn streams_can_be_frozen() {
    let standin = start().await;
    let path = query("exec", "stdin=true&stdout=true", &["cat"]);
    let mut stream = Stream::open(&standin, &path, "v5.channel.k8s.io").await;
    standin.freeze_streams(true);
    stream.keys.send(0, b"late").await;
    stream.ping().await;
    let opening = Stream::open(&standin, &path, "v5.channel.k8s.io");
    let mut opening = std::pin::pin!(opening);
    tokio::select! {
        _ = &mut opening => panic!("a new stream is answered"),
        () = standin.streams_become(2) => {}
    }
    assert!(stream.is_silent());
    standin.freeze_streams(false);
    stream.pong().await;
    stream.until(b"late").await;
    drop(opening.await);
    // Also what is frozen can be cut.
    standin.freeze_streams(true);
    standin.drop_streams();
    assert_eq!(stream.end().await.close, None);
    standin.streams_become(0).await;
}

#[tokio::test]
async fn any_request_of_a_connection_can_become_a_stream() {
    let standin = start().await;
    let mut socket = connect(&standin).await;
    let path = query("exec", "stdin=true&stdout=true", &["cat"]);
    let token = format!("Host: -\r\nAuthorization: Bearer {}\r\n", standin.token());
    let plain = format!("GET /healthz HTTP/1.1\r\n{token}\r\n");
    socket.write_all(plain.as_bytes()).await.unwrap();
    until(&mut socket, b"\r\n\r\nok").await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAA\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n";
    let request = format!("GET {path} HTTP/1.1\r\n{token}{upgrade}\r\n").into_bytes();
    // What comes with the request is not lost; the mask is zero.
    let early = [&request, &b"\x82\x85\0\0\0\0\0abc\n"[..]].concat();
    socket.write_all(&early).await.unwrap();
    until(&mut socket, b"\x82\x05\x01abc\n").await;
}

/// Reads until that has come.
async fn until(socket: &mut (impl AsyncRead + Unpin), end: &[u8]) {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        seen.push(socket.read_u8().await.unwrap());
    }
}

/// Whether a process has neither ended nor been killed.
#[cfg(target_os = "linux")]
fn lives(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
    !matches!(state, None | Some(b'Z' | b'X'))
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_process_outlives_the_standin() {
    for (drops, tty) in [(true, false), (false, false), (true, true), (false, true)] {
        let standin = start().await;
        standin.set_main("web-1", &SLEEPER, tty).unwrap();
        // One in the group of the shell, one in a group of its own, and the shell.
        let script = "sleep 1000 & a=$!; setsid sleep 1000 & echo $a $! $$; trap '' HUP; wait";
        let path = query(
            "exec",
            &format!("stdout=true&tty={tty}"),
            &["sh", "-c", script],
        );
        let mut stream = Stream::open(&standin, &path, "v5.channel.k8s.io").await;
        stream.until(b"\n").await;
        let text = String::from_utf8(stream.screen.seen.stdout.clone()).unwrap();
        let pids: Vec<_> = text.split_whitespace().collect();
        assert_eq!(pids.len(), 3, "{text}");
        assert!(pids.iter().all(|pid| lives(pid)), "{text}");
        match drops {
            true => drop(standin),
            false => standin.shutdown().await,
        }
        assert_eq!(stream.end().await.close, None);
        while pids.iter().any(|pid| lives(pid)) {
            tokio::task::yield_now().await;
        }
    }
}
