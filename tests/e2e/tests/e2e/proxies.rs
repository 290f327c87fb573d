//! HTTP proxies between the agent and its controller: a real one, and what a played one can do.

use std::time::Duration;

use anyhow::{Result, ensure};
use controlplane_driver::{Builder, Proxies, Runtime, State};
use controlplane_e2e::world::{BEHIND, Behind, RuntimeName, Settings, World};
use serde_json::json;

use self::squid::{PASSWORD, Squid, USER};
use crate::{
    bench::on_both_names,
    played::{Played, agent_of, listen},
};

mod faults;
mod squid;

const PATIENCE: Duration = Duration::from_secs(120);
const PODS: &str = "/api/v1/namespaces/default/pods";

on_both_names! {
    PATIENCE;
    squid_leads_to_the_controller_and_is_never_asked_for_the_cluster
    squid_is_reached_by_tls_and_the_controller_by_tls_within
    squid_refuses_a_wrong_password_and_the_agent_goes_on_asking
    squid_says_why_it_does_not_connect
    squid_is_gone_past_where_no_proxy_says_so
}

/// Runs one of the functions below, which are generic, on the runtime of that name.
macro_rules! on {
    ($name:ident, $call:ident($($arg:expr),*)) => {
        match $name {
            RuntimeName::Tokio => $call(controlplane_tokio::Tokio, $($arg),*).await,
            RuntimeName::AsyncStd => $call(controlplane_async_std::AsyncStd, $($arg),*).await,
        }
    };
}

/// Works with a whole world whose agent is behind `proxy`.
async fn works_behind(runtime: RuntimeName, squid: Squid, proxy: &str) -> Result<()> {
    let settings = Settings {
        runtime,
        hasty: true,
        behind: Some(Behind {
            proxies: Proxies::new(proxy)?,
            ca_pem: squid.ca_pem.clone(),
        }),
        ..Settings::default()
    };
    let world = World::start(settings, |_| {}).await?;
    let client = world.client()?;
    ensure!(client.get(PODS).await?.status() == 200);
    world.reset_control_connection().await?;
    ensure!(client.get(PODS).await?.status() == 200);
    // And for its version.
    ensure!(world.standin.requests().len() == 3);
    let controller = world.address().port();
    world.shutdown().await;
    // All that it was ever asked for: the two connections to the controller.
    let line = format!("200 CONNECT {BEHIND}:{controller} {USER}");
    assert_eq!(squid.log().await?, [line.clone(), line]);
    Ok(())
}

async fn squid_leads_to_the_controller_and_is_never_asked_for_the_cluster(
    runtime: RuntimeName,
) -> Result<()> {
    let Some(squid) = Squid::start().await? else {
        return Ok(());
    };
    let proxy = format!("http://{USER}:{PASSWORD}@{}", squid.http);
    works_behind(runtime, squid, &proxy).await
}

async fn squid_is_reached_by_tls_and_the_controller_by_tls_within(
    runtime: RuntimeName,
) -> Result<()> {
    let Some(squid) = Squid::start().await? else {
        return Ok(());
    };
    let proxy = format!("https://{USER}:{PASSWORD}@{}", squid.https);
    works_behind(runtime, squid, &proxy).await
}

/// Why there is no connection, at the `attempt`th or a later attempt.
async fn reason_at<R: Runtime>(builder: Builder<R>, attempt: u32) -> String {
    let agent = builder.start().unwrap();
    let mut state = agent.state();
    loop {
        match &state {
            State::Waiting {
                attempt: now,
                reason,
                ..
            } if *now >= attempt => return reason.to_string(),
            State::Waiting { .. } | State::Connecting => {}
            other => panic!("{other:?}"),
        }
        state = agent.changed(&state).await;
    }
}

async fn refused<R: Runtime>(runtime: R, url: &str, proxy: &str, attempt: u32) -> String {
    let proxies = Proxies::new(proxy).unwrap();
    reason_at(agent_of(runtime, url).proxies(proxies), attempt).await
}

async fn squid_refuses_a_wrong_password_and_the_agent_goes_on_asking(
    runtime: RuntimeName,
) -> Result<()> {
    let Some(squid) = Squid::start().await? else {
        return Ok(());
    };
    let at = squid.http;
    for (user, remedy) in [
        (
            "",
            "set user and password in the proxy's URL (http://USER:PASSWORD@HOST:PORT)",
        ),
        ("agent:wrong@", "check user and password in the proxy's URL"),
    ] {
        let (url, proxy) = (format!("ws://{BEHIND}"), format!("http://{user}{at}"));
        let reason = on!(runtime, refused(&url, &proxy, 3));
        assert_eq!(
            reason,
            format!(
                "connection lost: proxy {at}, asked to CONNECT {BEHIND}:80: it refuses with 407 \
                 Proxy Authentication Required: {remedy}"
            )
        );
    }
    let log = squid.log().await?;
    ensure!(!log.is_empty());
    for line in log {
        let start = format!("407 CONNECT {BEHIND}:80 ");
        ensure!(line.starts_with(&start), "{line}");
    }
    Ok(())
}

async fn squid_says_why_it_does_not_connect(runtime: RuntimeName) -> Result<()> {
    let Some(squid) = Squid::start().await? else {
        return Ok(());
    };
    let at = squid.http;
    let proxy = format!("http://{USER}:{PASSWORD}@{at}");
    let (listener, closed) = listen().await;
    drop(listener);
    let closed = format!("{BEHIND}:{}", closed.port());
    for (target, why) in [
        // squid's configuration denies it.
        (
            "denied.test:443".to_string(),
            "403 Forbidden: let it permit CONNECT to denied.test:443, or go past it by NO_PROXY"
                .to_string(),
        ),
        (
            closed.clone(),
            format!("503 Service Unavailable: check that it can resolve and reach {closed}"),
        ),
    ] {
        let reason = on!(runtime, refused(&format!("wss://{target}"), &proxy, 1));
        let start = format!("connection lost: proxy {at}, asked to CONNECT {target}: ");
        assert_eq!(reason, format!("{start}it refuses with {why}"));
    }
    Ok(())
}

async fn registers<R: Runtime>(runtime: R, proxies: Proxies) -> Result<()> {
    let (controller, at) = listen().await;
    // Not loopback, which no proxy is ever used for.
    let url = format!("ws://0.0.0.0:{}", at.port());
    let agent = agent_of(runtime, &url).proxies(proxies).start()?;
    let mut played = Played::register(&controller, json!({})).await;
    played.asks("a").await;
    agent.shutdown(Duration::ZERO).await;
    Ok(())
}

async fn squid_is_gone_past_where_no_proxy_says_so(runtime: RuntimeName) -> Result<()> {
    let Some(squid) = Squid::start().await? else {
        return Ok(());
    };
    let proxies = Proxies::new(&format!("http://{USER}:{PASSWORD}@{}", squid.http))?;
    on!(runtime, registers(proxies.clone().except("0.0.0.0/8")))?;
    on!(runtime, registers(proxies.clone().except("x.test,0.0.0.0")))?;
    on!(runtime, registers(proxies))?;
    // Only the last.
    assert_eq!(squid.log().await?.len(), 1);
    Ok(())
}
