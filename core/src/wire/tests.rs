//! Messages in and out, by statement.

mod bounds;
mod incoming;
mod outgoing;
mod parts;
mod streams;

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::time::Duration;

use serde_json::{Value, json};

use super::{
    base64::Base64,
    decode::{self, Body, read as decode},
    encode,
};
use crate::{
    config::{AgentConfig, AgentInfo, HeartbeatStatus, Monitoring, MonitoringService},
    error::PeerFault,
    input::{RequestHead, ResponseHead},
    rules::IdentityPolicy,
};

fn read(text: &str) -> Value {
    assert!(text.ends_with("}\n"), "P-010: one object and a newline");
    serde_json::from_str(text).unwrap()
}
