//! What the server answers: triggers, pages, JSON. Who may do what is decided in `verify` and `status`.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Uri};
use serde_json::{Value, json};

use super::bodies::{Bodies, Held, Unread, discard, is_announced_above};
use super::config::Project;
use super::names::RefName;
use super::pages;
use super::payload::{self, Push};
use super::record::Build;
use super::service::{Accepted, Refused, Service};
use super::status::{Access, may_change, may_see};
use super::verify::{Event, Refusal, look, same, verify};
use crate::report::chain;
use crate::sys::browser::is_foreign;

/// The largest body: GitHub's own limit.
const BODY: usize = 25 << 20;
/// The largest body of a trigger by address.
const TRIGGER_BODY: usize = 64 << 10;

/// What the handlers share.
#[derive(Clone)]
struct Shared {
    service: Arc<Service>,
    bodies: Bodies,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub SocketAddr);

/// Makes the routes.
pub(super) fn routes(service: Arc<Service>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/hooks/{project}", post(hook))
        .route("/trigger/{project}/{token}", post(trigger))
        .route("/builds/{id}", get(page))
        .route("/builds/{id}/log", get(log))
        .route("/api/builds", get(api_builds))
        .route("/api/builds/{id}", get(api_build))
        .route("/api/builds/{id}/cancel", post(cancel))
        .route("/api/builds/{id}/rebuild", post(rebuild))
        .fallback(|| async { problem(StatusCode::NOT_FOUND, "there is nothing here") })
        .layer(middleware::from_fn(no_pages))
        .layer(middleware::map_response(harden))
        .with_state(Shared { service, bodies: Bodies::new() })
}

/// Puts on every answer what keeps browsers from doing more with it than showing it.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CONTENT_SECURITY_POLICY, "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn answer(status: StatusCode, value: &Value) -> Response {
    let json = HeaderValue::from_static("application/json");
    (status, [(header::CONTENT_TYPE, json)], format!("{value}\n")).into_response()
}

fn problem(status: StatusCode, why: &str) -> Response {
    answer(status, &json!({ "error": why }))
}

fn later(status: StatusCode, seconds: u64, why: &str) -> Response {
    let mut response = problem(status, why);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

/// Reads a body within its limits; an error is the answer.
async fn read(shared: &Shared, headers: &HeaderMap, body: Body, limit: usize) -> Result<Held, Response> {
    shared.bodies.read(headers, body, limit).await.map_err(|why| match why {
        Unread::TooLarge => too_large(limit),
        Unread::NoRoom => later(StatusCode::SERVICE_UNAVAILABLE, 10, "too many bodies are sent at once"),
        Unread::Broken => problem(StatusCode::BAD_REQUEST, "the body broke off"),
        Unread::Slow => problem(StatusCode::REQUEST_TIMEOUT, "the body took too long"),
    })
}

fn too_large(limit: usize) -> Response {
    problem(StatusCode::PAYLOAD_TOO_LARGE, &format!("a body has {limit} bytes at most"))
}

fn refused(why: &Refusal) -> Response {
    match why {
        Refusal::Unsigned => {
            problem(StatusCode::UNAUTHORIZED, "the request is not signed: set the secret where it comes from")
        }
        Refusal::Wrong => problem(StatusCode::FORBIDDEN, "the signature is wrong: the two secrets differ"),
        Refusal::Late => {
            problem(StatusCode::FORBIDDEN, "the request was signed more than 5 minutes ago, or in the future")
        }
    }
}

/// Refuses what a browser sends for a page from elsewhere; no program that tells of pushes is one.
async fn no_pages(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match !reads && is_foreign(request.headers(), |_| false) {
        true => problem(StatusCode::FORBIDDEN, "a browser sent this for a web page from elsewhere"),
        false => next.run(request).await,
    }
}

/// A push, told by GitHub, GitLab, Gitea or Forgejo.
async fn hook(
    State(shared): State<Shared>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let service = shared.service.clone();
    let Some((project, secret)) =
        service.config.project(&name).and_then(|project| Some((project, project.secret.as_ref()?)))
    else {
        return problem(StatusCode::NOT_FOUND, "there is no such project");
    };
    if is_announced_above(&headers, BODY) {
        return too_large(BODY);
    }
    let now = || u64::try_from(jiff::Timestamp::now().as_second()).unwrap_or(0);
    // What the headers alone give away costs no memory.
    if let Err(why) = look(secret, &headers, now()) {
        discard(body).await;
        return refused(&why);
    }
    let body = match read(&shared, &headers, body, BODY).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let proof = match verify(secret, &headers, &body.bytes, now()) {
        Ok(proof) => proof,
        Err(why) => return refused(&why),
    };
    match proof.event {
        Event::Push => {}
        Event::Ping => return answer(StatusCode::OK, &json!({ "status": "pong" })),
        Event::Other(event) => return ignored(&format!("nothing is built at the event {event}")),
    }
    let is_form = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    let (reference, commit) = match payload::push(&body.bytes, is_form) {
        Ok(Push::Moved { reference, commit }) => (reference, commit),
        Ok(Push::Deleted(reference)) => return ignored(&format!("{} was deleted", reference.as_str())),
        Err(why) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &why),
    };
    if !project.rules.iter().any(|rule| rule.matches(&reference)) {
        return ignored(&format!("no rule is about {}", reference.as_str()));
    }
    let cause = format!("a push told by {}", proof.sender);
    let name = project.name.clone();
    ask(shared, move |service| {
        let project = service.config.project(&name)?;
        Some(vec![service.trigger(project, &reference, commit, &cause, &proof.once)])
    })
    .await
}

fn ignored(why: &str) -> Response {
    answer(StatusCode::OK, &json!({ "status": "ignored", "why": why }))
}

/// A build asked for by its secret address.
async fn trigger(
    State(shared): State<Shared>,
    Path((name, token)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    // Compared in any case, so that time does not tell which projects there are.
    let project = shared.service.config.project(&name);
    let wanted = project.and_then(|project| project.token.as_ref());
    let right = same(wanted.map_or(b"".as_slice(), |token| &token.0), token.as_bytes());
    if wanted.is_none() || !right {
        return problem(StatusCode::NOT_FOUND, "there is nothing here");
    }
    let body = match read(&shared, &headers, body, TRIGGER_BODY).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let asked = match payload::asked(&body.bytes) {
        Ok(asked) => asked,
        Err(why) => return problem(StatusCode::UNPROCESSABLE_ENTITY, &why),
    };
    let Some(project) = project else { return problem(StatusCode::NOT_FOUND, "there is nothing here") };
    let references = match asked {
        Some(reference) if project.rules.iter().any(|rule| rule.matches(&reference)) => vec![reference],
        Some(reference) => return ignored(&format!("no rule is about {}", reference.as_str())),
        None => all_named(project),
    };
    if references.is_empty() {
        return problem(
            StatusCode::UNPROCESSABLE_ENTITY,
            "the rules name no branch: send {\"ref\": \"refs/heads/...\"}",
        );
    }
    ask(shared, move |service| {
        let project = service.config.project(&name)?;
        let one = |reference: &RefName| service.trigger(project, reference, None, "its secret address", &[]);
        Some(references.iter().map(one).collect())
    })
    .await
}

/// Returns the branches and tags that the rules name without a pattern.
fn all_named(project: &Project) -> Vec<RefName> {
    let mut names: Vec<RefName> = project.rules.iter().filter_map(|rule| rule.only()).collect();
    names.sort();
    names.dedup();
    names
}

/// Does what writes to the disk, and answers with the first that was refused or with all builds.
async fn ask(
    shared: Shared,
    work: impl FnOnce(&Service) -> Option<Vec<Result<Accepted, Refused>>> + Send + 'static,
) -> Response {
    let service = shared.service;
    let done = tokio::task::spawn_blocking(move || work(&service)).await;
    let done = match done {
        Ok(Some(done)) => done,
        Ok(None) => return no_such_build(),
        Err(_) => return problem(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be handled"),
    };
    let (mut builds, mut status) = (Vec::new(), "joined");
    for one in done {
        match one {
            Ok(Accepted::Queued(id)) => {
                status = "queued";
                builds.push(id);
            }
            Ok(Accepted::Joined(id)) => builds.push(id),
            Err(refused) => return refusal(&refused),
        }
    }
    answer(StatusCode::ACCEPTED, &json!({ "status": status, "builds": builds }))
}

fn refusal(refused: &Refused) -> Response {
    match refused {
        Refused::Seen => problem(
            StatusCode::CONFLICT,
            "this delivery was taken before; `POST /api/builds/ID/rebuild` builds something again",
        ),
        Refused::TooMany { seconds } => {
            later(StatusCode::TOO_MANY_REQUESTS, *seconds, "too many triggers for this project")
        }
        Refused::Full => later(StatusCode::SERVICE_UNAVAILABLE, 60, "too many builds wait"),
        Refused::Stopping => later(StatusCode::SERVICE_UNAVAILABLE, 10, "the server ends"),
        Refused::Disk(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &chain(error)),
    }
}

/// Turns away who may not; `None` lets go on.
fn gate(access: Access) -> Option<Response> {
    match access {
        Access::Yes => None,
        Access::No(why) => Some(problem(StatusCode::FORBIDDEN, why)),
        Access::Ask => {
            let mut response =
                problem(StatusCode::UNAUTHORIZED, "a token is needed: Authorization: Bearer TOKEN");
            let basic = HeaderValue::from_static("Basic realm=\"rbuild\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
            Some(response)
        }
    }
}

fn seen_by(shared: &Shared, peer: Peer, headers: &HeaderMap) -> Option<Response> {
    gate(may_see(&shared.service.config, peer.0, headers))
}

/// Draws or reads on a thread where waiting for the disk stops nobody.
async fn drawn(work: impl FnOnce() -> String + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(page) => {
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            ([(header::CONTENT_TYPE, html)], page).into_response()
        }
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the page could not be drawn"),
    }
}

async fn index(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = seen_by(&shared, peer, &headers) {
        return response;
    }
    drawn(move || pages::all(&shared.service)).await
}

/// Finds the build that an address names.
fn found(shared: &Shared, id: &str) -> Option<Build> {
    shared.service.build(id.parse().ok()?)
}

fn no_such_build() -> Response {
    problem(StatusCode::NOT_FOUND, "there is no such build")
}

async fn page(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = seen_by(&shared, peer, &headers) {
        return response;
    }
    match found(&shared, &id) {
        Some(build) => drawn(move || pages::one(&shared.service, &build)).await,
        None => no_such_build(),
    }
}

/// The output of a build: what there is of it, or with `?follow` all until it ends.
async fn log(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = seen_by(&shared, peer, &headers) {
        return response;
    }
    let Some(build) = found(&shared, &id) else { return no_such_build() };
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    let follow = uri.query() == Some("follow");
    let body = Body::from_stream(super::log::stream(shared.service.clone(), build.id, follow));
    ([(header::CONTENT_TYPE, text)], body).into_response()
}

fn as_json(build: &Build) -> Value {
    let mut value = serde_json::to_value(build).unwrap_or_default();
    if let Some(members) = value.as_object_mut() {
        members.remove("process");
        members.insert("log".to_owned(), json!(format!("/builds/{}/log", build.id)));
    }
    value
}

async fn api_builds(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = seen_by(&shared, peer, &headers) {
        return response;
    }
    let builds: Vec<Value> = shared.service.builds(1000).iter().map(as_json).collect();
    answer(StatusCode::OK, &json!({ "builds": builds }))
}

async fn api_build(
    State(shared): State<Shared>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    if let Some(response) = seen_by(&shared, peer, &headers) {
        return response;
    }
    match found(&shared, &id) {
        Some(build) => answer(StatusCode::OK, &as_json(&build)),
        None => no_such_build(),
    }
}

async fn cancel(State(shared): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = gate(may_change(&shared.service.config, &headers)) {
        return response;
    }
    let service = shared.service.clone();
    let done = match id.parse().ok() {
        None => Ok(None),
        Some(id) => tokio::task::spawn_blocking(move || service.cancel(id)).await,
    };
    match done {
        Ok(Some(Ok(true))) => answer(StatusCode::ACCEPTED, &json!({ "status": "cancelled" })),
        Ok(Some(Ok(false))) => problem(StatusCode::CONFLICT, "the build is over"),
        Ok(Some(Err(error))) => problem(StatusCode::INTERNAL_SERVER_ERROR, &chain(&error)),
        Ok(None) => no_such_build(),
        Err(_) => problem(StatusCode::INTERNAL_SERVER_ERROR, "the request could not be handled"),
    }
}

async fn rebuild(State(shared): State<Shared>, Path(id): Path<String>, headers: HeaderMap) -> Response {
    if let Some(response) = gate(may_change(&shared.service.config, &headers)) {
        return response;
    }
    let Ok(id) = id.parse() else { return no_such_build() };
    ask(shared, move |service| Some(vec![service.rebuild(id)?])).await
}
