//! Both machines back to back: what one encodes, the other decodes to the same thing, bit for bit.

mod pair;
mod things;

use arbitrary::{Result, Unstructured};
use bytes::Bytes;
use controlplane_core::{
    Action, Failure, Input, Kind, StreamClose, StreamEnd, StreamId, Target, Transport, Tunnel,
    rules::{self, IdentityPolicy},
};

use self::{
    pair::{Pair, Side},
    things::{assert_same, close, head, is_length, pieces, protocols, request, said, text},
};

/// Requests, answers, streams and tunnels with any content that is legal, from one end to the other.
///
/// # Panics
///
/// If an end sees something else than the other one said.
pub fn roundtrip(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(mut pair) = Pair::new(&mut input) else {
        return;
    };
    while !input.is_empty() {
        let done = match input.int_in_range(0..=3u8) {
            Ok(0 | 1) => exchange(&mut pair, &mut input),
            Ok(2) => socket(&mut pair, &mut input),
            Ok(_) => tunnel(&mut pair, &mut input),
            Err(_) => return,
        };
        pair.pump();
        if done.is_err() {
            return;
        }
        assert_eq!(pair.open(), (0, 0), "something is left");
    }
}

/// A request with its body, and its answer.
fn exchange(pair: &mut Pair, input: &mut Unstructured<'_>) -> Result<()> {
    let asked = request(input)?;
    let body = pieces(input)?;
    let has_body = !body.is_empty() || input.arbitrary()?;
    let answer = head(input)?;
    let answered = pieces(input)?;
    let failure = input
        .arbitrary::<bool>()?
        .then(|| text(input, 200))
        .transpose()?;

    let Ok(id) = pair.controller.open(pair.now, asked.clone(), has_body) else {
        return Ok(());
    };
    pair.pump();
    for piece in &body {
        pair.send(Side::Controller, id, Kind::Bytes, piece);
    }
    if has_body {
        pair.ended(Side::Controller, id, StreamEnd::Clean);
    }
    let expected = rules::request_head(
        &asked.method,
        &asked.path,
        asked.query.as_deref(),
        asked.headers,
        IdentityPolicy::Caller,
        usize::MAX,
    );
    let agent = pair.take(Side::Agent);
    let Some((upstream, Target::Http { head, .. })) = opened(&agent) else {
        assert!(expected.is_err(), "not opened: {agent:?}");
        let client = pair.take(Side::Controller);
        assert!(matches!(client[..], [Action::Failed(..)]), "{client:?}");
        return Ok(());
    };
    let expected = expected.unwrap_or_else(|fault| panic!("{fault}, and it was opened"));
    assert_eq!(
        (&head.method, &head.path),
        (&expected.method, &expected.path)
    );
    assert_eq!(head.query, expected.query);
    // How long it is, the agent knows better.
    let without = |headers: &[(String, String)]| {
        let kept = headers.iter().filter(|(name, _)| !is_length(name));
        kept.cloned().collect::<Vec<_>>()
    };
    assert_same(&without(&head.headers), &without(&expected.headers));
    let (came, finished) = delivered(&agent);
    assert!(finished && came == body.concat(), "the body is another");

    pair.answer(upstream, answer.clone());
    for piece in &answered {
        pair.send(Side::Agent, upstream, Kind::Bytes, piece);
    }
    let end = failure.clone().map_or(StreamEnd::Clean, StreamEnd::Broken);
    pair.ended(Side::Agent, upstream, end);
    let client = pair.take(Side::Controller);
    let (came, finished) = delivered(&client);
    if let Some(text) = failure {
        assert!(answered.concat().starts_with(&came));
        let failed = client.last() == Some(&Action::Failed(id, Failure::Agent(text)));
        assert!(failed, "{:?}", client.last());
        return Ok(());
    }
    let Some(Action::Head(_, got)) = client.first() else {
        panic!("no head: {client:?}")
    };
    assert_eq!(got.status, answer.status);
    let expected = rules::response_headers(answer.status, answer.headers);
    assert_same(&got.headers, &expected);
    assert!(
        finished && came == answered.concat(),
        "the answer is another"
    );
    Ok(())
}

/// A WebSocket, its messages both ways, and its close by either end.
fn socket(pair: &mut Pair, input: &mut Unstructured<'_>) -> Result<()> {
    let mut asked = request(input)?;
    asked.method = "GET".into();
    let offered = protocols(input)?;
    let messages = said(input)?;
    let (close, by_client) = (close(input)?, input.arbitrary::<bool>()?);
    let Ok(id) = pair
        .controller
        .open_websocket(pair.now, asked.clone(), offered.clone())
    else {
        return Ok(());
    };
    pair.pump();
    let agent = pair.take(Side::Agent);
    let Some((
        upstream,
        Target::WebSocket {
            head, protocols, ..
        },
    )) = opened(&agent)
    else {
        pair.machine(Side::Controller)
            .handle(pair::NOW, Input::Cancel(id));
        pair.pump();
        pair.forget();
        return Ok(());
    };
    assert_eq!((&head.path, &head.query), (&asked.path, &asked.query));
    let bare = !pair.answers_upgrades;
    let expected = if bare {
        offered.get(..1).unwrap_or_default()
    } else {
        &offered
    };
    assert_eq!(protocols, expected);

    let chosen = protocols
        .first()
        .map(|p| ("Sec-WebSocket-Protocol".to_string(), p.clone()));
    let switched = controlplane_core::ResponseHead {
        status: 101,
        headers: chosen.into_iter().collect(),
    };
    pair.answer(upstream, switched.clone());
    if bare {
        // It is open with the first message.
        pair.send(
            Side::Agent,
            upstream,
            Kind::Text,
            &Bytes::from_static(b"first"),
        );
    }
    let client = pair.take(Side::Controller);
    assert_eq!(
        client.first(),
        Some(&Action::Head(id, switched)),
        "{client:?}"
    );
    for (from_client, kind, data) in messages {
        let (from, to, name) = match from_client {
            true => (Side::Controller, Side::Agent, id),
            false => (Side::Agent, Side::Controller, upstream),
        };
        pair.send(from, name, kind, &data);
        let kind = if kind == Kind::Text {
            Kind::Text
        } else {
            Kind::Binary
        };
        let came = pair.take(to);
        let same = matches!(&came[..], [Action::Deliver(_, k, d)] if *k == kind && *d == data);
        assert!(same, "{kind:?} of {} bytes became {came:?}", data.len());
    }
    if by_client {
        pair.ended(Side::Controller, id, StreamEnd::Closed(close.clone()));
        assert_eq!(
            pair.take(Side::Agent),
            [Action::Closed(upstream, close, None)]
        );
        pair.ended(Side::Agent, upstream, StreamEnd::Clean);
        return Ok(());
    }
    pair.ended(Side::Agent, upstream, StreamEnd::Closed(close.clone()));
    let client = pair.take(Side::Controller);
    match &client[..] {
        [Action::Closed(_, got, None)] => assert_eq!(*got, close),
        [Action::Closed(_, got, Some(Failure::Agent(_)))] => {
            assert_ne!(close.code, StreamClose::NORMAL);
            assert_eq!(got.code, StreamClose::BROKEN);
        }
        other => panic!("{close:?} became {other:?}"),
    }
    Ok(())
}

/// A tunnel, its data both ways, and its end by either side.
fn tunnel(pair: &mut Pair, input: &mut Unstructured<'_>) -> Result<()> {
    let udp: bool = input.arbitrary()?;
    let asked = Tunnel {
        transport: if udp { Transport::Udp } else { Transport::Tcp },
        tunnel_id: format!("t{}", text(input, 60)?),
        gateway_name: text(input, 60)?,
        gateway_namespace: text(input, 60)?,
        gateway_port: input.arbitrary()?,
        service_name: "web".into(),
        service_namespace: "default".into(),
        service_port: 80,
        client_addr: text(input, 60)?,
        client_port: input.arbitrary()?,
    };
    let kind = if udp { Kind::Datagram } else { Kind::Bytes };
    let (up, down) = (pieces(input)?, pieces(input)?);
    let failure = input
        .arbitrary::<bool>()?
        .then(|| text(input, 200))
        .transpose()?;
    let Ok(id) = pair.controller.open_tunnel(pair.now, asked) else {
        return Ok(());
    };
    // A UDP tunnel begins with its first datagram.
    pair.send(Side::Controller, id, kind, &Bytes::from_static(b"first"));
    for piece in &up {
        pair.send(Side::Controller, id, kind, piece);
    }
    let agent = pair.take(Side::Agent);
    let Some((upstream, target)) = opened(&agent) else {
        panic!("no tunnel: {agent:?}")
    };
    let (host, port) = ("web.default.svc".to_string(), 80);
    let expected = match udp {
        true => Target::Udp { host, port },
        false => Target::Tcp {
            host,
            port,
            half_close: false,
        },
    };
    assert_eq!(*target, expected);
    same_data(
        udp,
        &agent,
        &[vec![Bytes::from_static(b"first")], up].concat(),
    );

    pair.answer(upstream, controlplane_core::ResponseHead::default());
    for piece in &down {
        pair.send(Side::Agent, upstream, kind, piece);
    }
    let client = pair.take(Side::Controller);
    same_data(udp, &client, &down);
    match failure {
        Some(text) if !udp => {
            pair.ended(Side::Agent, upstream, StreamEnd::Broken(text.clone()));
            let text = if text.is_empty() {
                "write_error".into()
            } else {
                text
            };
            let failed = Action::Failed(id, Failure::Agent(text));
            assert_eq!(pair.take(Side::Controller), [failed]);
        }
        _ if !udp && input.arbitrary()? => {
            pair.ended(Side::Agent, upstream, StreamEnd::Clean);
            assert_eq!(pair.take(Side::Controller), [Action::Finish(id)]);
        }
        _ => {
            pair.ended(Side::Controller, id, StreamEnd::Clean);
            let told = pair.take(Side::Agent);
            assert!(udp || told == [Action::Finish(upstream)], "{told:?}");
            pair.ended(Side::Agent, upstream, StreamEnd::Clean);
        }
    }
    Ok(())
}

/// Datagrams keep their bounds, a byte stream does not.
fn same_data(udp: bool, actions: &[Action], expected: &[Bytes]) {
    if !udp {
        let (came, _) = delivered(actions);
        assert!(came == expected.concat(), "the data is another");
        return;
    }
    let came = actions.iter().filter_map(|action| match action {
        Action::Deliver(_, Kind::Datagram, data) => Some(data),
        _ => None,
    });
    assert!(came.eq(expected), "the datagrams are others");
}

fn opened(actions: &[Action]) -> Option<(StreamId, &Target)> {
    actions.iter().find_map(|action| match action {
        Action::Open(id, target) => Some((*id, target)),
        _ => None,
    })
}

/// All bytes that were delivered, and whether that is all.
fn delivered(actions: &[Action]) -> (Vec<u8>, bool) {
    let mut data = Vec::new();
    let mut finished = false;
    for action in actions {
        match action {
            Action::Deliver(_, _, piece) => data.extend_from_slice(piece),
            Action::Finish(_) => finished = true,
            _ => {}
        }
    }
    (data, finished)
}
