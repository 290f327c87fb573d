//! What the tests of this binary share: a controller without its HTTP side, an agent with a
//! handler of its own, and a way to run one test on both runtimes.

use std::{future::Future, net::SocketAddr, pin::Pin, time::Duration};

use anyhow::Result;
use controlplane_driver::{
    Agent, AgentInfo, Answer, Builder, ControllerConfig, Failure, Handler, Hub, Limits, Meter,
    RequestHead, ResponseHead, Runtime, Token, websocket_config,
};
use controlplane_e2e::world::{RuntimeName, Settings, World, mode};
use pipeops_controller::Mode;
use tokio::net::TcpListener;
use tokio_util::compat::{FuturesAsyncReadCompatExt, TokioAsyncReadCompatExt};

/// Long enough never to matter unless something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a test for both runtimes.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod on_tokio {
            $(#[test] fn $name() {
                crate::bench::block_on(super::$name(controlplane_tokio::Tokio));
            })*
        }
        mod on_async_std {
            $(#[test] fn $name() {
                crate::bench::block_on(super::$name(controlplane_async_std::AsyncStd));
            })*
        }
    };
}
pub(crate) use on_both;

/// Runs a test in a whole world, once with the agent on each runtime.
macro_rules! in_both_worlds {
    ($($name:ident)*) => {
        mod on_tokio {
            $(#[test] fn $name() {
                let runtime = controlplane_e2e::world::RuntimeName::Tokio;
                crate::bench::in_world(runtime, |world| Box::pin(super::$name(world)));
            })*
        }
        mod on_async_std {
            $(#[test] fn $name() {
                let runtime = controlplane_e2e::world::RuntimeName::AsyncStd;
                crate::bench::in_world(runtime, |world| Box::pin(super::$name(world)));
            })*
        }
    };
}
pub(crate) use in_both_worlds;

/// The same for tests that take their time.
macro_rules! in_both_worlds_within {
    ($patience:ident; $($name:ident)*) => {
        mod slow_on_tokio {
            $(#[test] fn $name() {
                let runtime = controlplane_e2e::world::RuntimeName::Tokio;
                crate::bench::in_world_within(super::$patience, runtime, |world| Box::pin(super::$name(world)));
            })*
        }
        mod slow_on_async_std {
            $(#[test] fn $name() {
                let runtime = controlplane_e2e::world::RuntimeName::AsyncStd;
                crate::bench::in_world_within(super::$patience, runtime, |world| Box::pin(super::$name(world)));
            })*
        }
    };
}
pub(crate) use in_both_worlds_within;

/// Runs a test that starts everything itself, with each runtime's name.
macro_rules! on_both_names {
    ($patience:ident; $($name:ident)*) => {
        mod on_tokio {
            $(#[test] fn $name() {
                let runtime = controlplane_e2e::world::RuntimeName::Tokio;
                crate::bench::block_on_within(super::$patience, async {
                    super::$name(runtime).await.expect("it holds");
                });
            })*
        }
        mod on_async_std {
            $(#[test] fn $name() {
                let runtime = controlplane_e2e::world::RuntimeName::AsyncStd;
                crate::bench::block_on_within(super::$patience, async {
                    super::$name(runtime).await.expect("it holds");
                });
            })*
        }
    };
}
pub(crate) use on_both_names;

/// Whether this runs in the JSON mode, which cannot do what the test is about; it is reported as
/// skipped, by name.
pub(crate) fn skipped_in_json(why: &str) -> bool {
    let skipped = mode() == Mode::Json;
    if skipped {
        let test = std::thread::current().name().unwrap_or("?").to_string();
        eprintln!("SKIPPED {test}: in the JSON mode {why}");
    }
    skipped
}

/// Runs a test with everything started and the agent registered.
pub(crate) fn in_world(
    runtime: RuntimeName,
    test: impl FnOnce(World) -> Pin<Box<dyn Future<Output = Result<()>>>>,
) {
    in_world_within(PATIENCE, runtime, test);
}

pub(crate) fn in_world_within(
    patience: Duration,
    runtime: RuntimeName,
    test: impl FnOnce(World) -> Pin<Box<dyn Future<Output = Result<()>>>>,
) {
    block_on_within(patience, async {
        let settings = Settings {
            runtime,
            hasty: true,
            ..Settings::default()
        };
        let world = World::start(settings, |_| {})
            .await
            .expect("the world starts");
        if let Err(error) = test(world).await {
            panic!("{error:?}");
        }
    });
}

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    block_on_within(PATIENCE, test);
}

pub(crate) fn block_on_within(patience: Duration, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(patience, test)
            .await
            .expect("the test hangs")
    });
}

/// A controller without its HTTP side: every agent is let in.
pub(crate) async fn controller() -> (Hub, SocketAddr) {
    let config = ControllerConfig::new("6f1c", "prod");
    let hub = Hub::start(controlplane_tokio::Tokio, config).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = hub.clone();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let meter = Meter::new();
            let io = meter.wrap(tcp.compat()).compat();
            let config = websocket_config(&Limits::controller());
            let socket = tokio_tungstenite::accept_async_with_config(io, Some(config)).await;
            accepting.accept(socket.unwrap(), meter);
        }
    });
    (hub, address)
}

pub(crate) async fn pair<R: Runtime>(runtime: R, handler: impl Handler) -> (Hub, Agent<R>) {
    pair_in(mode() == Mode::Fast, runtime, handler).await
}

/// The same in the fast mode or, where the agent does not offer it, in JSON messages.
pub(crate) async fn pair_in<R: Runtime>(
    fast: bool,
    runtime: R,
    handler: impl Handler,
) -> (Hub, Agent<R>) {
    let (hub, address) = controller().await;
    let agent = builder(runtime, address, handler).yamux(fast).start();
    let agent = agent.unwrap();
    assert_eq!(agent.registered().await.unwrap().cluster_id, "6f1c");
    assert_eq!(hub.wait_joined().await.unwrap().http_streams, fast);
    (hub, agent)
}

/// An agent that dials `address`. It offers the fast mode where the tests are to run in that.
pub(crate) fn agent_at<R: Runtime>(
    runtime: R,
    address: SocketAddr,
    handler: impl Handler,
) -> Agent<R> {
    builder(runtime, address, handler).start().unwrap()
}

fn builder<R: Runtime>(runtime: R, address: SocketAddr, handler: impl Handler) -> Builder<R> {
    let info = AgentInfo {
        agent_id: "agent-1".into(),
        name: "prod".into(),
        ..AgentInfo::default()
    };
    let token = Token::new("token").unwrap();
    Agent::builder(format!("ws://{address}"), token, info)
        .runtime(runtime)
        .allow_plaintext(true)
        .yamux(mode() == Mode::Fast)
        .handler(handler)
}

pub(crate) fn head(path: &str) -> RequestHead {
    RequestHead {
        method: "POST".into(),
        path: path.into(),
        ..RequestHead::default()
    }
}

pub(crate) fn ok() -> ResponseHead {
    ResponseHead {
        status: 200,
        headers: Vec::new(),
    }
}

pub(crate) async fn rest(answer: &mut Answer) -> Result<Vec<u8>, Failure> {
    let mut whole = Vec::new();
    while let Some(piece) = answer.next().await {
        whole.extend_from_slice(&piece?);
    }
    Ok(whole)
}

pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}
