//! The clients that hold a conversation.

use bytes::Bytes;
use controlplane_core::{
    Failure, Input, Kind, Machine as _, OpenError, SendError, StreamClose, StreamEnd, StreamId,
};

use super::{Event, World, same};
use crate::{
    content::{Said, Way, message},
    exchange::{Check, Exchange, Outcome, Step, Talk},
    plan::{Manners, Voice},
};

impl World {
    /// A client asks for what its plan says.
    pub(super) fn ask(&mut self, exchange: &mut Exchange) -> Result<StreamId, OpenError> {
        let head = exchange.plan.head.clone();
        let machine = &mut self.controller.machine;
        let Some(script) = &exchange.plan.script else {
            let has_body = exchange.plan.body.is_some();
            return machine.open(self.now, head, has_body);
        };
        exchange.talk = Some(Talk {
            bare: !self.manners.answer_upgrades(),
            codeless: self.manners == Manners::Foreign,
            ..Talk::default()
        });
        let opened = machine.open_websocket(self.now, head, script.offered.clone());
        if opened.is_ok() {
            self.count("streams");
        }
        opened
    }

    /// What somebody says next.
    pub(in super::super) fn words(&mut self, voice: Voice, place: usize, longest: usize) -> usize {
        let limits = [
            self.agent.limits().message,
            self.controller.limits().message,
        ];
        let allowed = limits[0].min(limits[1]);
        if voice.too_long == Some(place) {
            let most = limits[0].max(limits[1]) + 500;
            return self.rng.len(allowed + 1, most);
        }
        // In the calm nothing fails, not even where no window makes a talker wait.
        let (allowed, longest) = match self.calm {
            true => (allowed.min(1000), longest.min(1000)),
            false => (allowed, longest),
        };
        let longest = longest.min(allowed);
        match self.rng.below(20) {
            0 | 1 => 0,
            2..=12 => self.rng.len(1, 200),
            13 => allowed,
            _ => self.rng.len(1, longest),
        }
    }

    pub(super) fn talk_on(&mut self, n: u64) {
        let step = self.exchanges.get(&n).map(Exchange::client_step);
        if step.is_none_or(|step| step == Step::Wait) {
            return;
        }
        let pace = self.client_pace(n);
        let talk = self.exchanges.get_mut(&n).and_then(|e| e.talk.as_mut());
        if let Some(talk) = talk
            && !std::mem::replace(&mut talk.talking, true)
        {
            self.after(pace, Event::ClientSends(n));
        }
    }

    pub(super) fn client_talks(&mut self, n: u64) -> Check {
        let Some(exchange) = self.exchanges.get_mut(&n).filter(|e| e.is_open()) else {
            return Ok(());
        };
        if let Some(talk) = &mut exchange.talk {
            talk.talking = false;
        }
        match (exchange.client_step(), exchange.client) {
            (Step::Say, Some(id)) => self.client_says(n, id),
            (Step::End, Some(id)) => self.client_leaves(n, id),
            _ => Ok(()),
        }
    }

    fn client_says(&mut self, n: u64, id: StreamId) -> Check {
        let Some((script, talk)) = self.exchanges.get(&n).and_then(Exchange::stream) else {
            return Ok(());
        };
        let (voice, place) = (script.client, talk.up.said.len());
        let piece = self.exchanges.get(&n).map_or(0, |e| e.plan.piece);
        let len = self.words(voice, place, piece);
        let kind = [Kind::Binary, Kind::Text][self.rng.below(2) as usize];
        let said = Said {
            kind,
            lead: None,
            len,
        };
        let data = message(n, Way::Request, place, said);
        // A part of a byte stream has no type of its own.
        let bytes = kind == Kind::Binary && self.rng.chance(100);
        let offered = if bytes { Kind::Bytes } else { kind };
        let answer = self.controller.machine.send(id, offered, data.clone());
        let too_long = len > self.controller.limits().message;
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return Ok(());
        };
        match answer {
            Ok(()) if !too_long => {
                if let Some(talk) = &mut exchange.talk {
                    talk.up.said.push(said);
                }
                self.talk_on(n);
                Ok(())
            }
            Err(SendError::Blocked(back)) => {
                exchange.client_blocked = true;
                exchange.client_waits = true;
                self.talk_on(n);
                self.count("streams: client blocked");
                same(&back, &data)
            }
            Err(SendError::Closed(back)) => {
                exchange.client_blocked = true;
                let ended = exchange.talk.as_ref().is_some_and(|t| t.ended.is_some());
                if !too_long && !ended && !exchange.tainted {
                    return Err(format!("request {n}: a message is not taken"));
                }
                same(&back, &data)
            }
            Ok(()) => Err(format!("request {n}: too long a message is taken")),
        }
    }

    /// The client closes its WebSocket, or what is left of it.
    fn client_leaves(&mut self, n: u64, id: StreamId) -> Check {
        let now = self.now;
        let Some(exchange) = self.exchanges.get_mut(&n) else {
            return Ok(());
        };
        let end = exchange
            .plan
            .script
            .as_ref()
            .and_then(|s| s.client_end.clone());
        let end = end.unwrap_or(StreamEnd::Clean);
        let close = match &end {
            StreamEnd::Closed(close) => close.clone(),
            StreamEnd::Broken(text) => StreamClose::new(StreamClose::GOING_AWAY, text),
            _ => StreamClose::new(StreamClose::NORMAL, ""),
        };
        let mut unheard = false;
        if let Some(talk) = &mut exchange.talk {
            talk.left = Some((now, close));
            unheard = !talk.up.is_whole();
        }
        if unheard {
            self.count("closed by the client before it was heard");
        }
        self.count("closed by the client");
        self.client_is_over(id, Outcome::Left);
        self.tell_controller(Input::Ended(id, end))
    }

    pub(super) fn client_message(&mut self, id: StreamId, kind: Kind, data: &Bytes) -> Check {
        let exchange = self.asked(id)?;
        exchange.client_message(kind, data)?;
        let n = exchange.n;
        self.read_on(n);
        Ok(())
    }

    pub(in super::super) fn client_closed(
        &mut self,
        id: StreamId,
        close: &StreamClose,
        failure: Option<Failure>,
    ) -> Check {
        let stopping = self.controller.stopping;
        let exchange = self.asked(id)?;
        exchange.client_closed(close, failure.as_ref(), stopping)?;
        let made_up = exchange.talk.as_ref().is_some_and(|t| t.made_up.is_some());
        let n = exchange.n;
        if made_up {
            self.count("results made up");
        }
        let Some(failure) = failure else {
            self.count("closed by the upstream");
            self.client_is_over(id, Outcome::Finished);
            return Ok(());
        };
        self.explain(n, &failure)?;
        self.count("broken streams");
        self.count(super::name(&failure));
        self.client_is_over(id, Outcome::Failed(failure));
        Ok(())
    }
}
