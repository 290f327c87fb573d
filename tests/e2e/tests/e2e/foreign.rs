//! A foreign agent, played by hand, behind the reference controller.

use std::{fs, sync::Arc, time::Duration};

use controlplane_driver::{Roots, TlsOptions};
use controlplane_e2e::world::{Settings, World};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest},
};

use crate::{bench::block_on, played::encoded};

/// `hello from far away\n`, 600 times.
const PACKED: &str = "1f8b0800000000000203edc8b10d00101000c0de14bfda174441241ab1bd2d5477e5f5\
    3ac68ab6d78c963bf2e42ddd39e79c73ce39e79c73ce39e79c73ce39e79c73ce39e79c73ce39e79cfb7c0f019d06\
    51e02e0000";

fn packed() -> Vec<u8> {
    let nibbles: Vec<u8> = PACKED
        .chars()
        .filter_map(|c| Some(c.to_digit(16)? as u8))
        .collect();
    nibbles
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// P-039.
fn frame(id: &str, headers: &Value, body: &[u8]) -> Message {
    let headers = headers.to_string();
    let mut frame = (id.len() as u16).to_be_bytes().to_vec();
    frame.extend_from_slice(id.as_bytes());
    frame.extend_from_slice(&200_u32.to_be_bytes());
    frame.extend_from_slice(&(headers.len() as u32).to_be_bytes());
    frame.extend_from_slice(headers.as_bytes());
    frame.extend_from_slice(body);
    Message::binary(frame)
}

/// Dials the controller of `world` as an agent that can do nothing but answer.
async fn dial(world: &World) -> WebSocketStream<TlsStream<TcpStream>> {
    let options = TlsOptions {
        ca_pem: world.ca_pem().unwrap().into_bytes(),
        roots: Roots::Only,
        ..TlsOptions::default()
    };
    let tls = TlsConnector::from(Arc::new(options.client_config().unwrap()));
    let tcp = TcpStream::connect(world.address()).await.unwrap();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let io = tls.connect(name, tcp).await.unwrap();
    let url = format!("wss://{}/api/v1/clusters/agent/ws", world.address());
    let mut request = url.into_client_request().unwrap();
    let token = fs::read_to_string(world.folder().join("agent.token")).unwrap();
    let header = format!("Bearer {}", token.trim()).parse().unwrap();
    request.headers_mut().insert("authorization", header);
    let (mut socket, _) = client_async(request, io).await.unwrap();
    let register = json!({"type": "register", "request_id": "r", "payload":
        {"agent_id": "foreign", "name": "demo", "k8s_version": "v1.28.0"}});
    let text = Message::text(register.to_string());
    socket.send(text).await.unwrap();
    loop {
        let message = socket.next().await.unwrap().unwrap();
        if message.is_text() && message.to_text().unwrap().contains("register_success") {
            return socket;
        }
    }
}

#[test]
fn p037_p039_compressed_and_binary_answers_reach_a_client_as_they_were() {
    block_on(async {
        let world = World::start(Settings::default(), |_| {}).await.unwrap();
        world.agent.shutdown(Duration::ZERO).await;
        let mut socket = dial(&world).await;
        let plain = "hello from far away\n".repeat(600).into_bytes();
        let (sent, expected) = (plain.clone(), plain);
        let agent = tokio::spawn(async move {
            let headers = json!({"Content-Type": ["text/plain"]});
            while let Some(Ok(message)) = socket.next().await {
                let Message::Text(text) = message else {
                    continue;
                };
                let message: Value = serde_json::from_str(&text).unwrap();
                let (id, path) = (&message["request_id"], &message["payload"]["path"]);
                let Some(path) = path.as_str() else { continue };
                let answer = match path {
                    "/api/v1/gzip" => {
                        let body = encoded(&packed());
                        let payload = json!({"status": 200, "headers": headers, "body": body,
                            "encoding": "gzip"});
                        let answer = json!({"type": "proxy_response", "request_id": id,
                            "payload": payload});
                        Message::text(answer.to_string())
                    }
                    "/api/v1/binary" => frame(id.as_str().unwrap(), &headers, &sent),
                    _ => frame(id.as_str().unwrap(), &headers, &packed()),
                };
                socket.send(answer).await.unwrap();
            }
        });
        let client = world.client().unwrap();
        for path in ["/api/v1/gzip", "/api/v1/binary", "/api/v1/packed"] {
            let answer = client.get(path).await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            assert_eq!(answer.header("content-encoding"), None, "{path}");
            assert!(answer.bytes().await.unwrap() == expected, "{path} differs");
        }
        agent.abort();
    });
}
