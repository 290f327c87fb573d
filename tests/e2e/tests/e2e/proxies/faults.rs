//! What a proxy can do wrong, played: the same state, the same next action and the same text on
//! both runtimes, and never a verdict on the agent's token.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use controlplane_driver::{
    Backoff, Builder, Periods, Proxies, Reason, Roots, Runtime, State, TlsOptions,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use crate::{
    bench::on_both,
    gateway::server,
    played::{Played, TOKEN, agent_of, listen},
};

on_both! {
    a_proxy_that_refuses_or_breaks_is_told_and_asked_again
    a_silent_proxy_is_given_up_at_the_limit_of_the_dial
    a_proxy_that_is_gone_is_told
    a_proxy_that_cannot_prove_who_it_is_never_sees_the_password
    a_401_of_the_controller_is_one_and_a_401_of_the_proxy_is_not
    the_agent_is_registered_once_the_proxy_works
    gateways_are_reached_through_the_proxy_too
}

const CONNECT: &str = "CONNECT c.example:80 HTTP/1.1\r\nHost: c.example:80\r\n";
const CREDENTIALS: &str = "Proxy-Authorization: Basic dXNlcjpwYXNz\r\n";
/// So long that a second attempt never comes.
const HOUR: Duration = Duration::from_secs(3600);

/// An agent that asks `proxy` for `c.example`, and then waits for long.
fn behind<R: Runtime>(runtime: R, proxy: &str) -> Builder<R> {
    agent_of(runtime, "ws://c.example")
        .proxies(Proxies::new(proxy).unwrap())
        .backoff(Backoff {
            base: HOUR,
            max: HOUR,
            ..Backoff::default()
        })
}

/// Why the first attempt has failed; the next one is yet to come.
async fn first_failure<R: Runtime>(builder: Builder<R>) -> Reason {
    let agent = builder.start().unwrap();
    let seen = State::Connecting;
    match agent.changed(&seen).await {
        State::Waiting {
            until,
            attempt: 1,
            reason,
        } => {
            let left = until.saturating_duration_since(Instant::now());
            assert!(left <= HOUR, "{left:?}");
            reason
        }
        other => panic!("{other:?}"),
    }
}

/// Accepts a connection and reads what it asks for.
async fn asked(proxy: &TcpListener) -> (TcpStream, String) {
    let (mut tcp, _) = proxy.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.unwrap());
    }
    (tcp, String::from_utf8(head).unwrap())
}

/// What the agent says where the proxy answers with `bytes` and closes.
async fn answered<R: Runtime>(runtime: R, bytes: &[u8]) -> (Reason, SocketAddr) {
    let (proxy, at) = listen().await;
    let builder = behind(runtime, &format!("http://user:pass@{at}"));
    let play = async {
        let (mut tcp, head) = asked(&proxy).await;
        assert!(
            head.starts_with(CONNECT) && head.contains(CREDENTIALS),
            "{head}"
        );
        assert!(!head.contains(TOKEN), "{head}");
        tcp.write_all(bytes).await.unwrap();
        tcp.shutdown().await.unwrap();
        // Kept open until the agent has gone, so that it never sees a reset; we may see one.
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    };
    let (reason, ()) = tokio::join!(first_failure(builder), play);
    (reason, at)
}

async fn a_proxy_that_refuses_or_breaks_is_told_and_asked_again<R: Runtime>(runtime: R) {
    let closed = "it closed the connection before it had answered";
    let no_http = "what it answers is not HTTP: is it a proxy, and of the scheme (http:// or \
                   https://) that the proxy's URL says?";
    let long = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 20_000]].concat();
    for (bytes, expected) in [
        (
            &b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"[..],
            "it refuses with 407 Proxy Authentication Required: check user and password in the \
             proxy's URL",
        ),
        (
            b"HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnono",
            "it refuses with 403 Forbidden: let it permit CONNECT to c.example:80, or go past it \
             by NO_PROXY",
        ),
        (
            b"HTTP/1.1 502 Bad Gateway\r\n\r\n",
            "it refuses with 502 Bad Gateway: check that it can resolve and reach c.example:80",
        ),
        (
            b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n",
            "it refuses with 503 Service Unavailable: check that it can resolve and reach \
             c.example:80",
        ),
        (
            b"HTTP/1.1 401 Unauthorized\r\n\r\n",
            "it refuses with 401 Unauthorized",
        ),
        (b"", closed),
        (b"HTTP/1.1 200 Connection est", closed),
        (b"HTTP/1.1 200 Connection established\r\nVia: x\r\n", closed),
        (b"SSH-2.0-OpenSSH_9.2\r\n", no_http),
        // TLS was expected there.
        (b"\x15\x03\x01\x00\x02\x02\x46", closed),
        (b"\x15\x03\x01\x00\x02\x02\x46\x15", no_http),
        (
            &long,
            "it answers with more than 16384 bytes or 64 lines of headers",
        ),
    ] {
        let (reason, at) = answered(runtime.clone(), bytes).await;
        let expected = format!("proxy {at}, asked to CONNECT c.example:80: {expected}");
        assert_eq!(reason, Reason::Lost(expected));
    }
    // It connects, and the tunnel ends at once.
    let (reason, _) = answered(runtime, b"HTTP/1.1 200 OK\r\n\r\n").await;
    assert!(
        reason
            .to_string()
            .starts_with("connection lost: WebSocket upgrade: "),
        "{reason}"
    );
}

async fn a_silent_proxy_is_given_up_at_the_limit_of_the_dial<R: Runtime>(runtime: R) {
    for (scheme, bytes) in [
        ("http", &b""[..]),
        ("http", b"HTTP/1.1 200 OK\r\n"),
        ("https", b""),
    ] {
        let (proxy, at) = listen().await;
        let builder = behind(runtime.clone(), &format!("{scheme}://{at}")).periods(Periods {
            dial: Duration::from_millis(300),
            ..Periods::default()
        });
        let play = async {
            let (mut tcp, _) = proxy.accept().await.unwrap();
            tcp.write_all(bytes).await.unwrap();
            // The connection is given up, too.
            tcp.read_to_end(&mut Vec::new()).await
        };
        let (reason, gone) = tokio::join!(first_failure(builder), play);
        assert_eq!(reason, Reason::DialTimeout);
        // A reset, where the answer was not read.
        assert!(gone.is_ok() || !bytes.is_empty(), "{gone:?}");
    }
}

async fn a_proxy_that_is_gone_is_told<R: Runtime>(runtime: R) {
    let (proxy, at) = listen().await;
    drop(proxy);
    let reason = first_failure(behind(runtime, &format!("http://user:pass@{at}"))).await;
    let start = format!("connection lost: proxy {at}: connecting to {at}: Connection refused");
    assert!(reason.to_string().starts_with(&start), "{reason}");
}

async fn a_proxy_that_cannot_prove_who_it_is_never_sees_the_password<R: Runtime>(runtime: R) {
    let ((stranger, _), (_, trusted)) = (server(), server());
    let (proxy, at) = listen().await;
    let builder = behind(runtime, &format!("https://user:pass@{at}")).tls(TlsOptions {
        ca_pem: trusted.into_bytes(),
        roots: Roots::Only,
        ..TlsOptions::default()
    });
    let play = async {
        let (tcp, _) = proxy.accept().await.unwrap();
        assert!(stranger.accept(tcp).await.is_err());
    };
    let (reason, ()) = tokio::join!(first_failure(builder), play);
    let start =
        format!("connection lost: proxy {at}: TLS with 127.0.0.1: invalid peer certificate");
    assert!(reason.to_string().starts_with(&start), "{reason}");
}

async fn a_401_of_the_controller_is_one_and_a_401_of_the_proxy_is_not<R: Runtime>(runtime: R) {
    let unauthorized = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
    let (reason, _) = answered(runtime.clone(), unauthorized.as_bytes()).await;
    assert!(matches!(reason, Reason::Lost(_)), "{reason}");
    let (proxy, at) = listen().await;
    let builder = behind(runtime, &format!("http://{at}"));
    let play = async {
        let (mut tcp, _) = asked(&proxy).await;
        let answer = format!("HTTP/1.1 200 OK\r\n\r\n{unauthorized}");
        tcp.write_all(answer.as_bytes()).await.unwrap();
        let _ = tcp.read_to_end(&mut Vec::new()).await;
    };
    let (reason, ()) = tokio::join!(first_failure(builder), play);
    assert_eq!(reason, Reason::Unauthorized(401));
}

async fn the_agent_is_registered_once_the_proxy_works<R: Runtime>(runtime: R) {
    let (proxy, at) = listen().await;
    let proxies = Proxies::new(&format!("http://{at}")).unwrap();
    let agent = agent_of(runtime, "ws://c.example").proxies(proxies);
    let agent = agent.start().unwrap();
    for answer in ["HTTP/1.1 403 Forbidden\r\n\r\n", "", "nonsense"] {
        let (mut tcp, _) = asked(&proxy).await;
        tcp.write_all(answer.as_bytes()).await.unwrap();
    }
    let (mut tcp, head) = asked(&proxy).await;
    assert!(!head.contains("Authorization"), "{head}");
    tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let mut played = Played::upgrade(tcp).await.registered(json!({})).await;
    played.asks("a").await;
    agent.registered().await.unwrap();
    assert_eq!(played.authorization, format!("Bearer {TOKEN}"));
}

async fn gateways_are_reached_through_the_proxy_too<R: Runtime>(runtime: R) {
    let (proxy, at) = listen().await;
    let (gateway, gateway_at) = listen().await;
    let proxies = Proxies::new(&format!("http://user:pass@{at}")).unwrap();
    let agent = agent_of(runtime, "ws://c.example")
        .proxies(proxies)
        .gateways(["gw.example".to_string()])
        .start()
        .unwrap();
    let (mut tcp, _) = asked(&proxy).await;
    tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let named = json!({"gateway_ws_url": "ws://gw.example:8080/ws"});
    let _old = Played::upgrade(tcp).await.registered(named).await;
    let (mut tcp, head) = asked(&proxy).await;
    assert!(
        head.starts_with("CONNECT gw.example:8080 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains(CREDENTIALS), "{head}");
    tcp.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
    let mut far = TcpStream::connect(gateway_at).await.unwrap();
    tokio::spawn(async move { copy_bidirectional(&mut tcp, &mut far).await });
    let mut new = Played::accept(&gateway).await;
    new.asks("at the gateway").await;
    agent.registered().await.unwrap();
}
