//! The steps of the Kubernetes API, and of the services of tunnels.

use controlplane_world::vectors::{
    Data, Step, matching,
    step::{Accept, Answer, End, ExpectConnect, ExpectRequest, ExpectUpgrade, Headers, How, Piece},
};
use http::{
    HeaderMap, Response,
    header::{
        CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
    },
};
use tokio::{sync::mpsc, time::timeout};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{
    far::{self, Far, Got, Out},
    player::Player,
    server::{Asked, Piece as Part},
};

/// Code with which a WebSocket is closed that failed.
const FAILED: u16 = 1011;

impl Player {
    pub(super) async fn upstream(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::ExpectRequest(request) => self.expect_request(request).await,
            Step::ExpectUpgrade(upgrade) => self.expect_upgrade(upgrade).await,
            Step::ExpectConnect(connect) => self.expect_connect(connect).await,
            Step::Answer(answer) => self.answer(answer),
            Step::Accept(accept) => self.accept(accept).await,
            Step::UpstreamSends(piece) => self.on(piece.on.as_ref())?.send(piece),
            Step::UpstreamEnds(end) => {
                let reason = end.reason.as_deref().unwrap_or_default();
                let far = self.on(end.on.as_ref())?;
                far.end(end.how, end.code.unwrap_or_default(), reason)
            }
            Step::ExpectUpstreamGets(piece) => self.gets(piece).await,
            Step::ExpectUpstreamEnd(end) => self.sees_end(end).await,
            _ => Err("an agent has no client".into()),
        }
    }

    /// The end of that name, or the latest.
    fn on(&mut self, name: Option<&String>) -> Result<&mut Far, String> {
        let found = match name {
            Some(name) => self.fars.iter_mut().rev().find(|far| far.name == *name),
            None => self.fars.last_mut(),
        };
        found.ok_or_else(|| format!("no stream is called {name:?}"))
    }

    // ------------------------------------------------------------ requests

    async fn asked(&mut self) -> Result<Asked, String> {
        let asked = timeout(self.patience, self.stage.api.asks.recv()).await;
        asked.ok().flatten().ok_or("the API was not asked".into())
    }

    async fn expect_request(&mut self, wanted: &ExpectRequest) -> Result<(), String> {
        let asked = self.asked().await?;
        if asked.head.headers.contains_key(UPGRADE) {
            return Err(format!("expected a request, saw {:?}", asked.head));
        }
        if asked.head.method != *wanted.method {
            return Err(format!("the method is {}", asked.head.method));
        }
        let line = (&wanted.path, wanted.query.as_ref());
        self.compare_head(line, &wanted.headers, &asked)?;
        self.taken(wanted.name.as_ref(), asked);
        match wanted.more {
            true => Ok(()),
            false => self.whole_body(&wanted.body).await,
        }
    }

    fn taken(&mut self, name: Option<&String>, asked: Asked) {
        let key = asked.head.headers.get(SEC_WEBSOCKET_KEY).cloned();
        let out = Out::Asked(asked.reply);
        let mut far = Far::new(name, asked.inbox, out, self.patience);
        far.key = key;
        self.fars.push(far);
    }

    async fn whole_body(&mut self, body: &Data) -> Result<(), String> {
        let far = self.on(None)?;
        let mut seen = Vec::new();
        loop {
            match far.next().await? {
                Got::Bytes(data) => seen.extend(data),
                Got::Complete if seen == body.0 => return Ok(()),
                end => {
                    let seen = String::from_utf8_lossy(&seen);
                    return Err(format!("body {seen:?}, and {end:?}"));
                }
            }
        }
    }

    async fn expect_upgrade(&mut self, wanted: &ExpectUpgrade) -> Result<(), String> {
        let asked = self.asked().await?;
        let headers = &asked.head.headers;
        if !headers.contains_key(UPGRADE) {
            return Err(format!("expected an upgrade, saw {:?}", asked.head));
        }
        let protocols = protocols(headers);
        if protocols != wanted.protocols {
            return Err(format!("the subprotocols are {protocols:?}"));
        }
        let line = (&wanted.path, wanted.query.as_ref());
        self.compare_head(line, &wanted.headers, &asked)?;
        self.taken(wanted.name.as_ref(), asked);
        Ok(())
    }

    fn compare_head(
        &mut self,
        (path, query): (&String, Option<&String>),
        headers: &std::collections::BTreeMap<String, serde_json::Value>,
        asked: &Asked,
    ) -> Result<(), String> {
        let uri = &asked.head.uri;
        if uri.path() != path || uri.query() != query.map(|q| &**q) {
            return Err(format!("asked for {uri}"));
        }
        let seen = asked.head.headers.iter();
        let seen: Vec<(String, String)> = seen
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.as_str().into(), value.into())
            })
            .collect();
        matching::headers(headers, &seen, &mut self.saved)
    }

    fn answer(&mut self, answer: &Answer) -> Result<(), String> {
        let far = self.on(answer.on.as_ref())?;
        let Out::Asked(reply) = std::mem::replace(&mut far.out, Out::Over) else {
            return Err("it was answered already".into());
        };
        let mut head = Response::builder().status(answer.status);
        for (name, value) in pairs(&answer.headers) {
            head = head.header(name, value);
        }
        let out = reply.answer(head)?;
        if !answer.body.0.is_empty() {
            let _ = out.send(Part::Data(answer.body.0.clone().into()));
        }
        match answer.more {
            true => far.out = Out::Body(out),
            false => drop(out.send(Part::End)),
        }
        Ok(())
    }

    async fn accept(&mut self, accept: &Accept) -> Result<(), String> {
        let far = self.on(accept.on.as_ref())?;
        match std::mem::replace(&mut far.out, Out::Over) {
            Out::Asked(reply) => {
                let got = reply.got();
                let mut head = Response::builder()
                    .status(101)
                    .header(UPGRADE, "websocket")
                    .header(CONNECTION, "Upgrade");
                if let Some(key) = &far.key {
                    head = head.header(SEC_WEBSOCKET_ACCEPT, derive_accept_key(key.as_bytes()));
                }
                if let Some(protocol) = &accept.protocol {
                    head = head.header(SEC_WEBSOCKET_PROTOCOL, protocol);
                }
                far.out = Out::Socket(far::websocket(reply.switch(head)?, got));
                // What comes next may rely on it.
                self.barriers().await?;
                self.settle().await?;
            }
            Out::Connecting(connecting) => {
                let (got, inbox) = mpsc::unbounded_channel();
                let name = far.name.clone();
                let out = far::take(connecting, got).await;
                let out = out.map_err(|e| format!("the tester cannot listen: {e}"))?;
                *far = Far::new(Some(&name), inbox, out, far.patience);
                self.connected += 1;
                self.settled_connections().await?;
            }
            _ => return Err("it was answered already".into()),
        }
        Ok(())
    }

    // ------------------------------------------------------------ services

    async fn expect_connect(&mut self, wanted: &ExpectConnect) -> Result<(), String> {
        let connecting = timeout(self.patience, self.connects.recv()).await;
        let connecting = connecting.ok().flatten().ok_or("nobody connects")?;
        if connecting.transport != wanted.transport || connecting.to != wanted.to {
            let (to, transport) = (&connecting.to, connecting.transport);
            return Err(format!("connected to {to} by {transport:?}"));
        }
        let (_, inbox) = mpsc::unbounded_channel();
        let out = Out::Connecting(connecting);
        let far = Far::new(wanted.name.as_ref(), inbox, out, self.patience);
        self.fars.push(far);
        Ok(())
    }

    // ------------------------------------------------------------ what comes

    async fn gets(&mut self, piece: &Piece) -> Result<(), String> {
        let (wanted, is_stream) = wanted(piece)?;
        let far = self.on(piece.on.as_ref())?;
        let mut seen = Vec::new();
        loop {
            match (far.next().await?, &wanted) {
                // Boundaries mean something but in a byte stream.
                (Got::Bytes(data), Got::Bytes(all)) if is_stream => {
                    seen.extend(data);
                    if seen.len() < all.len() {
                        continue;
                    }
                    if seen == *all {
                        return Ok(());
                    }
                    return Err(format!("saw {:?}", String::from_utf8_lossy(&seen)));
                }
                (got, wanted) if got == *wanted => return Ok(()),
                (got, wanted) => return Err(format!("expected {wanted:?}, saw {got:?}")),
            }
        }
    }

    async fn sees_end(&mut self, wanted: &End) -> Result<(), String> {
        let far = self.on(wanted.on.as_ref())?;
        let got = far.next().await?;
        let fits = match (&got, wanted.how) {
            (Got::Complete, How::Complete) | (Got::Broken, How::Broken) => true,
            // A TCP connection that is dropped looks like one that is ended.
            (Got::Complete, How::Broken) => matches!(far.out, Out::Stream(_)),
            (Got::Closed(code, reason), How::Closed) => {
                Some(*code) == wanted.code && wanted.reason.as_ref().is_none_or(|r| r == reason)
            }
            // So it says that it failed.
            (Got::Closed(FAILED, _), How::Broken) => true,
            _ => false,
        };
        far.saw_end(&got);
        match fits {
            true => Ok(()),
            false => Err(format!("expected {wanted:?}, saw {got:?}")),
        }
    }
}

/// What the piece is, and whether it may come in other ones.
fn wanted(piece: &Piece) -> Result<(Got, bool), String> {
    let Piece {
        bytes,
        text,
        binary,
        datagram,
        ..
    } = piece;
    let data = |data: &Option<Data>| data.as_ref().map(|data| data.0.clone());
    let found = data(bytes)
        .map(|data| (Got::Bytes(data), true))
        .or_else(|| Some((Got::Text(data(text)?), false)))
        .or_else(|| Some((Got::Binary(data(binary)?), false)))
        .or_else(|| Some((Got::Datagram(data(datagram)?), false)));
    found.ok_or_else(|| "no data".into())
}

fn pairs(headers: &Headers) -> impl Iterator<Item = (&String, &String)> {
    let each = headers.iter();
    each.flat_map(|(name, values)| values.iter().map(move |value| (name, value)))
}

/// The subprotocols that are offered, in their order.
pub(super) fn protocols(headers: &HeaderMap) -> Vec<String> {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    offered
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().into())
        .collect()
}
