//! A shutdown at each step of the link's life: it ends within its bound, is told where there is
//! somebody to tell, and nothing is dialled after it.

use std::time::Duration;

use controlplane_driver::{Agent, Runtime, State};
use tokio::time::timeout;

use super::{
    certificates::{Authority, Flaw},
    scene::{Act, Scene, Then},
};
use crate::bench::on_both;

on_both! {
    a_shutdown_at_any_step_of_the_dial_ends_at_once
    a_shutdown_while_waiting_ends_at_once
    a_shutdown_beside_a_lost_link_ends_within_its_grace
}

/// Less than any bound of the dial or the registration, more than a slow machine needs.
const BOUND: Duration = Duration::from_secs(20);
/// Never needed: nothing is open.
const GRACE: Duration = Duration::from_secs(3600);

/// Longer than the first delay between two dials.
const DELAY: Duration = Duration::from_millis(2500);

/// Stops it, and sees that it has stopped; returns how often it dialled until then.
async fn stops<R: Runtime>(agent: Agent<R>, scene: &Scene, what: &str) -> usize {
    let stopped = timeout(BOUND, agent.shutdown(GRACE)).await;
    assert!(stopped.is_ok(), "{what}: the shutdown takes too long");
    assert_eq!(agent.state(), State::Stopped, "{what}");
    scene.dials()
}

/// Nobody dials these any more.
async fn silent(stopped: &[(Scene, usize)]) {
    tokio::time::sleep(DELAY).await;
    for (scene, dials) in stopped {
        assert_eq!(scene.dials(), *dials, "it dialled after its end");
    }
}

async fn a_shutdown_at_any_step_of_the_dial_ends_at_once<R: Runtime>(runtime: R) {
    let authority = Authority::new("ours");
    let mut stopped = Vec::new();
    for act in [
        Act::SilentTcp,
        Act::SilentUpgrade,
        Act::SilentRegister,
        Act::Registered(Then::Cut),
    ] {
        let config = authority.server(Flaw::None, None);
        let scene = Scene::start(act, Some(config)).await;
        let agent = scene.agent(runtime.clone(), authority.trusted());
        let agent = agent.start().unwrap();
        scene.reached(act).await;
        if act == Act::Registered(Then::Cut) {
            agent.registered().await.unwrap();
        }
        let dials = stops(agent, &scene, &format!("{act:?}")).await;
        stopped.push((scene, dials));
    }
    silent(&stopped).await;
}

async fn a_shutdown_while_waiting_ends_at_once<R: Runtime>(runtime: R) {
    let authority = Authority::new("ours");
    let scene = Scene::start(Act::CutTcp, None).await;
    let agent = scene.agent(runtime, authority.trusted()).start().unwrap();
    let mut state = agent.state();
    while !matches!(state, State::Waiting { .. }) {
        state = agent.changed(&state).await;
    }
    let dials = stops(agent, &scene, "waiting").await;
    silent(&[(scene, dials)]).await;
}

/// The connection is lost while the agent drains, and it does not look for another one.
async fn a_shutdown_beside_a_lost_link_ends_within_its_grace<R: Runtime>(runtime: R) {
    let authority = Authority::new("ours");
    let config = authority.server(Flaw::None, None);
    let act = Act::Registered(Then::Cut);
    let scene = Scene::start(act, Some(config)).await;
    let agent = scene.agent(runtime, authority.trusted()).start().unwrap();
    agent.registered().await.unwrap();
    scene.go.notify_one();
    let dials = stops(agent, &scene, "lost").await;
    silent(&[(scene, dials)]).await;
}
