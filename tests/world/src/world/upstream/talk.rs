//! The Kubernetes API's side of conversations.

use std::time::Duration;

use controlplane_core::{
    Input, Kind, Machine as _, RequestHead, ResponseHead, SendError, StreamClose, StreamEnd,
    StreamId,
};

use super::{World, number, same};
use crate::{
    content::{Said, Way, message},
    exchange::{Check, Step, Tells},
    plan::{Choice, Dial, Ending},
};

impl World {
    /// A client wants a stream.
    pub(in super::super) fn upstream_dialed(
        &mut self,
        id: StreamId,
        head: &RequestHead,
        offered: &[String],
    ) -> Check {
        let Some(n) = number(&head.path) else {
            return self.alien(id, &head.path);
        };
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return Err(format!("the agent was never asked for {}", head.path));
        };
        exchange.upstream_dialed(id, head, offered)?;
        if let Some(talk) = &mut exchange.talk {
            talk.offered = offered.to_vec();
            talk.dialed = self.now;
        }
        self.agent.streams.insert(id, Some(n));
        self.answer_on(n);
        Ok(())
    }

    pub(super) fn upstream_talks(&mut self, n: u64, id: StreamId) -> Check {
        let calm = self.calm;
        let step = self.exchanges.get(&n).map(|e| e.upstream_step(calm));
        match step.unwrap_or(Step::Wait) {
            Step::Accept => self.upstream_accepts(n, id),
            Step::Conclude => self.upstream_says(n, id, true),
            Step::End => self.upstream_leaves(n, id),
            Step::Say => self.upstream_says(n, id, false),
            Step::Wait => Ok(()),
        }
    }

    fn upstream_accepts(&mut self, n: u64, id: StreamId) -> Check {
        let storm = self.weather.is_storm();
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return Ok(());
        };
        let dial = exchange.plan.script.as_ref().map(|script| script.dial);
        let offered = exchange.talk.as_ref().map_or(&[][..], |talk| &talk.offered);
        let protocol = match dial {
            Some(Dial::Accepts(Choice::One(i))) if !offered.is_empty() => {
                offered[i as usize % offered.len()].clone()
            }
            Some(Dial::Accepts(Choice::Unasked)) => "unasked.example".into(),
            _ => String::new(),
        };
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let mut headers = Vec::from([pair("Connection", "Upgrade")]);
        if !protocol.is_empty() {
            headers.push(pair("Sec-WebSocket-Protocol", &protocol));
        }
        headers.push(pair("Upgrade", "websocket"));
        if let Some(talk) = &mut exchange.talk {
            talk.accepted = Some(protocol);
            // What a stranger says comes with the start, where nothing holds it back.
            let late = self.now > talk.dialed + Duration::from_millis(100);
            if late && talk.stranger && !storm && !exchange.tainted && !talk.up.is_whole() {
                return Err(format!("request {n}: what was said early is lost"));
            }
        }
        self.count("streams accepted");
        self.answer_on(n);
        let status = 101;
        self.tell_agent(Input::Head(id, ResponseHead { status, headers }))
    }

    /// The next message: any, or that which tells how the command ended.
    fn upstream_words(&mut self, n: u64, result: bool) -> Option<(usize, Said)> {
        let exchange = self.exchanges.get(&n)?;
        let (script, talk) = exchange.stream()?;
        let protocol = talk.accepted.as_deref().unwrap_or_default();
        let tells = Tells::of(&exchange.plan.head.path, protocol);
        let (voice, place, piece) = (script.upstream, talk.down.said.len(), exchange.plan.piece);
        if result {
            let limits = [
                self.agent.limits().message,
                self.controller.limits().message,
            ];
            let most = if self.rng.chance(300) { piece } else { 300 };
            let said = Said {
                kind: kind(tells, true),
                lead: tells.channel(3),
                len: self.rng.len(2, most.min(limits[0]).min(limits[1])),
            };
            return Some((place, said));
        }
        let len = self.words(voice, place, piece);
        let binary = self.rng.chance(600);
        let (channel, len) = match self.rng.below(40) {
            // Empty messages of any channel mean nothing.
            0 | 1 if tells.results() => (3, 1),
            0 => (3, len),
            i => (1 + (i % 2) as u8, len),
        };
        let said = Said {
            kind: kind(tells, binary),
            lead: tells.channel(channel),
            len,
        };
        Some((place, said))
    }

    fn upstream_says(&mut self, n: u64, id: StreamId, result: bool) -> Check {
        let Some((place, said)) = self.upstream_words(n, result) else {
            return Ok(());
        };
        let data = message(n, Way::Answer, place, said);
        // A part of a byte stream has no type of its own.
        let bytes = said.kind == Kind::Binary && self.rng.chance(100);
        let offered = if bytes { Kind::Bytes } else { said.kind };
        let answer = self.agent.machine.send(id, offered, data.clone());
        let too_long = said.len > self.agent.limits().message;
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return Ok(());
        };
        match answer {
            Ok(()) if !too_long => {
                if let Some(talk) = &mut exchange.talk {
                    talk.down.said.push(said);
                    talk.concluded |= result;
                }
                self.answer_on(n);
                Ok(())
            }
            Err(SendError::Blocked(back)) => {
                exchange.upstream_blocked = true;
                self.count("streams: upstream blocked");
                same(&back, &data)
            }
            // Its reset is on its way.
            Err(SendError::Closed(back)) if too_long => {
                exchange.upstream_blocked = true;
                same(&back, &data)
            }
            _ => Err(format!("request {n}: a message of {} bytes", said.len)),
        }
    }

    /// The Kubernetes API closes the stream, or does as it is told.
    fn upstream_leaves(&mut self, n: u64, id: StreamId) -> Check {
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return Ok(());
        };
        let Some((script, talk)) = exchange.stream() else {
            return Ok(());
        };
        let end = match (&talk.told, &talk.accepted, &script.upstream_end) {
            (Some((_, close)), ..) => match self.rng.below(4) {
                0 => StreamEnd::Clean,
                1 => StreamEnd::Broken("reset".into()),
                _ => StreamEnd::Closed(close.clone()),
            },
            (None, None, _) if self.rng.chance(700) => StreamEnd::Broken("no route".into()),
            (None, None, _) => StreamEnd::Clean,
            (None, Some(_), Ending::Plain(end)) => end.clone(),
            _ => StreamEnd::Closed(StreamClose::new(StreamClose::NORMAL, "")),
        };
        let (unopened, told) = (talk.accepted.is_none(), talk.told.is_some());
        if let Some(talk) = &mut exchange.talk {
            talk.ended = Some(end.clone());
        }
        if unopened {
            self.count("dials broken");
        }
        if told && self.rng.chance(300) {
            // Who taps the wire sees that nobody is told.
            let last = self.agent.machine.send(id, Kind::Text, "late".into());
            if last.is_err() {
                return Err(format!("request {n}: a word behind the close is refused"));
            }
        }
        self.upstream_ends(id, end)
    }

    pub(super) fn upstream_message(&mut self, id: StreamId, kind: Kind, data: &[u8]) -> Check {
        let Some(exchange) = self.served(id)? else {
            return Ok(());
        };
        exchange.upstream_message(kind, data)?;
        let talk = exchange.talk.as_ref();
        let early = talk.is_some_and(|talk| talk.accepted.is_none());
        let n = exchange.n;
        if early {
            self.count("early messages");
        }
        self.serve_on(n);
        Ok(())
    }

    /// The agent was told that the client closed the stream.
    pub(in super::super) fn upstream_told(&mut self, id: StreamId, close: &StreamClose) -> Check {
        let (now, closing) = (self.now, self.controller.closing());
        let storm = self.weather.is_storm();
        let Some(exchange) = self.served(id)? else {
            return Ok(());
        };
        let late = exchange.upstream_told(now, close, closing)?;
        if exchange.upstream_blocked {
            return Err("who waits for room is closed, and not called".into());
        }
        let slow = exchange.body.charge > 0 || now < exchange.read_at + Duration::from_secs(2);
        let n = exchange.n;
        let whole = exchange.talk.as_ref().is_some_and(|t| t.up.is_whole());
        if late && !whole {
            self.count("closing time over at the controller");
            // The link passes everything: who did not read, or just now, was the Kubernetes API.
            if !storm && !slow {
                return Err(format!("request {n}: a close overtook what was said"));
            }
        }
        self.count("closes told");
        self.answer_on(n);
        Ok(())
    }
}

/// The type of a message in this subprotocol.
const fn kind(tells: Tells, binary: bool) -> Kind {
    match tells {
        _ if tells.is_base64() => Kind::Text,
        Tells::Nothing if !binary => Kind::Text,
        _ => Kind::Binary,
    }
}
