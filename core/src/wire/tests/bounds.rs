//! What a message can make its reader hold: not much more than its own length.

use super::*;

fn payload(fields: &str) -> Vec<u8> {
    let text = alloc::format!(
        "{{\"type\":\"a\",\"request_id\":\"r\",\"payload\":{{{fields},\"error\":\"e\"}}}}"
    );
    text.into_bytes()
}

/// Each takes a few bytes of the message and dozens of memory.
#[test]
fn p148_headers_are_counted_while_they_are_read() {
    let names = |len: usize| {
        let names: Vec<_> = (0..len).map(|i| alloc::format!("\"{i}\":\"\"")).collect();
        alloc::format!("{{{}}}", names.join(","))
    };
    let values = |len: usize| alloc::format!("{{\"A\":[{}]}}", ["\"\""].repeat(len).join(","));
    let nothing = |len: usize| names(len).replace("\"\"", "0");
    for (headers, most) in [
        (names(4096), 4096),
        (values(4096), 4096),
        (nothing(4096), 0),
    ] {
        let frame = payload(&alloc::format!("\"headers\":{headers}"));
        let envelope = decode(&frame).unwrap();
        assert_eq!(envelope.fault, None);
        assert_eq!(envelope.payload.unwrap().headers.unwrap().len(), most);
        assert!(decode::headers(headers.as_bytes()).is_some());
    }
    for headers in [names(4097), values(4097), nothing(4097)] {
        let frame = payload(&alloc::format!("\"headers\":{headers}"));
        let envelope = decode(&frame).unwrap();
        assert_eq!(envelope.fault, Some(PeerFault::HeadTooLong));
        assert_eq!(envelope.id.as_deref(), Some("r"));
        let fields = envelope.payload.unwrap();
        assert_eq!(fields.headers, None);
        assert_eq!(fields.error.as_deref(), Some("e"), "what follows is read");
        assert_eq!(decode::headers(headers.as_bytes()), None);
    }
}

#[test]
fn p179_labels_and_facts_are_kept_up_to_a_bound() {
    let many: Vec<_> = (0..2000).map(|i| alloc::format!("\"{i}\":\"\"")).collect();
    let many = many.join(",");
    let frame = payload(&alloc::format!(
        "\"labels\":{{{many}}},\"metadata\":{{{many}}}"
    ));
    let fields = decode(&frame).unwrap().payload.unwrap();
    assert_eq!((fields.labels.len(), fields.metadata.len()), (1024, 1024));
}

/// P-027 does not say what is no Unicode; this is how the original's parser reads it.
#[test]
fn p025_what_is_no_unicode_is_mended() {
    for (raw, kind) in [
        (
            &br#"{"type":"a\ud800b","request_id":"r"}"#[..],
            "a\u{fffd}b",
        ),
        (
            br#"{"type":"\ude00\ud83d\ude00","request_id":"r"}"#,
            "\u{fffd}\u{1f600}",
        ),
        (br#"{"type":"\ud83d\u0041","request_id":"r"}"#, "\u{fffd}A"),
        (br#"{"type":"\\\ud800","request_id":"r"}"#, "\\\u{fffd}"),
        (
            br#"{"type":"\\ud800\ud800","request_id":"r"}"#,
            "\\ud800\u{fffd}",
        ),
        (b"{\"type\":\"\xe4\",\"request_id\":\"r\"}", "\u{fffd}"),
    ] {
        let mut spare = Vec::new();
        let envelope = decode::decode(raw, &mut spare).unwrap();
        let told = (&*envelope.kind, envelope.id.as_deref(), envelope.fault);
        assert_eq!(told, (kind, Some("r"), None));
    }
    let mut spare = Vec::new();
    let plain = decode::decode(br#"{"type":"\ud83d\ude00"}"#, &mut spare).unwrap();
    assert_eq!(plain.kind, "\u{1f600}");
    assert!(spare.is_empty(), "nothing is mended that can be read");
}

#[test]
fn p148_a_long_message_is_not_mended_but_told() {
    let text = "x".repeat(1 << 20);
    let raw = alloc::format!(
        "{{\"payload\":{{\"body\":\"{text}\\ud800\"}},\"request_id\":\"r\",\"type\":\"a\"}}"
    );
    let mut spare = Vec::new();
    let envelope = decode::decode(raw.as_bytes(), &mut spare).unwrap();
    assert_eq!(envelope.id.as_deref(), Some("r"));
    assert_eq!(envelope.fault, Some(PeerFault::Malformed));
    assert!(envelope.payload.is_none() && spare.is_empty());
}

#[test]
fn p159_of_what_ends_to_be_json_the_names_before_that_are_told() {
    let whole = r#"{"type":"a","request_id":"r","payload":{"data":"YQ=="}}"#;
    let after = whole.find(",\"payload").unwrap();
    for end in 0..whole.len() {
        let mut spare = Vec::new();
        let cut = whole.get(..end).unwrap();
        match decode::decode(cut.as_bytes(), &mut spare) {
            Ok(envelope) => {
                assert!(end >= after, "{cut}");
                assert_eq!((&*envelope.kind, envelope.id.as_deref()), ("a", Some("r")));
                assert_eq!(envelope.fault, Some(PeerFault::Malformed));
            }
            Err(fault) => {
                assert_eq!(fault, PeerFault::Malformed);
                assert!(end < after, "{cut}");
            }
        }
    }
}
