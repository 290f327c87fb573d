//! The tester as the client of the controller.

use controlplane_core::{
    Input, Kind, OpenError, RequestHead, StreamEnd, StreamId, Transport, Tunnel,
    rules::client_headers,
};
use controlplane_world::vectors::{
    Step, matching,
    step::{self, ClientConnect, ClientRequest, ClientUpgrade, End, ExpectHead, Headers, How},
};
use serde_json::Value;

use super::{
    player::{Player, Seen, Subject},
    upstream::{ended, pairs},
};

impl Player {
    pub(super) fn client(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::ClientRequests(request) => self.requests(request),
            Step::ClientUpgrades(upgrade) => self.upgrades(upgrade),
            Step::ClientConnects(connect) => self.connects(connect),
            Step::ClientSends(piece) => self.gives(piece),
            Step::ClientEnds(end) => self.client_ends(end),
            Step::ExpectClientHead(head) => self.expect_head(head),
            Step::ExpectClientGets(piece) => self.gets(piece),
            Step::ExpectClientEnd(end) => self.sees_end(end),
            _ => Err("a controller has no upstream".into()),
        }
    }

    fn requests(&mut self, request: &ClientRequest) -> Result<(), String> {
        let line = (&*request.method, &request.path, &request.query);
        let head = head(line, &request.headers)?;
        let has_body = request.body.is_some() || request.more;
        let now = self.now;
        let opened = self.controller_mut()?.open(now, head, has_body);
        let Some(id) = self.opened_as(request.name.as_ref(), opened) else {
            return Ok(());
        };
        if let Some(body) = &request.body {
            self.offer(id, Kind::Bytes, body.0.clone().into())?;
        }
        match has_body && !request.more {
            true => self.ends(id, StreamEnd::Clean),
            false => Ok(()),
        }
    }

    fn upgrades(&mut self, upgrade: &ClientUpgrade) -> Result<(), String> {
        let line = ("GET", &upgrade.path, &upgrade.query);
        let head = head(line, &upgrade.headers)?;
        let now = self.now;
        let protocols = upgrade.protocols.clone();
        let opened = self.controller_mut()?.open_websocket(now, head, protocols);
        self.opened_as(upgrade.name.as_ref(), opened);
        Ok(())
    }

    fn connects(&mut self, connect: &ClientConnect) -> Result<(), String> {
        let text = |key: &str| {
            let text = connect.tunnel.get(key).and_then(Value::as_str);
            String::from(text.unwrap_or_default())
        };
        let port = |key: &str| {
            let number = connect.tunnel.get(key).and_then(Value::as_u64);
            number.and_then(|n| u16::try_from(n).ok()).unwrap_or(0)
        };
        let tunnel = Tunnel {
            transport: match connect.transport {
                step::Transport::Tcp => Transport::Tcp,
                step::Transport::Udp => Transport::Udp,
            },
            tunnel_id: text("tunnel_id"),
            gateway_name: text("gateway_name"),
            gateway_namespace: text("gateway_namespace"),
            gateway_port: port("gateway_port"),
            service_name: text("service_name"),
            service_namespace: text("service_namespace"),
            service_port: port("service_port"),
            client_addr: text("client_addr"),
            client_port: port("client_port"),
        };
        let now = self.now;
        let opened = self.controller_mut()?.open_tunnel(now, tunnel);
        self.opened_as(connect.name.as_ref(), opened);
        Ok(())
    }

    fn controller_mut(&mut self) -> Result<&mut controlplane_core::Controller, String> {
        match &mut self.subject {
            Subject::Controller(controller) => Ok(controller),
            Subject::Agent(_) => Err("an agent has no client".into()),
        }
    }

    /// Names what was opened; what was refused is a failure that the client sees.
    fn opened_as(
        &mut self,
        name: Option<&String>,
        opened: Result<StreamId, OpenError>,
    ) -> Option<StreamId> {
        let refused = StreamId(u64::MAX - self.named.len() as u64);
        let id = *opened.as_ref().unwrap_or(&refused);
        self.name(name, id);
        if opened.is_err() {
            self.local(id).end = Some(Seen::Broken(None));
        }
        opened.ok()
    }

    fn client_ends(&mut self, end: &End) -> Result<(), String> {
        let id = self.on(end.on.as_ref())?;
        match end.how {
            How::Broken => self.input(Input::Cancel(id)),
            _ => self.ends(id, ended(end)),
        }
    }

    fn expect_head(&mut self, wanted: &ExpectHead) -> Result<(), String> {
        let id = self.on(wanted.on.as_ref())?;
        let local = self.local(id);
        let Some(head) = local.head.take() else {
            return Err(format!("no head came, but {local:?}"));
        };
        if head.status != wanted.status {
            return Err(format!("the status is {}", head.status));
        }
        matching::headers(&wanted.headers, &head.headers, &mut self.saved)
    }
}

/// The client's head, as the controller passes it on.
fn head(
    (method, path, query): (&str, &String, &Option<String>),
    headers: &Headers,
) -> Result<RequestHead, String> {
    Ok(RequestHead {
        method: method.into(),
        path: path.clone(),
        query: query.clone(),
        headers: client_headers(pairs(headers), None).map_err(|e| e.to_string())?,
    })
}
