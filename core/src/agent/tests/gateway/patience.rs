//! A gateway that asks for patience.

use super::*;

#[test]
fn p180_what_a_gateway_asks_for_holds_for_it_and_not_for_the_controller() {
    let (mut bench, conn) = Bench::at_gateway();
    bench.input(Input::Disconnected(conn, Down::Lost("cut".into())));
    bench.take();
    bench.pass(secs(2));
    let (dial, endpoint) = bench.dials().remove(0);
    assert!(matches!(endpoint, Endpoint::Gateway(_)));
    let busy = Down::Refused {
        status: 503,
        retry_after: Some(secs(200)),
    };
    bench.input(Input::Disconnected(dial, busy));
    let (delay, ..) = bench.reconnect().unwrap();
    assert!(
        delay <= secs(1),
        "{delay:?} away from a controller that serves"
    );
    bench.pass(delay);
    let (dial, endpoint) = bench.dials().remove(0);
    assert_eq!(endpoint, Endpoint::Controller);
    bench.input(Input::Connected(dial));
    let again = json!({"cluster_id": "6f1c", "gateway_ws_url": URL});
    bench.register_with(again.clone());
    bench.pass_alive(secs(100));
    // And whatever the controller says meanwhile.
    bench.frame(json!({"type": "error", "payload": {"error": "not registered"}}));
    bench.register_with(again);
    bench.pass_alive(secs(95));
    assert_eq!(bench.dials(), []);
    bench.pass_alive(secs(110));
    assert!(!bench.dials().is_empty());
}
