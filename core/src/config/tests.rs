//! What a configuration may hold.

use super::*;
use crate::{
    Action, Agent, ConfigError, Controller, Frame, Input, Machine as _, Socket, Start, Time,
};

use core::time::Duration;

const START: Start = Start {
    now: Time::ZERO,
    unix: Duration::ZERO,
    nonce: [1; 16],
};

/// Every period there is: taken apart, so that a new one is not forgotten.
pub(super) fn periods(periods: &mut Periods) -> [(&'static str, &mut Duration); 11] {
    let Periods {
        heartbeat,
        ping,
        idle,
        write,
        dial,
        register,
        register_total,
        buffered,
        linger,
        closing,
        tunnel_idle,
    } = periods;
    [
        ("heartbeat", heartbeat),
        ("ping", ping),
        ("idle", idle),
        ("write", write),
        ("dial", dial),
        ("register", register),
        ("register_total", register_total),
        ("buffered", buffered),
        ("linger", linger),
        ("closing", closing),
        ("tunnel_idle", tunnel_idle),
    ]
}

/// Every limit there is, likewise.
pub(super) fn limits(limits: &mut Limits) -> [(&'static str, &mut usize); 13] {
    let Limits {
        frame,
        streams,
        recv_stream,
        recv_total,
        send_stream,
        send_total,
        control,
        chunk,
        message,
        buffered,
        buffered_total,
        head,
        window,
    } = limits;
    [
        ("frame", frame),
        ("streams", streams),
        ("recv_stream", recv_stream),
        ("recv_total", recv_total),
        ("send_stream", send_stream),
        ("send_total", send_total),
        ("control", control),
        ("chunk", chunk),
        ("message", message),
        ("buffered", buffered),
        ("buffered_total", buffered_total),
        ("head", head),
        ("window", window),
    ]
}

/// Starts both machines, and lets the agent live for a while where it starts.
fn start(periods: Periods, limits: Limits) -> Result<(), ConfigError> {
    let mut config = ControllerConfig::new("6f1c", "prod");
    (config.periods, config.limits) = (periods, limits);
    let controller = Controller::new(config, START);
    let mut config = AgentConfig::new("agent-1f2e", "prod");
    (config.periods, config.limits) = (periods, limits);
    let mut agent = Agent::new(config, START)?;
    controller?;
    for _ in 0..100 {
        let socket = agent.phase().open().map_or(Socket::Blocked, Socket::Ready);
        let now = match agent.poll(socket) {
            Some(Action::Connect(conn, _)) => {
                agent.handle(Time::ZERO, Input::Connected(conn));
                continue;
            }
            Some(_) => continue,
            None => agent.deadline().unwrap_or(Time::ZERO),
        };
        if let Some(conn) = agent.phase().open() {
            let ping = Frame::Text(r#"{"type":"ping","request_id":"p"}"#);
            agent.handle(now, Input::Frame(conn, ping));
        }
        agent.handle(now, Input::Tick);
    }
    Ok(())
}

/// W-24: an interval of zero ends the original.
#[test]
fn p167_what_contradicts_itself_is_refused_and_all_else_starts() {
    assert_eq!(start(Periods::default(), Limits::agent()), Ok(()));
    assert_eq!(start(Periods::default(), Limits::controller()), Ok(()));
    for i in 0..11 {
        let mut some = Periods::default();
        *periods(&mut some)[i].1 = Duration::ZERO;
        let refused = Err(ConfigError::ZeroPeriod);
        assert_eq!(start(some, Limits::agent()), refused, "period {i}");
        for extreme in [Duration::from_nanos(1), Duration::MAX] {
            *periods(&mut some)[i].1 = extreme;
            let started = start(some, Limits::agent());
            let short = some.idle < some.ping.saturating_mul(2);
            let refused = Err(ConfigError::IdleBelowTwicePing);
            assert_eq!(started, if short { refused } else { Ok(()) }, "period {i}");
        }
    }
    for i in 0..13 {
        let mut some = Limits::agent();
        *limits(&mut some)[i].1 = 0;
        let refused = start(Periods::default(), some).unwrap_err();
        let expected = matches!(refused, ConfigError::ZeroLimit | ConfigError::Chunk);
        assert!(expected, "limit {i}: {refused}");
        for extreme in [1, usize::MAX] {
            *limits(&mut some)[i].1 = extreme;
            let started = start(Periods::default(), some);
            let chunk = some.chunk > some.send_stream;
            let refused = Err(ConfigError::Chunk);
            assert_eq!(started, if chunk { refused } else { Ok(()) }, "limit {i}");
        }
    }
}

#[test]
fn what_names_nobody_is_refused() {
    let agent = Agent::new(AgentConfig::new("", "prod"), START);
    assert_eq!(agent.err(), Some(ConfigError::EmptyAgentId));
    let controller = Controller::new(ControllerConfig::new("", "prod"), START);
    assert_eq!(controller.err(), Some(ConfigError::EmptyClusterId));
}

#[test]
fn a_backoff_begins_above_zero_and_not_above_its_cap() {
    let second = Duration::from_secs(1);
    for (base, max, sound) in [
        (Duration::ZERO, second, false),
        (second, second / 2, false),
        (second, second, true),
        (second / 2, second, true),
    ] {
        let mut config = AgentConfig::new("agent-1f2e", "prod");
        (config.backoff.base, config.backoff.max) = (base, max);
        let refused = Agent::new(config, START).err();
        let expected = (!sound).then_some(ConfigError::Backoff);
        assert_eq!(refused, expected, "{base:?} to {max:?}");
    }
}
