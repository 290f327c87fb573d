//! Health checks and metrics: on a listener of their own, and true.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use pipeops_controller::{Server, ServerConfig, ServerError};

use crate::world::{World, within};

const LOCAL: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

async fn get(address: SocketAddr, path: &'static str) -> (String, String) {
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().into(), body.into())
    });
    asked.await.unwrap()
}

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|found| found == line)
}

#[tokio::test]
async fn metrics_tell_of_each_cluster_and_of_no_secret() {
    within(async {
        let world = World::with(|config| config.health_listen = Some(LOCAL.into())).await;
        let health = world.running.health_addr().unwrap();
        let connected =
            |n| format!("controlplane_controller_agent_connected{{cluster=\"demo\"}} {n}");
        let (status, page) = get(health, "/metrics").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(has(&page, &connected(0)), "{page}");
        let _agent = world.agent().await;
        assert_eq!(world.ask("GET", "/nowhere").await.status(), 404);
        let (_, page) = get(health, "/metrics").await;
        assert!(has(&page, &connected(1)), "{page}");
        for line in [
            r#"controlplane_controller_registrations_total{cluster="demo"} 1"#,
            r#"controlplane_controller_responses_total{code="1xx"} 1"#,
            r#"controlplane_controller_responses_total{code="4xx"} 1"#,
        ] {
            assert!(has(&page, line), "{line} is not in\n{page}");
        }
        assert!(!page.contains(&world.user) && !page.contains(&world.agent));
        // By default there is none, and the public port has none ever.
        assert_eq!(World::start().await.running.health_addr(), None);
        assert_eq!(world.ask("GET", "/metrics").await.status(), 404);
    })
    .await;
}

#[tokio::test]
async fn the_certificate_is_the_one_that_the_next_client_is_shown() {
    within(async {
        let world = World::with(|config| config.health_listen = Some(LOCAL.into())).await;
        let health = world.running.health_addr().unwrap();
        let pem = fs::read(world.made.ca().with_file_name("cert.pem"));
        let end = controlplane_health::not_after_pem(&pem.unwrap())[0];
        let (_, page) = get(health, "/metrics").await;
        let name = "controlplane_controller_certificate_not_after_timestamp_seconds";
        let line = format!("{name}{{certificate=\"server\"}} {end}");
        assert!(has(&page, &line), "{line} is not in\n{page}");
    })
    .await;
}

#[tokio::test]
async fn it_is_ready_until_it_stops() {
    within(async {
        let world = World::with(|config| config.health_listen = Some(LOCAL.into())).await;
        let health = world.running.health_addr().unwrap();
        let ready = get(health, "/readyz").await;
        assert_eq!(ready, ("HTTP/1.1 200 OK".into(), "ok\n".into()));
        let mut agent = world.agent().await;
        let open = tokio::spawn({
            let request = world.request("GET", "/clusters/demo/api/v1/pods");
            let mut client = world.client().await;
            async move {
                client
                    .send(request.body(crate::world::empty()).unwrap())
                    .await
            }
        });
        agent.request().await;
        let running = world.running;
        let stopping = tokio::spawn(running.shutdown(Duration::from_secs(600)));
        // As soon as it has begun.
        loop {
            let (status, state) = get(health, "/readyz").await;
            if status == "HTTP/1.1 503 Service Unavailable" {
                assert_eq!(state, "stopping\n");
                break;
            }
        }
        assert_eq!(get(health, "/livez").await.1, "ok\n");
        stopping.abort();
        open.abort();
    })
    .await;
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_option() {
    within(async {
        let world = World::start().await;
        let taken = world.running.addr();
        let listen = SocketAddr::from(LOCAL);
        let made = &world.made;
        let mut config = ServerConfig::new(listen, made.tls(), made.credentials());
        config.health_listen = Some(taken);
        let error = Server::start(config).await.unwrap_err();
        assert!(matches!(error, ServerError::Health { .. }));
        let text = error.to_string();
        let begin = format!("cannot listen on {taken} for health checks: ");
        assert!(text.starts_with(&begin), "{text}");
        assert!(text.ends_with("; choose another --health-listen"), "{text}");
    })
    .await;
}
