//! The messages of TCP and UDP tunnels (P-051, P-052, P-071), and of the gateway's greeting.

use alloc::string::String;

use super::{FRAME, Message};
use crate::{
    input::Tunnel,
    wire::base64::{Base64, encoded_len},
    yamux::INITIAL_WINDOW,
};

/// How a tunnel ended, for its last message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct TunnelEnd {
    /// One of a few words of the protocol.
    pub(crate) reason: &'static str,
    /// What went wrong; `None` where it ended in order.
    pub(crate) error: Option<String>,
    /// What was framed, what was received and how long it lasted (P-162).
    pub(crate) counts: Option<Counts>,
}

/// Counters of a tunnel, as its close tells them.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    /// Bytes toward the peer.
    pub(crate) sent: u64,
    /// Bytes from the peer.
    pub(crate) received: u64,
    pub(crate) millis: u64,
}

/// P-071.
pub(crate) fn tcp_start(id: &str, tunnel: &Tunnel) -> String {
    let mut m = Message::new("tcp_tunnel_start", Some(id), 512);
    names(&mut m, tunnel);
    m.text("client_addr", &tunnel.client_addr);
    m.finish(None)
}

fn names(m: &mut Message, tunnel: &Tunnel) {
    m.text("tunnel_id", &tunnel.tunnel_id);
    m.text("gateway_name", &tunnel.gateway_name);
    m.text("gateway_namespace", &tunnel.gateway_namespace);
    m.number("gateway_port", tunnel.gateway_port.into());
    m.text("service_name", &tunnel.service_name);
    m.text("service_namespace", &tunnel.service_namespace);
    m.number("service_port", tunnel.service_port.into());
}

/// P-051 from the agent, P-071 to it.
pub(crate) fn tcp_data(id: &str, data: &[u8], to_agent: bool, base64: &Base64) -> String {
    let capacity = FRAME + id.len() + encoded_len(data.len());
    let mut m = Message::new("tcp_tunnel_data", Some(id), capacity);
    m.base64("data", &[data], base64);
    if !to_agent {
        m.text("direction", "agent_to_gateway");
    }
    m.finish(None)
}

/// P-051 from the agent, P-071 to it.
pub(crate) fn tcp_close(id: &str, end: &TunnelEnd) -> String {
    let mut m = Message::new("tcp_tunnel_close", Some(id), FRAME * 2);
    m.text("reason", end.reason);
    if let Some(error) = &end.error {
        m.text("error", error);
    }
    if let Some(counts) = end.counts {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        m.number("bytes_sent", number(counts.sent));
        m.number("bytes_received", number(counts.received));
        m.number("duration_ms", number(counts.millis));
    }
    m.finish(None)
}

/// P-052: from the agent, of one client of a tunnel.
pub(crate) fn udp_answer(
    tunnel_id: &str,
    client: (&str, u16),
    data: &[u8],
    base64: &Base64,
) -> String {
    let mut m = Message::new("udp_tunnel_data", None, FRAME + encoded_len(data.len()));
    m.text("tunnel_id", tunnel_id);
    m.base64("data", &[data], base64);
    m.text("client_addr", client.0);
    m.number("client_port", client.1.into());
    m.text("direction", "agent_to_gateway");
    m.finish(None)
}

/// P-071: to the agent; it says all that the first one has to say, because any may be the first.
pub(crate) fn udp_data(tunnel: &Tunnel, data: &[u8], base64: &Base64) -> String {
    let capacity = 2 * FRAME + encoded_len(data.len());
    let mut m = Message::new("udp_tunnel_data", None, capacity);
    names(&mut m, tunnel);
    m.base64("data", &[data], base64);
    m.text("client_addr", &tunnel.client_addr);
    m.number("client_port", tunnel.client_port.into());
    m.finish(None)
}

/// P-070, with the protocols that may be spoken on streams: an extension of ours. An original agent
/// has no session with a window below the first one, or that is no `u32`.
pub(crate) fn gateway_hello(window: usize, protocols: &[i64]) -> String {
    let least = i64::try_from(INITIAL_WINDOW).unwrap_or(i64::MAX);
    let window = i64::try_from(window).unwrap_or(i64::MAX);
    let window = window.clamp(least, u32::MAX.into());
    let mut m = Message::new("gateway_hello", None, FRAME);
    m.flag("use_yamux", true);
    m.object("yamux_config", |m| {
        m.number("max_stream_window_size", window);
    });
    m.numbers("stream_protocols", protocols);
    m.finish(None)
}

/// P-050, with the protocols that may be spoken on streams, where there are any.
pub(crate) fn gateway_hello_ack(use_yamux: bool, protocols: &[i64]) -> String {
    let mut m = Message::new("gateway_hello_ack", None, FRAME);
    m.flag("use_yamux", use_yamux);
    if use_yamux {
        m.numbers("stream_protocols", protocols);
    }
    m.finish(None)
}
