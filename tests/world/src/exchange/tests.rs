//! What the oracle holds against a stream.

use std::time::Duration;

use bytes::Bytes;
use controlplane_core::{Failure, Kind, ResponseHead, StreamClose, StreamEnd, Time};

use super::{Exchange, GONE, Talk};
use crate::{
    content::{Said, Way, message},
    plan::{Plan, Weather},
    rng::Rng,
};

const V5: &str = "v5.channel.k8s.io";
const CLOSING: Duration = Duration::from_secs(10);

/// A terminal that is open on both sides.
fn open() -> Exchange {
    let mut plan = Plan::new(&mut Rng::new(1), 7, Weather::Still, 1000);
    plan.head.path = "/api/r7/exec".into();
    if let Some(script) = &mut plan.script {
        script.offered = Vec::from([V5.to_string()]);
    }
    let mut exchange = Exchange::new(7, plan, false);
    exchange.talk = Some(Talk {
        accepted: Some(V5.into()),
        ..Talk::default()
    });
    let name = "sec-websocket-protocol".to_string();
    let head = ResponseHead {
        status: 101,
        headers: Vec::from([(name, V5.to_string())]),
    };
    assert_eq!(exchange.client_opened(&head), Ok(()));
    assert!(exchange.client_opened(&head).is_err(), "twice");
    exchange
}

fn talk(exchange: &mut Exchange) -> &mut Talk {
    exchange.talk.as_mut().unwrap()
}

/// The next message to the client, as it was said.
fn say(exchange: &mut Exchange, lead: u8) -> (Kind, Bytes) {
    let said = Said {
        kind: Kind::Binary,
        lead: Some(lead),
        len: 20,
    };
    let lane = &mut talk(exchange).down;
    lane.said.push(said);
    let data = message(7, Way::Answer, lane.said.len() - 1, said);
    (said.kind, data)
}

fn close(code: u16, reason: &str) -> StreamClose {
    StreamClose::new(code, reason)
}

fn is(outcome: Result<(), String>, part: &str) {
    let text = outcome.expect_err(part);
    assert!(text.contains(part), "{text}");
}

#[test]
fn a_message_is_the_next_and_as_it_was_said() {
    let mut exchange = open();
    let (_, first) = say(&mut exchange, 1);
    let (kind, second) = say(&mut exchange, 1);
    is(exchange.client_message(kind, &second), "differs");
    is(exchange.client_message(Kind::Text, &first), "another kind");
    assert_eq!(exchange.client_message(kind, &first), Ok(()));
    is(exchange.client_message(kind, &first), "differs");
    assert_eq!(exchange.client_message(kind, &second), Ok(()));
    is(exchange.client_message(kind, &second), "more than was said");
}

#[test]
fn a_success_needs_a_result_and_every_message() {
    let normal = close(1000, "");
    let mut exchange = open();
    is(
        exchange.client_closed(&normal, None, false),
        "false success",
    );
    exchange.tainted = true;
    is(
        exchange.client_closed(&normal, None, false),
        "false success",
    );
    exchange.tainted = false;
    let (kind, result) = say(&mut exchange, 3);
    assert_eq!(exchange.client_message(kind, &result), Ok(()));
    is(exchange.client_closed(&normal, None, false), "in order");
    talk(&mut exchange).ended = Some(StreamEnd::Clean);
    is(exchange.client_closed(&normal, None, false), "taken");
    exchange.answer.clear();
    assert_eq!(exchange.client_closed(&normal, None, false), Ok(()));
    let other = close(1000, "other");
    is(exchange.client_closed(&other, None, false), "otherwise");
    say(&mut exchange, 1);
    is(
        exchange.client_closed(&normal, None, false),
        "not all there",
    );
}

#[test]
fn a_failure_says_so_and_why() {
    let lost = Failure::Disconnected;
    let made_up = |text: &str| {
        let text = format!(
            r#"{{"metadata":{{}},"status":"Failure","message":"{text}","reason":"InternalError","code":500}}"#
        );
        Bytes::from([b"\x03", text.as_bytes()].concat())
    };
    let mut exchange = open();
    let broken = close(1011, "lost");
    is(exchange.client_closed(&broken, Some(&lost), false), "why");
    let normal = close(1000, "");
    let looks = "looks like a success";
    is(exchange.client_closed(&normal, Some(&lost), false), looks);
    let wrong = made_up("something else");
    assert_eq!(exchange.client_message(Kind::Binary, &wrong), Ok(()));
    is(exchange.client_closed(&normal, Some(&lost), false), looks);
    is(exchange.client_message(Kind::Binary, &wrong), "made up");

    let mut exchange = open();
    let right = made_up(&lost.to_string());
    assert_eq!(exchange.client_message(Kind::Binary, &right), Ok(()));
    assert_eq!(exchange.client_closed(&normal, Some(&lost), false), Ok(()));
    talk(&mut exchange).ended = Some(StreamEnd::Clean);
    is(
        exchange.client_closed(&normal, None, false),
        "not all there",
    );
}

#[test]
fn a_close_is_the_clients_and_behind_its_words() {
    let left = Time::ZERO + Duration::from_secs(5);
    let gone = close(1001, GONE);
    let leave = |unheard: bool| {
        let mut exchange = open();
        let talk = talk(&mut exchange);
        talk.left = Some((left, close(4000, "")));
        if unheard {
            let said = Said {
                kind: Kind::Text,
                lead: None,
                len: 5,
            };
            talk.up.said.push(said);
        }
        exchange
    };
    let told = |unheard: bool, at: Time, close: &StreamClose| {
        let mut exchange = leave(unheard);
        exchange.upstream_told(at, close, CLOSING)
    };
    assert_eq!(told(false, left, &close(4000, "")), Ok(false));
    assert!(told(false, left, &close(1000, "")).is_err());
    assert!(told(true, left, &close(4000, "")).is_err());
    assert!(told(true, left, &gone).is_err(), "it has more time");
    assert_eq!(told(true, left + CLOSING, &gone), Ok(true));
    let mut exchange = leave(false);
    let own = close(4000, "");
    assert_eq!(exchange.upstream_told(left, &own, CLOSING), Ok(false));
    assert!(exchange.upstream_told(left, &own, CLOSING).is_err());
    is(
        exchange.upstream_message(Kind::Text, b""),
        "behind the close",
    );
}

#[test]
fn a_window_is_kept_but_for_the_last_message() {
    let mut exchange = open();
    for len in [600, 300, 500] {
        exchange.body.keep(len);
    }
    assert_eq!(exchange.within(&exchange.body, 901), Ok(()));
    is(exchange.within(&exchange.body, 900), "in a window of 900");
    exchange.granted = true;
    assert_eq!(exchange.within(&exchange.body, 900), Ok(()));
}

#[test]
fn who_is_worked_on_for_nobody_is_found() {
    let mut exchange = open();
    exchange.upstream = Some(controlplane_core::StreamId(1));
    let link = Duration::from_secs(5);
    let at = |secs| Time::ZERO + Duration::from_secs(secs);
    assert!(!exchange.is_forgotten(at(1000), CLOSING, link));
    exchange.client_over(super::Outcome::Left);
    assert!(!exchange.is_forgotten(at(1000), CLOSING, link));
    assert!(!exchange.is_forgotten(at(1025), CLOSING, link));
    assert!(exchange.is_forgotten(at(1026), CLOSING, link));
}
