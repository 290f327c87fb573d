//! How much of an answer the agent may send ahead of its reader.

use super::*;

impl Bench {
    /// What an agent with these features is told of the window of an answer.
    fn window_told(features: Value, recv_stream: usize) -> Value {
        let mut bench = Self::with_agent(features, |c| c.limits.recv_stream = recv_stream);
        bench.controller.open(bench.now, ask(), false).unwrap();
        bench.sent()[0]["payload"]["response_window"].take()
    }

    /// An answer of which this much has been delivered, and is not taken yet.
    fn answering(&mut self, len: usize) -> (StreamId, String) {
        let (id, name) = self.request(false);
        self.answer_head(&name);
        self.answer_data(&name, &vec![7; len]);
        self.take();
        (id, name)
    }

    /// What the agent is granted when the reader takes a piece.
    fn granted(&mut self, id: StreamId, len: usize) -> Vec<(String, Value)> {
        self.input(Input::Consumed(id, len));
        let sent = self.sent();
        assert!(sent.iter().all(|m| m["type"] == "proxy_response_grant"));
        sent.iter()
            .map(|m| {
                let name = m["request_id"].as_str().unwrap();
                (name.to_string(), m["payload"]["bytes"].clone())
            })
            .collect()
    }
}

#[test]
fn the_window_of_an_answer_is_half_of_what_may_wait_and_four_mib_at_most() {
    let keeps = json!({"response_window": true, "supports_response_streaming": true});
    for (limit, window) in [
        (32 << 20, 4 << 20),
        (8 << 20, 4 << 20),
        ((8 << 20) - 2, (4 << 20) - 1),
        (1024, 512),
    ] {
        assert_eq!(Bench::window_told(keeps.clone(), limit), window);
    }
}

#[test]
fn an_agent_that_does_not_say_that_it_keeps_a_window_is_told_of_none() {
    for (keeps, streams) in [(true, false), (false, true), (false, false)] {
        let features = json!({"response_window": keeps, "supports_response_streaming": streams});
        assert_eq!(Bench::window_told(features, 1024), Value::Null);
    }
}

#[test]
fn what_the_reader_took_is_granted_a_quarter_of_the_window_at_a_time() {
    let mut bench = Bench::modern_with(|c| c.limits.recv_stream = 16_384);
    let (id, name) = bench.answering(5000);
    assert_eq!(bench.granted(id, 1000), []);
    // Each piece counts for no less than 256.
    assert_eq!(bench.granted(id, 1), []);
    assert_eq!(bench.granted(id, 791), [], "a byte less than a quarter");
    assert_eq!(bench.granted(id, 300), [(name.clone(), json!(2347))]);
    assert_eq!(bench.granted(id, 1000), [], "it begins anew");
    assert_eq!(bench.granted(id, 1048), [(name, json!(2048))]);
}

#[test]
fn nothing_is_granted_of_an_answer_that_is_complete() {
    let mut bench = Bench::modern_with(|c| c.limits.recv_stream = 16_384);
    let (id, name) = bench.answering(5000);
    bench.answer_end(&name);
    assert_eq!(bench.granted(id, 4000), []);
    assert!(!bench.has(&Action::Finish(id)), "1000 are to be taken yet");
    assert_eq!(bench.granted(id, 1000), []);
    assert!(bench.has(&Action::Finish(id)));
}

#[test]
fn what_is_taken_of_a_stream_that_is_gone_is_counted_and_nothing_else() {
    let mut bench = Bench::modern();
    let (id, name) = bench.answering(10);
    bench.answer_end(&name);
    assert_eq!(bench.controller.stats().stale_inputs, 0);
    assert_eq!(bench.granted(id, 10), []);
    assert_eq!(bench.granted(id, 10), []);
    assert_eq!(bench.controller.stats().stale_inputs, 1);
}

#[test]
fn a_grant_of_nothing_or_from_elsewhere_is_counted_and_nothing_else() {
    let mut bench = Bench::modern();
    let (id, name) = bench.request(true);
    let body = Bytes::from(vec![2; 10_000]);
    bench.controller.send(id, Kind::Bytes, body).unwrap();
    bench.take();
    bench.accept(B);
    let mut grant = |conn, bytes: i32| {
        bench.frame(
            conn,
            json!({"type": "proxy_request_grant", "request_id": name,
                "payload": {"bytes": bytes}}),
        );
        (bench.sent().len(), bench.controller.stats().stale_frames)
    };
    assert_eq!(grant(A, 0), (0, 1));
    assert_eq!(grant(A, -1000), (0, 2));
    assert_eq!(grant(B, 1000).0, 0);
    assert_eq!(grant(A, 1000).0, 1);
}

#[test]
fn what_is_open_and_held_is_told() {
    let mut bench = Bench::registered();
    let (done, name) = bench.request(false);
    bench.answer_head(&name);
    bench.answer_end(&name);
    assert!(bench.has(&Action::Finish(done)));
    let (_, name) = bench.request(false);
    bench.answer_head(&name);
    bench.answer_data(&name, &[7; 1000]);
    let (upload, _) = bench.request(true);
    bench.take();
    let body = Bytes::from(vec![2; 400]);
    bench.controller.send(upload, Kind::Bytes, body).unwrap();
    let stats = bench.controller.stats();
    assert_eq!((stats.streams_opened, stats.streams_open), (3, 2));
    assert_eq!((stats.held_in, stats.held_out), (1000, 400));
}
