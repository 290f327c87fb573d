//! CONNECT against a proxy whose every byte is given.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::io::Cursor;

use super::*;

/// Answers with given bytes, then with the end, and keeps what was asked.
struct Script {
    asked: Vec<u8>,
    answer: Cursor<Vec<u8>>,
}

impl AsyncRead for Script {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.answer).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Script {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked.extend_from_slice(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

const TARGET: &str = "c.example:443";

/// What comes of an answer, and the script as it was left.
async fn asked(proxy: &str, answer: impl Into<Vec<u8>>) -> (Result<(), String>, Script) {
    let proxy = Proxy::parse("HTTPS_PROXY", proxy).unwrap();
    let mut script = Script {
        asked: Vec::new(),
        answer: Cursor::new(answer.into()),
    };
    let outcome = ask(&mut script, &proxy, TARGET).await;
    (outcome.map_err(|error| error.to_string()), script)
}

async fn refusal(proxy: &str, answer: impl Into<Vec<u8>>) -> String {
    asked(proxy, answer).await.0.unwrap_err()
}

#[tokio::test]
async fn the_request_names_the_target_and_carries_the_credentials() {
    let (outcome, script) = asked("http://user:pass@p", "HTTP/1.1 200 OK\r\n\r\n").await;
    outcome.unwrap();
    let expected = format!(
        "CONNECT c.example:443 HTTP/1.1\r\nHost: c.example:443\r\nUser-Agent: {AGENT}\r\n\
         Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
    );
    assert_eq!(String::from_utf8(script.asked).unwrap(), expected);
    let (_, script) = asked("http://p", "HTTP/1.1 200 OK\r\n\r\n").await;
    let without = String::from_utf8(script.asked).unwrap();
    assert!(!without.contains("Authorization") && without.ends_with("\r\n\r\n"));
}

#[tokio::test]
async fn what_follows_the_head_belongs_to_the_tunnel() {
    for head in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nProxy-Agent: x\r\n\r\n",
        "HTTP/1.1 299 \r\n\r\n",
        "HTTP/1.1 200\n\n",
        // Has no meaning in an answer to CONNECT (RFC 9110, section 9.3.6).
        "HTTP/1.1 204 None\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let (outcome, mut script) = asked("p", format!("{head}\r\nfirst bytes")).await;
        assert_eq!(outcome, Ok(()), "{head:?}");
        let mut rest = Vec::new();
        script.answer.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"\r\nfirst bytes", "{head:?}");
    }
}

#[tokio::test]
async fn a_refusal_tells_the_status_and_what_would_help() {
    for (answer, expected) in [
        (
            "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"",
            "407 Proxy Authentication Required: set user and password in HTTPS_PROXY \
             (http://USER:PASSWORD@HOST:PORT)",
        ),
        (
            "407 No\r\nproxy-authenticate: Negotiate\r\nProxy-Authenticate: NTLM x",
            "407 No: it wants authentication by Negotiate, NTLM, and only Basic is supported",
        ),
        (
            "407 No\r\nProxy-Authenticate: Digest x\r\nProxy-Authenticate: BASIC",
            "407 No: set user and password in HTTPS_PROXY (http://USER:PASSWORD@HOST:PORT)",
        ),
        (
            "403 Forbidden",
            "403 Forbidden: let it permit CONNECT to c.example:443, or go past it by NO_PROXY",
        ),
        (
            "502 Bad Gateway",
            "502 Bad Gateway: check that it can resolve and reach c.example:443",
        ),
        (
            "503 ",
            "503: check that it can resolve and reach c.example:443",
        ),
        ("302 Found\r\nLocation: http://elsewhere", "302 Found"),
        ("401 Unauthorized", "401 Unauthorized"),
    ] {
        let answer = format!("HTTP/1.1 {answer}\r\n\r\n<html>");
        let text = refusal("p", answer.as_str()).await;
        assert_eq!(text, format!("it refuses with {expected}"));
    }
    let wrong = refusal("u:S3CRET@p", "HTTP/1.1 407 No\r\n\r\n").await;
    assert_eq!(
        wrong,
        "it refuses with 407 No: check user and password in HTTPS_PROXY"
    );
}

#[tokio::test]
async fn an_answer_that_ends_early_is_no_answer() {
    let whole = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
    for len in 0..whole.len() {
        let text = refusal("p", whole.get(..len).unwrap()).await;
        assert_eq!(
            text, "it closed the connection before it had answered",
            "{len}"
        );
    }
}

#[tokio::test]
async fn what_is_not_http_is_known_at_once() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        // A record of TLS: an alert.
        b"\x15\x03\x01\x00\x02\x02\x46\x00",
        b"HTTP/2.0",
        b"HTTP/1.1 abc\r\n",
        b"HTTP/1.1 099 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\na b: c\r\n",
        b"\0\0\0\0\0\0\0\0",
    ] {
        // Although it goes on for ever.
        let mut endless = garbage.to_vec();
        endless.resize(10 * HEAD, b' ');
        let (outcome, script) = asked("p", endless).await;
        assert!(
            outcome
                .unwrap_err()
                .starts_with("what it answers is not HTTP"),
            "{garbage:?}"
        );
        let read = script.answer.position();
        assert!(read <= garbage.len() as u64, "{garbage:?}: {read}");
    }
}

#[tokio::test]
async fn an_endless_answer_is_given_up() {
    let lines = "X: y\r\n".repeat(10 * LINES);
    let line = "x".repeat(10 * HEAD);
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(HEAD);
    for answer in [
        format!("HTTP/1.1 200 OK\r\n{lines}\r\n"),
        format!("HTTP/1.1 200 OK\r\nX: {line}\r\n\r\n"),
        format!("HTTP/1.1 403 {line}"),
        "\r\n".repeat(HEAD),
        interim,
    ] {
        let (outcome, script) = asked("p", answer).await;
        let expected = "it answers with more than 16384 bytes or 64 lines of headers";
        assert_eq!(outcome.unwrap_err(), expected);
        assert!(script.answer.position() <= HEAD as u64);
    }
}

#[tokio::test]
async fn a_text_of_the_proxy_is_of_bounded_length() {
    let long = "x".repeat(1000);
    let head = format!("HTTP/1.1 407 {long}\r\nProxy-Authenticate: {long}\r\n\r\n");
    let text = refusal("p", head).await;
    assert!(text.len() < 2 * SHOWN + 100, "{text}");
}
