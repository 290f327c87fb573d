//! Through the whole tunnel with a plain client: every error a user can run into, bodies of any
//! size, and what becomes of what is under way when a connection breaks.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use bytes::Bytes;
use controlplane_driver::{IdentityPolicy, Limits, State};
use controlplane_e2e::{
    client::Answer,
    standin::{Fault, pattern},
    world::{RuntimeName, Settings, World},
};
use pipeops_controller::credentials::{CredentialsFile, NewUser};

use crate::bench::{block_on, in_both_worlds};

in_both_worlds! {
    the_tour_goes_well
    large_bodies_pass_both_ways_unchanged
    p153_a_client_that_does_not_read_holds_up_nobody_else
    errors_are_kubernetes_statuses
    an_upstream_that_is_down_or_slow_has_a_defined_end
    p194_a_clients_own_identity_never_arrives
    p158_what_is_under_way_ends_with_an_error_when_the_connection_breaks
    p186_a_client_that_goes_away_ends_its_request_at_the_api
    an_agent_that_is_away_is_503_and_comes_back
    p181_a_refused_token_is_tried_again_as_its_file_then_says
    a_ca_file_is_read_anew_at_each_connect
}

async fn status(answer: Answer) -> Result<(u16, String, String)> {
    let code = answer.status().as_u16();
    let body = answer.json().await?;
    ensure!(
        body["kind"] == "Status" && body["code"] == code,
        "not a Status: {body}"
    );
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_string();
    Ok((code, text("reason"), text("message")))
}

async fn the_tour_goes_well(world: World) -> Result<()> {
    controlplane_e2e::tour::tour(&world, |_| {}).await?;
    world.shutdown().await;
    Ok(())
}

async fn large_bodies_pass_both_ways_unchanged(world: World) -> Result<()> {
    const SIZE: u64 = 10_000_000;
    let client = world.client()?;
    let answer = client.get(&format!("/api/v1/bytes?n={SIZE}")).await?;
    ensure!(
        answer.bytes().await? == pattern(0, SIZE as usize),
        "a download differs"
    );

    let sent = pattern(0, SIZE as usize);
    let pieces: Vec<Bytes> = (0..)
        .map_while(|i| {
            let at = i * 77_777;
            (at < sent.len()).then(|| sent.slice(at..sent.len().min(at + 77_777)))
        })
        .collect();
    let echo = client
        .stream("POST", "/api/v1/echo", futures_util::stream::iter(pieces))
        .await?;
    ensure!(
        echo.bytes().await? == sent,
        "an echo of unknown length differs"
    );
    let echo = client
        .send("POST", "/api/v1/echo", &[], sent.clone())
        .await?;
    ensure!(
        echo.bytes().await? == sent,
        "an echo of known length differs"
    );
    Ok(())
}

async fn p153_a_client_that_does_not_read_holds_up_nobody_else(world: World) -> Result<()> {
    let client = world.client()?;
    let slow = client.get("/api/v1/bytes?n=5000000").await?;
    for _ in 0..20 {
        let version = client.get("/version").await?;
        ensure!(version.status() == 200);
        version.bytes().await?;
    }
    ensure!(slow.bytes().await? == pattern(0, 5_000_000));
    Ok(())
}

async fn errors_are_kubernetes_statuses(world: World) -> Result<()> {
    let client = world.client()?;
    let (code, reason, text) = status(client.with_token("wrong").get("/version").await?).await?;
    ensure!(
        (code, &*reason) == (401, "Unauthorized") && text.contains("token"),
        "{text}"
    );
    let (code, ..) = status(client.with_token("").get("/version").await?).await?;
    ensure!(code == 401);
    let mut elsewhere = client.clone();
    elsewhere.prefix = "/clusters/nosuch".into();
    let (code, reason, text) = status(elsewhere.get("/version").await?).await?;
    ensure!(
        (code, &*reason) == (404, "NotFound") && text.contains("nosuch"),
        "{text}"
    );
    for path in [
        "/metrics",
        "/api/../metrics",
        "/api/%2e%2e/metrics",
        "/apifoo",
        "//api",
    ] {
        let (code, _, text) = status(client.get(path).await?).await?;
        ensure!(matches!(code, 400 | 403 | 404), "{path}: {code} {text}");
    }
    let long = "x".repeat(100_000);
    let answer = client
        .send("GET", "/version", &[("X-Long", &long)], Bytes::new())
        .await?;
    ensure!(answer.status() == 431, "a long header: {}", answer.status());
    let unknown = client.get("/api/v1/namespaces/default/pods/nosuch").await?;
    let (code, reason, text) = status(unknown).await?;
    ensure!((code, &*reason, &*text) == (404, "NotFound", "pods \"nosuch\" not found"));
    Ok(())
}

async fn an_upstream_that_is_down_or_slow_has_a_defined_end(world: World) -> Result<()> {
    let client = world.client()?;
    let pods = "/api/v1/namespaces/default/pods";
    world.standin.set_fault(Fault::Status(500));
    ensure!(client.get(pods).await?.status() == 500);
    world.standin.set_fault(Fault::Reset);
    let (code, _, text) = status(client.get(pods).await?).await?;
    ensure!(
        code == 502 && text.contains("kubernetes API request failed"),
        "{code} {text}"
    );
    world.standin.set_fault(Fault::None);
    ensure!(client.get(pods).await?.status() == 200);
    Ok(())
}

async fn p194_a_clients_own_identity_never_arrives(world: World) -> Result<()> {
    let client = world.client()?;
    world.standin.clear_requests();
    let headers = [
        ("Cookie", "session=S3CRET"),
        ("Impersonate-User", "root"),
        ("Impersonate-Group", "system:masters"),
        ("X-Remote-User", "root"),
        ("X-Kept", "yes"),
    ];
    client
        .send("GET", "/version", &headers, Bytes::new())
        .await?
        .bytes()
        .await?;
    let seen = world.standin.requests();
    let [request] = &seen[..] else {
        anyhow::bail!("seen {} requests", seen.len())
    };
    let expected = format!("Bearer {}", world.standin.token());
    ensure!(request.header("authorization") == Some(&*expected));
    ensure!(request.header("x-kept") == Some("yes"));
    for name in [
        "cookie",
        "impersonate-user",
        "impersonate-group",
        "x-remote-user",
    ] {
        ensure!(request.header(name).is_none(), "{name} arrived");
    }
    Ok(())
}

async fn p158_what_is_under_way_ends_with_an_error_when_the_connection_breaks(
    world: World,
) -> Result<()> {
    let client = world.client()?;
    let mut watch = client
        .get("/api/v1/namespaces/default/pods?watch=true")
        .await?;
    watch.until("web-0").await?;
    world.cut();
    loop {
        match watch.next().await {
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("a watch that broke off passed for complete"),
            Err(_) => break,
        }
    }
    world.joined().await?;
    ensure!(client.get("/version").await?.status() == 200);
    Ok(())
}

async fn p186_a_client_that_goes_away_ends_its_request_at_the_api(world: World) -> Result<()> {
    let client = world.client()?;
    let mut watch = client
        .get("/api/v1/namespaces/default/pods?watch=true")
        .await?;
    watch.until("web-0").await?;
    ensure!(world.agent.stats().streams_open == 1);
    drop(watch);
    while world.agent.stats().streams_open > 0 {
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn an_agent_that_is_away_is_503_and_comes_back(mut world: World) -> Result<()> {
    let client = world.client()?;
    world.agent.shutdown(Duration::ZERO).await;
    let answer = loop {
        // The farewell may still be on its way.
        let answer = client.get("/version").await?;
        if answer.status() == 503 {
            break answer;
        }
    };
    ensure!(
        answer.header("retry-after").is_some(),
        "503 without Retry-After"
    );
    let (_, reason, text) = status(answer).await?;
    ensure!(
        reason == "ServiceUnavailable" && text.contains("agent"),
        "{text}"
    );
    world.stop_controller().await;
    let nobody = client.get("/version").await;
    ensure!(nobody.is_err(), "a stopped controller answered");
    Ok(())
}

/// The state in which the agent waits, with its reason.
async fn waiting(world: &World, part: &str) -> Result<()> {
    let mut state = world.agent.state();
    loop {
        if let State::Waiting { reason, .. } = &state
            && reason.to_string().contains(part)
        {
            return Ok(());
        }
        ensure!(state != State::Stopped, "the agent stopped");
        state = world.agent.changed(&state).await;
    }
}

async fn p181_a_refused_token_is_tried_again_as_its_file_then_says(world: World) -> Result<()> {
    let file = world.folder().join("agent.token");
    let token = fs::read(&file)?;
    fs::write(&file, "not-the-token")?;
    world.cut();
    waiting(
        &world,
        "the server refused the agent's token (HTTP status 401)",
    )
    .await?;
    fs::write(&file, token)?;
    world.joined().await?;
    // It kept its identity.
    ensure!(world.client()?.get("/version").await?.status() == 200);
    Ok(())
}

async fn a_ca_file_is_read_anew_at_each_connect(world: World) -> Result<()> {
    let file = world.folder().join("ca.pem");
    let ca = fs::read(&file)?;
    fs::remove_file(&file)?;
    world.cut();
    waiting(&world, "ca.pem").await?;
    fs::write(&file, world.standin.ca_pem())?;
    waiting(&world, "UnknownIssuer").await?;
    fs::write(&file, ca)?;
    world.joined().await?;
    Ok(())
}

#[test]
fn p196_users_with_a_kubernetes_user_are_impersonated_or_refused() {
    for (identity, code) in [
        (IdentityPolicy::Impersonate, 200),
        (IdentityPolicy::ServiceAccount, 403),
    ] {
        let settings = Settings {
            identity,
            hasty: true,
            ..Settings::default()
        };
        block_on(async {
            let world = World::start(settings, |_| {}).await.unwrap();
            let user = NewUser {
                name: "jane".into(),
                clusters: vec!["demo".into()],
                kubernetes_user: Some("jane@example.com".into()),
                groups: vec!["dev".into(), "ops".into()],
            };
            let token = CredentialsFile::new(world.credentials())
                .add_user(user)
                .unwrap()
                .token;
            let client = world.client().unwrap().with_token(token.as_str());
            world.standin.clear_requests();
            // The controller takes over a changed file within moments.
            let answer = loop {
                let answer = client.get("/version").await.unwrap();
                if answer.status() != 401 {
                    break answer;
                }
            };
            assert_eq!(answer.status(), code);
            let seen = world.standin.requests();
            let users: Vec<_> = seen
                .iter()
                .filter_map(|r| r.header("impersonate-user"))
                .collect();
            let groups = seen
                .iter()
                .flat_map(|r| &r.headers)
                .filter(|(name, _)| name == "impersonate-group");
            let groups: Vec<&str> = groups.map(|(_, value)| &**value).collect();
            if code == 200 {
                assert_eq!(
                    (users, groups),
                    (vec!["jane@example.com"], vec!["dev", "ops"])
                );
            } else {
                assert!(seen.is_empty());
            }
        });
    }
}

/// An answer far longer than the controller would hold for a client that does not read at first.
#[test]
fn p153_a_slow_client_gets_a_long_answer_whole() {
    for runtime in [RuntimeName::Tokio, RuntimeName::AsyncStd] {
        let limits = Limits {
            recv_stream: 512 << 10,
            ..Limits::controller()
        };
        let settings = Settings {
            runtime,
            hasty: true,
            agent_limits: Some(limits),
            ..Settings::default()
        };
        block_on(async {
            let world = World::start(settings, |_| {}).await.unwrap();
            let client = world.client().unwrap();
            let slow = client.get("/api/v1/bytes?n=8000000").await.unwrap();
            for _ in 0..20 {
                let quick = client.get("/version").await.unwrap();
                quick.bytes().await.unwrap();
            }
            assert!(slow.bytes().await.unwrap() == pattern(0, 8_000_000));
        });
    }
}
