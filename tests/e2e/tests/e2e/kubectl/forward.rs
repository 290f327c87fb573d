//! Port forwarding with many connections at once. It works with whatever the kubeconfig of the
//! kubectl leads to: the stand-in itself, or a controller before it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use controlplane_e2e::{standin::StandIn, world::World};
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{Following, Kubectl, kubectl};
use crate::bench::{in_both_worlds_within, pattern, skipped_in_json};

/// For what has much to do.
const LONG: Duration = Duration::from_secs(180);

in_both_worlds_within! {
    LONG;
    through_the_tunnel_by_web_socket
    through_the_tunnel_by_spdy
}

/// How many connections there are.
const CONNECTIONS: usize = 20;

/// The one of them that is reset.
const RESET: usize = 7;

/// What each sends before and after the reset: several frames.
const HALF: usize = 128 << 10;

/// The port of the pod.
const PORT: u16 = 8080;

/// What kubectl carries the connections by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    WebSocket,
    Spdy,
}

/// A kubectl that forwards, on a port of its own choice.
async fn start(kubectl: &Kubectl, by: By, port: u16) -> Result<(Following, SocketAddr)> {
    let ports = format!(":{port}");
    let mut command = kubectl.command(&["port-forward", "--address=127.0.0.1", "web-0", &ports]);
    let web_sockets = (by == By::WebSocket).to_string();
    command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", web_sockets);
    let mut forwarding = Following::of(command.spawn()?)?;
    let line = forwarding.until("Forwarding from 127.0.0.1:").await?;
    let number = line.split([':', ' ']).nth(3).context("no port")?;
    let number = number.parse().with_context(|| line.clone())?;
    Ok((forwarding, SocketAddr::from((Ipv4Addr::LOCALHOST, number))))
}

/// What runs in the pod: it sends back what comes, up to its end, and tells how each connection
/// ended.
struct Pod {
    port: u16,
    ends: mpsc::UnboundedReceiver<Result<u64, std::io::ErrorKind>>,
    listening: JoinHandle<()>,
}

impl Pod {
    async fn start() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let (tell, ends) = mpsc::unbounded_channel();
        let listening = tokio::spawn(async move {
            while let Ok((mut tcp, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let (mut from, mut to) = tcp.split();
                    let copied = tokio::io::copy(&mut from, &mut to).await;
                    // Nobody may be left who wants to know.
                    let _ = tell.send(copied.map_err(|error| error.kind()));
                });
            }
        });
        Ok(Self {
            port,
            ends,
            listening,
        })
    }

    async fn end(&mut self) -> Result<Result<u64, std::io::ErrorKind>> {
        self.ends.recv().await.context("the pod has ended")
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Forwards 20 connections at once, of which one is reset in the middle of its bytes. All others
/// get theirs, the end of each direction arrives by itself, and the pod hears of the reset. In the
/// end, connections can still be made.
pub(crate) async fn twenty_of_which_one_is_reset(
    kubectl: &Kubectl,
    standin: &StandIn,
    by: By,
) -> Result<()> {
    let mut pod = Pod::start().await?;
    standin.set_port("web-0", PORT, Some(pod.port))?;
    standin.clear_requests();
    let (_forwarding, address) = start(kubectl, by, PORT).await?;
    ensure!(carried(standin) == Some(by), "kubectl took another way");
    let halfway = watch::Sender::new(0);
    let (go, gone) = watch::channel(false);
    let connections = (0..CONNECTIONS).map(|number| {
        let (halfway, gone) = (&halfway, gone.clone());
        async move {
            let done = connection(number, address, halfway, gone).await;
            done.with_context(|| format!("connection {number}"))
        }
    });
    let reset = async {
        let mut halfway = halfway.subscribe();
        halfway.wait_for(|count| *count == CONNECTIONS).await?;
        // All are in the middle. The reset one ends first, in the pod, too: kubectl tells of it
        // with an end of the stream, or with a reset, whichever comes first in it.
        let end = pod.end().await?;
        ensure!(end.is_err() || end == Ok(HALF as u64), "{end:?}");
        go.send_replace(true);
        for _ in 1..CONNECTIONS {
            let end = pod.end().await?;
            ensure!(end == Ok(2 * HALF as u64), "{end:?}");
        }
        Ok(())
    };
    tokio::try_join!(try_join_all(connections), reset)?;
    // One more, after all that.
    go.send_replace(true);
    connection(RESET + 1, address, &halfway, gone).await
}

/// One connection. The reset one is reset halfway, the others wait for that.
async fn connection(
    number: usize,
    address: SocketAddr,
    halfway: &watch::Sender<usize>,
    mut gone: watch::Receiver<bool>,
) -> Result<()> {
    let mut tcp = TcpStream::connect(address).await?;
    let sent: Vec<u8> = pattern(2 * HALF + number).split_off(number);
    let (first, second) = sent.split_at(HALF);
    let (mut from, mut to) = tcp.split();
    exchange(&mut from, &mut to, first).await?;
    halfway.send_modify(|count| *count += 1);
    if number == RESET {
        let count = CONNECTIONS;
        let mut halfway = halfway.subscribe();
        halfway.wait_for(|halfway| *halfway == count).await?;
        return Ok(tcp.set_zero_linger()?);
    }
    gone.wait_for(|gone| *gone).await?;
    exchange(&mut from, &mut to, second).await?;
    to.shutdown().await?;
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).await?;
    ensure!(rest.is_empty(), "{} bytes too many", rest.len());
    Ok(())
}

/// Sends bytes and gets them back.
async fn exchange(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>, sent: &[u8]) -> Result<()> {
    let mut back = vec![0; sent.len()];
    let read = async { Ok(from.read_exact(&mut back).await?) };
    let write = async { anyhow::Ok(to.write_all(sent).await?) };
    tokio::try_join!(write, read)?;
    ensure!(back == sent, "other bytes come back");
    Ok(())
}

/// A port where nobody listens: the connection ends without a byte, and kubectl tells why.
pub(crate) async fn a_port_where_nobody_listens(kubectl: &Kubectl, by: By) -> Result<()> {
    let (forwarding, address) = start(kubectl, by, 9999).await?;
    let mut tcp = TcpStream::connect(address).await?;
    let mut bytes = Vec::new();
    // It may also end with a reset.
    drop(tcp.read_to_end(&mut bytes).await);
    ensure!(bytes.is_empty(), "{} bytes came", bytes.len());
    let (success, error) = forwarding.end().await?;
    ensure!(!success, "kubectl takes it for a success");
    ensure!(
        error.contains("error forwarding port 9999 to pod ")
            && error.contains("dial tcp4 127.0.0.1:9999: connect: connection refused"),
        "{error}"
    );
    Ok(())
}

/// How the API server was asked to forward.
fn carried(standin: &StandIn) -> Option<By> {
    let requests = standin.requests();
    let mut asked = requests
        .iter()
        .filter(|request| request.path.contains("/portforward"));
    let request = asked.next()?;
    match (request.header("upgrade")?, asked.next()) {
        ("websocket", None) => Some(By::WebSocket),
        ("SPDY/3.1", None) => Some(By::Spdy),
        _ => None,
    }
}

async fn through_the_tunnel_by_web_socket(world: World) -> Result<()> {
    let kubectl = kubectl!(world);
    twenty_of_which_one_is_reset(&kubectl, &world.standin, By::WebSocket).await?;
    a_port_where_nobody_listens(&kubectl, By::WebSocket).await
}

async fn through_the_tunnel_by_spdy(world: World) -> Result<()> {
    if skipped_in_json("there is no SPDY") {
        return Ok(());
    }
    let kubectl = kubectl!(world);
    twenty_of_which_one_is_reset(&kubectl, &world.standin, By::Spdy).await?;
    a_port_where_nobody_listens(&kubectl, By::Spdy).await
}
