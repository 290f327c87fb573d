//! Against hyper's own server and scripted ones, over streams that pass one piece at a time.

mod bodies;
mod ends;
mod kept;
mod upgrades;

use std::{
    convert::Infallible,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use controlplane_core::{AgentInfo, ResponseHead, StreamEnd, StreamId};
use futures_util::{AsyncReadExt, AsyncWriteExt, StreamExt};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::{server::conn::http1 as server, service::service_fn};

use super::*;
use crate::{
    body::{Event, Piece},
    ends::Ends,
    hub::{Answer, RequestBody, Switch},
};

const ID: StreamId = StreamId(1);

struct Tokio;

impl Host for Tokio {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(span))
    }

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// The two ends of one stream, as two machines with a window of one piece would make them.
fn pair() -> (ByteStream, ByteStream) {
    let (mut near, mut far) = (Ends::new(), Ends::new());
    let streams = (near.open_duplex(ID), far.open_duplex(ID));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                Some((_, event)) = near.incoming.next() => pass(event, &mut near, &mut far),
                Some((_, event)) = far.incoming.next() => pass(event, &mut far, &mut near),
                else => break,
            }
            if near.by_id.is_empty() {
                break;
            }
        }
    });
    streams
}

fn pass(event: Event, from: &mut Ends, to: &mut Ends) {
    match event {
        Event::Data(kind, data) => to.hand(ID, Piece::Data(kind, data)),
        Event::Consumed(_) => {
            if let Some(end) = to.by_id.get(&ID) {
                let _ = end.taken.unbounded_send(());
            }
        }
        Event::Ended(StreamEnd::Clean) => to.hand(ID, Piece::End),
        Event::Cancel => {
            from.forget(ID);
            to.hand(ID, Piece::Failed(Failure::Reset));
            to.forget(ID);
        }
        other => panic!("{other:?}"),
    }
}

/// A client, and what answers on the streams that it opens.
struct World {
    client: Arc<Client>,
    joined: Arc<Joined>,
    dials: Arc<AtomicUsize>,
}

fn joined() -> Joined {
    Joined {
        info: AgentInfo::default(),
        policy: None,
        streams_responses: true,
        keeps_window: true,
        streams_requests: true,
        request_window: None,
        opens_websockets: true,
        answers_upgrades: true,
        opens_tunnels: true,
        yamux: true,
        http_streams: true,
    }
}

type Reply = Result<Response<UnsyncBoxBody<Bytes, std::io::Error>>, Infallible>;

impl World {
    /// Each stream is served by a call of `serve`.
    fn new<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(ByteStream) -> F + Send + Sync + 'static,
    ) -> Self {
        let dials = Arc::new(AtomicUsize::new(0));
        let joined = Arc::new(joined());
        let (counted, told) = (dials.clone(), joined.clone());
        let dial: Dial = Box::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            let (near, far) = pair();
            tokio::spawn(serve(far));
            let told = told.clone();
            Box::pin(async move { Ok((near, told)) })
        });
        Self {
            client: Client::new(Tokio, dial, 1 << 16),
            joined,
            dials,
        }
    }

    /// hyper's server.
    fn serving<F: Future<Output = Reply> + Send + 'static>(
        answer: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::new(move |stream| {
            let service = service_fn(answer.clone());
            async move {
                let connection = server::Builder::new().serve_connection(stream, service);
                let _ = connection.with_upgrades().await;
            }
        })
    }

    async fn ask(&self, head: RequestHead, has_body: bool) -> (RequestBody, Answer) {
        let asked = self
            .client
            .request(None, Some(&self.joined), head, has_body);
        let (sink, exchange, arrival) = asked.await.unwrap();
        let body = RequestBody::fast(sink, exchange.clone());
        (body, Answer::fast(exchange, arrival))
    }

    /// A request without a body, and its whole answer.
    async fn get(&self) -> Result<(ResponseHead, Vec<u8>), Failure> {
        let (_body, mut answer) = self.ask(head("GET", &[]), false).await;
        let head = answer.head().await?;
        Ok((head, rest(&mut answer).await?))
    }

    fn dials(&self) -> usize {
        self.dials.load(Ordering::Relaxed)
    }
}

fn head(method: &str, headers: &[(&str, &str)]) -> RequestHead {
    let headers = headers.iter().map(|(n, v)| ((*n).into(), (*v).into()));
    RequestHead {
        method: method.into(),
        path: "/api/v1/pods".into(),
        query: Some("watch=true".into()),
        headers: headers.collect(),
    }
}

async fn rest(answer: &mut Answer) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    while let Some(piece) = answer.next().await {
        all.extend_from_slice(&piece?);
    }
    Ok(all)
}

fn text(status: u16, body: &'static str) -> Reply {
    let body = Full::new(Bytes::from_static(body.as_bytes()));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    Ok(Response::builder().status(status).body(body).unwrap())
}

/// Reads a request without a body up to its end.
async fn read_head(stream: &mut ByteStream) -> Option<String> {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        all.push(byte[0]);
    }
    String::from_utf8(all).ok()
}

/// Writes this, and has it arrive.
async fn say(stream: &mut ByteStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
}
