//! Bodies as kubectl sends them, and broken ones.

use super::*;

fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(content);
    out
}

fn entry(number: u8, key: &str, value: &[u8]) -> Vec<u8> {
    bytes(
        number,
        &[bytes(1, key.as_bytes()), bytes(2, value)].concat(),
    )
}

fn envelope(kind: &str, raw: &[u8]) -> Vec<u8> {
    let meta = [bytes(1, b"v1"), bytes(2, kind.as_bytes())].concat();
    [
        MAGIC.to_vec(),
        bytes(1, &meta),
        bytes(2, raw),
        bytes(3, b""),
        bytes(4, b""),
    ]
    .concat()
}

#[test]
fn reads_a_config_map() {
    let long = "x".repeat(300);
    let meta = [
        bytes(1, b"a"),
        bytes(3, b""),
        entry(11, "l", b"1"),
        entry(12, "n", b"2"),
    ];
    let raw = [
        bytes(1, &meta.concat()),
        entry(2, "k", long.as_bytes()),
        entry(2, "empty", b""),
        entry(3, "b", &[0, 255]),
        vec![4 << 3, 1],
        // A field that does not exist yet.
        bytes(15, b"new"),
    ];
    assert_eq!(
        decode(&envelope("ConfigMap", &raw.concat())),
        Ok(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "a", "labels": {"l": "1"}, "annotations": {"n": "2"}},
            "data": {"k": long, "empty": ""},
            "binaryData": {"b": "AP8="},
            "immutable": true,
        }))
    );
}

#[test]
fn reads_a_namespace_as_kubectl_sends_it() {
    // `kubectl create namespace e`: name, empty strings, a zero time, empty spec and status.
    let meta = [
        bytes(1, b"e"),
        bytes(2, b""),
        bytes(5, b""),
        vec![7 << 3, 0],
        bytes(8, b""),
    ];
    let raw = [
        bytes(1, &meta.concat()),
        bytes(2, b""),
        bytes(3, &bytes(1, b"")),
    ]
    .concat();
    assert_eq!(
        decode(&envelope("Namespace", &raw)),
        Ok(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "e"}}))
    );
}

#[test]
fn reads_the_options_of_a_delete() {
    let raw = [bytes(2, &bytes(1, b"u")), bytes(5, b"All")].concat();
    let options = decode(&envelope("DeleteOptions", &raw)).unwrap();
    assert_eq!(options["preconditions"], json!({"uid": "u"}));
    assert_eq!(options["dryRun"], json!(["All"]));
}

#[test]
fn refuses_what_it_cannot_read() {
    assert_eq!(decode(b"{}"), Err(ProtobufError::Magic));
    assert_eq!(decode(&envelope("Pod", b"")), Err(ProtobufError::Kind));
    assert_eq!(decode(b"k8s\0\x12\x05ab"), Err(ProtobufError::Truncated));
    assert_eq!(decode(b"k8s\0\x13"), Err(ProtobufError::Malformed));
    let endless = [b"k8s\0".as_slice(), &[0xff; 11]].concat();
    assert_eq!(decode(&endless), Err(ProtobufError::Malformed));
    let not_text = envelope("ConfigMap", &bytes(1, &bytes(1, &[0xff])));
    assert_eq!(decode(&not_text), Err(ProtobufError::Text));
    // Every prefix of a good one is an error or a shorter object, never a panic.
    let good = envelope("ConfigMap", &entry(2, "k", b"v"));
    for end in 0..good.len() {
        let _ = decode(&good[..end]);
    }
}
