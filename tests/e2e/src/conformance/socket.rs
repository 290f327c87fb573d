//! A WebSocket of the tester's, which is read all the time: pings are answered whatever the tester
//! waits for.

use std::{fmt, pin::pin};

use controlplane_driver::WebSocket;
use controlplane_world::vectors::data::to_hex;
use futures_util::{SinkExt, StreamExt, future::select};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

/// Code of a close that has none.
const NO_CODE: u16 = 1005;

/// What comes from the subject's end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Event {
    Text(String),
    Binary(Vec<u8>),
    /// The answer to a ping of the tester's.
    Pong(Vec<u8>),
    /// It has closed the WebSocket with this code and reason.
    Closed(u16, String),
    /// There is no connection any more: why.
    Lost(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text.trim_end()),
            Self::Binary(data) => write!(f, "the binary message {}", to_hex(data)),
            Self::Pong(data) => write!(f, "a pong of {} bytes", data.len()),
            Self::Closed(code, _) => write!(f, "a close with {code}"),
            Self::Lost(why) => write!(f, "the end of the connection ({why})"),
        }
    }
}

/// What the tester does with a WebSocket.
#[derive(Debug)]
pub(super) enum Command {
    Say(Message),
    /// Cut it, after all that was said.
    Cut,
}

/// The message that closes a WebSocket.
pub(super) fn close(code: u16, reason: &str) -> Message {
    Message::Close(Some(CloseFrame {
        code: CloseCode::from(code),
        reason: reason.into(),
    }))
}

/// Moves messages both ways until the connection is over, or nobody wants it any more.
pub(super) async fn carry<S: WebSocket>(
    socket: S,
    mut commands: mpsc::UnboundedReceiver<Command>,
    mut told: impl FnMut(Event) + Send,
) {
    let (mut sink, mut stream) = socket.split();
    let writing = async {
        while let Some(Command::Say(message)) = commands.recv().await {
            if sink.send(message).await.is_err() {
                // What the reader sees says more.
                std::future::pending::<()>().await;
            }
        }
    };
    let reading = async {
        loop {
            told(match stream.next().await {
                Some(Ok(Message::Text(text))) => Event::Text(text.as_str().into()),
                Some(Ok(Message::Binary(data))) => Event::Binary(data.into()),
                Some(Ok(Message::Pong(data))) => Event::Pong(data.into()),
                Some(Ok(Message::Close(None))) => Event::Closed(NO_CODE, String::new()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    Event::Closed(frame.code.into(), frame.reason.as_str().into())
                }
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Event::Lost(error.to_string()),
                None => return Event::Lost("it ended".into()),
            });
        }
    };
    if let futures_util::future::Either::Right((last, _)) =
        select(pin!(writing), pin!(reading)).await
    {
        told(last);
    }
}
