//! Properties over all arguments.

use controlplane_world::fuzz;
use proptest::prelude::*;

/// Regressions become tests of their own; nothing is written next to the sources.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn p164_no_order_of_calls_harms_the_agent(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        fuzz::agent_calls(&data);
    }

    #[test]
    fn p164_no_order_of_calls_harms_the_controller(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        fuzz::controller_calls(&data);
    }

    #[test]
    fn p159_no_message_harms_either(data in proptest::collection::vec(any::<u8>(), 0..500)) {
        fuzz::decode(&data);
    }

    #[test]
    fn what_one_machine_says_the_other_hears(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        fuzz::roundtrip(&data);
    }

    #[test]
    fn p025_a_message_is_read_as_the_plainest_reader_does(data in message()) {
        fuzz::differential(&data);
    }
}

/// Messages with fields that mean something and values of every type, or any bytes.
fn message() -> impl Strategy<Value = Vec<u8>> {
    const KEYS: &str = "(type|TYPE|request_id|Request_Id|payload|path|method|query|headers|body|\
        body_encoding|encoding|status|data|chunk|stream_id|protocol|error|is_websocket|streaming|\
        use_streaming|supports_response_streaming|service_name|body_binary|message_type|[a-z]{1,3})";
    const TEXTS: &str = "(proxy_request|proxy_request_chunk|proxy_response|proxy_response_header|\
        proxy_response_chunk|proxy_websocket_data|proxy_error|ping|/api|base64|QUJD|GET|q1|w1|\
        00000000000000000000000000000000-1|00000000000000000000000000000000-2|[ -~]{0,8})";
    let leaf = prop_oneof![
        Just("null".to_string()),
        any::<bool>().prop_map(|b| b.to_string()),
        any::<i16>().prop_map(|n| n.to_string()),
        (100..600u16).prop_map(|n| n.to_string()),
        TEXTS.prop_map(|text| format!("{text:?}")),
    ];
    let value = leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4)
                .prop_map(|all| format!("[{}]", all.join(","))),
            proptest::collection::vec((KEYS, inner), 0..8).prop_map(|all| {
                let all: Vec<_> = all.iter().map(|(k, v)| format!("{k:?}:{v}")).collect();
                format!("{{{}}}", all.join(","))
            }),
        ]
    });
    let whole = (TEXTS, TEXTS, value.clone()).prop_map(|(kind, id, payload)| {
        format!(r#"{{"type":{kind:?},"request_id":{id:?},"payload":{payload}}}"#)
    });
    prop_oneof![
        4 => whole.prop_map(String::into_bytes),
        2 => value.prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..300),
    ]
}
