//! One client's connection: TLS, HTTP/1.1, what each of its requests is answered by, and what
//! becomes of it after an answer that switches protocols.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    admission::Visit,
    body::ResponseBody,
    endpoint,
    line::Line,
    proxy,
    pulse::{Overdue, Patience, Pulse},
    reload::lock,
    route::Route,
    server::App,
    status::{Refusal, plain},
};

/// For an idle connection to be closed politely.
const FAREWELL: Duration = Duration::from_secs(5);
/// What of an unwanted request body is read before the answer, so that the client gets to see
/// the answer instead of a reset connection.
const UNWANTED: u64 = 256 << 10;

/// Who is at the other end, and how things stand with the connection. Clones are of the same one.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) peer: SocketAddr,
    pub(crate) visit: Arc<Visit>,
    pub(crate) pulse: Pulse,
    /// Whether the server stops.
    stopping: watch::Receiver<bool>,
    /// What the connection is for once it has switched protocols.
    sequel: Arc<Mutex<Option<BoxFuture<'static, ()>>>>,
}

impl Client {
    pub(crate) fn new(peer: SocketAddr, visit: Visit, stopping: watch::Receiver<bool>) -> Self {
        Self {
            peer,
            visit: Arc::new(visit),
            pulse: Pulse::new(),
            stopping,
            sequel: Arc::default(),
        }
    }

    /// Whether the server stops, so that nothing new is to begin.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Has `sequel` run once the answer that switches protocols has left, as a part of the
    /// connection: the server waits for its end. Dropped unasked, the answer has not left.
    pub(crate) fn goes_on(&self, sequel: impl Future<Output = ()> + Send + 'static) {
        *lock(&self.sequel) = Some(Box::pin(sequel));
    }
}

/// Serves one connection until it ends.
pub(crate) async fn serve(app: Arc<App>, tcp: TcpStream, client: Client) {
    // A client that vanished is noticed although nothing is sent to it.
    let _ = controlplane_driver::tune(&tcp);
    let peer = client.peer;
    let line = Line::new(tcp, client.pulse.clone(), client.visit.clone());
    let acceptor = TlsAcceptor::from(app.tls.current().config.clone());
    let patience = app.config.limits.tls_handshake;
    let stream = match timeout(patience, acceptor.accept(line)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS handshake"),
        Err(_) => return tracing::debug!(%peer, "the TLS handshake took too long"),
    };
    if let Err(error) = drive(app, stream, &client).await {
        return tracing::debug!(%peer, %error, "connection ended");
    }
    let sequel = lock(&client.sequel).take();
    if let Some(sequel) = sequel {
        sequel.await;
    }
}

async fn drive(
    app: Arc<App>,
    stream: TlsStream<Line>,
    client: &Client,
) -> Result<(), hyper::Error> {
    let limits = app.config.limits;
    let patience = Patience {
        head: limits.head_read,
        idle: limits.idle,
        write: limits.write,
    };
    let service = service_fn(|request| {
        let busy = client.pulse.busy();
        let (app, client) = (app.clone(), client.clone());
        async move {
            let response = respond(&app, &client, request).await;
            app.responses.count(response.status());
            Ok::<_, Infallible>(response.map(|body| body.keep_busy(busy)))
        }
    });
    let connection = http1::Builder::new()
        .max_buf_size(limits.head)
        .max_header_size(limits.head)
        // The pulse knows a connection that is kept from one that does not get ahead.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    client.pulse.begins();
    let mut stopping = client.stopping.clone();
    tokio::select! {
        ended = connection.as_mut() => return ended,
        overdue = client.pulse.overdue(patience) => {
            if overdue != Overdue::Idle {
                tracing::debug!(peer = %client.peer, ?overdue, "connection dropped");
                return Ok(());
            }
            connection.as_mut().graceful_shutdown();
            return timeout(FAREWELL, connection).await.unwrap_or(Ok(()));
        }
        () = stopped(&mut stopping) => connection.as_mut().graceful_shutdown(),
    }
    // The server drops what does not end in time.
    connection.await
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // Without a sender the server is gone, and so is everything it serves.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

async fn respond(
    app: &Arc<App>,
    client: &Client,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let uri = request.uri().clone();
    let route = Route::of(uri.path());
    if client.visit.refused && route != Route::Health {
        let message = "too many connections of this address have shown no token yet";
        return Refusal::unavailable(message)
            .retry_after(endpoint::spread())
            .with(header::CONNECTION, HeaderValue::from_static("close"))
            .response();
    }
    match route {
        Route::Agent => match endpoint::respond(app, client, request).await {
            Ok(response) => response,
            Err(refused) => {
                let code = refused.code.as_u16();
                tracing::warn!(peer = %client.peer, code, reason = refused.message, "agent refused");
                refused.response()
            }
        },
        Route::Cluster { cluster, path } => {
            let target = proxy::Target {
                cluster,
                path,
                query: uri.query(),
            };
            proxy::respond(app, client, target, request).await
        }
        Route::Health => plain(StatusCode::OK, "text/plain; charset=utf-8", "ok"),
        Route::None => {
            discard(request).await;
            let message = "there is nothing here: clusters are below /clusters/CLUSTER/, a prefix \
                           that `kubectl get --raw` needs, too";
            Refusal::not_found(message).response()
        }
    }
}

/// Reads what a client is sending although nobody wants it, up to a limit.
pub(crate) async fn discard(request: Request<Incoming>) {
    // Who asks first hears the answer first.
    let asks = request.headers().contains_key(header::EXPECT);
    let mut body = request.into_body();
    if asks || body.size_hint().lower() > UNWANTED {
        return;
    }
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > UNWANTED {
                break;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = sleep(FAREWELL) => {}
    }
}
