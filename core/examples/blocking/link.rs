//! The WebSockets to the controller and to a gateway: one thread reads, one writes.

use std::{
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Context;
use controlplane_core::{CloseCode, ConnId, Down, Endpoint, OutFrame};
use tungstenite::{
    Error as WsError, HandshakeError, Message, WebSocket,
    client::{IntoClientRequest, client_with_config},
    error::{CapacityError, ProtocolError},
    http::{Response, Uri, header},
    protocol::{CloseFrame, frame::coding},
};

use crate::{
    Event,
    settings::Settings,
    wire::{Meter, Wire, config},
};

/// Path of the controller's endpoint (P-001).
const PATH: &str = "/api/v1/clusters/agent/ws";
/// For what was written to leave, and for the peer to answer the close.
const FAREWELL: Duration = Duration::from_secs(5);

/// One attempt; the machine bounds its time.
pub(crate) fn dial(conn: ConnId, to: &Endpoint, settings: &Settings, events: &SyncSender<Event>) {
    let _ = events.send(match connect(conn, to, settings, events) {
        Ok(socket) => Event::Dialed(conn, Box::new(socket)),
        Err(down) => Event::Down(conn, down),
    });
}

fn connect(
    conn: ConnId,
    to: &Endpoint,
    settings: &Settings,
    events: &SyncSender<Event>,
) -> Result<WebSocket<Wire>, Down> {
    let lost = |error: anyhow::Error| Down::Lost(format!("{error:#}"));
    let url = match to {
        Endpoint::Controller => format!("{}{PATH}", settings.url.replacen("http", "ws", 1)),
        Endpoint::Gateway(url) => url.clone(),
    };
    let uri: Uri = url.parse().context("the URL").map_err(lost)?;
    let heard = events.clone();
    let meter: Meter = Arc::new(move |arrived| {
        let _ = heard.send(match arrived {
            true => Event::Alive(conn),
            false => Event::Wrote(conn),
        });
    });
    let wire = Wire::connect(&uri, &settings.tls, Some(meter)).map_err(lost)?;
    let request = uri.into_client_request().context("the URL");
    let mut request = request.map_err(lost)?;
    let token = format!("Bearer {}", settings.token).try_into();
    let token = token.context("the token").map_err(lost)?;
    request.headers_mut().insert(header::AUTHORIZATION, token);
    let longest = settings.config.limits.frame;
    let (socket, _) = client_with_config(request, wire, Some(config(longest))).map_err(refused)?;
    socket
        .get_ref()
        .wait_for_ever()
        .map_err(|e| lost(e.into()))?;
    Ok(socket)
}

fn refused<T: tungstenite::handshake::HandshakeRole>(error: HandshakeError<T>) -> Down {
    match error {
        HandshakeError::Failure(WsError::Http(response)) => Down::Refused {
            status: response.status().as_u16(),
            retry_after: retry_after(&response),
        },
        HandshakeError::Failure(error) => Down::Lost(error.to_string()),
        HandshakeError::Interrupted(_) => Down::Lost("no answer to the upgrade".into()),
    }
}

/// In seconds; a date is not read here.
fn retry_after<T>(response: &Response<T>) -> Option<Duration> {
    let value = response.headers().get(header::RETRY_AFTER)?;
    Some(Duration::from_secs(
        value.to_str().ok()?.trim().parse().ok()?,
    ))
}

/// An open connection.
pub(crate) struct Link {
    out: Sender<Message>,
    /// It can take a message now.
    pub(crate) ready: bool,
    wire: Wire,
    /// Ends when nothing more is read.
    reading: Receiver<()>,
}

impl Link {
    pub(crate) fn start(conn: ConnId, socket: WebSocket<Wire>, events: &SyncSender<Event>) -> Self {
        let wire = socket.get_ref().clone();
        let mut writer = wire.websocket(Vec::new(), usize::MAX);
        let (out, messages) = mpsc::channel();
        let (reader, reading) = mpsc::channel();
        let told = events.clone();
        thread::spawn(move || {
            read(conn, socket, &told);
            drop(reader);
        });
        let (told, written) = (events.clone(), wire.clone());
        thread::spawn(move || {
            for message in messages {
                if writer.send(message).is_err() {
                    // Why, the peer may have said: the reader tells.
                    return written.end_reading();
                }
                let _ = told.send(Event::Ready(conn));
            }
        });
        Self {
            out,
            ready: true,
            wire,
            reading,
        }
    }

    pub(crate) fn send(&mut self, frame: OutFrame) {
        let message = match frame {
            OutFrame::Binary(data) => Message::Binary(data),
            OutFrame::Text(text) => Message::text(text),
            OutFrame::Ping => Message::Ping(Vec::new().into()),
            _ => return,
        };
        self.ready = false;
        // A writer that has ended has told the reader.
        let _ = self.out.send(message);
    }

    /// Closes in the background, for a bounded time.
    pub(crate) fn close(self, code: CloseCode, reason: &'static str) -> JoinHandle<()> {
        thread::spawn(move || {
            let code = coding::CloseCode::from(code as u16);
            let reason = reason.into();
            let _ = self
                .out
                .send(Message::Close(Some(CloseFrame { code, reason })));
            let _ = self.reading.recv_timeout(FAREWELL);
            if let Ok(socket) = self.wire.socket() {
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        })
    }
}

/// Reads until the connection ends, and tells how it did. Pings are answered on the way, behind the
/// message that is being written.
fn read(conn: ConnId, mut socket: WebSocket<Wire>, events: &SyncSender<Event>) {
    let down = loop {
        match socket.read() {
            Ok(message @ (Message::Binary(_) | Message::Text(_))) => {
                if events.send(Event::Message(conn, message)).is_err() {
                    return;
                }
            }
            Ok(Message::Close(frame)) => {
                let frame = frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
                let (code, reason) = frame.unwrap_or((1005, String::new()));
                break Down::Closed { code, reason };
            }
            Ok(_) => {}
            Err(error) => {
                if let Some(code) = complaint(&error) {
                    let reason = "protocol error".into();
                    let _ = socket.close(Some(CloseFrame { code, reason }));
                }
                break match error {
                    WsError::Capacity(CapacityError::MessageTooLong { .. }) => Down::TooBig,
                    error => Down::Lost(error.to_string()),
                };
            }
        }
    };
    // The answer to a close.
    let _ = socket.flush();
    let _ = events.send(Event::Down(conn, down));
}

/// What a peer that broke the rules of WebSocket is told.
pub(crate) fn complaint(error: &WsError) -> Option<coding::CloseCode> {
    match error {
        WsError::Capacity(_) => Some(coding::CloseCode::Size),
        WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => None,
        WsError::Protocol(_) => Some(coding::CloseCode::Protocol),
        WsError::Utf8(_) => Some(coding::CloseCode::Invalid),
        _ => None,
    }
}
