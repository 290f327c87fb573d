//! `exec`, `attach` and port forwarding over WebSocket and SPDY, as a cluster of version 1.36 with
//! its kubelet and containerd answers them, on the wire and in its faults.
//!
//! The commands are local processes with the rights of whoever runs the stand-in, which is why it
//! listens on loopback alone and wants a token. They get `PATH` and nothing else of its environment,
//! and none of them outlives the stand-in, unless the program around it is killed. Ports lead to
//! those of 127.0.0.1 that a test names.

mod attached;
mod channel;
mod control;
mod forward;
mod frame;
mod gate;
mod handshake;
mod link;
mod main_process;
mod process;
mod processes;
mod session;
mod status;
mod takeover;
#[cfg(test)]
mod tests;
mod workload;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use http::Method;
use http::request::Parts;
use tokio::sync::watch;

use super::USER;
use super::cluster::Cluster;
use super::failure::Failure;
use super::pod::CONTAINER;
use super::query::Query;
use super::resource::Resource;
use super::route::Action;
use super::store::Key;

use self::forward::{Forward, Ports};
use self::handshake::Upgrade;
pub(super) use self::handshake::token;
use self::link::Carrier;
use self::processes::Processes;
use self::session::Session;
pub(super) use self::takeover::Takeover;
use self::takeover::{Hold, Kind, Stream};
pub(super) use self::workload::Workload;

/// What the real API server says when it cannot reach the kubelet.
const NO_KUBELET: &str =
    "error dialing backend: dial tcp 10.99.0.1:10250: connect: connection refused";

/// What the real kubelet says when it cannot reach the container runtime.
const NO_RUNTIME: &str = "rpc error: code = Unavailable desc = connection error: desc = \
                          \"transport: Error while dialing: dial unix \
                          /run/containerd/containerd.sock: connect: connection refused\"";

/// What the real kubelet says to one who wants neither to type nor to see anything.
const NO_STREAMS: &str = "you must specify at least 1 of stdin, stdout, stderr";

/// What the streams of a SPDY connection to a process are.
const PROCESS_STREAMS: &str = "v4.channel.k8s.io";

/// What the streams of a SPDY connection to ports are.
const PORT_STREAMS: &str = "portforward.k8s.io";

/// What carries out exec and attach behind the API server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Backend {
    /// All of it is there.
    #[default]
    Up,
    /// The kubelet is dead: new streams get a 500 of the API server.
    NoKubelet,
    /// The container runtime is dead: new streams get a 500 of the kubelet.
    NoRuntime,
}

/// What becomes of requests for WebSockets. Those for SPDY are not touched: kubectl falls back to
/// it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WebSockets {
    /// They are taken.
    #[default]
    Offered,
    /// 403: the user may not `get`, which is the verb of WebSockets; that of SPDY is `create`.
    Forbidden,
    /// 400, as of a server that does not know them.
    Unknown,
}

/// What has died, as those see it whose streams went through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    ApiServer,
    Kubelet,
    Runtime,
}

/// What a test can do to streams.
#[derive(Debug)]
pub(super) struct Exec {
    forbidden: AtomicBool,
    web_sockets: watch::Sender<WebSockets>,
    ports: Ports,
    backend: watch::Sender<Backend>,
    cut: watch::Sender<Cut>,
    frozen: watch::Sender<bool>,
    open: watch::Sender<usize>,
}

/// What the client of a process asks for.
#[derive(Debug)]
struct Ask {
    /// For the pod's own process, and not for a new one.
    attach: bool,
    pod: String,
    argv: Vec<String>,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    tty: bool,
}

/// Counts a stream while it is open.
#[derive(Debug)]
struct Open(watch::Sender<usize>);

impl Open {
    fn new(count: &watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Exec {
    /// With all in order.
    pub(super) fn new() -> Self {
        Self {
            forbidden: AtomicBool::new(false),
            web_sockets: watch::Sender::new(WebSockets::Offered),
            ports: Ports::default(),
            backend: watch::Sender::new(Backend::Up),
            // Only a change of it means something.
            cut: watch::Sender::new(Cut::ApiServer),
            frozen: watch::Sender::new(false),
            open: watch::Sender::new(0),
        }
    }

    /// Whether the user may not.
    pub(super) fn forbid(&self, forbidden: bool) {
        self.forbidden.store(forbidden, Ordering::Relaxed);
    }

    /// What becomes of requests for WebSockets.
    pub(super) fn set_web_sockets(&self, web_sockets: WebSockets) {
        self.web_sockets.send_replace(web_sockets);
    }

    /// Leads a port of a pod to one of 127.0.0.1, or nowhere.
    pub(super) fn set_port(&self, pod: &str, port: u16, local: Option<u16>) {
        self.ports.set(pod, port, local);
    }

    /// Changes what is there. What dies takes the open streams with it.
    pub(super) fn set_backend(&self, backend: Backend) {
        self.backend.send_replace(backend);
        match backend {
            Backend::Up => {}
            Backend::NoKubelet => drop(self.cut.send_replace(Cut::Kubelet)),
            Backend::NoRuntime => drop(self.cut.send_replace(Cut::Runtime)),
        }
    }

    /// Ends the open streams as if the API server had died.
    pub(super) fn drop_streams(&self) {
        self.cut.send_replace(Cut::ApiServer);
    }

    /// Whether bytes pass.
    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }

    /// How many streams are open.
    pub(super) fn open(&self) -> watch::Receiver<usize> {
        self.open.subscribe()
    }

    /// Checks a request in the order of the real servers. What is agreed on or refused after it
    /// has reached the kubelet takes the connection over.
    pub(super) fn answer(
        &self,
        cluster: &Arc<Cluster>,
        action: Action,
        namespace: &str,
        pod: &str,
        head: &Parts,
    ) -> Result<Takeover, Failure> {
        let verb = verb(&head.method).ok_or_else(Failure::method_not_allowed)?;
        if self.forbidden.load(Ordering::Relaxed) {
            return Err(forbidden(USER, verb, action, namespace, pod));
        }
        let key = Key::new(Resource::Pods, namespace, pod);
        if cluster.read(|store| store.get(&key).is_none()) {
            return Err(Failure::not_found(Resource::Pods, pod));
        }
        let query = Query::parse(head.uri.query().unwrap_or_default());
        if let Some(other) = query.get("container").filter(|name| *name != CONTAINER) {
            let why = format!("container {other} is not valid for pod {pod}");
            return Err(Failure::bad_request(why));
        }
        let bad_request = || Failure::bad_request("Upgrade request required");
        let upgrade = Upgrade::of(&head.headers).ok_or_else(bad_request)?;
        match *self.web_sockets.borrow() {
            WebSockets::Forbidden if upgrade == Upgrade::WebSocket => {
                return Err(forbidden(USER, verb, action, namespace, pod));
            }
            WebSockets::Unknown if upgrade == Upgrade::WebSocket => return Err(bad_request()),
            _ => {}
        }
        let backend = *self.backend.borrow();
        if backend == Backend::NoKubelet {
            return Err(Failure::without_reason(500, NO_KUBELET));
        }
        let ask = (action != Action::PortForward).then(|| Ask::new(action, pod, &query));
        if ask.as_ref().is_some_and(Ask::is_empty) {
            return Ok(kubelet_error("400 Bad Request", NO_STREAMS));
        }
        if backend == Backend::NoRuntime {
            return Ok(kubelet_error("500 Internal Server Error", NO_RUNTIME));
        }
        let kind = match ask {
            Some(ask) => self.process(cluster, upgrade, ask, head),
            None => self.forward(upgrade, pod, head),
        };
        Ok(match kind {
            Ok(kind) => Takeover::Stream(Box::new(Stream(kind))),
            Err(refusal) => Takeover::Answer(refusal),
        })
    }

    /// Agrees on a stream to a process, or says why not.
    fn process(
        &self,
        cluster: &Arc<Cluster>,
        upgrade: Upgrade,
        ask: Ask,
        head: &Parts,
    ) -> Result<Kind, Vec<u8>> {
        let cluster = Arc::clone(cluster);
        Ok(match upgrade {
            Upgrade::WebSocket => Kind::Channels(Session {
                cluster,
                agreement: handshake::agree(head)?,
                ask,
                hold: self.hold(),
            }),
            Upgrade::Spdy => Kind::Processes(Processes {
                cluster,
                head: handshake::agree_on_spdy(head, PROCESS_STREAMS)?,
                ask,
                hold: self.hold(),
            }),
        })
    }

    /// Agrees on streams to ports, or says why not.
    fn forward(&self, upgrade: Upgrade, pod: &str, head: &Parts) -> Result<Kind, Vec<u8>> {
        let (head, carrier) = match upgrade {
            Upgrade::WebSocket => (handshake::agree_on_tunnel(head)?, Carrier::WebSocket),
            Upgrade::Spdy => {
                let head = handshake::agree_on_spdy(head, PORT_STREAMS)?;
                (head, Carrier::Connection)
            }
        };
        Ok(Kind::Forward(Forward {
            pod: pod.to_owned(),
            ports: self.ports.clone(),
            head,
            carrier,
            hold: self.hold(),
        }))
    }

    fn hold(&self) -> Hold {
        Hold {
            cut: self.cut.subscribe(),
            frozen: self.frozen.subscribe(),
            open: Open::new(&self.open),
        }
    }
}

impl Ask {
    fn new(action: Action, pod: &str, query: &Query) -> Self {
        let tty = query.flag("tty");
        Self {
            attach: action == Action::Attach,
            pod: pod.to_owned(),
            argv: query.all("command").map(str::to_owned).collect(),
            stdin: query.flag("stdin"),
            stdout: query.flag("stdout"),
            // A terminal has but one output; asking for both is not held against anyone.
            stderr: query.flag("stderr") && !tty,
            tty,
        }
    }

    /// Whether it asks for nothing.
    const fn is_empty(&self) -> bool {
        !(self.stdin || self.stdout || self.stderr)
    }
}

/// What a stream without a token, which the real server takes for a user of that name, is told.
pub(super) fn anonymous(action: Action, namespace: &str, pod: &str, method: &Method) -> Failure {
    let verb = verb(method).unwrap_or("get");
    forbidden("system:anonymous", verb, action, namespace, pod)
}

fn forbidden(user: &str, verb: &str, action: Action, namespace: &str, pod: &str) -> Failure {
    let what = format!("cannot {verb} resource \"pods/{}\"", action.name());
    let place = format!("in API group \"\" in the namespace \"{namespace}\"");
    Failure::forbidden(
        Resource::Pods,
        pod,
        &format!("User \"{user}\" {what} {place}"),
    )
}

fn verb(method: &Method) -> Option<&'static str> {
    match *method {
        Method::GET => Some("get"),
        Method::POST => Some("create"),
        _ => None,
    }
}

/// Errors of the kubelet are no `Status`, and the connection ends with them.
fn kubelet_error(status: &str, text: &str) -> Takeover {
    let length = text.len();
    let date = httpdate::fmt_http_date(SystemTime::now());
    let head = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Length: {length}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Date: {date}\r\n\r\n"
    );
    Takeover::Answer((head + text).into_bytes())
}
