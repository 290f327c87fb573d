//! The settings of the agent program arrive where they matter.

use controlplane_driver::{Runtime, Token};
use pipeops_agent::{Config, agent_id::AgentId};
use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::{
    bench::on_both,
    played::{Played, TOKEN, encoded, listen},
    upstream::Api,
};

on_both! {
    tunnels_gateways_and_binary_answers_are_as_configured
}

async fn tunnels_gateways_and_binary_answers_are_as_configured<R: Runtime>(runtime: R) {
    let (controller, at) = listen().await;
    let (gateway, gateway_at) = listen().await;
    let (service, service_at) = listen().await;
    let mut api = Api::new().await;
    let token = Token::new(TOKEN).unwrap();
    let id = AgentId::Given("agent-1".into());
    let url = format!("ws://{at}");
    let mut config = Config::new(url, token, "prod", id, api.config());
    config.allow_plaintext = true;
    config.binary_answers = true;
    config.gateways = vec!["127.0.0.1".into()];
    config.tunnels = vec![format!("localhost:{}", service_at.port()).parse().unwrap()];
    let answers = tokio::spawn(async move {
        loop {
            let mut connection = api.accept().await;
            let body = match connection.head().await {
                head if head.starts_with("GET /version ") => {
                    r#"{"gitVersion":"v1.32.4"}"#.to_string()
                }
                _ => "x".repeat(20_000),
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", body.len());
            let text = format!("{head}Connection: close\r\n\r\n{body}");
            connection.write(&text).await;
        }
    });
    let _agent = pipeops_agent::start(runtime, config).await.unwrap();
    let named = json!({"gateway_ws_url": format!("ws://{gateway_at}/ws")});
    let _old = Played::register(&controller, named).await;
    let mut played = Played::accept(&gateway).await;

    let start = json!({"tunnel_id": "t", "gateway_port": service_at.port()});
    played.say("tcp_tunnel_start", "c-1", start).await;
    let (mut tcp, _) = service.accept().await.unwrap();
    let data = json!({"data": encoded(b"a")});
    played.say("tcp_tunnel_data", "c-1", data).await;
    assert_eq!(tcp.read_u8().await.unwrap(), b'a');

    let request = json!({"method": "GET", "path": "/api/v1/x", "headers": {}});
    played.say("proxy_request", "r-1", request).await;
    let frame = played.binary().await;
    assert!(frame.starts_with(b"\0\x03r-1\0\0\0\xc8"), "not an answer");
    assert!(frame.ends_with(&[b'x'; 20_000]), "not the body");
    answers.abort();
}
