//! Bodies in binary frames (P-061, P-145), and answers in them (P-039).

use super::*;

fn frame(id: &str, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::from((id.len() as u16).to_be_bytes());
    frame.extend(id.as_bytes());
    frame.extend(body);
    frame
}

impl Bench {
    /// An upload "r" whose client may be 8192 bytes ahead.
    pub(super) fn with_window() -> (Self, StreamId) {
        let mut bench = Self::registered_with(|c| c.limits.recv_stream = 16_384);
        let payload = json!({"method": "POST", "path": "/api", "use_streaming": true,
            "supports_response_streaming": true, "request_window": 8192});
        let (id, _) = bench.ask("r", payload).unwrap();
        (bench, id)
    }

    fn binary(&mut self, data: &[u8]) {
        let conn = self.agent.phase().open().unwrap();
        self.input(Input::Frame(conn, Frame::Binary(data)));
    }

    /// Asks for something with a body in a binary frame; nothing is opened before that.
    fn announce(&mut self, id: &str) {
        let payload = json!({"method": "POST", "path": "/api", "body_binary": true,
            "body_size": 999, "headers": {"Content-Length": "7"}});
        assert!(self.ask(id, payload).is_none());
    }
}

#[test]
fn p145_a_binary_body_is_matched_by_id_and_its_length_is_told() {
    let mut bench = Bench::registered();
    bench.announce("r");
    // W-02: the original took whatever came next for the body, and lost it.
    bench.frame(json!({"type": "ping", "request_id": "p"}));
    assert_eq!(bench.sent_types(), ["pong"]);
    bench.binary(&frame("r", b"a body"));
    let (id, head) = bench.opened().unwrap();
    let length = ("Content-Length".to_string(), "6".to_string());
    assert_eq!(head.headers, [length]);
    assert_eq!(bench.delivered(id), b"a body");
    assert_eq!(bench.finishes(id), 1);
    bench.input(Input::Head(id, super::head(200)));
    bench.input(Input::Ended(id, StreamEnd::Clean));
    let sent = bench.sent();
    assert_eq!(
        (sent.len(), &sent[0]["type"]),
        (1, &json!("proxy_response"))
    );
}

#[test]
fn p145_a_frame_for_another_id_fails_the_request_that_waits_and_loses_nothing_else() {
    let mut bench = Bench::registered();
    let running = bench.request("running");
    bench.take();
    bench.announce("r");
    bench.binary(&frame("other", b"lost"));
    let sent = bench.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (&sent[0]["type"], &sent[0]["request_id"]),
        (&json!("proxy_error"), &json!("r"))
    );
    assert!(error(&sent[0]).contains("another id"));
    assert_eq!(bench.agent.stats().peer_faults, 1);
    // Nothing was opened, so nothing is reset; the other request goes on.
    assert!(bench.take().iter().all(|a| matches!(a, Action::Notice(_))));
    bench.input(Input::Head(running, super::head(200)));
    assert_eq!(bench.sent_types(), ["proxy_response_header"]);
}

#[test]
fn p145_a_frame_that_names_what_runs_costs_no_other_request() {
    let mut bench = Bench::registered();
    let running = bench.request("running");
    bench.announce("r");
    bench.binary(&frame("running", b"unasked"));
    assert!(bench.sent().is_empty());
    bench.binary(&frame("r", b"a body"));
    let (id, _) = bench.opened().unwrap();
    assert_eq!(bench.delivered(id), b"a body");
    bench.binary(&frame("r", b"twice"));
    assert!(bench.delivered(id).is_empty() && bench.delivered(running).is_empty());
    assert_eq!(bench.agent.stats().peer_faults, 2);
}

#[test]
fn p145_two_that_wait_get_each_its_own() {
    let mut bench = Bench::registered();
    bench.announce("1");
    bench.announce("2");
    bench.binary(&frame("2", b"two"));
    let (second, _) = bench.opened().unwrap();
    bench.binary(&frame("1", b""));
    let (first, _) = bench.opened().unwrap();
    assert_eq!(
        (bench.delivered(first), bench.delivered(second)),
        (Vec::new(), b"two".to_vec())
    );
    assert_eq!((bench.finishes(first), bench.finishes(second)), (1, 1));
}

#[test]
fn p145_a_frame_that_does_not_come_fails_its_request() {
    let mut bench = Bench::registered();
    bench.announce("r");
    bench.pass_alive(secs(31));
    let sent = bench.sent();
    let errors: Vec<&Value> = sent.iter().filter(|v| v["type"] == "proxy_error").collect();
    assert_eq!(errors.len(), 1);
    assert!(error(errors[0]).contains("did not come"));
    assert_eq!(bench.agent.stats().streams_open, 0);
    // It comes after all: P-094, one terminal message.
    bench.binary(&frame("r", b"late"));
    assert!(bench.sent().is_empty() && bench.opened().is_none());
}

#[test]
fn p145_the_body_of_a_request_that_was_refused_has_no_answer_of_its_own() {
    let mut bench = Bench::registered();
    let payload = json!({"path": "/etc", "body_binary": true});
    assert!(bench.ask("r", payload).is_none());
    bench.binary(&frame("r", b"body"));
    assert_eq!(bench.sent_types(), ["proxy_error"]);
}

#[test]
fn p145_cancel_and_loss_reset_nothing_that_was_not_opened() {
    let mut bench = Bench::registered();
    bench.announce("1");
    bench.announce("2");
    bench.frame(json!({"type": "proxy_cancel", "request_id": "1"}));
    bench.binary(&frame("1", b"x"));
    bench.sent();
    bench.announce("3");
    bench.cut();
    let actions = bench.take();
    assert!(
        !actions
            .iter()
            .any(|a| matches!(a, Action::Reset(_) | Action::Open(..)))
    );
    assert_eq!(bench.agent.stats().streams_open, 0);
}

#[test]
fn p145_a_time_limit_of_the_request_still_counts() {
    let mut bench = Bench::registered();
    let payload = json!({"path": "/api", "body_binary": true, "timeout": 60_000});
    assert!(bench.ask("r", payload).is_none());
    bench.pass_alive(secs(20));
    bench.binary(&frame("r", b"x"));
    let (id, _) = bench.opened().unwrap();
    bench.pass_alive(secs(35));
    assert!(!bench.has(&Action::Reset(id)));
    bench.pass_alive(secs(10));
    assert!(bench.has(&Action::Reset(id)));
}

#[test]
fn p159_a_broken_frame_costs_itself() {
    let mut bench = Bench::registered();
    let broken: [&[u8]; 4] = [b"\0", b"\0\x09r", b"\0\0", b"\0\x01\xff"];
    for frame in broken {
        bench.binary(frame);
    }
    assert_eq!(bench.agent.stats().peer_faults, 4);
    assert!(bench.sent().is_empty());
    bench.request("r");
}

#[test]
fn p148_a_binary_body_above_the_limit_fails_its_request() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    bench.announce("r");
    bench.binary(&frame("r", &[7; 1025]));
    let (id, _) = bench.opened().unwrap();
    assert!(bench.has(&Action::Reset(id)));
    assert!(error(&bench.sent()[0]).contains("more data"));
    assert_eq!(bench.finishes(id), 0);
}

#[test]
fn p012_json_in_a_binary_message_is_read() {
    let mut bench = Bench::registered();
    bench.binary(br#" {"type":"ping","request_id":"p"}"#);
    assert_eq!(bench.sent_types(), ["pong"]);
}

#[test]
fn p039_a_long_whole_answer_is_a_binary_frame_where_the_configuration_says_so() {
    for (len, binary) in [(10_240, true), (10_239, false)] {
        let mut bench = Bench::registered_with(|c| c.binary_answers = true);
        let id = bench.whole("r");
        bench.input(Input::Head(id, super::head(200)));
        bench.offer(id, bytes(len));
        bench.input(Input::Ended(id, StreamEnd::Clean));
        let frames: Vec<Bytes> = bench
            .take()
            .into_iter()
            .filter_map(|action| match action {
                Action::Send(_, OutFrame::Binary(frame)) => Some(frame),
                _ => None,
            })
            .collect();
        assert_eq!(frames.len(), usize::from(binary));
        for frame in frames {
            let (id, rest) = crate::wire::binary::read(&frame).unwrap();
            let (head, body) = crate::wire::binary::read_answer(rest).unwrap();
            assert_eq!((id, head.status), ("r", 200));
            assert_eq!(body, bytes(len));
        }
        assert_eq!(bench.agent.stats().held_out, 0);
    }
}

#[test]
fn p039_no_binary_frame_is_sent_unless_configured() {
    let mut bench = Bench::registered();
    let id = bench.whole("r");
    bench.offer(id, bytes(20_000));
    bench.input(Input::Ended(id, StreamEnd::Clean));
    assert_eq!(bench.sent_types(), ["proxy_response"]);
}

#[test]
fn what_was_taken_of_a_body_is_granted_a_quarter_of_the_window_at_a_time() {
    let (mut bench, id) = Bench::with_window();
    bench.chunk("r", &bytes(9000));
    bench.take();
    let granted = |bench: &mut Bench, len| {
        bench.input(Input::Consumed(id, len));
        let sent = bench.sent();
        assert!(sent.iter().all(|m| m["type"] == "proxy_request_grant"));
        let grants = sent.iter().map(|m| m["payload"]["bytes"].as_u64());
        grants.map(Option::unwrap).collect::<Vec<u64>>()
    };
    assert_eq!(granted(&mut bench, 2047), [0; 0]);
    // Each piece counts for no less than 256.
    assert_eq!(granted(&mut bench, 1), [2303]);
    assert_eq!(granted(&mut bench, 1000), [0; 0], "it begins anew");
    assert_eq!(granted(&mut bench, 1048), [2048]);
    // Whoever has ended reads no more.
    bench.input(Input::Ended(id, StreamEnd::Broken("gone".into())));
    bench.input(Input::Consumed(id, 4000));
    assert_eq!(bench.sent_types(), ["proxy_response_abort"]);
    let stale = bench.agent.stats().stale_inputs;
    bench.input(Input::Consumed(id, 1));
    assert_eq!(bench.agent.stats().stale_inputs, stale + 1);
}

#[test]
fn what_is_open_and_held_is_told() {
    let mut bench = Bench::registered();
    let ended = bench.request("a");
    bench.input(Input::Ended(ended, StreamEnd::Clean));
    let upload = bench.upload("b");
    bench.chunk("b", &bytes(1000));
    bench.take();
    bench.input(Input::Head(upload, head(200)));
    let whole = bench.whole("c");
    bench.input(Input::Head(whole, head(200)));
    bench.agent.send(whole, Kind::Bytes, bytes(500)).unwrap();
    bench.take();
    bench.agent.send(upload, Kind::Bytes, bytes(400)).unwrap();
    let stats = bench.agent.stats();
    assert_eq!((stats.streams_opened, stats.streams_open), (3, 2));
    assert_eq!((stats.held_in, stats.held_out), (1000, 900));
}

/// As the original reads them, and never as nothing.
#[test]
fn p153_a_text_that_is_no_unicode_is_read_as_the_original_reads_it() {
    let asked =
        r#""type":"proxy_request","request_id":"r","payload":{"method":"POST","path":"/api""#;
    for (body, expected) in [
        (r"\ud800a", "\u{fffd}a"),
        (r"\uDC00\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (r"\\\ud800", "\\\u{fffd}"),
    ] {
        let mut bench = Bench::registered();
        bench.raw(&alloc::format!(r#"{{{asked},"body":"{body}"}}}}"#));
        let (id, _) = bench.opened().expect(body);
        assert_eq!(bench.delivered(id), expected.as_bytes(), "{body}");
    }
    let mut bench = Bench::registered();
    let latin1 = alloc::format!(r#"{{{asked},"query":"a","body":"x?"}}}}"#).replace('?', "\u{1}");
    let latin1: Vec<_> = latin1
        .bytes()
        .map(|b| if b == 1 { 0xe4 } else { b })
        .collect();
    bench.binary(&latin1);
    let (id, _) = bench.opened().unwrap();
    assert_eq!(bench.delivered(id), "x\u{fffd}".as_bytes(), "P-012");
}

#[test]
fn p153_a_piece_that_cannot_be_read_leaves_no_hole_in_its_body() {
    for piece in [
        r#"{"type":"proxy_request_chunk","request_id":"r","payload":{"data":"\ud800"}}"#,
        r#"{"payload":{"data":"YQ==","message_type":1e999},"request_id":"r","type":"proxy_request_chunk"}"#,
        r#"{"type":"proxy_request_chunk","request_id":"r","payload":{"data":"YWFh"#,
    ] {
        let mut bench = Bench::registered();
        let id = bench.upload("r");
        bench.chunk("r", b"before");
        bench.raw(piece);
        bench.frame(json!({"type": "proxy_request_stream_end", "request_id": "r"}));
        assert_eq!(bench.finishes(id), 0, "{piece}");
        assert_eq!(bench.sent_types(), ["proxy_response_abort"], "{piece}");
    }
}

#[test]
fn p145_the_late_frame_of_a_request_that_is_over_costs_no_other_that_waits() {
    type Over = fn(&mut Bench);
    let refused: Over = |bench| {
        let payload = json!({"path": "/etc", "body_binary": true});
        assert!(bench.ask("over", payload).is_none());
    };
    let cancelled: Over = |bench| {
        bench.announce("over");
        bench.frame(json!({"type": "proxy_cancel", "request_id": "over"}));
    };
    let too_late: Over = |bench| {
        bench.announce("over");
        bench.pass_alive(secs(31));
    };
    for (over, errors) in [(refused, 1), (cancelled, 0), (too_late, 1)] {
        let mut bench = Bench::registered();
        over(&mut bench);
        bench.announce("r");
        bench.binary(&frame("over", b"nobody waits for it any more"));
        let sent = bench.sent();
        assert_eq!(
            sent.iter().filter(|m| m["type"] == "proxy_error").count(),
            errors
        );
        bench.binary(&frame("r", b"a body"));
        let (id, _) = bench
            .opened()
            .expect("it was failed by the frame of another");
        assert_eq!(bench.delivered(id), b"a body");
        // It comes once. Another frame of that name is one that names nothing.
        bench.announce("next");
        bench.binary(&frame("over", b"again"));
        assert!(error(&bench.sent()[0]).contains("another id"));
    }
}

#[test]
fn p145_p174_no_frame_is_still_to_come_on_the_next_connection() {
    let mut bench = Bench::registered();
    bench.announce("over");
    bench.cut();
    bench.pass(secs(2));
    bench.connect();
    bench.register();
    bench.sent();
    bench.announce("r");
    bench.binary(&frame("over", b"of another connection"));
    assert!(error(&bench.sent()[0]).contains("another id"));
}
