//! What listened at the ports of the recorded pod.

use std::io;
use std::net::{Ipv4Addr, TcpListener as StdListener};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A server in a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// BusyBox's httpd with one page. It closes the connection after its answer.
    Httpd,
    /// `nc -e cat`.
    Cat,
}

/// What httpd answered, at that time.
const ANSWER: &str = "HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 05:44:06 GMT\r\n\
    Connection: close\r\nContent-type: text/html\r\nAccept-Ranges: bytes\r\n\
    Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT\r\nETag: \"0-13\"\r\nContent-Length: 19\r\n\r\n\
    hello from the pod\n";

/// Starts one in the current runtime; the port of 127.0.0.1 that it listens at.
///
/// # Errors
///
/// It cannot listen.
pub(crate) fn serve(server: Server) -> Result<u16> {
    let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    let listener = TcpListener::from_std(listener)?;
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            tokio::spawn(answer(server, tcp));
        }
    });
    Ok(port)
}

async fn answer(server: Server, mut tcp: TcpStream) -> io::Result<()> {
    let (mut from, mut to) = tcp.split();
    if server == Server::Cat {
        tokio::io::copy(&mut from, &mut to).await?;
        return to.shutdown().await;
    }
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(from.read_u8().await?);
    }
    to.write_all(ANSWER.as_bytes()).await?;
    to.shutdown().await
}
