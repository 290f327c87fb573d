//! Streams that switch protocols.

use super::*;
use crate::hub::Switched;

const HANDSHAKE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "SPDY/3.1"),
    ("x-stream-protocol-version", "v5.channel.k8s.io"),
    ("x-stream-protocol-version", "v4.channel.k8s.io"),
];

async fn switch(world: &World) -> Switch {
    let sent = world.client.upgrade(None, head("POST", &HANDSHAKE)).await;
    let (exchange, arrival) = sent.unwrap();
    Switch::new(exchange, arrival)
}

#[tokio::test]
async fn after_a_101_the_stream_is_opaque_from_its_first_byte_on() {
    let world = World::new(async |mut stream| {
        let head = read_head(&mut stream).await.unwrap();
        assert!(
            head.starts_with("POST /api/v1/pods?watch=true HTTP/1.1\r\n"),
            "{head}"
        );
        for (name, value) in HANDSHAKE {
            assert!(head.contains(&format!("{name}: {value}\r\n")), "{head}");
        }
        assert!(!head.contains("transfer-encoding"), "{head}");
        say(
            &mut stream,
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\
             X-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n\0first",
        )
        .await;
        // The client's half ends, and this one goes on.
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, b"\x01opaque");
        say(&mut stream, " last").await;
        stream.close().await.unwrap();
    });
    let Switched::Open { head, mut stream } = switch(&world).await.answer().await.unwrap() else {
        panic!("refused")
    };
    assert_eq!(head.status, 101);
    let names: Vec<_> = head.headers.iter().map(|(name, _)| &**name).collect();
    assert_eq!(
        names,
        ["connection", "upgrade", "x-stream-protocol-version"]
    );
    let mut first = [0; 6];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"\0first");
    stream.write_all(b"\x01opaque").await.unwrap();
    stream.close().await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b" last");
}

#[tokio::test]
async fn a_refusal_comes_whole() {
    let world = World::serving(async |_| text(403, "no such right"));
    let answer = switch(&world).await.answer().await.unwrap();
    let Switched::Refused(head, mut answer) = answer else {
        panic!("not refused")
    };
    assert_eq!(head.status, 403);
    assert_eq!(rest(&mut answer).await.unwrap(), b"no such right");
}

#[tokio::test]
async fn who_does_not_wait_for_the_answer_gives_it_up() {
    let (tell, mut told) = futures_channel::mpsc::unbounded();
    let world = World::new(move |mut stream| {
        let tell = tell.clone();
        async move {
            read_head(&mut stream).await.unwrap();
            tell.unbounded_send(false).unwrap();
            let ended = stream.read(&mut [0]).await;
            tell.unbounded_send(ended.is_err()).unwrap();
        }
    });
    let sent = switch(&world).await;
    assert_eq!(told.next().await, Some(false));
    drop(sent);
    assert_eq!(told.next().await, Some(true));
    let failed = World::new(async |mut stream| {
        read_head(&mut stream).await.unwrap();
    });
    let failure = switch(&failed).await.answer().await.unwrap_err();
    assert_eq!(failure, Failure::Reset);
}
