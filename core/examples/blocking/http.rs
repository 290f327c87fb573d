//! Requests and WebSockets to the Kubernetes API, each over a connection of its own. `ureq-proto`
//! knows HTTP/1.1 and, like the core, does no I/O: here its bytes are moved.

use std::{
    io::{Read, Write},
    sync::mpsc::TryRecvError,
};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use controlplane_core::{
    Kind, RequestHead, ResponseHead, StreamClose, StreamEnd, rules::Credentials,
};
use tungstenite::{
    Message, Utf8Bytes, WebSocket,
    handshake::{client::generate_key, derive_accept_key},
    protocol::CloseFrame,
};
use ureq_proto::{
    BodyMode,
    client::{
        Await100Result, Call, RecvResponseResult, SendRequestResult,
        state::{RecvBody, RecvResponse, SendBody},
    },
    http::{HeaderName, HeaderValue, Method, Request, Response, header},
};

use crate::{
    link::complaint,
    local::{Ends, Piece, READ, Said, broken, carry, opened},
    settings::Settings,
    wire::Wire,
};

/// Longest head that is read or written.
const HEAD: usize = 256 << 10;

/// Answers a request. Its body is sent while the answer is read already, because an API may answer
/// before it has the whole body.
pub(crate) fn exchange(
    settings: &Settings,
    head: RequestHead,
    credentials: Credentials,
    ends: Ends,
) -> Result<StreamEnd> {
    // The end of a body that there is none of has come at once.
    let first = match ends.inbox.try_recv() {
        Err(TryRecvError::Disconnected) => return Ok(StreamEnd::Clean),
        first => first.ok(),
    };
    let has_body = !matches!(first, Some(Piece::End));
    let request = request(settings, head, credentials, has_body)?;
    let (mut api, call) = Api::ask(settings, request, &ends)?;
    let mut upload = Upload {
        wire: api.wire.clone(),
        call,
    };
    let write = move |piece| upload.write(piece);
    answer(&mut api, ends, first, write)
}

/// Passes an answer on, head and body.
fn answer(
    api: &mut Api,
    ends: Ends,
    first: Option<Piece>,
    write: impl FnMut(Piece) -> Result<()> + Send + 'static,
) -> Result<StreamEnd> {
    let wire = api.wire.clone();
    let voice = ends.voice.clone();
    // The head goes out before the first piece of the body, from the thread that reads both.
    let mut head = true;
    let mut body = None;
    let read = move || {
        if std::mem::take(&mut head) {
            let (response, call) = api.head().map_err(|e| broken(format!("{e:#}")))?;
            let _ = voice.say(Said::Head(response_head(&response)));
            body = call;
        }
        match &mut body {
            None => Err(StreamEnd::Clean),
            Some(call) => match api.body(call) {
                Ok(Some(data)) => Ok((Kind::Bytes, data)),
                Ok(None) => Err(StreamEnd::Clean),
                Err(error) => Err(broken(format!("{error:#}"))),
            },
        }
    };
    Ok(carry(ends, first, read, write, move || wire.end_reading()))
}

/// Opens a WebSocket, by plain HTTP so that a refusal keeps its status, headers and body.
pub(crate) fn websocket(
    settings: &Settings,
    head: RequestHead,
    protocols: &[String],
    credentials: Credentials,
    ends: Ends,
) -> Result<StreamEnd> {
    let mut request = request(settings, head, credentials, false)?;
    let key = generate_key();
    let headers = request.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(
        header::SEC_WEBSOCKET_VERSION,
        HeaderValue::from_static("13"),
    );
    headers.insert(header::SEC_WEBSOCKET_KEY, key.parse()?);
    if !protocols.is_empty() {
        let offered = protocols.join(", ").parse()?;
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, offered);
    }
    let (mut api, _) = Api::ask(settings, request, &ends)?;
    let (response, call) = api.head()?;
    if response.status() != 101 {
        api.head = Some((response, call));
        return answer(&mut api, ends, None, |_| Ok(()));
    }
    let accept = response.headers().get(header::SEC_WEBSOCKET_ACCEPT);
    let right = accept.is_some_and(|accept| *accept == derive_accept_key(key.as_bytes()));
    ensure!(
        right,
        "the Kubernetes API answered the upgrade with 101, but not to this request"
    );
    ends.voice.say(Said::Head(response_head(&response)))?;
    let longest = settings.config.limits.message;
    let mut reader = api.wire.websocket(api.read, longest);
    let mut writer = api.wire.websocket(Vec::new(), usize::MAX);
    let read = move || message(&mut reader);
    let write = move |piece| {
        match piece {
            Piece::Data(Kind::Text, data) => {
                writer.send(Message::Text(Utf8Bytes::try_from(data)?))?;
            }
            Piece::Data(_, data) => writer.send(Message::Binary(data))?,
            Piece::Close(close) => writer.close(close_frame(&close))?,
            Piece::End => {}
        }
        Ok(())
    };
    let stop = move || api.wire.end_reading();
    Ok(carry(ends, None, read, write, stop))
}

/// The next message of a WebSocket. Pings are answered on the way.
fn message(socket: &mut WebSocket<Wire>) -> Result<(Kind, Bytes), StreamEnd> {
    loop {
        return match socket.read() {
            Ok(Message::Binary(data)) => Ok((Kind::Binary, data)),
            Ok(Message::Text(text)) => Ok((Kind::Text, text.into())),
            Ok(Message::Close(frame)) => {
                // Answers it.
                let _ = socket.flush();
                let frame = frame.map(|frame| (frame.code.into(), frame.reason));
                let (code, reason) = frame.unwrap_or((StreamClose::NO_CODE, "".into()));
                Err(StreamEnd::Closed(StreamClose::new(code, &reason)))
            }
            Ok(_) => continue,
            Err(error) => {
                if let Some(code) = complaint(&error) {
                    let reason = "protocol error".into();
                    let _ = socket.close(Some(CloseFrame { code, reason }));
                }
                Err(broken(format!(
                    "the Kubernetes API broke the stream: {error}"
                )))
            }
        };
    }
}

fn close_frame(close: &StreamClose) -> Option<CloseFrame> {
    (close.code != StreamClose::NO_CODE).then(|| CloseFrame {
        code: close.code.into(),
        reason: close.reason.as_str().into(),
    })
}

fn request(
    settings: &Settings,
    head: RequestHead,
    credentials: Credentials,
    has_body: bool,
) -> Result<Request<()>> {
    let query = head
        .query
        .map_or(String::new(), |query| format!("?{query}"));
    let mut request = Request::builder()
        .method(&*head.method)
        .uri(format!("{}{}{query}", settings.upstream, head.path))
        .body(())?;
    let takes_body = matches!(
        *request.method(),
        Method::POST | Method::PUT | Method::PATCH
    );
    let headers = request.headers_mut();
    for (name, value) in head.headers {
        headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    if credentials == Credentials::ServiceAccount && !settings.upstream_token.is_empty() {
        let value = format!("Bearer {}", settings.upstream_token);
        headers.insert(header::AUTHORIZATION, value.parse()?);
    }
    if !headers.contains_key(header::CONTENT_LENGTH) {
        if has_body {
            headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        } else if takes_body {
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
    }
    Ok(request)
}

fn response_head(response: &Response<()>) -> ResponseHead {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = response.headers().iter();
    ResponseHead {
        status: response.status().as_u16(),
        headers: headers
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
    }
}

type Answer = (Response<()>, Option<Call<RecvBody>>);

/// One connection to the Kubernetes API.
struct Api {
    wire: Wire,
    /// Read and not looked at yet.
    read: Vec<u8>,
    call: Option<Call<RecvResponse>>,
    head: Option<Answer>,
}

impl Api {
    /// Sends the head of a request; what sends its body comes with it.
    fn ask(
        settings: &Settings,
        request: Request<()>,
        ends: &Ends,
    ) -> Result<(Self, Option<Call<SendBody>>)> {
        let mut wire = Wire::connect(request.uri(), &settings.tls, None)?;
        opened(&ends.voice, &wire)?;
        wire.wait_for_ever()?;
        // Both directions go on at once, but a call is in one at a time: a twin without a body reads.
        let twin = Request::builder()
            .method(request.method())
            .uri(request.uri());
        let twin = twin.header(header::CONTENT_LENGTH, "0").body(())?;
        let (SendRequestResult::RecvResponse(answer), _) = begin(twin)? else {
            bail!("a request without a body has one");
        };
        let (sending, head) = begin(request)?;
        wire.write_all(&head)?;
        let body = match sending {
            SendRequestResult::SendBody(call) => Some(call),
            SendRequestResult::Await100(call) => match call.proceed()? {
                Await100Result::SendBody(call) => Some(call),
                Await100Result::RecvResponse(_) => None,
            },
            SendRequestResult::RecvResponse(_) => None,
        };
        let api = Self {
            wire,
            read: Vec::new(),
            call: Some(answer),
            head: None,
        };
        Ok((api, body))
    }

    /// Reads more; false at the end.
    fn more(&mut self) -> Result<bool> {
        let mut buffer = [0; READ];
        let len = self
            .wire
            .read(&mut buffer)
            .context("the answer broke off")?;
        self.read.extend_from_slice(&buffer[..len]);
        Ok(len > 0)
    }

    /// The head of the answer, and what reads its body.
    fn head(&mut self) -> Result<Answer> {
        if let Some(head) = self.head.take() {
            return Ok(head);
        }
        let mut call = self.call.take().context("the answer was read already")?;
        loop {
            let (used, response) = call.try_response(&self.read, false)?;
            self.read.drain(..used);
            if let Some(response) = response {
                let body = match call.proceed() {
                    Some(RecvResponseResult::RecvBody(body)) => Some(body),
                    _ => None,
                };
                return Ok((response, body));
            }
            if used == 0 {
                ensure!(self.read.len() < HEAD, "the answer's head is too long");
                ensure!(self.more()?, "the Kubernetes API ended the connection");
            }
        }
    }

    /// The next piece of the body; `None` once it is complete.
    fn body(&mut self, call: &mut Call<RecvBody>) -> Result<Option<Bytes>> {
        let to_the_end = call.body_mode() == BodyMode::CloseDelimited;
        let mut data = vec![0; READ];
        loop {
            if call.can_proceed() && !to_the_end {
                return Ok(None);
            }
            let (used, len) = call.read(&self.read, &mut data)?;
            self.read.drain(..used);
            if len > 0 {
                data.truncate(len);
                return Ok(Some(data.into()));
            }
            if used == 0 && !self.more()? {
                ensure!(to_the_end, "the answer broke off");
                return Ok(None);
            }
        }
    }
}

/// What follows the head of a request, and the head.
fn begin(request: Request<()>) -> Result<(SendRequestResult, Vec<u8>)> {
    let mut call = Call::new(request)?;
    call.allow_non_standard_methods(true);
    call.force_send_body();
    let mut call = call.proceed();
    let mut head = vec![0; HEAD];
    let len = call.write(&mut head)?;
    head.truncate(len);
    let next = call.proceed()?.context("the request's head is too long")?;
    Ok((next, head))
}

/// Sends the body of a request, held to the length that it declared.
struct Upload {
    wire: Wire,
    call: Option<Call<SendBody>>,
}

impl Upload {
    fn write(&mut self, piece: Piece) -> Result<()> {
        let Some(call) = &mut self.call else {
            ensure!(piece.len().is_none(), "a body that was not declared");
            return Ok(());
        };
        let mut buffer = vec![0; READ];
        if let Piece::Data(_, data) = &piece {
            let mut rest = &data[..];
            while !rest.is_empty() {
                let (used, len) = call.write(rest, &mut buffer)?;
                self.wire.write_all(&buffer[..len])?;
                rest = &rest[used..];
            }
            return Ok(());
        }
        let (_, len) = call.write(&[], &mut buffer)?;
        ensure!(call.can_proceed(), "the body is shorter than its length");
        Ok(self.wire.write_all(&buffer[..len])?)
    }
}
