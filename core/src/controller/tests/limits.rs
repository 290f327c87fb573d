//! What slow clients hold.

use super::*;

/// Counts the bytes that were delivered on a stream, consuming none.
fn delivered(bench: &mut Bench, id: StreamId) -> usize {
    bench.run();
    let len = |action: &Action| match action {
        Action::Deliver(to, _, data) if *to == id => data.len(),
        _ => 0,
    };
    bench.actions.iter().map(len).sum()
}

/// A request whose answer has begun.
fn answering(bench: &mut Bench) -> (StreamId, String) {
    let (id, name) = bench.request(false);
    bench.answer_head(&name);
    (id, name)
}

#[test]
fn p144_p153_a_client_that_is_too_slow_ends_only_its_own_stream() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let (slow, name) = answering(&mut bench);
    let (other, other_name) = answering(&mut bench);
    bench.answer_data(&name, &[1; 1024]);
    assert_eq!(delivered(&mut bench, slow), 1024, "at the limit");
    bench.input(Input::Consumed(slow, 1024));
    bench.answer_data(&name, &[2; 1024]);
    assert!(!bench.has(&Action::Failed(slow, Failure::Overrun)));
    bench.answer_data(&name, &[3; 1]);
    assert!(bench.has(&Action::Failed(slow, Failure::Overrun)));
    assert_eq!(delivered(&mut bench, slow), 2048);
    assert_eq!(bench.controller.stats().held_in, 0);
    assert_eq!(bench.sent_types(), ["proxy_cancel"]);
    bench.answer_data(&name, &[4; 100]);
    bench.answer_data(&other_name, b"fine");
    assert_eq!(delivered(&mut bench, slow), 2048);
    assert_eq!(delivered(&mut bench, other), 4);
    bench.input(Input::Consumed(slow, 1024));
    assert_eq!(bench.controller.stats().stale_inputs, 1);
}

#[test]
fn p153_above_the_total_the_stream_that_holds_most_ends() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let (large, name) = answering(&mut bench);
    let (small, small_name) = answering(&mut bench);
    bench.answer_data(&name, &[1; 1000]);
    bench.answer_data(&small_name, &[2; 536]);
    bench.run();
    assert!(!bench.has(&Action::Failed(large, Failure::Overrun)));
    bench.answer_data(&small_name, &[3; 1]);
    assert!(bench.has(&Action::Failed(large, Failure::Overrun)));
    assert_eq!(delivered(&mut bench, small), 537);
}

#[test]
fn p153_a_complete_answer_counts_until_it_is_read() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let (large, name) = answering(&mut bench);
    bench.answer_data(&name, &[1; 1000]);
    bench.answer_end(&name);
    assert!(!bench.has(&Action::Finish(large)));
    let (small, small_name) = answering(&mut bench);
    bench.answer_data(&small_name, &[2; 537]);
    assert!(bench.has(&Action::Failed(large, Failure::Overrun)));
    assert!(
        bench.sent().is_empty(),
        "the agent had long been done with it"
    );
    bench.answer_end(&small_name);
    bench.input(Input::Consumed(small, 537));
    assert!(bench.has(&Action::Finish(small)));
    let stats = bench.controller.stats();
    assert_eq!((stats.held_in, stats.streams_open), (0, 0));
}

#[test]
fn p094_nothing_of_the_agent_changes_a_complete_answer() {
    let mut bench = Bench::registered();
    let (id, name) = answering(&mut bench);
    bench.answer_data(&name, b"all");
    bench.answer_end(&name);
    bench.take();
    bench.answer_data(&name, b"more");
    bench.says("proxy_error", &name, json!({"error": "no"}));
    bench.says("proxy_response", &name, json!([]));
    assert_eq!(delivered(&mut bench, id), 0);
    bench.input(Input::Consumed(id, 3));
    assert!(bench.has(&Action::Finish(id)));
    assert!(bench.sent().is_empty());
}

#[test]
fn p174_a_complete_answer_survives_its_connection() {
    let mut bench = Bench::registered();
    let (id, name) = bench.request(true);
    bench.answer_head(&name);
    bench.answer_data(&name, b"all");
    bench.answer_end(&name);
    bench.run_blocked();
    bench.lose(A);
    assert!(
        !bench
            .actions
            .iter()
            .any(|a| matches!(a, Action::Failed(..)))
    );
    bench.join(B, true);
    assert_eq!(
        bench.sent_to(B).len(),
        1,
        "nothing of it is left to be said"
    );
    assert!(!bench.has(&Action::Finish(id)));
    bench.input(Input::Consumed(id, 3));
    assert!(bench.has(&Action::Finish(id)));
    assert_eq!(bench.streams_open(), 0);
}

#[test]
fn p212_a_shutdown_gives_slow_clients_its_grace() {
    let mut bench = Bench::registered();
    let (id, name) = answering(&mut bench);
    bench.answer_data(&name, b"all");
    bench.answer_end(&name);
    bench.take();
    bench.input(Input::Shutdown(secs(5)));
    assert!(bench.take().is_empty());
    bench.pass(secs(5), &[A]);
    let actions = bench.take();
    assert_eq!(actions[0], Action::Finish(id), "it has all there is");
    assert_eq!(actions.last(), Some(&Action::Stopped));
}

#[test]
fn p186_a_client_that_goes_after_the_answer_is_complete_frees_it() {
    let mut bench = Bench::registered();
    let (id, name) = answering(&mut bench);
    bench.answer_data(&name, b"all");
    bench.answer_end(&name);
    bench.take();
    bench.input(Input::Cancel(id));
    assert!(bench.take().is_empty());
    let stats = bench.controller.stats();
    assert_eq!((stats.held_in, stats.streams_open), (0, 0));
}

#[test]
fn small_pieces_are_not_free() {
    let mut bench = Bench::registered_with(|c| c.limits = SMALL);
    let (id, name) = answering(&mut bench);
    for _ in 0..SMALL.recv_stream / Limits::MIN_CHARGE {
        bench.answer_data(&name, b"x");
    }
    assert!(!bench.has(&Action::Failed(id, Failure::Overrun)));
    bench.answer_data(&name, b"x");
    assert!(bench.has(&Action::Failed(id, Failure::Overrun)));
}

#[test]
fn what_an_agent_tells_of_itself_is_kept_up_to_a_bound() {
    let long = "x".repeat(1000);
    let facts = (0..100).map(|n| (n.to_string() + &long, json!(long)));
    let facts = Value::Object(facts.collect());
    let payload = json!({"agent_id": long, "name": long, "k8s_version": long, "region": long,
        "hostname": long, "agent_version": long, "server_ip": long, "cloud_provider": long,
        "cluster_id": long, "labels": facts, "metadata": facts,
        "server_specs": {"cpu_cores": 4, "memory_gb": 5, "disk_gb": 6, "os": long}});
    let mut bench = Bench::new();
    bench.accept(A);
    bench.frame(
        A,
        json!({"type": "register", "request_id": "reg", "payload": payload}),
    );
    // Taken apart, so that a new field is not forgotten.
    let crate::AgentInfo {
        agent_id,
        name,
        k8s_version,
        region,
        hostname,
        agent_version,
        server_ip,
        cloud_provider,
        labels,
        server_specs,
        metadata,
        cluster_id,
    } = bench.controller.joined.as_ref().unwrap().info.clone();
    let specs = server_specs;
    let names = [agent_id, name, hostname, specs.os];
    let facts = [k8s_version, region, agent_version, server_ip];
    let more = [cloud_provider, cluster_id.unwrap()];
    for text in names.iter().chain(&facts).chain(&more) {
        assert_eq!(*text, long[..256]);
    }
    assert_eq!((specs.cpu_cores, specs.memory_gb, specs.disk_gb), (4, 5, 6));
    for facts in [labels, metadata] {
        assert_eq!(facts.len(), 64);
        assert!(facts.iter().all(|(k, v)| k.len() == 256 && v.len() == 256));
    }
}
