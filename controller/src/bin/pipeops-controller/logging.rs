//! Logs to standard error, as text or JSON. Other crates are capped at DEBUG whatever the level:
//! some of them log secrets at TRACE.

use std::io;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// What the names of this project's crates begin with.
const OWN: [&str; 2] = ["controlplane_", "pipeops_"];

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Level {
    /// What needs somebody's attention now.
    Error,
    /// And what somebody should look at.
    #[value(alias = "warning")]
    Warn,
    /// And agents that come and go.
    Info,
    /// And each connection.
    Debug,
    /// And each step.
    Trace,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Logs from now on. The audit log is always on.
pub(crate) fn init(level: Level, format: Format) -> anyhow::Result<()> {
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(io::stderr);
    let filter = filter(level);
    let layer = match format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    tracing_subscriber::registry().with(layer).try_init()?;
    Ok(())
}

fn filter(level: Level) -> Targets {
    let own = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    Targets::new()
        .with_default(own.min(LevelFilter::DEBUG))
        .with_targets(OWN.map(|name| (name, own)))
        .with_target("audit", LevelFilter::INFO)
}

#[cfg(test)]
mod tests {
    use tracing::Level as L;

    use super::*;

    #[test]
    fn others_are_capped_at_debug_and_the_audit_log_is_always_on() {
        for level in Level::value_variants() {
            let filter = filter(*level);
            for target in ["tungstenite::protocol", "hyper", "rustls", "log"] {
                assert!(
                    !filter.would_enable(target, &L::TRACE),
                    "{target} {level:?}"
                );
            }
            assert!(filter.would_enable("audit", &L::INFO), "{level:?}");
        }
        let trace = filter(Level::Trace);
        assert!(trace.would_enable("pipeops_controller::proxy", &L::TRACE));
        assert!(trace.would_enable("controlplane_driver::hub", &L::TRACE));
        assert!(!filter(Level::Info).would_enable("pipeops_controller", &L::DEBUG));
    }
}
