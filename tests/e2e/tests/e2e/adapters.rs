//! The adapters of the two runtimes are thin, decide nothing, and keep apart: the one for async-std
//! never enters a tokio runtime.

use std::{
    collections::BTreeSet,
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::pin,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use controlplane_async_std::AsyncStd;
use controlplane_driver::{
    Kubernetes, KubernetesConfig, RequestHead, Roots, Runtime, Token, TokenSource,
};
use controlplane_e2e::{
    left_to,
    standin::{Options, StandIn},
};
use controlplane_tokio::Tokio;
use tokio::runtime::Handle;

use crate::bench::{block_on, head, pair_in, rest};

/// Own code of an adapter, in lines; those of its documentation included.
const LINES: usize = 600;

/// What an adapter may name of the driver: what a runtime is, and whom it runs.
const ALLOWED: [&str; 10] = [
    "Agent",
    "Builder",
    "Datagrams",
    "Kubernetes",
    "Metered",
    "Runtime",
    "Timer",
    "TlsIo",
    "tune",
    "unspecified",
];

const ADAPTERS: [&str; 2] = ["runtime-async-std", "runtime-tokio"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files of a folder of Rust sources, and of those below.
fn sources(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else {
            found.push(fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
    words.filter(|word| !word.is_empty())
}

/// What the driver shows: its own, and what it shows of the core.
fn shown(source: &str) -> BTreeSet<&str> {
    let uses = source.split("pub use ").skip(1);
    let uses = uses.filter_map(|rest| rest.split(';').next());
    // Names, but for those of its files, which lead to them.
    let mut shown: BTreeSet<&str> = uses
        .flat_map(|names| names.split([',', '{', '}']))
        .filter(|name| !name.trim_end().ends_with("::"))
        .filter_map(|name| words(name).last())
        .collect();
    shown.extend(["core", "rules"]);
    shown.remove("self");
    shown
}

#[test]
fn adapters_have_at_most_600_lines() {
    for adapter in ADAPTERS {
        let files = sources(&root().join(adapter).join("src"));
        let lines: usize = files.iter().map(|text| text.lines().count()).sum();
        assert!(lines > 0 && lines <= LINES, "{adapter} has {lines} lines");
    }
}

#[test]
fn adapters_name_nothing_of_the_protocol() {
    let driver = fs::read_to_string(root().join("driver/src/lib.rs")).unwrap();
    let shown = shown(&driver);
    for name in ALLOWED
        .iter()
        .chain(&["RequestHead", "core", "websocket_config"])
    {
        assert!(shown.contains(name), "the driver shows no {name}");
    }
    for adapter in ADAPTERS {
        let manifest = fs::read_to_string(root().join(adapter).join("Cargo.toml")).unwrap();
        assert!(
            !manifest.contains("controlplane-core"),
            "{adapter} depends on the core, where the protocol is decided"
        );
        for text in sources(&root().join(adapter).join("src")) {
            // The upgrade request of a WebSocket is of the `http` crate.
            let text = text.replace("http::Request as ", "");
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let wrong: BTreeSet<_> = code
                .flat_map(words)
                .filter(|name| shown.contains(name) && !ALLOWED.contains(name))
                .collect();
            assert!(wrong.is_empty(), "{adapter} names {wrong:?}");
        }
    }
}

/// What is compiled of the `tokio` crate into the agent on async-std. Its runtimes are behind the
/// feature `rt`, so that there is none to be entered.
#[test]
fn the_agent_on_async_std_is_built_without_a_tokio_runtime() {
    let features = |runtime: &str| {
        let tree = Command::new(env!("CARGO"))
            .current_dir(root())
            .args(["tree", "--locked", "--package", "pipeops-agent"])
            .args(["--no-default-features", "--features", runtime])
            .args([
                "--edges", "normal", "--prefix", "none", "--format", "{p} {f}",
            ])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&tree.stderr);
        assert!(tree.status.success(), "{error}");
        let tree = String::from_utf8(tree.stdout).unwrap();
        assert!(
            tree.lines()
                .any(|line| line.starts_with(&format!("controlplane-{runtime} ")))
        );
        let crates = tree.lines().filter(|line| line.starts_with("tokio "));
        let features =
            crates.flat_map(|line| line.split(' ').nth(2).unwrap_or_default().split(','));
        let features: BTreeSet<String> = features.map(String::from).collect();
        let others = tree.lines().any(|line| line.starts_with("tokio-"));
        (features, others)
    };
    let (found, others) = features("async-std");
    let harmless = ["default", "sync"].map(String::from);
    assert_eq!(found, BTreeSet::from(harmless), "of tokio only data types");
    assert!(!others, "no other crate of tokio's");
    // What is looked for is found where it is.
    let (found, others) = features("tokio");
    assert!(others && found.contains("rt") && found.contains("net") && found.contains("time"));
}

/// How often tasks were polled, in all and where a tokio runtime is entered.
#[derive(Debug, Default)]
struct Polls {
    all: AtomicUsize,
    within_tokio: AtomicUsize,
}

/// A runtime whose tasks look at each poll whether they are within a tokio runtime.
#[derive(Clone, Default)]
struct Watched<R>(R, Arc<Polls>);

impl<R: Runtime> Runtime for Watched<R> {
    type Io = R::Io;
    type Socket = R::Socket;
    type Timer = R::Timer;
    type Udp = R::Udp;

    left_to!(0: name resolve tcp udp tls websocket timer now);

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let polls = self.1.clone();
        self.0.spawn(async move {
            let mut task = pin!(task);
            std::future::poll_fn(move |cx| {
                polls.all.fetch_add(1, Ordering::Relaxed);
                if Handle::try_current().is_ok() {
                    polls.within_tokio.fetch_add(1, Ordering::Relaxed);
                }
                task.as_mut().poll(cx)
            })
            .await;
        });
    }
}

/// Requests from end to end: the link, TLS to the Kubernetes API, its pool, handlers and tasks.
async fn polls_of<R: Runtime>(runtime: R, fast: bool) -> Arc<Polls> {
    let polls = Arc::<Polls>::default();
    let watched = Watched(runtime, polls.clone());
    let standin = StandIn::start(Options::default()).await.unwrap();
    let mut config = KubernetesConfig::new(standin.url());
    config.tls.ca_pem = standin.ca_pem().into();
    config.tls.roots = Roots::Only;
    config.token = Some(TokenSource::Fixed(Token::new(standin.token()).unwrap()));
    let kubernetes = Kubernetes::new(watched.clone(), config).unwrap();
    let (hub, agent) = pair_in(fast, watched, kubernetes).await;
    let version = RequestHead {
        method: "GET".into(),
        ..head("/version")
    };
    let (_, mut answer) = hub.request(version.clone(), false).await.unwrap();
    assert_eq!(answer.head().await.unwrap().status, 200);
    assert!(!rest(&mut answer).await.unwrap().is_empty());
    agent.shutdown(Duration::ZERO).await;
    assert!(polls.all.load(Ordering::Relaxed) > 10);
    polls
}

#[test]
fn no_task_of_the_agent_on_async_std_is_within_a_tokio_runtime() {
    block_on(async {
        for fast in [true, false] {
            let polls = polls_of(AsyncStd, fast).await;
            assert_eq!(polls.within_tokio.load(Ordering::Relaxed), 0, "{polls:?}");
            // What is looked for is found where it is.
            let polls = polls_of(Tokio, fast).await;
            let all = polls.all.load(Ordering::Relaxed);
            assert_eq!(polls.within_tokio.load(Ordering::Relaxed), all);
        }
    });
}
