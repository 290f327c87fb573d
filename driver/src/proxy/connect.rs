//! CONNECT: asks a proxy for a tunnel. What it answers is its own word alone: no answer of a proxy
//! is ever taken for one of the controller's, whose 401 would stop the agent's haste.

use std::io;

use futures_util::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use http::StatusCode;
use httparse::{EMPTY_HEADER, Header, Response, Status};
use thiserror::Error;

use super::Proxy;
use crate::dial::AGENT;

/// Of what a proxy answers before the tunnel, in bytes.
const HEAD: usize = 16 << 10;
/// Header lines in it.
const LINES: usize = 64;
/// Of the reason phrase, in characters.
const SHOWN: usize = 100;
/// After so many bytes it is known whether this is HTTP: `HTTP/1.1`.
const VERSION: usize = 8;

/// There is no tunnel. The texts continue "proxy HOST:PORT, asked to CONNECT HOST:PORT: ".
#[derive(Debug, Error)]
pub(super) enum ConnectError {
    #[error("it closed the connection before it had answered")]
    Closed,
    #[error("the connection broke before it had answered: {0}")]
    Io(io::Error),
    #[error(
        "what it answers is not HTTP: is it a proxy, and of the scheme (http:// or https://) that \
         {0} says?"
    )]
    NotHttp(&'static str),
    #[error("it refuses with {status}{remedy}")]
    Refused {
        /// With its reason phrase.
        status: String,
        /// Empty where none is known.
        remedy: String,
    },
    #[error("it answers with more than {HEAD} bytes or {LINES} lines of headers")]
    TooLong,
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // TLS that ends without a farewell.
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

/// Asks for a tunnel to `target`, host and port; when this returns, it is there.
pub(super) async fn ask<T: AsyncRead + AsyncWrite + Unpin>(
    io: &mut T,
    proxy: &Proxy,
    target: &str,
) -> Result<(), ConnectError> {
    io.write_all(&request(target, proxy)).await?;
    io.flush().await?;
    let answer = answer(io, proxy).await?;
    if answer.status.is_success() {
        return Ok(());
    }
    Err(ConnectError::Refused {
        remedy: answer.remedy(target, proxy),
        status: answer.line(),
    })
}

fn request(target: &str, proxy: &Proxy) -> Vec<u8> {
    let head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: {AGENT}\r\n");
    let mut request = head.into_bytes();
    if let Some(credentials) = &proxy.credentials {
        request.extend_from_slice(b"Proxy-Authorization: ");
        request.extend_from_slice(credentials.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    request
}

/// A proxy's answer.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    phrase: String,
    /// Ways to authenticate that it offers, separated by commas.
    offers: String,
    /// Whether basic authentication is one of them.
    basic: bool,
}

async fn answer<T: AsyncRead + Unpin>(io: &mut T, proxy: &Proxy) -> Result<Answer, ConnectError> {
    let mut head = Vec::new();
    for _ in 0..HEAD {
        // Byte by byte, as curl does: what follows the head belongs to the tunnel.
        let mut byte = [0];
        if io.read(&mut byte).await? == 0 {
            return Err(ConnectError::Closed);
        }
        head.extend_from_slice(&byte);
        if byte != *b"\n" && head.len() != VERSION {
            continue;
        }
        match read(&head, proxy)? {
            // Another follows (RFC 9110, section 15.2).
            Some(answer) if answer.status.is_informational() => head.clear(),
            Some(answer) => return Ok(answer),
            None => {}
        }
    }
    Err(ConnectError::TooLong)
}

/// The answer, once its head is whole.
fn read(head: &[u8], proxy: &Proxy) -> Result<Option<Answer>, ConnectError> {
    let mut headers = [EMPTY_HEADER; LINES];
    let mut response = Response::new(&mut headers);
    match response.parse(head) {
        Ok(Status::Partial) => return Ok(None),
        Ok(Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Err(ConnectError::TooLong),
        Err(_) => return Err(ConnectError::NotHttp(proxy.setting)),
    }
    let status = response.code.and_then(|c| StatusCode::from_u16(c).ok());
    let offered = |header: &&Header<'_>| header.name.eq_ignore_ascii_case("proxy-authenticate");
    let offers = response.headers.iter().filter(offered);
    let schemes: Vec<String> = offers.map(|header| scheme(header.value)).collect();
    Ok(Some(Answer {
        status: status.ok_or(ConnectError::NotHttp(proxy.setting))?,
        phrase: cut(response.reason.unwrap_or_default()),
        basic: schemes.iter().any(|s| s.eq_ignore_ascii_case("basic")),
        offers: cut(&schemes.join(", ")),
    }))
}

/// The way to authenticate that a `Proxy-Authenticate` begins with.
fn scheme(offer: &[u8]) -> String {
    let scheme = offer.split(|b| *b == b' ').next().unwrap_or_default();
    scheme.escape_ascii().to_string()
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}

impl Answer {
    fn line(&self) -> String {
        let line = format!("{} {}", self.status.as_u16(), self.phrase);
        line.trim_end().into()
    }

    /// What would help, after ": ".
    fn remedy(&self, target: &str, proxy: &Proxy) -> String {
        let setting = proxy.setting;
        match self.status.as_u16() {
            407 if !self.basic && !self.offers.is_empty() => {
                let offers = &self.offers;
                format!(": it wants authentication by {offers}, and only Basic is supported")
            }
            407 if proxy.credentials.is_some() => format!(": check user and password in {setting}"),
            407 => format!(": set user and password in {setting} (http://USER:PASSWORD@HOST:PORT)"),
            403 | 405 => format!(": let it permit CONNECT to {target}, or go past it by NO_PROXY"),
            502..=504 => format!(": check that it can resolve and reach {target}"),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
