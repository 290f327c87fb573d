//! The pure functions: asked through the machines wherever those are all that uses them.

use std::{collections::BTreeMap, time::Duration};

use controlplane_core::{Backoff, Input, ResponseHead, StreamEnd, Target, rules};
use controlplane_world::vectors::{
    Beginning, Case, Config, Era, Role, Vector,
    data::{hex, to_hex},
};
use serde_json::{Value, json};

use super::player::{Player, Seen, Subject};

/// What a function makes of an input; `None` where it refuses it.
type Outcome = Result<Option<Value>, String>;

pub(super) fn play(vector: &Vector) -> Result<(), String> {
    for (i, case) in vector.cases.iter().enumerate() {
        one(vector.role, case).map_err(|e| format!("case {}: {e}", i + 1))?;
    }
    Ok(())
}

fn one(role: Role, case: &Case) -> Result<(), String> {
    let input = &case.input;
    let seen = match role {
        Role::Backoff => backoff(input),
        Role::Base64 => base64(input),
        Role::BinaryFrame => binary_frame(input),
        Role::ClientHeaders => client_headers(input),
        Role::Method => line(json!({"method": input, "path": "/api"}), "method"),
        Role::Path => line(json!({"path": input}), "path"),
        Role::Query => line(json!({"path": "/api", "query": input}), "query"),
        Role::RequestHeaders => request_headers(input),
        Role::ResponseHeaders => response_headers(input),
        Role::TimestampWritten => timestamp_written(input),
        Role::Duration => return duration(case),
        Role::Timestamp => return timestamp(case),
        Role::Agent | Role::Controller => Err("no function".into()),
    }?;
    match (&case.out, &seen) {
        (Some(out), Some(seen)) if out == seen => Ok(()),
        (None, None) => Ok(()),
        (out, _) => Err(format!("{input}: expected {out:?}, saw {seen:?}")),
    }
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("no text: {value}"))
}

fn agent(config: &Config) -> Result<Player, String> {
    Player::agent(config, Era::Ours, Beginning::Registered)
}

/// Asks an agent; the outcome is what its upstream is asked, or nothing where it refuses.
fn asked(player: &mut Player, payload: Value) -> Result<Option<Target>, String> {
    let message = json!({"type": "proxy_request", "request_id": "r", "payload": payload});
    player.text(&message.to_string())?;
    if let Some((id, target)) = player.opens.pop_front() {
        player.name(None, id);
        return Ok(Some(target));
    }
    let kind = match payload["supports_response_streaming"] == true {
        true => "proxy_response_abort",
        false => "proxy_error",
    };
    let refusal = json!({"type": kind, "request_id": "r", "payload": {"error": "$string"}});
    player.expect(&refusal).map(|()| None)
}

fn line(payload: Value, part: &str) -> Outcome {
    let target = asked(&mut agent(&Config::default())?, payload)?;
    Ok(match target {
        Some(Target::Http { head, .. }) => Some(match part {
            "method" => head.method.into(),
            "path" => head.path.into(),
            _ => head.query.into(),
        }),
        _ => None,
    })
}

fn base64(input: &Value) -> Outcome {
    let mut player = agent(&Config::default())?;
    let payload = json!({"method": "POST", "path": "/api", "body": input,
        "body_encoding": "base64"});
    if asked(&mut player, payload)?.is_none() {
        return Ok(None);
    }
    let id = player.on(None)?;
    let pieces = player.local(id).inbox.drain(..);
    let data: Vec<u8> = pieces.flat_map(|(_, data)| data.to_vec()).collect();
    Ok(Some(to_hex(&data).into()))
}

/// The answer that a binary frame is. An id is the controller's, so that of the frame is replaced
/// by the one that it asks for.
fn binary_frame(input: &Value) -> Outcome {
    let frame = hex(text(input)?)?;
    let mut player = Player::controller(Era::Later, Beginning::Registered)?;
    let head = controlplane_core::RequestHead {
        method: "GET".into(),
        path: "/api".into(),
        ..Default::default()
    };
    let now = player.now;
    let Subject::Controller(controller) = &mut player.subject else {
        return Err("no controller".into());
    };
    let id = controller
        .open(now, head, false)
        .map_err(|e| e.to_string())?;
    player.name(None, id);
    player.input(Input::Tick)?;
    player.expect(&json!({"type": "proxy_request", "request_id": "$save:id",
        "payload": {"$more": true}}))?;
    let (own, rest) = match frame.split_first_chunk() {
        Some((len, rest)) => match rest.split_at_checked(u16::from_be_bytes(*len).into()) {
            Some((own, rest)) => (String::from_utf8_lossy(own).into_owned(), rest),
            None => return player.binary(&frame).map(|()| None),
        },
        None => return player.binary(&frame).map(|()| None),
    };
    let live = player.saved["id"].clone();
    let mut frame = Vec::from((live.len() as u16).to_be_bytes());
    frame.extend(live.bytes());
    frame.extend(rest);
    player.binary(&frame)?;
    let local = player.local(id);
    let Some(head) = local.head.take() else {
        return match local.end {
            Some(Seen::Broken(_)) => Ok(None),
            _ => Err("neither an answer nor a failure".into()),
        };
    };
    let body: Vec<u8> = local
        .inbox
        .drain(..)
        .flat_map(|(_, d)| d.to_vec())
        .collect();
    Ok(Some(json!({"request_id": own, "status": head.status,
        "headers": by_name(&head.headers), "body": to_hex(&body)})))
}

fn backoff(input: &Value) -> Outcome {
    let failures = input["failures"]
        .as_u64()
        .and_then(|n| u32::try_from(n).ok());
    let failures = failures.ok_or("no failures")?;
    let retry_after = input["retry_after_ms"].as_u64().map(Duration::from_millis);
    let delay = |entropy| Backoff::default().delay(failures, retry_after, entropy);
    // The longest is a part of a nanosecond short of the bound.
    let longest = delay(u64::MAX) + Duration::from_nanos(2);
    Ok(Some(json!({"min_ms": delay(0).as_millis() as u64,
        "max_ms": longest.as_millis() as u64})))
}

// ---------------------------------------------------------------- headers

fn pairs(headers: &Value) -> Vec<(String, String)> {
    let each = headers.as_object().into_iter().flatten();
    let values = |v: &Value| match v {
        Value::Array(values) => values.clone(),
        other => vec![other.clone()],
    };
    each.flat_map(|(name, v)| values(v).into_iter().map(move |v| (name.clone(), v)))
        .map(|(name, v)| (name, v.as_str().unwrap_or_default().into()))
        .collect()
}

/// Lower-case names, and all values of each.
fn by_name(headers: &[(String, String)]) -> Value {
    let mut by_name: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, value) in headers {
        by_name.entry(name.to_lowercase()).or_default().push(value);
    }
    json!(by_name)
}

fn request_headers(input: &Value) -> Outcome {
    let config = Config {
        identity: input["identity"].as_str().map(String::from),
        ..Config::default()
    };
    let payload = json!({"path": "/api", "headers": input["headers"]});
    Ok(match asked(&mut agent(&config)?, payload)? {
        Some(Target::Http { head, .. }) => Some(by_name(&head.headers)),
        _ => None,
    })
}

fn response_headers(input: &Value) -> Outcome {
    let mut player = agent(&Config::default())?;
    asked(&mut player, json!({"path": "/api"}))?;
    let id = player.on(None)?;
    let status = input["status"].as_u64().and_then(|s| u16::try_from(s).ok());
    let head = ResponseHead {
        status: status.ok_or("no status")?,
        headers: pairs(&input["headers"]),
    };
    player.input(Input::Head(id, head))?;
    player.input(Input::Ended(id, StreamEnd::Clean))?;
    let message = player.message()?;
    let headers = pairs(&message["payload"]["headers"]);
    Ok(Some(by_name(&headers)))
}

fn client_headers(input: &Value) -> Outcome {
    let user = &input["user"];
    let user = user.is_object().then(|| rules::KubernetesUser {
        user: user["name"].as_str().unwrap_or_default().into(),
        groups: user["groups"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|g| g.as_str().map(String::from))
            .collect(),
    });
    let headers = rules::client_headers(pairs(&input["headers"]), user.as_ref());
    Ok(headers.ok().map(|headers| by_name(&headers)))
}

// ---------------------------------------------------------------- time

fn timestamp_written(input: &Value) -> Outcome {
    let part = |name: &str| input[name].as_u64().ok_or("no time");
    let nanos = u32::try_from(part("nanos")?).map_err(|e| e.to_string())?;
    let mut player = agent(&Config::default())?;
    player.input(Input::Clock(Duration::new(part("seconds")?, nanos)))?;
    player.text(r#"{"type":"ping","request_id":"p"}"#)?;
    let message = player.message()?;
    Ok(Some(message["payload"]["timestamp"].clone()))
}

/// A `deadline` is refused from its moment on and not before; one that cannot be read never is.
fn timestamp(case: &Case) -> Result<(), String> {
    let payload = json!({"path": "/api", "deadline": case.input});
    let passed = |at: Duration| {
        let mut player = agent(&Config::default())?;
        player.input(Input::Clock(at))?;
        Ok::<_, String>(asked(&mut player, payload.clone())?.is_none())
    };
    let late = Duration::from_secs(100_000_000_000);
    let Some(out) = &case.out else {
        return match passed(late)? {
            false => Ok(()),
            true => Err(format!("{}: it was read", case.input)),
        };
    };
    let at = out.as_u64().map(Duration::from_millis).ok_or("no time")?;
    let before = at.checked_sub(Duration::from_millis(1)).ok_or("no time")?;
    match (passed(before)?, passed(at)?) {
        (false, true) => Ok(()),
        _ => Err(format!("{}: it is another moment than {out}", case.input)),
    }
}

/// A `timeout` ends a request when it is over and not before; one that cannot be read never does.
fn duration(case: &Case) -> Result<(), String> {
    let mut player = agent(&Config::default())?;
    let payload = json!({"path": "/api", "timeout": case.input,
        "supports_response_streaming": true});
    asked(&mut player, payload)?.ok_or("it was refused")?;
    let abort = json!({"type": "proxy_response_abort", "request_id": "r",
        "payload": {"error": "$string"}});
    let Some(out) = &case.out else {
        player.pass(Duration::from_secs(300))?;
        return match player.expect(&abort) {
            Ok(()) => Err(format!("{}: it was read", case.input)),
            Err(_) => Ok(()),
        };
    };
    let span = out.as_u64().map(Duration::from_millis).ok_or("no time")?;
    let before = span
        .checked_sub(Duration::from_millis(1))
        .ok_or("no time")?;
    player.pass(before)?;
    if player.expect(&abort).is_ok() {
        return Err(format!("{}: it is shorter than {out}", case.input));
    }
    player.pass(Duration::from_millis(1))?;
    let outcome = player.expect(&abort);
    outcome.map_err(|_| format!("{}: it is longer than {out}", case.input))
}
