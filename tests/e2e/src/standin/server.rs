//! The way of a request through record, fault, credentials and route to its handler.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::sync::watch;

use super::body::{self, Body, BodyError};
use super::cluster::Cluster;
use super::discovery;
use super::exec::{self, Exec, Takeover};
use super::failure::Failure;
use super::fault::{Fault, Setting, slow};
use super::pod::uid;
use super::query::Query;
use super::reading::{self, Answer};
use super::record::Record;
use super::resource::{Resource, Verb};
use super::route::Route;
use super::store::Key;
use super::table::View;
use super::writing::Write;

/// The largest body of a request that is not streamed; that of the real one.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// What all connections share.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) cluster: Arc<Cluster>,
    pub(super) exec: Exec,
    pub(super) token: String,
    pub(super) record: Record,
    pub(super) faults: watch::Sender<Setting>,
    /// How many requests have been answered, for their identities.
    pub(super) answered: AtomicU64,
}

/// Why a request gets no answer of HTTP, and its connection no other request.
#[derive(Debug)]
pub(super) enum Leave {
    /// The connection is reset, as the test asked for.
    Reset,
    /// It goes on as something else.
    Takeover(Takeover),
}

impl Server {
    /// Answers a request.
    pub(super) async fn serve(&self, request: Request<Incoming>) -> Result<Response<Body>, Leave> {
        let (head, body) = request.into_parts();
        let counter = self.record.note(&head);
        let body = counted(body, counter);
        let fault = self.faults.borrow().at(head.uri.path());
        let mut response = match fault {
            Fault::Hang => std::future::pending().await,
            Fault::Reset => return Err(Leave::Reset),
            Fault::Status(code) => body::failure(&Failure::of_code(code)),
            Fault::SlowBody => slow(self.answer(&head, body).await?, self.faults.subscribe()),
            Fault::None => self.answer(&head, body).await?,
        };
        let number = self.answered.fetch_add(1, Ordering::Relaxed);
        let headers = response.headers_mut();
        if let Ok(identity) = HeaderValue::from_str(&uid(number)) {
            headers.insert("audit-id", identity);
        }
        headers.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache, private"),
        );
        Ok(response)
    }

    async fn answer(&self, head: &Parts, body: Body) -> Result<Response<Body>, Leave> {
        let route = Route::parse(head.uri.path());
        if !self.knows(&head.headers) {
            return Ok(body::failure(&stranger(route.as_ref(), head)));
        }
        let answer = match route {
            None => return Ok(body::no_such_path()),
            Some(Route::Stream {
                action,
                namespace,
                pod,
            }) => {
                let exec = &self.exec;
                match exec.answer(&self.cluster, action, &namespace, &pod, head) {
                    Ok(takeover) => return Err(Leave::Takeover(takeover)),
                    Err(failure) => Err(failure),
                }
            }
            Some(route) => self.route(route, head, body).await,
        };
        Ok(answer.unwrap_or_else(|failure| body::failure(&failure)))
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let sent = text(headers, header::AUTHORIZATION);
        let token = sent
            .split_once(' ')
            .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        token.is_some_and(|(_, token)| token.trim() == self.token)
            || exec::token(headers).is_some_and(|token| token == self.token)
    }

    async fn route(&self, route: Route, head: &Parts, body: Body) -> Answer {
        let query = Query::parse(head.uri.query().unwrap_or_default());
        match route {
            Route::Collection {
                resource,
                namespace,
            } => {
                let verb = collection_verb(&head.method);
                self.collection(verb, resource, namespace, &query, head, body)
                    .await
            }
            Route::Object {
                resource,
                namespace,
                name,
            } => {
                let verb = object_verb(&head.method);
                let key = Key::new(resource, &namespace, &name);
                self.object(verb, &key, &query, head, body).await
            }
            Route::Echo if head.method == Method::POST => Ok(body::answer(
                StatusCode::OK,
                "application/octet-stream",
                body,
            )),
            Route::Echo => Err(Failure::method_not_allowed()),
            // Handled before, for it is no mere answer.
            Route::Stream { .. } => Err(Failure::method_not_allowed()),
            _ if head.method != Method::GET => Err(Failure::method_not_allowed()),
            Route::Log { namespace, pod } => reading::log(&self.cluster, &namespace, &pod, &query),
            Route::Bytes => {
                let count = query.number("n")?.unwrap_or_default();
                let body = body::pattern_body(count);
                Ok(body::answer(
                    StatusCode::OK,
                    "application/octet-stream",
                    body,
                ))
            }
            Route::Version => Ok(discovery::version()),
            Route::Health => Ok(discovery::health()),
            Route::CoreVersions => Ok(discovery::core_versions(text(
                &head.headers,
                header::ACCEPT,
            ))),
            Route::Groups => Ok(discovery::groups(text(&head.headers, header::ACCEPT))),
            Route::Resources => Ok(discovery::resources()),
            Route::OpenApiV2 => Ok(discovery::openapi_v2(text(&head.headers, header::ACCEPT))),
            Route::OpenApiIndex => Ok(discovery::openapi_index()),
            Route::OpenApiV3 => Ok(discovery::openapi_v3()),
        }
    }

    async fn collection(
        &self,
        verb: Option<Verb>,
        resource: Resource,
        namespace: Option<String>,
        query: &Query,
        head: &Parts,
        body: Body,
    ) -> Answer {
        let verb = offered(resource, verb)?;
        let view = view(query, &head.headers)?;
        if verb == Verb::List {
            return match query.flag("watch") {
                true => reading::watch(&self.cluster, resource, namespace, query, view),
                false => reading::list(&self.cluster, resource, namespace.as_deref(), query, view),
            };
        }
        if resource.namespaced() && namespace.is_none() {
            return Err(Failure::method_not_allowed());
        }
        let write = self.write(query, view, head, body).await?;
        match verb {
            Verb::DeleteCollection => write.delete_collection(resource, namespace.as_deref()),
            _ => write.create(resource, namespace.as_deref()),
        }
    }

    async fn object(
        &self,
        verb: Option<Verb>,
        key: &Key,
        query: &Query,
        head: &Parts,
        body: Body,
    ) -> Answer {
        let verb = offered(key.resource, verb)?;
        let view = view(query, &head.headers)?;
        if verb == Verb::Get {
            return reading::get(&self.cluster, key, view);
        }
        let write = self.write(query, view, head, body).await?;
        match verb {
            Verb::Delete => write.delete(key),
            Verb::Patch => write.patch(key),
            _ => write.update(key),
        }
    }

    /// Reads the body of a request that writes.
    async fn write<'a>(
        &'a self,
        query: &'a Query,
        view: View,
        head: &'a Parts,
        body: Body,
    ) -> Result<Write<'a>, Failure> {
        let body = Limited::new(body, BODY_LIMIT)
            .collect()
            .await
            .map_err(|error| match error.is::<LengthLimitError>() {
                true => Failure::too_large(BODY_LIMIT),
                false => Failure::bad_request(error.to_string()),
            })?;
        Ok(Write {
            cluster: &self.cluster,
            query,
            view,
            content_type: text(&head.headers, header::CONTENT_TYPE),
            user_agent: text(&head.headers, header::USER_AGENT),
            body: body.to_bytes(),
        })
    }
}

/// The body of a request, its bytes counted as they are read.
fn counted(body: Incoming, counter: Arc<AtomicU64>) -> Body {
    let counting = body.map_err(BodyError::from).map_frame(move |frame| {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        counter.fetch_add(length, Ordering::Relaxed);
        frame
    });
    counting.boxed_unsync()
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> &str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// What one without the right token is told. The real server takes one without any for a user who
/// may do nothing; here that is so for streams, of which there are recordings.
fn stranger(route: Option<&Route>, head: &Parts) -> Failure {
    match route {
        Some(Route::Stream {
            action,
            namespace,
            pod,
        }) if !head.headers.contains_key(header::AUTHORIZATION)
            && exec::token(&head.headers).is_none() =>
        {
            exec::anonymous(*action, namespace, pod, &head.method)
        }
        _ => Failure::unauthorized(),
    }
}

fn view(query: &Query, headers: &HeaderMap) -> Result<View, Failure> {
    let accept = text(headers, header::ACCEPT);
    View::accepted(accept, query.get("includeObject")).ok_or_else(Failure::not_acceptable)
}

fn offered(resource: Resource, verb: Option<Verb>) -> Result<Verb, Failure> {
    verb.filter(|verb| resource.allows(*verb))
        .ok_or_else(Failure::method_not_allowed)
}

fn collection_verb(method: &Method) -> Option<Verb> {
    match *method {
        Method::GET => Some(Verb::List),
        Method::POST => Some(Verb::Create),
        Method::DELETE => Some(Verb::DeleteCollection),
        _ => None,
    }
}

fn object_verb(method: &Method) -> Option<Verb> {
    match *method {
        Method::GET => Some(Verb::Get),
        Method::PUT => Some(Verb::Update),
        Method::PATCH => Some(Verb::Patch),
        Method::DELETE => Some(Verb::Delete),
        _ => None,
    }
}
