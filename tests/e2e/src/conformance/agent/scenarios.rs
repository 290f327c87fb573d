//! What no vector can say, since it is no message: how an agent dials, and whom it trusts.

use controlplane_world::vectors::Config;
use http::{HeaderMap, HeaderName, header};

use super::{Scene, Subject, TOKEN, clock::PATH, converse, player::Player, server::Asked};
use crate::conformance::{
    Options,
    report::{Check, Outcome},
};

/// Where the checks stand.
const PLACE: &str = "dial";

/// A check of the dial's request.
struct OfDial {
    title: &'static str,
    statement: &'static str,
    holds: fn(&Asked) -> Result<(), String>,
}

const OF_DIAL: [OfDial; 4] = [
    OfDial {
        title: "the agent dials the controller's endpoint, over TLS",
        statement: "P-001",
        holds: path,
    },
    OfDial {
        title: "the token is in a header, and nowhere else",
        statement: "P-002",
        holds: token,
    },
    OfDial {
        title: "the upgrade is that of WebSocket's version 13, without origin and cookies",
        statement: "P-003",
        holds: handshake,
    },
    OfDial {
        title: "neither a subprotocol nor an extension is offered",
        statement: "P-004",
        holds: nothing_offered,
    },
];

/// Plays those that are wanted.
pub(super) async fn play(subject: &Subject, options: &Options) -> Vec<Check> {
    let mut checks = Vec::new();
    for check in OF_DIAL {
        let play = async |player: &mut Player| {
            let asked = player.first_dial().await?;
            (check.holds)(&asked)
        };
        checks.extend(one(subject, options, (check.title, check.statement), true, play).await);
    }
    let title = "who cannot prove to be the controller gets no token";
    let strangers = async |player: &mut Player| player.is_not_trusted().await;
    checks.extend(one(subject, options, (title, "P-006"), false, strangers).await);
    let title = "a WebSocket ping is answered, with what it says";
    let ping = async |player: &mut Player| player.answers_ping().await;
    checks.extend(one(subject, options, (title, "P-018"), true, ping).await);
    checks
}

/// Plays one, if it is wanted.
async fn one(
    subject: &Subject,
    options: &Options,
    (title, statement): (&str, &str),
    trusted: bool,
    play: impl AsyncFnOnce(&mut Player) -> Result<(), String>,
) -> Option<Check> {
    let statements = vec![String::from(statement)];
    if !options.wants(PLACE, title, &statements) {
        return None;
    }
    let scene = Scene {
        config: &Config::default(),
        plain: false,
        trusted,
    };
    let outcome = match converse(subject, &scene, options, play).await {
        Ok(()) => Outcome::Pass,
        Err(why) => Outcome::Fail(why),
    };
    Some(Check {
        place: PLACE.into(),
        title: title.into(),
        statements,
        outcome,
    })
}

fn path(asked: &Asked) -> Result<(), String> {
    match asked.head.uri.path() {
        PATH if asked.secure => Ok(()),
        PATH => Err("the link is not encrypted".into()),
        other => Err(format!("the path is {other}")),
    }
}

fn token(asked: &Asked) -> Result<(), String> {
    let seen: Vec<_> = asked
        .head
        .headers
        .get_all(header::AUTHORIZATION)
        .iter()
        .collect();
    let wanted = format!("Bearer {TOKEN}");
    if asked.head.uri.to_string().contains(TOKEN) {
        return Err("the token is in the URL".into());
    }
    match seen.as_slice() {
        [one] if one.as_bytes() == wanted.as_bytes() => Ok(()),
        [] => Err("there is no Authorization".into()),
        _ => Err(format!(
            "Authorization is not once \"Bearer\" and the token: {seen:?}"
        )),
    }
}

fn handshake(asked: &Asked) -> Result<(), String> {
    let headers = &asked.head.headers;
    let is = |name: HeaderName, wanted: &str| {
        let value = headers.get(&name).and_then(|v| v.to_str().ok());
        match value.is_some_and(|value| value.to_lowercase().contains(wanted)) {
            true => Ok(()),
            false => Err(format!("{name} is {value:?}")),
        }
    };
    is(header::UPGRADE, "websocket")?;
    is(header::CONNECTION, "upgrade")?;
    is(header::SEC_WEBSOCKET_VERSION, "13")?;
    absent(headers, [header::ORIGIN, header::COOKIE])
}

fn nothing_offered(asked: &Asked) -> Result<(), String> {
    let offers = [
        header::SEC_WEBSOCKET_PROTOCOL,
        header::SEC_WEBSOCKET_EXTENSIONS,
    ];
    absent(&asked.head.headers, offers)
}

fn absent(headers: &HeaderMap, names: [HeaderName; 2]) -> Result<(), String> {
    let there = names.iter().find(|name| headers.contains_key(*name));
    there.map_or(Ok(()), |name| Err(format!("there is a header {name}")))
}

impl Player {
    async fn first_dial(&mut self) -> Result<Asked, String> {
        self.arrives(self.patience).await?;
        let (asked, _) = self.dials.pop_front().ok_or("no dial")?;
        Ok(asked)
    }

    async fn is_not_trusted(&mut self) -> Result<(), String> {
        let server = &mut self.stage.controller;
        let seen = async {
            tokio::select! {
                Some(()) = server.failed.recv() => Ok(()),
                Some(_) = server.asks.recv() =>
                    Err("it presents its token to a server with a certificate of a stranger".into()),
            }
        };
        let seen = tokio::time::timeout(self.patience, seen).await;
        seen.unwrap_or_else(|_| Err("no dial".into()))
    }

    async fn answers_ping(&mut self) -> Result<(), String> {
        let asked = self.first_dial().await?;
        self.take(asked).await?;
        let link = self.link.as_mut().ok_or("no link")?;
        link.barrier().await
    }
}
