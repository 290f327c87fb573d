//! Those that the controller breaks off.

use super::*;

#[test]
fn p152_a_close_with_an_error_is_no_end_in_order_for_the_service() {
    let mut bench = Bench::tunnelled();
    let id = bench.tunnel("t");
    bench.feed("t", b"half");
    bench.frame(json!({"type": "tcp_tunnel_close", "request_id": "t",
        "payload": {"reason": "client_closed", "error": "the rest is missing"}}));
    assert!(bench.has(&Action::Reset(id)));
    assert_eq!(
        bench.finishes(id),
        0,
        "the service takes half for the whole"
    );
    assert_eq!(bench.sent_types(), ["tcp_tunnel_close"]);
    assert_eq!(bench.agent.stats().streams_open, 0);
}
