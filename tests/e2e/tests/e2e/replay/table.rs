//! Every recording, with what the replay needs for it and every difference that it sets aside.

use serde_json::Value;

use super::facts::Origin;
use super::ports::Server;

/// A recording and how it is replayed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recording {
    /// The name of its file.
    pub(crate) name: &'static str,
    /// What the stand-in is told before.
    pub(crate) setup: Setup,
    /// What is done in the course of it that the recording does not show.
    pub(crate) act: Act,
    /// What is put for what in the client's request lines.
    pub(crate) request: &'static [(&'static str, &'static str)],
    /// What is put for what in the texts that the real server sent.
    pub(crate) recorded: &'static [(&'static str, &'static str)],
    /// What is put for what in the texts that are seen now.
    pub(crate) seen: &'static [(&'static str, &'static str)],
    /// Another server is in between: what belongs to one connection is set aside, such as how the
    /// end of an answer is told and whether another request may follow.
    pub(crate) relayed: bool,
    pub(crate) verdict: Verdict,
}

/// What the stand-in is told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    Nothing,
    /// The user may not.
    Forbidden,
    NoKubelet,
    NoRuntime,
    /// The API server is not there.
    Gone,
    /// That pod has a process of its own, on a terminal or not.
    Main(&'static str, &'static [&'static str], bool),
    /// That server listens at that port of the pod `web`.
    Port(u16, Server),
}

/// What is done in the course of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    Nothing,
    /// The processes are killed when all is seen that came before the status.
    KillProcesses,
    /// The pod is deleted then.
    DeletePod(&'static str),
    /// Another client types that line to the process of the pod, before its first output.
    Type(&'static str, &'static str),
    /// The client sends a frame that is not masked, before the first close frame.
    SendUnmasked,
    /// The client waits for the close frame before it sends its first.
    AwaitClose,
    /// When the client is gone, the process has seen the end of what is typed, and no signal.
    CheckFiles,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What was recorded, but for what the table sets aside.
    Reproduced,
    /// Something else: what is seen instead, and why.
    Differs(&'static str, &'static str),
}

/// In the place of the interactive shell, whose prompts and line editing are BusyBox's own: a shell
/// that does what is typed, and prints nothing else.
const PLAIN_SHELL: &str = "while read -r line; do eval \"$line\"; done";
const PLAIN_SHELL_QUERY: (&str, &str) = (
    "command=sh&container",
    "command=sh&command=-c&command=while+read+-r+line%3B+do+eval+%22%24line%22%3B+done&container",
);

/// What BusyBox's interactive shell writes of its own accord.
const BUSYBOX: &[(&str, &str)] = &[
    (
        "\r\n\r\nBusyBox v1.35.0 (Debian 1:1.35.0-4+deb12u1+b1) built-in shell (ash)\r\n\
         Enter 'help' for a list of built-in commands.\r\n\r\n",
        "",
    ),
    ("\r/ # stty size\u{1b}[J", ""),
    ("\r/ # \u{1b}[J", ""),
    ("/ # \u{1b}[6n", ""),
    // Of an earlier client, half a command was still in the line.
    ("stty: invalid number 'sizeecho'", "hi"),
];

/// The users that were recorded have other names.
const USERS: &[(&str, &str)] = &[
    ("User \\\"reader\\\"", "User \\\"standin\\\""),
    ("User \\\"nobody\\\"", "User \\\"standin\\\""),
];

/// Counts like the process of the recorded pod, once it is told to.
const COUNTER: &str = "read go; n=206; while [ $n -le 208 ]; do \
                       echo out $n; echo err $n >&2; n=$((n+1)); done; read never";

/// The network of the recorded pod has an identity.
const NETWORK: &[(&str, &str)] = &[(
    "cni-7bc46719-c577-1e8d-e5b0-4f0626a8328e",
    "cni-00000000-0000-0000-0000-000000000000",
)];

const fn plain(name: &'static str) -> Recording {
    Recording {
        name,
        setup: Setup::Nothing,
        act: Act::Nothing,
        request: &[],
        recorded: &[],
        seen: &[],
        relayed: false,
        verdict: Verdict::Reproduced,
    }
}

const fn with_setup(name: &'static str, setup: Setup) -> Recording {
    Recording {
        setup,
        ..plain(name)
    }
}

const fn with_act(name: &'static str, act: Act) -> Recording {
    Recording { act, ..plain(name) }
}

const fn forbidden(name: &'static str) -> Recording {
    Recording {
        recorded: USERS,
        ..with_setup(name, Setup::Forbidden)
    }
}

/// Port forwarding with the ports in the query and a channel for each.
const fn old(name: &'static str) -> Recording {
    Recording {
        verdict: Verdict::Differs(
            "head HTTP/1.1 403 Forbidden",
            "the channels that kubectl never used for ports are not offered: the answer is that to \
             an unknown subprotocol",
        ),
        ..plain(name)
    }
}

const fn shell(name: &'static str) -> Recording {
    Recording {
        request: &[PLAIN_SHELL_QUERY],
        recorded: BUSYBOX,
        // v4 tells the command.
        seen: &[(
            "[sh -c while read -r line; do eval \\\"$line\\\"; done]",
            "[sh]",
        )],
        ..plain(name)
    }
}

/// All of them.
pub(crate) const TABLE: &[Recording] = &[
    Recording {
        setup: Setup::Main("web", &["sh", "-c", COUNTER], false),
        act: Act::Type("web", "go\n"),
        ..plain("attach-output")
    },
    with_setup("attach-stdin", Setup::Main("att", &["cat"], false)),
    Recording {
        setup: Setup::Main("atty", &["sh", "-c", PLAIN_SHELL], true),
        recorded: BUSYBOX,
        // The keys that BusyBox's line editing takes to leaf through the history; a terminal
        // without it shows them.
        seen: &[("^P", "")],
        ..plain("attach-tty")
    },
    plain("exec-exit0"),
    plain("exec-exit3"),
    forbidden("exec-forbidden"),
    with_act("exec-killedpod", Act::DeletePod("victim")),
    with_act("exec-killedproc", Act::KillProcesses),
    plain("exec-nocommand"),
    plain("exec-nocontainer"),
    plain("exec-nopod"),
    plain("exec-sigint"),
    plain("exec-spdy"),
    plain("exec-stdin"),
    shell("exec-tty"),
    with_setup("port-forward", Setup::Port(8080, Server::Httpd)),
    Recording {
        recorded: NETWORK,
        ..plain("port-forward-closed")
    },
    forbidden("port-forward-forbidden"),
    with_setup("port-forward-idle", Setup::Port(7777, Server::Cat)),
    plain("port-forward-nopod"),
    Recording {
        recorded: &[("05:44:11 GMT", "05:44:06 GMT")],
        ..with_setup("port-forward-spdy", Setup::Port(8080, Server::Httpd))
    },
    with_setup("raw-attach-v4", Setup::Main("att", &["cat"], false)),
    with_setup("raw-attach-v5", Setup::Main("att", &["cat"], false)),
    plain("raw-err-bad-subprotocol"),
    Recording {
        request: &[("Bearer <redacted>", "Bearer wrong")],
        ..plain("raw-err-bad-token")
    },
    plain("raw-err-command-not-found-v4"),
    plain("raw-err-command-not-found-v5"),
    plain("raw-err-container-not-found"),
    forbidden("raw-err-forbidden-nobody"),
    forbidden("raw-err-forbidden-reader"),
    plain("raw-err-no-command"),
    plain("raw-err-no-key"),
    plain("raw-err-no-streams"),
    plain("raw-err-no-subprotocol"),
    plain("raw-err-no-token"),
    plain("raw-err-no-upgrade"),
    plain("raw-err-ns-not-found"),
    plain("raw-err-pod-not-found"),
    plain("raw-err-pod-not-found-v4"),
    plain("raw-err-post-no-upgrade"),
    plain("raw-err-ws-version"),
    old("raw-pf-closed-port-v4"),
    plain("raw-pf-nopod"),
    old("raw-pf-noproto"),
    plain("raw-pf-v2tunnel-bad"),
    old("raw-pf-v4-legacy"),
    plain("raw-pf-v5"),
    plain("raw-post-websocket"),
    plain("raw-sub-base64"),
    plain("raw-sub-channel"),
    plain("raw-sub-v3"),
    plain("raw-sub-v4-v5"),
    plain("raw-sub-v5-junk"),
    plain("raw-sub-v5-v4"),
    plain("raw-token-in-subprotocol"),
    plain("raw-tty-and-stderr"),
    plain("raw-v4-channel255"),
    plain("raw-v4-containerd-killed"),
    plain("raw-v4-exit0"),
    plain("raw-v4-exit3"),
    with_act("raw-v4-force-deleted-pod", Act::DeletePod("victimf-v4")),
    plain("raw-v4-fragmented"),
    plain("raw-v4-kube-apiserver-killed"),
    plain("raw-v4-kubelet-killed"),
    with_act("raw-v4-killed-pod", Act::DeletePod("victim-v4")),
    plain("raw-v4-ping"),
    plain("raw-v4-stdin-no-eof-client-close"),
    shell("raw-v4-tty-resize"),
    with_act("raw-v5-abrupt-tcp-close", Act::CheckFiles),
    plain("raw-v5-bad-channel"),
    plain("raw-v5-client-close"),
    with_setup("raw-v5-containerd-dead", Setup::NoRuntime),
    plain("raw-v5-containerd-killed"),
    plain("raw-v5-empty-stdin-frame"),
    plain("raw-v5-exit0"),
    plain("raw-v5-exit3"),
    with_act("raw-v5-force-deleted-pod", Act::DeletePod("victimf-v5")),
    plain("raw-v5-fragmented"),
    plain("raw-v5-fragmented-channel"),
    plain("raw-v5-halfclose"),
    plain("raw-v5-halfclose-bad-stream"),
    plain("raw-v5-halfclose-then-data"),
    Recording {
        // That it is quiet for so long is all that the time is for.
        request: &[("command=sleep%2012%3B", "command=sleep%200%3B")],
        ..plain("raw-v5-idle-12s")
    },
    with_act("raw-v5-killed-pod", Act::DeletePod("victim-v5")),
    Recording {
        // The command tells the number of its process.
        request: &[("echo%20%24%24%3B", "echo%20155%3B")],
        ..with_act("raw-v5-killed-process", Act::KillProcesses)
    },
    with_setup("raw-v5-kube-apiserver-dead", Setup::Gone),
    plain("raw-v5-kube-apiserver-killed"),
    with_setup("raw-v5-kubelet-dead", Setup::NoKubelet),
    plain("raw-v5-kubelet-killed"),
    plain("raw-v5-ping"),
    with_act("raw-v5-send-after-exit", Act::AwaitClose),
    plain("raw-v5-text-frame"),
    shell("raw-v5-tty-resize"),
    with_act("raw-v5-unmasked", Act::SendUnmasked),
    plain("websockets-lib-v4-v5"),
];

/// What a body in protobuf begins with. The stand-in does not make any: clients that take it take
/// JSON, too, as kubectl does before it forwards a port.
pub(crate) const PROTOBUF: &str = "k8s\0";

impl Recording {
    /// A text with all identities and names of the recorded cluster replaced.
    pub(crate) fn substitute(&self, origin: Origin, text: &str) -> String {
        let pairs = match origin {
            Origin::Recorded => self.recorded,
            Origin::Seen => self.seen,
        };
        let replaced = pairs
            .iter()
            .fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        without_identities(&replaced)
    }

    /// What counts in an answer that tells of the cluster itself, which is another one now.
    pub(crate) fn of_the_cluster(&self, path: &str, body: &str) -> Option<String> {
        if body.starts_with(PROTOBUF) {
            return Some(format!("pod \"{}\"", path.rsplit('/').next()?));
        }
        let document: Value = serde_json::from_str(body).ok()?;
        if path.starts_with("/version") {
            return Some(format!("version {}", document["major"]));
        }
        let pod = document["kind"] == "Pod";
        pod.then(|| format!("pod {}", document["metadata"]["name"]))
    }
}

/// The identities that the container runtime makes are long hexadecimal numbers.
fn without_identities(text: &str) -> String {
    let is_hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    let mut rest = text;
    let mut out = String::new();
    while let Some(start) = rest.find(is_hex) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c| !is_hex(c)).unwrap_or(from.len());
        let (number, after) = from.split_at(end);
        out += before;
        out += if end >= 60 { "<identity>" } else { number };
        rest = after;
    }
    out + rest
}
