//! The same recordings through controller and agent: what the client sees is what it would see at
//! the API server, but for the differences listed here.

use std::time::Duration;

use anyhow::{Context as _, Result};
use controlplane_e2e::world::{RuntimeName, Settings, World, mode};
use futures_util::{StreamExt as _, stream};
use pipeops_controller::Mode;

use super::{
    PODS, empty_folder, events, judge,
    play::{Stage, play},
    table::{Recording, Setup, TABLE, Verdict},
    wire::Target,
};
use crate::bench::block_on_within;

/// For all recordings.
const LONG: Duration = Duration::from_secs(300);

/// A recording, what is seen instead, and why.
type Difference = (&'static str, &'static str, &'static str);

/// What differs through the tunnel in either mode: what the controller answers by itself.
const EITHER: &[Difference] = &[
    (
        "raw-err-bad-token",
        "head HTTP/1.1 401 Unauthorized | cache-control: no-cache, private | content-type: \
         application/json | www-authenticate: Bearer",
        OWN_USERS,
    ),
    (
        "raw-err-no-token",
        "head HTTP/1.1 401 Unauthorized",
        OWN_USERS,
    ),
    (
        "raw-err-no-key",
        "head HTTP/1.1 400 Bad Request | cache-control",
        OWN_HANDSHAKE,
    ),
    (
        "raw-err-ws-version",
        "head HTTP/1.1 400 Bad Request",
        OWN_HANDSHAKE,
    ),
    (
        "raw-post-websocket",
        "head HTTP/1.1 405 Method Not Allowed",
        OWN_HANDSHAKE,
    ),
];

/// What differs in the fast mode, too, where an upgraded connection is opaque bytes: how it ends,
/// where it ends without a result.
const FAST: &[Difference] = &[
    ("raw-v4-containerd-killed", WORDLESS, NO_FALSE_SUCCESS),
    ("raw-v4-kube-apiserver-killed", RESET, NO_FALSE_SUCCESS),
    ("raw-v4-kubelet-killed", WORDLESS, NO_FALSE_SUCCESS),
    ("raw-v5-kube-apiserver-killed", RESET, NO_FALSE_SUCCESS),
    ("raw-v5-kubelet-killed", WORDLESS, NO_FALSE_SUCCESS),
];

/// What differs in the JSON mode, too, where messages pass, and end at the controller and the agent.
const JSON: &[Difference] = &[
    ("exec-spdy", "head HTTP/1.1 501 Not Implemented", NO_SPDY),
    (
        "port-forward-spdy",
        "head HTTP/1.1 501 Not Implemented",
        NO_SPDY,
    ),
    ("raw-v4-containerd-killed", UNENDED, NO_FALSE_SUCCESS),
    ("raw-v4-kube-apiserver-killed", UNENDED, NO_FALSE_SUCCESS),
    ("raw-v4-kubelet-killed", UNENDED, NO_FALSE_SUCCESS),
    ("raw-v5-kube-apiserver-killed", UNENDED, NO_FALSE_SUCCESS),
    ("raw-v5-kubelet-killed", UNENDED, NO_FALSE_SUCCESS),
    (
        "raw-v5-halfclose-bad-stream",
        "Binary channel 3 \"{\\\"metadata\\\":{},\\\"status\\\":\\\"Failure\\\",\\\"message\\\":\
         \\\"the stream ended before the command's result was known\\\"",
        NO_FALSE_SUCCESS,
    ),
    (
        "raw-v4-fragmented",
        "Binary stdout \"part1 \\0part2\\n\"",
        JOINED,
    ),
    (
        "raw-v5-fragmented",
        "Binary stdout \"part1 part2\\n\"",
        JOINED,
    ),
    (
        "raw-v5-fragmented-channel",
        "Binary stdout \"part1 \\0part2\\n\"",
        JOINED,
    ),
    (
        "raw-v4-stdin-no-eof-client-close",
        "close 1000 \"bye\"",
        ECHO,
    ),
    ("raw-v5-client-close", "close 1000 \"bye\"", ECHO),
    (
        "raw-v5-unmasked",
        "close 1002 \"the client broke the rules",
        OWN_FRAMES,
    ),
];

/// The end of the stream without a word, as the client is told of it in the fast mode.
const WORDLESS: &str = "Binary channel 3 \"{\\\"metadata\\\":{},\\\"status\\\":\\\"Failure\\\",\
    \\\"message\\\":\\\"the Kubernetes API ended the stream without a word of how it ended\\\"";

/// A reset is all that the agent can tell of a connection that broke.
const RESET: &str = "Binary channel 3 \"{\\\"metadata\\\":{},\\\"status\\\":\\\"Failure\\\",\
    \\\"message\\\":\\\"the cluster's agent reset the stream: its connection to the Kubernetes API";

/// The same in the JSON mode, whose agent knows WebSockets.
const UNENDED: &str = "Binary channel 3 \"{\\\"metadata\\\":{},\\\"status\\\":\\\"Failure\\\",\
    \\\"message\\\":\\\"the Kubernetes API ended the stream without a close frame\\\"";

const OWN_USERS: &str = "the controller has users of its own, and none of them is anonymous";
const OWN_HANDSHAKE: &str = "the controller checks a handshake, and says what is wrong";
const OWN_FRAMES: &str = "the client's WebSocket ends at the controller, which says what is wrong";
const NO_SPDY: &str = "the JSON protocol carries no SPDY, and kubectl is told what to do";
const NO_FALSE_SUCCESS: &str = "kubectl takes an end without a result for a success";
const JOINED: &str = "fragments are joined, as the rules of WebSocket have it; the API server does \
    not join them, and takes the first byte of each for a channel";
const ECHO: &str = "a close is answered with its reason, too";

fn through(recording: &Recording) -> Recording {
    let of_mode = match mode() {
        Mode::Fast => FAST,
        Mode::Json => JSON,
    };
    let mut differences = EITHER.iter().chain(of_mode);
    let found = differences.find(|(name, ..)| *name == recording.name);
    let verdict = match found {
        Some((_, seen, why)) => Verdict::Differs(seen, why),
        None => recording.verdict,
    };
    Recording {
        verdict,
        relayed: true,
        ..*recording
    }
}

async fn replay(runtime: RuntimeName, recording: &Recording) -> Result<()> {
    let recording = through(recording);
    let settings = Settings {
        runtime,
        hasty: true,
        pods: PODS.map(str::to_owned).into(),
        ..Settings::default()
    };
    let world = World::start(settings, |_| {}).await?;
    let target = Target {
        address: world.address(),
        ca_pem: world.ca_pem()?,
        token: world.user_token()?.as_str().to_owned(),
        prefix: "/clusters/demo".to_owned(),
    };
    let name = format!("{}-{}", runtime.as_str(), recording.name);
    let folder = empty_folder(&name)?;
    let stage = Stage {
        standin: Some(&world.standin),
        target: &target,
        folder: &folder,
    };
    let played = play(&recording, &events(&recording)?, &stage).await;
    std::fs::remove_dir_all(&folder)?;
    let played = played.with_context(|| format!("replaying {}", recording.name));
    judge(&recording, played)
}

fn replays(runtime: RuntimeName) {
    block_on_within(LONG, async {
        // An API server that is not there is no recording of a stream.
        let there = TABLE.iter().filter(|r| r.setup != Setup::Gone);
        let replays = stream::iter(there).map(|recording| replay(runtime, recording));
        let outcomes: Vec<_> = replays.buffer_unordered(4).collect().await;
        let failed = outcomes.into_iter().filter_map(Result::err);
        let failed: Vec<_> = failed.map(|report| format!("{report:#}")).collect();
        assert!(
            failed.is_empty(),
            "{} of {} differ:\n{}",
            failed.len(),
            TABLE.len(),
            failed.join("\n")
        );
    });
}

#[test]
fn the_recordings_come_through_on_tokio() {
    replays(RuntimeName::Tokio);
}

#[test]
fn the_recordings_come_through_on_async_std() {
    replays(RuntimeName::AsyncStd);
}

#[test]
fn every_difference_is_of_a_recording() {
    for (name, ..) in EITHER.iter().chain(FAST).chain(JSON) {
        let known = TABLE.iter().any(|recording| recording.name == *name);
        assert!(known, "{name}");
    }
}
