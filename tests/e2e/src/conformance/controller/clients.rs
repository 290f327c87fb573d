//! The steps of the controller's clients.

use std::time::Duration;

use bytes::Bytes;
use controlplane_driver::{Kind, Token};
use controlplane_world::vectors::{
    Data, Step,
    matching::{self, Saved},
    step::{ClientRequest, ClientUpgrade, End, ExpectHead, Headers, How, Piece},
};
use http::{HeaderValue, Method, Request, header};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Message, handshake::client::generate_key};

use super::{
    dial::Place,
    exchange::{Body, Event, Exchange},
};

/// Those of the handshake that the tester makes itself.
const OWN: [&str; 2] = ["authorization", "host"];

/// All clients of one conversation.
pub(super) struct Clients {
    place: Option<Place>,
    patience: Duration,
    /// By the names that steps gave them, the latest last.
    named: Vec<(String, Client)>,
}

struct Client {
    exchange: Exchange,
    /// Whether the head of the answer was looked at.
    answered: bool,
}

impl Clients {
    pub(super) const fn new(place: Option<Place>, patience: Duration) -> Self {
        Self {
            place,
            patience,
            named: Vec::new(),
        }
    }

    pub(super) async fn step(&mut self, step: &Step, saved: &mut Saved) -> Result<(), String> {
        match step {
            Step::ClientRequests(request) => self.requests(request).await,
            Step::ClientUpgrades(upgrade) => self.upgrades(upgrade),
            Step::ClientSends(piece) => {
                let message = sent(piece)?;
                self.on(piece.on.as_ref())?.exchange.sends(message).await
            }
            Step::ClientEnds(end) => self.ends(end).await,
            Step::ExpectClientHead(head) => self.expect_head(head, saved).await,
            Step::ExpectClientGets(piece) => self.gets(piece).await,
            Step::ExpectClientEnd(end) => self.sees_end(end).await,
            _ => Err("a controller has no such step".into()),
        }
    }

    /// Nothing came that nobody looked at.
    pub(super) fn nothing_left(&mut self) -> Result<(), String> {
        let mut left = self.named.iter_mut();
        match left.find_map(|(name, client)| Some((name, client.exchange.left()?))) {
            Some((name, event)) => Err(format!("client {name:?} saw {event:?}")),
            None => Ok(()),
        }
    }

    // ------------------------------------------------------------ the tester speaks

    async fn requests(&mut self, request: &ClientRequest) -> Result<(), String> {
        let line = (&*request.method, &request.path, request.query.as_ref());
        let head = self.head(line, &request.headers, &[])?;
        let body = match request.body.is_some() || request.more {
            true => Body::Parts,
            false => Body::None,
        };
        self.start(request.name.as_ref(), head, body)?;
        let exchange = &mut self.on(None)?.exchange;
        if let Some(data) = &request.body {
            exchange.sends(Message::binary(data.0.clone())).await?;
        }
        if !request.more {
            exchange.finishes();
        }
        Ok(())
    }

    fn upgrades(&mut self, upgrade: &ClientUpgrade) -> Result<(), String> {
        let line = ("GET", &upgrade.path, upgrade.query.as_ref());
        let key = generate_key();
        let protocols = upgrade.protocols.join(", ");
        let mut more = vec![
            (header::CONNECTION.as_str(), "Upgrade"),
            (header::UPGRADE.as_str(), "websocket"),
            (header::SEC_WEBSOCKET_VERSION.as_str(), "13"),
            (header::SEC_WEBSOCKET_KEY.as_str(), &key),
        ];
        if !protocols.is_empty() {
            more.push((header::SEC_WEBSOCKET_PROTOCOL.as_str(), &protocols));
        }
        let head = self.head(line, &upgrade.headers, &more)?;
        self.start(upgrade.name.as_ref(), head, Body::None)
    }

    fn head(
        &self,
        (method, path, query): (&str, &String, Option<&String>),
        headers: &Headers,
        more: &[(&str, &str)],
    ) -> Result<Request<()>, String> {
        let place = self.place.as_ref().ok_or("there is no client")?;
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        let own = |name: &String| OWN.iter().any(|own| name.eq_ignore_ascii_case(own));
        let given = headers.iter().filter(|(name, _)| !own(name));
        let given = given.flat_map(|(name, values)| values.iter().map(|v| (&**name, &**v)));
        let mut request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).map_err(|e| e.to_string())?)
            .uri(format!("{}{path}{query}", place.path))
            .header(header::HOST, &place.authority);
        for (name, value) in given.chain(more.iter().copied()) {
            request = request.header(name, value);
        }
        let mut request = request.body(()).map_err(|e| e.to_string())?;
        let bearer: HeaderValue = place.bearer().map_err(|e| e.to_string())?;
        request.headers_mut().insert(header::AUTHORIZATION, bearer);
        Ok(request)
    }

    fn start(
        &mut self,
        name: Option<&String>,
        head: Request<()>,
        body: Body,
    ) -> Result<(), String> {
        let place = self.place.as_ref().ok_or("there is no client")?;
        let client = Client {
            exchange: Exchange::start(place, head, body),
            answered: false,
        };
        self.named.push((name.cloned().unwrap_or_default(), client));
        Ok(())
    }

    async fn ends(&mut self, end: &End) -> Result<(), String> {
        let exchange = &mut self.on(end.on.as_ref())?.exchange;
        match end.how {
            How::Broken => exchange.leaves().await,
            How::Complete => exchange.finishes(),
            How::Closed => {
                let code = end.code.ok_or("a close without a code")?;
                let reason = end.reason.as_deref().unwrap_or_default();
                exchange.closes(code, reason).await?;
            }
        }
        Ok(())
    }

    /// The client of that name, or the latest.
    fn on(&mut self, name: Option<&String>) -> Result<&mut Client, String> {
        let found = match name {
            Some(name) => self.named.iter_mut().rev().find(|(known, _)| known == name),
            None => self.named.last_mut(),
        };
        let found = found.map(|(_, client)| client);
        found.ok_or_else(|| format!("no client is called {name:?}"))
    }

    // ------------------------------------------------------------ the controller speaks

    async fn next(&mut self, on: Option<&String>) -> Result<Event, String> {
        let patience = self.patience;
        let client = self.on(on)?;
        match timeout(patience, client.exchange.event()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err("the client has seen its end already".into()),
            Err(_) => Err(format!(
                "the client saw nothing within {} s",
                patience.as_secs_f32()
            )),
        }
    }

    async fn expect_head(&mut self, wanted: &ExpectHead, saved: &mut Saved) -> Result<(), String> {
        let event = self.next(wanted.on.as_ref()).await?;
        let Event::Head(status, headers) = event else {
            return Err(format!("expected the head of an answer, saw {event:?}"));
        };
        self.on(wanted.on.as_ref())?.answered = true;
        if status != wanted.status {
            return Err(format!("the status is {status}"));
        }
        matching::headers(&wanted.headers, &headers, saved)
    }

    async fn gets(&mut self, piece: &Piece) -> Result<(), String> {
        let (kind, wanted) = kind_of(piece)?;
        let mut seen = Vec::new();
        loop {
            match self.next(piece.on.as_ref()).await? {
                Event::Piece(next, data) if next == kind => seen.extend_from_slice(&data),
                other => return Err(format!("expected {kind:?}, saw {other:?}")),
            }
            // Boundaries mean something but in a byte stream.
            if kind != Kind::Bytes || seen.len() >= wanted.0.len() {
                return match seen == wanted.0 {
                    true => Ok(()),
                    false => Err(format!("saw {:?}", Bytes::from(seen))),
                };
            }
        }
    }

    async fn sees_end(&mut self, wanted: &End) -> Result<(), String> {
        let on = wanted.on.as_ref();
        let answered = self.on(on)?.answered;
        let event = self.next(on).await?;
        let fits = match (&event, wanted.how) {
            (Event::Complete, How::Complete) => true,
            (Event::Closed(code, reason), How::Closed) => {
                Some(*code) == wanted.code && wanted.reason.as_ref().is_none_or(|r| r == reason)
            }
            (Event::Broken(_), How::Broken) => wanted.status.is_none(),
            // An answer of the controller's own.
            (Event::Head(status, _), How::Broken) if !answered && *status >= 400 => {
                self.rest(on).await?;
                wanted.status.is_none_or(|wanted| wanted == *status)
            }
            _ => false,
        };
        match fits {
            true => Ok(()),
            false => Err(format!("expected {wanted:?}, saw {event:?}")),
        }
    }

    /// Reads an answer to its end.
    async fn rest(&mut self, on: Option<&String>) -> Result<(), String> {
        loop {
            match self.next(on).await? {
                Event::Piece(..) => {}
                Event::Complete => return Ok(()),
                other => return Err(format!("the controller's answer ends with {other:?}")),
            }
        }
    }
}

/// Access of a client: where the cluster's API is, and the token of a user.
#[derive(Clone, Debug)]
pub struct Access {
    /// URL below which the API of the cluster is reached.
    pub url: String,
    /// Token of a user who may reach it.
    pub token: Token,
}

fn sent(piece: &Piece) -> Result<Message, String> {
    let (kind, data) = kind_of(piece)?;
    match kind {
        Kind::Text => {
            let text = String::from_utf8(data.0.clone());
            Ok(Message::text(text.map_err(|e| e.to_string())?))
        }
        _ => Ok(Message::binary(data.0.clone())),
    }
}

fn kind_of(piece: &Piece) -> Result<(Kind, &Data), String> {
    let kinds = [
        (Kind::Bytes, &piece.bytes),
        (Kind::Text, &piece.text),
        (Kind::Binary, &piece.binary),
    ];
    let found = kinds
        .into_iter()
        .find_map(|(kind, data)| Some((kind, data.as_ref()?)));
    found.ok_or_else(|| "a client sends and gets no datagrams".into())
}
