//! What the machines say to each other, as somebody hears it who taps the wire: who says which
//! name means what, and that nobody goes on about a stream that is over.

use super::World;
use crate::{
    exchange::Check,
    link::{Side, Wire},
    message::{field, message},
    plan::Manners,
};

impl World {
    /// A message of the controller.
    pub(super) fn overhear_controller(&mut self, text: &str) -> Check {
        let kind = field(text, "type").unwrap_or_default();
        let name = field(text, "request_id").unwrap_or_default();
        match kind {
            "proxy_request" | "proxy_websocket_start" => self.learn_name(kind, name, text),
            _ => self.goes_on(name, kind),
        }
    }

    /// Keeps the name of a request, for those who want to lie about it.
    fn learn_name(&mut self, kind: &str, name: &str, text: &str) -> Check {
        let number = |path| super::upstream::number(path);
        let Some(n) = field(text, "path").and_then(number) else {
            return Err("the controller asks what it was not asked".into());
        };
        if self.numbers.insert(name.into(), n).is_some() {
            return Err(format!("the name {name} was used again"));
        }
        self.names.insert(n, name.into());
        let bare = kind == "proxy_websocket_start";
        let exchange = self.exchanges.get(&n);
        let talk = exchange.and_then(|e| e.talk.as_ref());
        if bare != talk.is_some_and(|talk| talk.bare) {
            return Err(format!("request {n} is asked for by {kind}"));
        }
        Ok(())
    }

    /// The controller says more about a request.
    fn goes_on(&mut self, name: &str, kind: &str) -> Check {
        let exchange = self
            .numbers
            .get(name)
            .and_then(|n| self.exchanges.get_mut(n));
        let Some(exchange) = exchange.filter(|e| !e.tainted) else {
            return Ok(());
        };
        let over = matches!(kind, "proxy_cancel" | "proxy_websocket_close");
        if exchange.silent_controller {
            let n = exchange.n;
            return Err(format!(
                "request {n}: {kind} behind the controller's last word"
            ));
        }
        exchange.silent_controller = over;
        Ok(())
    }

    /// A message of the agent, and what becomes of it on its way to the controller.
    pub(super) fn overhear_agent(&mut self, text: String) -> Result<String, String> {
        let kind = field(&text, "type").unwrap_or_default();
        if kind == "register" {
            return Ok(self.reduced(&text));
        }
        let name = field(&text, "request_id").unwrap_or_default().to_string();
        let closes = kind == "proxy_websocket_close";
        // The first agents say nothing about it (P-047).
        let codeless = closes && self.manners == Manners::Foreign;
        let zipped = kind == "proxy_response" && self.manners == Manners::Foreign;
        self.speaks(&name, kind)?;
        if zipped && self.rng.chance(500) {
            return Ok(self.compressed(text));
        }
        if codeless {
            let payload = format!(r#"{{"stream_id":"{name}"}}"#);
            return Ok(message(kind, &name, &payload));
        }
        Ok(text)
    }

    /// The agent says more about a request.
    pub(super) fn speaks(&mut self, name: &str, kind: &str) -> Check {
        let exchange = self
            .numbers
            .get(name)
            .and_then(|n| self.exchanges.get_mut(n));
        let Some(exchange) = exchange.filter(|e| !e.tainted && !e.doubled) else {
            return Ok(());
        };
        let talk = exchange.talk.as_ref();
        let told = talk.is_some_and(|talk| talk.told.is_some());
        let answered = talk.is_none_or(|talk| !talk.bare && talk.accepted.is_none());
        let over = match kind {
            "proxy_websocket_close" => true,
            "proxy_error" | "proxy_response" | "proxy_response_abort" | "proxy_response_end" => {
                answered
            }
            _ => false,
        };
        let fault = match kind {
            _ if exchange.silent_agent => "behind the agent's last word",
            "proxy_websocket_data" | "proxy_error" if told => "behind the controller's close",
            _ => {
                exchange.silent_agent = over;
                return Ok(());
            }
        };
        Err(format!("request {}: {kind} {fault}", exchange.n))
    }

    /// The request about which this is the agent's last word.
    pub(super) fn last_word(&self, to: Side, wire: &Wire) -> Option<u64> {
        let (kind, name) = match wire {
            _ if to == Side::Agent => return None,
            Wire::Text(text) => (field(text, "type")?, field(text, "request_id")?.into()),
            Wire::Binary(frame) => ("proxy_response", super::others::parts(frame)?.0),
            _ => return None,
        };
        let n = self.numbers.get(&*name)?;
        let exchange = self.exchanges.get(n).filter(|e| e.silent_agent)?;
        let last = match kind {
            "proxy_websocket_close" => true,
            // That of an upgrade is followed by messages.
            "proxy_response" | "proxy_response_end" => !exchange.has_socket(),
            _ => false,
        };
        last.then_some(*n)
    }

    /// A client that waits for room is called even if nobody wants to hear more of it: it may not
    /// go on to the end of the answer before.
    pub(super) fn waits_no_more(&self, n: u64) -> Check {
        let exchange = self.exchanges.get(&n);
        if exchange.is_some_and(|e| e.is_open() && e.client_waits && !e.tainted) {
            return Err(format!("request {n}: its client waits for room in vain"));
        }
        Ok(())
    }

    /// A registration without what an agent of these manners does not say.
    fn reduced(&mut self, text: &str) -> String {
        let key = r#""features":"#;
        let parts = text.split_once(key).and_then(|(before, rest)| {
            let (inner, after) = rest.split_once('}')?;
            Some((before, format!("{inner}}}"), after))
        });
        let Some((before, features, after)) = parts else {
            return text.into();
        };
        self.features = match self.manners {
            Manners::Ours => features,
            Manners::Buffering => features.replace("streaming\":true", "streaming\":false"),
            Manners::Deaf => r#"{"supports_websocket_proxy":false}"#.into(),
            Manners::Foreign => "{}".into(),
        };
        format!("{before}{key}{}{after}", self.features)
    }
}
