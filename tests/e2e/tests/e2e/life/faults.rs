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

/// All of them: what happens, and what must be said.
fn faults() -> Vec<Fault> {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let good = ours.server(Flaw::None, None);
    let fault = |place: Place, hasty: bool, states: &[&str]| Fault {
        place,
        tls: Some(good.clone()),
        trusted: ours.trusted(),
        hasty,
        states: states.iter().copied().map(String::from).collect(),
    };
    let lost = |text: &str| format!("waits after failure 1: connection lost: {text}");
    let again = "dials again: true";
    let mut faults = vec![
        fault(
            Place::Nobody,
            false,
            &[&lost("connecting to 127.0.0.1:PORT: "), again],
        ),
        fault(
            Place::NoName,
            false,
            &[&lost("resolving no-such-host.invalid: "), again],
        ),
        fault(
            Place::Controller(Act::CutTcp),
            false,
            &[&lost("TLS with 127.0.0.1: "), again],
        ),
        fault(
            Place::Controller(Act::NoTls),
            false,
            &[&lost("TLS with 127.0.0.1: "), again],
        ),
        fault(
            Place::Controller(Act::CutUpgrade),
            false,
            &[&lost("WebSocket upgrade: "), again],
        ),
        fault(
            Place::Controller(Act::Answer(NO_HTTP)),
            false,
            &[&lost("WebSocket upgrade: "), again],
        ),
        fault(
            Place::Controller(Act::Answer(OTHER_KEY)),
            false,
            &[&lost("WebSocket upgrade: "), again],
        ),
        fault(
            Place::Controller(Act::CutRegister),
            false,
            &[&lost(""), again],
        ),
    ];
    let too_long = "waits after failure 1: the connection took too long to establish";
    let unanswered = "waits after failure 1: the registration was not answered in time";
    faults.extend([
        fault(Place::Controller(Act::SilentTcp), true, &[too_long, again]),
        fault(
            Place::Controller(Act::SilentUpgrade),
            true,
            &[too_long, again],
        ),
        fault(
            Place::Controller(Act::SilentRegister),
            true,
            &[unanswered, again],
        ),
    ]);
    let no_room = "waits after failure 1: registration refused: no room for another cluster";
    faults.push(fault(
        Place::Controller(Act::RefuseRegister),
        false,
        &[no_room, again],
    ));
    for (answer, status, next) in [
        (UNAUTHORIZED, 401, "waits long"),
        (FORBIDDEN, 403, "waits long"),
        (BUSY, 429, "waits long"),
        (DOWN, 503, "waits long"),
        (GONE, 503, again),
        (MOVED, 302, again),
        (FINE, 200, again),
    ] {
        let text = match status {
            401 | 403 => format!("the server refused the agent's token (HTTP status {status})"),
            _ => format!("the server refused the connection with HTTP status {status}"),
        };
        let text = format!("waits after failure 1: {text}");
        faults.push(fault(
            Place::Controller(Act::Answer(answer)),
            false,
            &[&text, next],
        ));
    }
    let registered = "registered as 6f1c";
    let closed =
        |code: u16| format!("waits after failure 1: closed by the peer: code {code} \"because\"");
    let waits = "waits after failure 1: ";
    for (then, text) in [
        (Then::Cut, lost("")),
        (Then::Close(1000), closed(1000)),
        (Then::Close(1011), closed(1011)),
        (Then::Close(4000), closed(4000)),
        (Then::TooBig, waits.into()),
        (Then::NoFrame, waits.into()),
        (Then::NoText, waits.into()),
    ] {
        faults.push(fault(
            Place::Controller(Act::Registered(then)),
            false,
            &[registered, &text, again],
        ));
    }
    let stale = Authority::new("ours");
    let clients = Authority::new("clients");
    let invalid = "TLS with 127.0.0.1: invalid peer certificate: ";
    for (config, text) in [
        (
            ours.server(Flaw::Name, None),
            lost(&format!("{invalid}certificate not valid for name")),
        ),
        (
            ours.server(Flaw::Expired, None),
            lost(&format!("{invalid}certificate expired")),
        ),
        (
            ours.server(Flaw::NotYet, None),
            lost(&format!("{invalid}certificate not valid yet")),
        ),
        (
            theirs.server(Flaw::None, None),
            lost(&format!(
                "{invalid}UnknownIssuer (its certificate's issuer is not trusted"
            )),
        ),
        (
            stale.server(Flaw::None, None),
            lost(&format!(
                "{invalid}BadSignature (its certificate's issuer is not trusted"
            )),
        ),
        (
            ours.server(Flaw::None, Some(&clients)),
            lost("WebSocket upgrade: "),
        ),
    ] {
        faults.push(Fault {
            tls: Some(config),
            ..fault(Place::Controller(Act::Serve), false, &[&text, again])
        });
    }
    faults
}

#[test]
fn every_fault_looks_the_same_on_both_runtimes() {
    block_on(async {
        let faults = faults();
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
