//! Structured logs to standard error, as text or JSON.
//!
//! Own crates log at the chosen level. All others are capped at DEBUG whatever the level, since
//! tungstenite logs the upgrade request with its bearer token at TRACE.

use std::io;

use clap::ValueEnum;
use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::error::Error;

/// What the names of this project's crates begin with.
const OWN: [&str; 2] = ["controlplane_", "pipeops_"];

/// How to log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Options {
    /// What to log.
    pub level: Level,
    /// In which form.
    pub format: Format,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Level {
    /// Only what keeps the agent from working.
    Error,
    /// And what somebody should look at.
    #[value(alias = "warning")]
    Warn,
    /// And each change of the agent's state.
    // A variable of the environment that is set to nothing counts as not set.
    #[value(alias = "")]
    #[default]
    Info,
    /// And each request.
    Debug,
    /// And each step.
    Trace,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}

/// The form of a log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// What is let through at `level`: own crates at it, all others at DEBUG at most.
#[must_use]
pub fn filter(level: Level) -> Targets {
    let own = LevelFilter::from(level);
    Targets::new()
        .with_default(own.min(LevelFilter::DEBUG))
        .with_targets(OWN.map(|name| (name, own)))
}

/// A filtered layer that writes to `writer`, for a program that has its own subscriber.
pub fn layer<S, W>(options: Options, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_writer(writer);
    let filter = filter(options.level);
    match options.format {
        Format::Text => lines.with_filter(filter).boxed(),
        Format::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    }
}

/// Logs to standard error from now on, in the whole process.
///
/// # Errors
///
/// A log was set up before.
pub fn init(options: Options) -> Result<(), Error> {
    tracing_subscriber::registry()
        .with(layer(options, io::stderr))
        .try_init()
        .map_err(|_| Error::Logging)
}

#[cfg(test)]
mod tests {
    use tracing::Level as L;

    use super::*;
    use crate::testing::Log;

    #[test]
    fn others_are_capped_at_debug_whatever_the_level() {
        let others = [
            "tungstenite::handshake::client",
            "tokio_tungstenite",
            "rustls",
            "hyper",
            "log",
        ];
        for level in [
            Level::Error,
            Level::Warn,
            Level::Info,
            Level::Debug,
            Level::Trace,
        ] {
            let filter = filter(level);
            for target in others {
                assert!(
                    !filter.would_enable(target, &L::TRACE),
                    "{target} {level:?}"
                );
                let debug = matches!(level, Level::Debug | Level::Trace);
                assert_eq!(
                    filter.would_enable(target, &L::DEBUG),
                    debug,
                    "{target} {level:?}"
                );
            }
        }
    }

    #[test]
    fn own_crates_log_at_the_chosen_level() {
        let own = [
            "pipeops_agent::run",
            "controlplane_driver::agent",
            "controlplane_tokio",
        ];
        for target in own {
            assert!(
                filter(Level::Trace).would_enable(target, &L::TRACE),
                "{target}"
            );
            assert!(
                !filter(Level::Info).would_enable(target, &L::DEBUG),
                "{target}"
            );
            assert!(
                filter(Level::Error).would_enable(target, &L::ERROR),
                "{target}"
            );
            assert!(
                !filter(Level::Error).would_enable(target, &L::WARN),
                "{target}"
            );
        }
    }

    fn logged(format: Format) -> String {
        let log = Log::default();
        let options = Options {
            level: Level::Trace,
            format,
        };
        let subscriber = tracing_subscriber::registry().with(layer(options, log.clone()));
        tracing::subscriber::with_default(subscriber, || {
            tracing::trace!(target: "tungstenite::handshake", "Bearer s3cret");
            tracing::trace!(attempt = 3, "own step");
        });
        log.text()
    }

    #[test]
    fn a_text_line_tells_level_target_and_fields() {
        let text = logged(Format::Text);
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains("TRACE pipeops_agent::logging::tests: own step attempt=3"),
            "{text}"
        );
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let text = logged(Format::Json);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "TRACE");
        assert_eq!(line["message"], "own step");
        assert_eq!(line["attempt"], 3);
    }
}
