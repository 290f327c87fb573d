//! The agent's answer on its way to the client, at the pace of both. What the agent did not
//! complete does not look complete to the client.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use controlplane_driver::{Answer, Failure, ResponseHead};
use futures_util::stream::unfold;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use tokio::task::yield_now;

use super::{
    audit::{Audit, End},
    failure::refusal,
    grant::{Grant, WITHDRAWN},
    upload::Upload,
};
use crate::{
    body::{BrokenOff, ResponseBody},
    status::Refusal,
};

/// An answer whose head has come.
pub(super) struct Pour {
    answer: Answer,
    /// What was taken of the answer already, in order.
    ahead: VecDeque<Result<Bytes, Failure>>,
    upload: Upload,
    grant: Grant,
    /// The request was a `HEAD`.
    bodiless: bool,
}

impl Pour {
    pub(super) fn new(answer: Answer, upload: Upload, grant: Grant, bodiless: bool) -> Self {
        Self {
            answer,
            ahead: VecDeque::new(),
            upload,
            grant,
            bodiless,
        }
    }

    /// The body, if it is whole and no longer than `limit`; it is relayed all the same.
    pub(super) async fn peek(&mut self, limit: usize) -> Option<Bytes> {
        let mut body = BytesMut::new();
        while let Some(piece) = self.answer.next().await {
            let fits = piece.as_ref().is_ok_and(|data| {
                body.extend_from_slice(data);
                body.len() <= limit
            });
            self.ahead.push_back(piece);
            if !fits {
                return None;
            }
        }
        Some(body.freeze())
    }

    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        match self.ahead.pop_front() {
            Some(piece) => Some(piece),
            None => self.answer.next().await,
        }
    }

    /// The response to the client; its body takes the answer along.
    pub(super) async fn response(
        mut self,
        head: ResponseHead,
        mut audit: Audit,
    ) -> Response<ResponseBody> {
        let headers = headers(head.headers);
        let length = content_length(&headers);
        let status = StatusCode::from_u16(head.status).unwrap_or(StatusCode::BAD_GATEWAY);
        let empty = self.bodiless
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || length == Some(0);
        let body = if empty {
            if let Err(refused) = self.finish(&mut audit).await {
                let response = refused.response();
                audit.answered(response.status(), response.body().len());
                return response;
            }
            audit.status(status);
            ResponseBody::empty()
        } else {
            audit.status(status);
            ResponseBody::pieces(pieces(Flow {
                pour: self,
                audit,
                left: length,
            }))
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }

    /// Waits for the end of an answer that can have no body.
    async fn finish(&mut self, audit: &mut Audit) -> Result<(), Refusal> {
        match self.next().await {
            // What cannot be relayed is not waited for either.
            None | Some(Ok(_)) => {
                audit.end(End::Complete);
                Ok(())
            }
            Some(Err(failure)) => {
                audit.end(End::failed(&failure, self.upload.client_left()));
                Err(refusal(&failure))
            }
        }
    }
}

/// The body of an answer, with the line that will be written about it.
struct Flow {
    pour: Pour,
    audit: Audit,
    /// What is missing of the declared length.
    left: Option<u64>,
}

fn pieces(flow: Flow) -> impl futures_util::Stream<Item = Result<Bytes, BrokenOff>> + Send {
    unfold(Some(flow), |flow| async {
        let mut flow = flow?;
        match flow.next().await {
            None => {
                flow.audit.end(End::Complete);
                None
            }
            Some(Ok(data)) => {
                flow.audit.sent(data.len());
                Some((Ok(data), Some(flow)))
            }
            Some(Err(end)) => {
                flow.audit.end(end);
                // What was relayed so far leaves before the connection breaks.
                yield_now().await;
                Some((Err(BrokenOff), None))
            }
        }
    })
}

impl Flow {
    /// The next piece. The one that completes a declared length is held back until the answer
    /// is known to be complete, because nobody asks for more after it.
    async fn next(&mut self) -> Option<Result<Bytes, End>> {
        let data = match self.piece().await {
            Some(Ok(data)) => data,
            None if self.left.is_some_and(|left| left > 0) => {
                let text = "the answer is shorter than its Content-Length";
                return Some(Err(End::Failed(text.into())));
            }
            over => return over,
        };
        let Some(left) = &mut self.left else {
            return Some(Ok(data));
        };
        let len = data.len() as u64;
        *left = match left.checked_sub(len) {
            Some(left) => left,
            None => return Some(Err(too_long())),
        };
        if *left > 0 {
            return Some(Ok(data));
        }
        match self.piece().await {
            None => {
                self.audit.end(End::Complete);
                Some(Ok(data))
            }
            Some(Ok(_)) => Some(Err(too_long())),
            Some(Err(end)) => Some(Err(end)),
        }
    }

    async fn piece(&mut self) -> Option<Result<Bytes, End>> {
        let piece = self.pour.next().await?;
        if piece.is_ok() && !self.pour.grant.holds() {
            return Some(Err(End::Failed(WITHDRAWN.into())));
        }
        let left = || self.pour.upload.client_left();
        Some(piece.map_err(|failure| End::failed(&failure, left())))
    }
}

fn too_long() -> End {
    End::Failed("the answer is longer than its Content-Length".into())
}

pub(super) fn headers(pairs: Vec<(String, String)>) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(pairs.len());
    for (name, value) in pairs {
        let name = HeaderName::try_from(name);
        let value = HeaderValue::try_from(value);
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)?
        .to_str()
        .ok()?
        .parse()
        .ok()
}
