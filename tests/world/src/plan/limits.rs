//! The configurations of a world: small bounds, so that they are reached.

use controlplane_core::{
    AgentConfig, ControllerConfig, Limits,
    rules::{IdentityPolicy, TunnelTarget},
};

use super::{Manners, Most, Weather};
use crate::{
    fast::{FAST_PORT, FAST_PORTS},
    rng::Rng,
    tunnel::{FIRST_PORT, PORTS},
};

/// Longest piece of a body that an end of this world hands over at once.
pub const MAX_PIECE: usize = 6000;

/// The configurations of both machines.
pub fn configs(
    rng: &mut Rng,
    weather: Weather,
    manners: Manners,
) -> (AgentConfig, ControllerConfig) {
    let mut agent = AgentConfig::new("agent-1", "world");
    agent.limits = limits(rng, weather);
    agent.policy = IdentityPolicy::Impersonate;
    agent.tunnels = (FIRST_PORT..FIRST_PORT + PORTS)
        .chain(FAST_PORT..FAST_PORT + FAST_PORTS)
        .filter_map(|port| TunnelTarget::service("pg", "db", port).ok())
        .collect();
    agent.binary_answers = rng.chance(500);
    agent.yamux = rng.chance(850);
    if weather == Weather::Storm(Most::Crowd) {
        agent.limits.streams = 6;
    }
    let mut controller = ControllerConfig::new("cluster-1", "world");
    controller.limits = limits(rng, weather);
    controller.yamux = rng.chance(850);
    // Where there is room for everything, only the windows make anybody wait.
    if !weather.is_storm() && manners == Manners::Ours {
        agent.limits.recv_stream = rng.len(4000, 60_000);
        controller.limits.recv_stream = rng.len(4000, 40_000);
    }
    // The window's last message may be as long as the window: there is to be room for both.
    let least = agent.limits.recv_stream.min(controller.limits.recv_stream);
    let most = (least / 2).min(60_000);
    agent.limits.message = rng.len(most / 2, most);
    controller.limits.message = rng.len(most / 2, most);
    (agent, controller)
}

fn limits(rng: &mut Rng, weather: Weather) -> Limits {
    let roomy = !weather.is_storm();
    let recv_stream = if roomy {
        1 << 20
    } else {
        rng.len(16_000, 64_000)
    };
    Limits {
        frame: if roomy { 4 << 20 } else { 256 << 10 },
        streams: if roomy { 256 } else { rng.len(6, 40) },
        recv_stream,
        recv_total: if roomy {
            64 << 20
        } else if rng.chance(200) {
            // For windows that are spent.
            2 << 20
        } else {
            rng.len(recv_stream, recv_stream * 2)
        },
        send_stream: rng.len(8_000, 32_000),
        send_total: if roomy {
            64 << 20
        } else {
            rng.len(32_000, 100_000)
        },
        control: 16,
        chunk: rng.len(500, 4000),
        buffered: if roomy { 1 << 20 } else { 32_000 },
        buffered_total: if roomy { 64 << 20 } else { 36_000 },
        head: 4096,
        window: rng.len(1, 1 << 20),
        ..Limits::agent()
    }
}
