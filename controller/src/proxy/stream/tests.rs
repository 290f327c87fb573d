//! The periods and the backpressure of a stream, in virtual time: an agent that speaks the
//! protocol by hand on one side, the client's end of a pipe on the other.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use controlplane_driver::{Hub, Meter, RequestHead, Upgraded};
use futures_util::stream::SplitSink;
use http::Method;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, DuplexStream, duplex},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::compat::{FuturesAsyncReadCompatExt as _, TokioAsyncReadCompatExt as _};

use super::*;
use crate::{line::Line, proxy::Target, self_signed::SelfSigned, server::App, testing::Folder};

const HOUR: Duration = Duration::from_secs(3600);

/// A controller without sockets, and its agent.
struct World {
    app: Arc<App>,
    hub: Hub,
    sink: SplitSink<WebSocketStream<DuplexStream>, WsMessage>,
    messages: mpsc::UnboundedReceiver<Value>,
    _folder: Folder,
}

/// A stream that is open.
struct Open {
    id: String,
    /// The client's end.
    client: DuplexStream,
    carried: JoinHandle<()>,
    at: Instant,
}

impl World {
    async fn start(features: Value, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let folder = Folder::new();
        let made = SelfSigned::create(folder.path("server"), &[]).unwrap();
        let listen = ([127, 0, 0, 1], 0).into();
        let mut config = ServerConfig::new(listen, made.tls(), made.credentials());
        change(&mut config);
        let app = Arc::new(App::new(config).unwrap());
        let hub = app.agents.enlist(&app.credentials.current().agents[0]);
        let hub = hub.unwrap();
        let (ours, theirs) = duplex(1 << 16);
        let meter = Meter::new();
        let io = meter.wrap(ours.compat()).compat();
        let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
        hub.accept(socket, meter);
        let socket = WebSocketStream::from_raw_socket(theirs, Role::Client, None).await;
        let (sink, mut source) = socket.split();
        let (sender, messages) = mpsc::unbounded_channel();
        // Always read, so that the link stays alive for as long as the test wants.
        tokio::spawn(async move {
            while let Some(Ok(message)) = source.next().await {
                if let WsMessage::Text(text) = message {
                    let _ = sender.send(serde_json::from_str(&text).unwrap());
                }
            }
        });
        let mut world = Self {
            app,
            hub,
            sink,
            messages,
            _folder: folder,
        };
        let payload = json!({"agent_id": "a", "features": features});
        world.send("register", "1", payload).await;
        world.expect("register_success").await;
        world
    }

    async fn send(&mut self, kind: &str, id: &str, payload: Value) {
        let message = json!({"type": kind, "request_id": id, "payload": payload});
        let message = WsMessage::text(message.to_string());
        self.sink.send(message).await.unwrap();
    }

    async fn expect(&mut self, kind: &str) -> Value {
        let message = within(self.messages.recv()).await.unwrap();
        assert_eq!(message["type"], kind, "{message}");
        message
    }

    /// Opens a stream whose client is at the other end of a pipe that holds so many bytes.
    async fn open(&mut self, pipe: usize) -> Open {
        let head = RequestHead {
            method: "GET".into(),
            path: "/api/v1/namespaces/n/pods/p/portforward".into(),
            ..RequestHead::default()
        };
        let upgrade = self.hub.open_websocket(None, head, Vec::new()).await;
        let asked = self.expect("proxy_request").await;
        let id = asked["request_id"].as_str().unwrap().to_owned();
        self.send("proxy_response_header", &id, json!({"status": 101}))
            .await;
        let answer = upgrade.unwrap().answer().await.unwrap();
        let Upgraded::Open { reader, writer, .. } = answer else {
            panic!("refused")
        };
        let credentials = self.app.credentials.current();
        let (user, agent) = (&credentials.users[0], &credentials.agents[0]);
        let target = Target {
            cluster: "demo",
            path: "/",
            query: None,
        };
        let peer = ([127, 0, 0, 1], 1).into();
        let carrier = Carrier {
            reader,
            writer,
            grant: Grant::new(self.app.clone(), credentials.clone(), user, agent),
            audit: Audit::new(peer, &Method::GET, &target),
            pulse: Pulse::new(),
            terms: Terms::of(&self.app.config),
        };
        let (ours, client) = duplex(pipe);
        let visit = Arc::new(self.app.admission.enter(peer.ip()).unwrap());
        let line = Line::new(ours, carrier.pulse.clone(), visit);
        Open {
            id,
            client,
            carried: tokio::spawn(carrier.carry(line)),
            at: Instant::now(),
        }
    }

    async fn says(&mut self, id: &str, data: &[u8]) {
        let data = STANDARD.encode([b"\x02", data].concat());
        let payload = json!({"stream_id": id, "data": data});
        self.send("proxy_websocket_data", id, payload).await;
    }

    /// The reason for which the stream's client is gone.
    async fn close_of(&mut self, id: &str) -> String {
        let close = self.expect("proxy_websocket_close").await;
        assert_eq!(close["payload"]["stream_id"], id);
        close["payload"]["reason"].as_str().unwrap().into()
    }
}

/// Virtual time is never too short: only a hang takes so long.
async fn within<T>(step: impl Future<Output = T>) -> T {
    timeout(24 * HOUR, step).await.expect("the test hangs")
}

async fn websocket(client: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(client, Role::Client, None).await
}

fn answering() -> Value {
    json!({"upgrade_answer": true, "supports_response_streaming": true})
}

#[tokio::test(start_paused = true)]
async fn a_quiet_client_gets_a_ping_every_20_s_and_lives_as_long_as_it_answers() {
    let mut world = World::start(answering(), |_| {}).await;
    let stream = world.open(1 << 10).await;
    let start = stream.at;
    let mut client = websocket(stream.client).await;
    for ping in 1..=HOUR.as_secs() / 20 {
        let message = client.next().await.unwrap().unwrap();
        assert_eq!(message, WsMessage::Ping(Bytes::new()));
        assert_eq!(start.elapsed().as_secs(), ping * 20);
    }
    // It reads no more, so that its answer to the last one does not leave either.
    assert_eq!(world.close_of(&stream.id).await, "the client is gone");
    let last_heard = HOUR - Duration::from_secs(20);
    assert_eq!((start.elapsed() - last_heard).as_secs(), 45);
    within(stream.carried).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_anything_lives() {
    let mut world = World::start(answering(), |_| {}).await;
    let stream = world.open(1 << 10).await;
    let mut client = websocket(stream.client).await;
    // It never reads, as what writes a backup might not.
    for _ in 0..HOUR.as_secs() / 40 {
        client.send(WsMessage::text("x")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(40)).await;
        world.expect("proxy_websocket_data").await;
    }
    assert!(!stream.carried.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_is_read_no_faster_than_the_agent_takes_and_is_not_dead_meanwhile() {
    const COUNT: usize = 200;
    let mut features = answering();
    features["request_window"] = json!(1 << 12);
    let mut world = World::start(features, |config| {
        config.agent_limits.chunk = 1 << 12;
        config.agent_limits.send_stream = 1 << 12;
    })
    .await;
    let stream = world.open(1 << 10).await;
    let (mut sink, mut source) = websocket(stream.client).await.split();
    let sending = tokio::spawn(async move {
        for n in 0..COUNT {
            let data = vec![u8::try_from(n).unwrap(); 1 << 12];
            sink.send(WsMessage::binary(data)).await.unwrap();
        }
        sink
    });
    let beats = tokio::spawn(async move {
        let (mut pings, mut pongs) = (0, 0);
        while let Some(Ok(message)) = source.next().await {
            pings += u64::from(message.is_ping());
            pongs += u64::from(message.is_pong());
        }
        (pings, pongs)
    });
    tokio::time::sleep(HOUR).await;
    assert!(!sending.is_finished() && !stream.carried.is_finished());
    let mut taken = Vec::new();
    while let Ok(message) = world.messages.try_recv() {
        taken.push(message);
    }
    assert!((1..=2).contains(&taken.len()), "{} taken", taken.len());

    let grant = json!({"bytes": 1 << 30});
    world.send("proxy_request_grant", &stream.id, grant).await;
    while taken.len() < COUNT {
        taken.push(world.expect("proxy_websocket_data").await);
    }
    for (n, message) in taken.iter().enumerate() {
        let data = message["payload"]["data"].as_str().unwrap();
        let data = STANDARD.decode(data).unwrap();
        assert!(data[0] == 2 && data.len() == (1 << 12) + 1);
        assert!(data[1..].iter().all(|&byte| usize::from(byte) == n));
    }
    drop(sending.await.unwrap());
    stream.carried.abort();
    // Nothing it says could be seen: it was told that it is heard instead of being asked.
    assert_eq!(beats.await.unwrap(), (0, HOUR.as_secs() / 20));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_the_agent_takes_nothing_is_found_out() {
    let mut features = answering();
    features["request_window"] = json!(1);
    let mut world = World::start(features, |config| {
        config.agent_limits.chunk = 1;
        config.agent_limits.send_stream = 1;
    })
    .await;
    let stream = world.open(1 << 10).await;
    let mut client = websocket(stream.client).await;
    for _ in 0..10 {
        client.send(WsMessage::text("x")).await.unwrap();
    }
    world.expect("proxy_websocket_data").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    drop(client);
    within(stream.carried).await.unwrap();
    assert_eq!(stream.at.elapsed(), Duration::from_secs(20) + FAREWELL);
    assert_eq!(world.close_of(&stream.id).await, "the client is gone");
}

#[tokio::test(start_paused = true)]
async fn the_agent_is_read_no_faster_than_the_client_takes() {
    let mut features = answering();
    features["response_window"] = json!(true);
    let mut world = World::start(features, |config| {
        // The window is half of it, and granted anew by quarters.
        config.agent_limits.recv_stream = 1 << 14;
    })
    .await;
    let mut stream = world.open(1 << 10).await;
    for _ in 0..8 {
        world.says(&stream.id, &[7; 1 << 10]).await;
    }
    tokio::time::sleep(Duration::from_secs(10)).await;
    let grants = |world: &mut World| {
        let mut bytes = 0;
        while let Ok(message) = world.messages.try_recv() {
            assert_eq!(message["type"], "proxy_response_grant");
            bytes += message["payload"]["bytes"].as_u64().unwrap();
        }
        bytes
    };
    // The pipe is full with the first, which alone was taken.
    assert_eq!(grants(&mut world), 0);
    let mut taken = vec![0; 8 * ((1 << 10) + 4)];
    stream.client.read_exact(&mut taken).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(grants(&mut world), 8 << 10);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_for_10_min_loses_its_stream() {
    let mut world = World::start(answering(), |_| {}).await;
    let stream = world.open(1 << 10).await;
    world.says(&stream.id, &[7; 1 << 12]).await;
    let reason = world.close_of(&stream.id).await;
    assert_eq!(reason, "the client took nothing for too long");
    assert_eq!(stream.at.elapsed().as_secs(), 600);
    within(stream.carried).await.unwrap();
    drop(stream.client);
}

/// Like a pager, which answers no ping while somebody reads its page.
#[tokio::test(start_paused = true)]
async fn a_client_that_pauses_over_what_it_was_sent_is_not_gone() {
    let mut world = World::start(answering(), |_| {}).await;
    let stream = world.open(1 << 16).await;
    world.says(&stream.id, b"a page").await;
    assert_eq!(world.close_of(&stream.id).await, "the client is gone");
    assert_eq!(stream.at.elapsed().as_secs(), 620);
    let stream = world.open(1 << 16).await;
    assert_eq!(world.close_of(&stream.id).await, "the client is gone");
    assert_eq!(stream.at.elapsed().as_secs(), 45);
    drop(stream.client);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_slowly_and_says_nothing_keeps_its_stream() {
    let mut world = World::start(answering(), |_| {}).await;
    let mut stream = world.open(64).await;
    world.says(&stream.id, &[7; 1 << 13]).await;
    let mut taken = [0; 64];
    for _ in 0..(1 << 13) / 64 {
        tokio::time::sleep(Duration::from_secs(590)).await;
        stream.client.read_exact(&mut taken).await.unwrap();
    }
    assert!(stream.at.elapsed() > HOUR);
    assert!(!stream.carried.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_client_has_2_s_to_answer_the_close() {
    let mut world = World::start(answering(), |_| {}).await;
    let mut stream = world.open(1 << 10).await;
    let payload = json!({"stream_id": stream.id, "code": 1000});
    world
        .send("proxy_websocket_close", &stream.id, payload)
        .await;
    within(stream.carried).await.unwrap();
    assert_eq!(stream.at.elapsed(), FAREWELL);
    let mut rest = Vec::new();
    stream.client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, [0x88, 2, 0x03, 0xe8]);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_much_is_heard_out_and_nothing_of_it_kept() {
    let mut world = World::start(answering(), |config| {
        config.agent_limits.message = 1000;
    })
    .await;
    let stream = world.open(1 << 10).await;
    let mut client = websocket(stream.client).await;
    // It reads only when all has left, which is more than fits into the pipe.
    let long = WsMessage::binary(vec![0; 1 << 16]);
    client.send(long).await.unwrap();
    let reason = "a message of the client is longer than 1000 bytes";
    let WsMessage::Close(Some(frame)) = client.next().await.unwrap().unwrap() else {
        panic!("no close frame")
    };
    assert_eq!((u16::from(frame.code), &*frame.reason), (1009, reason));
    drop(client);
    within(stream.carried).await.unwrap();
    assert_eq!(stream.at.elapsed(), Duration::ZERO);
    assert_eq!(world.close_of(&stream.id).await, reason);

    // The head of a frame is enough to see that it is too long.
    let mut stream = world.open(1 << 10).await;
    let length = (1_u64 << 40).to_be_bytes();
    let head = [&[0x82, 0xff], &length[..], &[0; 4]].concat();
    stream.client.write_all(&head).await.unwrap();
    assert_eq!(world.close_of(&stream.id).await, reason);
}
