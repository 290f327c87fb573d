//! The tester as the agent's Kubernetes API and as the services of its tunnels; and what both roles
//! have in common.

use bytes::Bytes;
use controlplane_core::{
    Input, Kind, RequestHead, ResponseHead, StreamClose, StreamEnd, StreamId, Target,
    rules::Credentials,
};
use controlplane_world::vectors::{
    Data, Step, matching,
    step::{
        Accept, Answer, End, ExpectConnect, ExpectRequest, ExpectUpgrade, Headers, How, Piece,
        Transport,
    },
};

use super::player::{Player, Seen};

impl Player {
    pub(super) fn upstream(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::ExpectRequest(request) => self.expect_request(request),
            Step::ExpectUpgrade(upgrade) => self.expect_upgrade(upgrade),
            Step::ExpectConnect(connect) => self.expect_connect(connect),
            Step::Answer(answer) => self.answer(answer),
            Step::Accept(accept) => self.accept(accept),
            Step::UpstreamSends(piece) => self.gives(piece),
            Step::UpstreamEnds(end) => {
                let id = self.on(end.on.as_ref())?;
                self.ends(id, ended(end))
            }
            Step::ExpectUpstreamGets(piece) => self.gets(piece),
            Step::ExpectUpstreamEnd(end) => self.sees_end(end),
            _ => Err("an agent has no client".into()),
        }
    }

    fn opened(&mut self) -> Result<(StreamId, Target), String> {
        let opened = self.opens.pop_front();
        opened.ok_or_else(|| "the upstream was not asked".into())
    }

    fn expect_request(&mut self, wanted: &ExpectRequest) -> Result<(), String> {
        let (id, target) = self.opened()?;
        let Target::Http {
            head, credentials, ..
        } = target
        else {
            return Err(format!("expected a request, saw {target:?}"));
        };
        if head.method != wanted.method {
            return Err(format!("the method is {}", head.method));
        }
        let line = (&wanted.path, wanted.query.as_ref());
        self.compare_head(line, &wanted.headers, head, credentials)?;
        self.name(wanted.name.as_ref(), id);
        match wanted.more {
            true => Ok(()),
            false => self.whole_body(id, &wanted.body),
        }
    }

    fn whole_body(&mut self, id: StreamId, body: &Data) -> Result<(), String> {
        let local = self.local(id);
        let pieces = local.inbox.drain(..).map(|(_, data)| data.to_vec());
        let seen: Vec<u8> = pieces.flatten().collect();
        match local.end.take() {
            Some(Seen::Complete) if seen == body.0 => Ok(()),
            end => Err(format!("body {:?}, and {end:?}", Bytes::from(seen))),
        }
    }

    fn expect_upgrade(&mut self, wanted: &ExpectUpgrade) -> Result<(), String> {
        let (id, target) = self.opened()?;
        let Target::WebSocket {
            head,
            protocols,
            credentials,
        } = target
        else {
            return Err(format!("expected an upgrade, saw {target:?}"));
        };
        // Those of the handshake are the adapter's.
        let handshake = |(name, _): &(String, String)| name.to_lowercase().starts_with("sec-web");
        if let Some(header) = head.headers.iter().find(|header| handshake(header)) {
            return Err(format!("a header of the handshake is relayed: {header:?}"));
        }
        if protocols != wanted.protocols {
            return Err(format!("the subprotocols are {protocols:?}"));
        }
        let line = (&wanted.path, wanted.query.as_ref());
        self.compare_head(line, &wanted.headers, head, credentials)?;
        self.name(wanted.name.as_ref(), id);
        Ok(())
    }

    fn compare_head(
        &mut self,
        (path, query): (&String, Option<&String>),
        headers: &std::collections::BTreeMap<String, serde_json::Value>,
        mut head: RequestHead,
        credentials: Credentials,
    ) -> Result<(), String> {
        if head.path != *path || head.query.as_ref() != query {
            return Err(format!("asked for {} with {:?}", head.path, head.query));
        }
        if credentials == Credentials::ServiceAccount {
            let own = format!("Bearer {}", self.saved["own"]);
            head.headers.push(("Authorization".into(), own));
        }
        matching::headers(headers, &head.headers, &mut self.saved)
    }

    fn expect_connect(&mut self, wanted: &ExpectConnect) -> Result<(), String> {
        let (id, target) = self.opened()?;
        let (transport, to) = match &target {
            Target::Tcp { host, port, .. } => (Transport::Tcp, format!("{host}:{port}")),
            Target::Udp { host, port } => (Transport::Udp, format!("{host}:{port}")),
            _ => return Err(format!("expected a connection, saw {target:?}")),
        };
        if transport != wanted.transport || to != wanted.to {
            return Err(format!("connected to {to} by {transport:?}"));
        }
        self.name(wanted.name.as_ref(), id);
        Ok(())
    }

    fn answer(&mut self, answer: &Answer) -> Result<(), String> {
        let id = self.on(answer.on.as_ref())?;
        let head = ResponseHead {
            status: answer.status,
            headers: pairs(&answer.headers),
        };
        self.input(Input::Head(id, head))?;
        if !answer.body.0.is_empty() {
            self.offer(id, Kind::Bytes, answer.body.0.clone().into())?;
        }
        match answer.more {
            true => Ok(()),
            false => self.ends(id, StreamEnd::Clean),
        }
    }

    fn accept(&mut self, accept: &Accept) -> Result<(), String> {
        let id = self.on(accept.on.as_ref())?;
        let mut headers: Vec<(String, String)> = vec![
            ("Upgrade".into(), "websocket".into()),
            ("Connection".into(), "Upgrade".into()),
        ];
        let chosen = accept.protocol.iter();
        headers.extend(chosen.map(|name| ("Sec-WebSocket-Protocol".into(), name.clone())));
        let head = ResponseHead {
            status: 101,
            headers,
        };
        self.input(Input::Head(id, head))
    }

    // ------------------------------------------------------------ both roles

    /// The tester's end of a stream ends, after all that it has sent.
    pub(super) fn ends(&mut self, id: StreamId, end: StreamEnd) -> Result<(), String> {
        if self.local(id).waits() {
            return Err("the subject has not taken the data before the end".into());
        }
        self.input(Input::Ended(id, end))
    }

    /// The tester's end of a stream sends.
    pub(super) fn gives(&mut self, piece: &Piece) -> Result<(), String> {
        let id = self.on(piece.on.as_ref())?;
        let (kind, data) = kind_of(piece)?;
        self.offer(id, kind, data.0.clone().into())
    }

    /// The tester's end of a stream has received this next.
    pub(super) fn gets(&mut self, piece: &Piece) -> Result<(), String> {
        let id = self.on(piece.on.as_ref())?;
        let (kind, wanted) = kind_of(piece)?;
        let inbox = &mut self.local(id).inbox;
        let mut seen = Vec::new();
        while let Some((next, data)) = inbox.pop_front() {
            if next != kind {
                return Err(format!("expected {kind:?}, saw {next:?} {data:?}"));
            }
            seen.extend_from_slice(&data);
            // Boundaries mean something but in a byte stream.
            if kind != Kind::Bytes || seen.len() >= wanted.0.len() {
                return match seen == wanted.0 {
                    true => Ok(()),
                    false => Err(format!("saw {:?}", Bytes::from(seen))),
                };
            }
        }
        Err(format!("only {:?} came", Bytes::from(seen)))
    }

    /// The tester's end of a stream sees its end, after all that was sent.
    pub(super) fn sees_end(&mut self, wanted: &End) -> Result<(), String> {
        let id = self.on(wanted.on.as_ref())?;
        let local = self.local(id);
        if let Some((kind, data)) = local.inbox.front() {
            return Err(format!("before the end came {kind:?} {data:?}"));
        }
        let seen = local.end.take();
        let fits = match (&seen, wanted.how) {
            (Some(Seen::Complete), How::Complete) => true,
            (Some(Seen::Closed(code, reason)), How::Closed) => {
                Some(*code) == wanted.code && wanted.reason.as_ref().is_none_or(|r| r == reason)
            }
            (Some(Seen::Broken(status)), How::Broken) => {
                wanted.status.is_none() || wanted.status == *status
            }
            _ => false,
        };
        match fits {
            true => Ok(()),
            false => Err(format!("expected {wanted:?}, saw {seen:?}")),
        }
    }
}

/// How the tester's end of a stream ends.
pub(super) fn ended(end: &End) -> StreamEnd {
    match end.how {
        How::Complete => StreamEnd::Clean,
        How::Broken => StreamEnd::Broken("the connection was reset".into()),
        How::Closed => {
            let code = end.code.unwrap_or(StreamClose::NO_CODE);
            let reason = end.reason.as_deref().unwrap_or_default();
            StreamEnd::Closed(StreamClose::new(code, reason))
        }
    }
}

fn kind_of(piece: &Piece) -> Result<(Kind, &Data), String> {
    let kinds = [
        (Kind::Bytes, &piece.bytes),
        (Kind::Text, &piece.text),
        (Kind::Binary, &piece.binary),
        (Kind::Datagram, &piece.datagram),
    ];
    let found = kinds
        .into_iter()
        .find_map(|(kind, data)| Some((kind, data.as_ref()?)));
    found.ok_or_else(|| "no data".into())
}

pub(super) fn pairs(headers: &Headers) -> Vec<(String, String)> {
    let each = headers.iter();
    each.flat_map(|(name, values)| values.iter().map(|value| (name.clone(), value.clone())))
        .collect()
}
