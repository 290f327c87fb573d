//! Every fault of the link, once on each runtime: the same states, the same next step, the same text.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use controlplane_async_std::AsyncStd;
use controlplane_driver::{Agent, Periods, Runtime, State, TlsOptions};
use controlplane_tokio::Tokio;
use futures_util::future::join_all;
use rustls::ServerConfig;
use tokio::{net::TcpListener, time::timeout};

use super::{
    certificates::{Authority, Flaw},
    scene::{Act, Scene, Then, patient},
};
use crate::{bench::block_on, played::agent_of};

/// Longer than any first delay that nobody asked for.
const LONG: Duration = Duration::from_secs(15);

/// Far more than any of them takes.
const ENOUGH: Duration = Duration::from_secs(25);

/// What the agent dials.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// A port that nobody listens at.
    Nobody,
    /// A name that nobody has.
    NoName,
    /// A controller that does this.
    Controller(Act),
}

/// A fault, and what becomes of the link: how each state begins.
struct Fault {
    place: Place,
    tls: Option<Arc<ServerConfig>>,
    trusted: TlsOptions,
    /// The agent's bounds are short.
    hasty: bool,
    states: Vec<String>,
}

const UNAUTHORIZED: &str = "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";
const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n";
const DOWN: &str =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 77\r\nContent-Length: 0\r\n\r\n";
const GONE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
const MOVED: &str =
    "HTTP/1.1 302 Found\r\nLocation: https://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n";
const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const NO_HTTP: &str = "220 mail.example.com ESMTP\r\n\r\n";
const OTHER_KEY: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";

/// What comes of the link, told without the port.
async fn seen<R: Runtime>(runtime: R, fault: &Fault) -> Vec<String> {
    let scene = match fault.place {
        Place::Controller(act) => Some(Scene::start(act, fault.tls.clone()).await),
        Place::Nobody | Place::NoName => None,
    };
    let url = match (&scene, fault.place) {
        (Some(scene), _) => format!("https://{}", scene.address),
        (None, Place::NoName) => "https://no-such-host.invalid".into(),
        (None, _) => {
            let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
            format!("https://{}", closed.local_addr().unwrap())
        }
    };
    let mut agent = patient(agent_of(runtime, &url)).tls(fault.trusted.clone());
    if fault.hasty {
        agent = agent.periods(Periods {
            dial: Duration::from_millis(700),
            register: Duration::from_millis(700),
            ..Periods::default()
        });
    }
    let agent = agent.start().unwrap();
    let mut states = Vec::new();
    let followed = follow(&agent, scene.as_ref(), &mut states);
    if timeout(ENOUGH, followed).await.is_err() {
        states.push("nothing more happens".into());
    }
    let port = url.rsplit(':').next().unwrap();
    let normal = |text: &String| {
        let timeless = text.split(": verification time").next().unwrap();
        timeless.replace(port, "PORT")
    };
    states.iter().map(normal).collect()
}

/// The states up to the first wait, and what comes after it.
async fn follow<R: Runtime>(agent: &Agent<R>, scene: Option<&Scene>, states: &mut Vec<String>) {
    let mut state = agent.state();
    loop {
        match &state {
            State::Registered(registration) => {
                states.push(format!("registered as {}", registration.cluster_id));
                scene.unwrap().go.notify_one();
            }
            State::Waiting {
                attempt,
                reason,
                until,
            } => {
                states.push(format!("waits after failure {attempt}: {reason}"));
                if until.saturating_duration_since(Instant::now()) > LONG {
                    states.push("waits long".into());
                    return;
                }
                break;
            }
            _ => {}
        }
        state = agent.changed(&state).await;
    }
    // It dials again; so soon that it may have failed by now.
    let next = agent.changed(&state).await;
    let again = matches!(next, State::Connecting | State::Registering)
        || matches!(
            next,
            State::Waiting { attempt: 2, .. } | State::Registered(_)
        );
    states.push(format!("dials again: {again}"));
}

const AGAIN: &str = "dials again: true";
const TOO_LONG: &str = "waits after failure 1: the connection took too long to establish";
const UNANSWERED: &str = "waits after failure 1: the registration was not answered in time";
const NO_ROOM: &str = "waits after failure 1: registration refused: no room for another cluster";

fn lost(text: &str) -> String {
    format!("waits after failure 1: connection lost: {text}")
}

/// What makes faults of one authority's agents.
struct Maker(Authority);

impl Maker {
    fn fault(&self, place: Place, hasty: bool, states: &[&str]) -> Fault {
        Fault {
            place,
            tls: Some(self.0.server(Flaw::None, None)),
            trusted: self.0.trusted(),
            hasty,
            states: states.iter().copied().map(String::from).collect(),
        }
    }

    /// The connection does not come about.
    fn dialling(&self) -> Vec<Fault> {
        let broken = [
            (Place::Nobody, "connecting to 127.0.0.1:PORT: "),
            (Place::NoName, "resolving no-such-host.invalid: "),
            (Place::Controller(Act::CutTcp), "TLS with 127.0.0.1: "),
            (Place::Controller(Act::NoTls), "TLS with 127.0.0.1: "),
            (Place::Controller(Act::CutUpgrade), "WebSocket upgrade: "),
            (
                Place::Controller(Act::Answer(NO_HTTP)),
                "WebSocket upgrade: ",
            ),
            (
                Place::Controller(Act::Answer(OTHER_KEY)),
                "WebSocket upgrade: ",
            ),
            (Place::Controller(Act::CutRegister), ""),
        ];
        let broken = broken.map(|(place, text)| self.fault(place, false, &[&lost(text), AGAIN]));
        let silent = [
            (Act::SilentTcp, TOO_LONG),
            (Act::SilentUpgrade, TOO_LONG),
            (Act::SilentRegister, UNANSWERED),
        ];
        let hasty = |(act, text)| self.fault(Place::Controller(act), true, &[text, AGAIN]);
        let refused = Place::Controller(Act::RefuseRegister);
        let refused = self.fault(refused, false, &[NO_ROOM, AGAIN]);
        broken
            .into_iter()
            .chain(silent.map(hasty))
            .chain([refused])
            .collect()
    }

    /// The upgrade is answered with something else.
    fn answered(&self) -> Vec<Fault> {
        let long = "waits long";
        let answers = [
            (
                UNAUTHORIZED,
                "refused the agent's token (HTTP status 401)",
                long,
            ),
            (
                FORBIDDEN,
                "refused the agent's token (HTTP status 403)",
                long,
            ),
            (BUSY, "refused the connection with HTTP status 429", long),
            (DOWN, "refused the connection with HTTP status 503", long),
            (GONE, "refused the connection with HTTP status 503", AGAIN),
            (MOVED, "refused the connection with HTTP status 302", AGAIN),
            (FINE, "refused the connection with HTTP status 200", AGAIN),
        ];
        let fault = |(answer, text, next)| {
            let text = format!("waits after failure 1: the server {text}");
            self.fault(
                Place::Controller(Act::Answer(answer)),
                false,
                &[&text, next],
            )
        };
        answers.map(fault).into()
    }

    /// Something happens to an agent that is registered.
    fn registered(&self) -> Vec<Fault> {
        let closed =
            |code| format!("waits after failure 1: closed by the peer: code {code} \"because\"");
        let any = || String::from("waits after failure 1: ");
        let thens = [
            (Then::Cut, lost("")),
            (Then::Close(1000), closed(1000)),
            (Then::Close(1011), closed(1011)),
            (Then::Close(4000), closed(4000)),
            (Then::TooBig, any()),
            (Then::NoFrame, any()),
            (Then::NoText, any()),
        ];
        let fault = |(then, text): (Then, String)| {
            let place = Place::Controller(Act::Registered(then));
            self.fault(place, false, &["registered as 6f1c", &text, AGAIN])
        };
        thens.map(fault).into()
    }

    /// One side does not trust the other.
    fn untrusted(&self) -> Vec<Fault> {
        let (ours, theirs) = (&self.0, Authority::new("theirs"));
        let (stale, clients) = (Authority::new("ours"), Authority::new("clients"));
        let hint = "(its certificate's issuer is not trusted";
        let unknown = format!("UnknownIssuer {hint}");
        let other_key = format!("BadSignature {hint}");
        let servers = [
            (
                ours.server(Flaw::Name, None),
                "certificate not valid for name",
            ),
            (ours.server(Flaw::Expired, None), "certificate expired"),
            (ours.server(Flaw::NotYet, None), "certificate not valid yet"),
            (theirs.server(Flaw::None, None), &unknown),
            (stale.server(Flaw::None, None), &other_key),
        ];
        let mut servers = servers
            .map(|(server, text)| {
                let invalid = "TLS with 127.0.0.1: invalid peer certificate: ";
                (server, lost(&format!("{invalid}{text}")))
            })
            .to_vec();
        let asks = ours.server(Flaw::None, Some(&clients));
        servers.push((asks, lost("WebSocket upgrade: ")));
        let fault = |(server, text): (Arc<ServerConfig>, String)| Fault {
            tls: Some(server),
            ..self.fault(Place::Controller(Act::Serve), false, &[&text, AGAIN])
        };
        servers.into_iter().map(fault).collect()
    }

    fn all(&self) -> Vec<Fault> {
        let parts = [
            self.dialling(),
            self.answered(),
            self.registered(),
            self.untrusted(),
        ];
        parts.into_iter().flatten().collect()
    }
}

#[test]
fn every_fault_looks_the_same_on_both_runtimes() {
    block_on(async {
        let faults = Maker(Authority::new("ours")).all();
        let told = faults.iter().map(async |fault| {
            let tokio = seen(Tokio, fault).await;
            let async_std = seen(AsyncStd, fault).await;
            let begins = |(text, wanted): (&String, &String)| text.starts_with(&**wanted);
            let right =
                tokio.len() == fault.states.len() && tokio.iter().zip(&fault.states).all(begins);
            let what = format!("{:?}", fault.place);
            match right && tokio == async_std {
                true => None,
                false => Some(format!(
                    "{what}\n  tokio: {tokio:#?}\n  async-std: {async_std:#?}\n  wanted: {:#?}",
                    fault.states
                )),
            }
        });
        let wrong: Vec<String> = join_all(told).await.into_iter().flatten().collect();
        assert!(
            wrong.is_empty(),
            "{} of {}:\n{}",
            wrong.len(),
            faults.len(),
            wrong.join("\n")
        );
    });
}
