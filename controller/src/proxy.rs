//! `/clusters/CLUSTER/…`: an operator's request on its way to the cluster's Kubernetes API, and
//! what comes back: an answer, or a WebSocket.

mod answer;
mod audit;
mod failure;
mod grant;
mod guard;
mod passage;
mod permit;
mod stream;
mod upgrade;
mod upload;

use std::sync::Arc;

use controlplane_driver::{MessageReader, MessageWriter, OpenError, ResponseHead, Upgraded};
use http::{HeaderValue, Request, Response, StatusCode, header};
use hyper::{
    body::{Body as _, Incoming},
    upgrade::OnUpgrade,
};

use self::{
    answer::Pour,
    audit::{Audit, End},
    failure::refusal,
    grant::Grant,
    passage::Passage,
    permit::{Permitted, permit},
    stream::{Carrier, Terms},
    upgrade::{Handshake, Wish},
    upload::Upload,
};
use crate::{
    body::ResponseBody,
    connection::{Client, discard},
    handshake,
    server::App,
    status::Refusal,
};

/// `Retry-After` of what passes by itself. client-go asks ten times before it shows the text, and
/// kubectl does that five times, so it is set only where waiting helps, and short.
const SOON: u64 = 1;
const STOPPING: &str = "the controller is shutting down";
/// Where kubectl reads the code of an error but not its status.
const DISCOVERY: [&str; 3] = ["/api", "/apis", "/version"];

/// Whom a request is for, and what that one is asked.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    /// Id or name of the cluster.
    pub(crate) cluster: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
}

/// What came of a request.
enum Outcome {
    Answer(ResponseHead, Pour),
    Passage(Box<Passage>),
    Stream(Opened),
}

/// A WebSocket of JSON mode whose client is still to be told.
struct Opened {
    head: ResponseHead,
    reader: MessageReader,
    writer: MessageWriter,
    accept: HeaderValue,
    grant: Grant,
}

pub(crate) async fn respond(
    app: &Arc<App>,
    client: &Client,
    target: Target<'_>,
    mut request: Request<Incoming>,
) -> Response<ResponseBody> {
    let mut audit = Audit::new(client.peer, request.method(), &target);
    let upgrade = hyper::upgrade::on(&mut request);
    let outcome = match permit(app, client, target, &request, &mut audit) {
        Ok((permitted, _)) if permitted.switches => {
            passage::open(client, permitted, &mut audit).await
        }
        Ok((permitted, Wish::WebSocket(handshake))) => {
            open(client, permitted, handshake, &mut audit).await
        }
        Ok((permitted, wish)) => relay(permitted, &wish, request.into_body(), &mut audit).await,
        Err(refused) => {
            discard(request).await;
            Err(refused)
        }
    };
    match outcome {
        Ok(Outcome::Answer(head, pour)) => pour.response(head, audit).await,
        Ok(Outcome::Passage(passage)) => passage.begin(app, client, upgrade, audit),
        Ok(Outcome::Stream(opened)) => opened.begin(app, client, upgrade, audit),
        Err(refused) => {
            let refused = match DISCOVERY.contains(&target.path) {
                true => refused.with_warning(),
                false => refused,
            };
            let response = refused.response();
            audit.answered(response.status(), response.body().len());
            response
        }
    }
}

/// Asks the agent, and returns with the head of its answer.
async fn relay(
    permitted: Permitted,
    wish: &Wish,
    body: Incoming,
    audit: &mut Audit,
) -> Result<Outcome, Refusal> {
    let Permitted {
        hub,
        head,
        policy,
        away,
        grant,
        ..
    } = permitted;
    let has_body = !body.is_end_stream();
    let bodiless = head.method == "HEAD";
    // The agent may have come back with another policy since it was looked at.
    let opened = match policy {
        Some(policy) => hub.request_under(policy, head, has_body).await,
        None => hub.request(head, has_body).await,
    };
    let (outgoing, mut answer) = match opened {
        Ok(opened) => opened,
        Err(OpenError::Away | OpenError::Mode | OpenError::Policy) => return Err(away),
        Err(error) => return Err(not_opened(error)),
    };
    let upload = Upload::start(body, outgoing, grant.clone(), audit.bytes_in());
    let head = answer.head().await.map_err(|failure| {
        audit.end(End::failed(&failure, upload.client_left()));
        refusal(&failure)
    })?;
    let mut pour = Pour::new(answer, upload, grant, bodiless);
    if matches!(wish, Wish::Spdy) && upgrade::lacks_only_upgrade(head.status, &mut pour).await {
        let joined = hub.joined();
        return Err(
            match joined.is_some_and(|joined| !joined.opens_websockets) {
                true => not_opened(OpenError::WebSocket),
                false => upgrade::no_spdy(),
            },
        );
    }
    Ok(Outcome::Answer(head, pour))
}

/// Asks the agent for a WebSocket in JSON mode, and returns when the Kubernetes API has opened it or refused.
async fn open(
    client: &Client,
    permitted: Permitted,
    handshake: Handshake,
    audit: &mut Audit,
) -> Result<Outcome, Refusal> {
    let Permitted {
        hub,
        head,
        policy,
        away,
        grant,
        ..
    } = permitted;
    let Handshake { accept, protocols } = handshake;
    let opened = hub.open_websocket(policy, head, protocols).await;
    let upgrade = match opened {
        Ok(upgrade) => upgrade,
        Err(OpenError::Away | OpenError::Mode | OpenError::Policy) => return Err(away),
        Err(error) => return Err(not_opened(error)),
    };
    match upgrade.answer().await {
        // A connection that is being closed can no longer switch protocols.
        Ok(Upgraded::Open { writer, .. }) if client.is_stopping() => {
            writer.abort(STOPPING);
            Err(Refusal::unavailable(STOPPING).retry_after(SOON))
        }
        Ok(Upgraded::Open {
            head,
            reader,
            writer,
        }) => Ok(Outcome::Stream(Opened {
            head,
            reader,
            writer,
            accept,
            grant,
        })),
        Ok(Upgraded::Refused(head, answer)) => {
            let pour = Pour::new(answer, Upload::none(), grant, false);
            Ok(Outcome::Answer(head, pour))
        }
        Err(failure) => {
            audit.end(End::failed(&failure, false));
            Err(refusal(&failure))
        }
    }
}

impl Opened {
    /// The answer that switches protocols, after which the stream is carried.
    fn begin(
        self,
        app: &App,
        client: &Client,
        upgrade: OnUpgrade,
        mut audit: Audit,
    ) -> Response<ResponseBody> {
        let mut response = handshake::switching(self.accept);
        // Everything else of the head is about the agent's own connection.
        let chosen = self.head.headers.into_iter().find(|(name, _)| {
            let protocol = header::SEC_WEBSOCKET_PROTOCOL;
            name.eq_ignore_ascii_case(protocol.as_str())
        });
        let chosen = chosen.and_then(|(_, value)| HeaderValue::try_from(value).ok());
        if let Some(chosen) = chosen {
            let headers = response.headers_mut();
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        }
        audit.status(response.status());
        let carrier = Carrier {
            reader: self.reader,
            writer: self.writer,
            grant: self.grant,
            audit,
            pulse: client.pulse.clone(),
            terms: Terms::of(&app.config),
        };
        client.goes_on(carrier.run(upgrade));
        response
    }
}

fn not_opened(error: OpenError) -> Refusal {
    let text = error.to_string();
    match error {
        OpenError::HeadTooLong => Refusal::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text),
        OpenError::TooManyStreams => {
            Refusal::new(StatusCode::TOO_MANY_REQUESTS, text).retry_after(SOON)
        }
        OpenError::WebSocket => {
            let hint = "so exec, attach, cp and port-forward do not work through it: update it";
            Refusal::new(StatusCode::NOT_IMPLEMENTED, format!("{text}, {hint}"))
        }
        _ => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, text),
    }
}
