//! From a request to its answer: who asks, what for, whether that may be.

use std::sync::Arc;

use http::request::Parts;
use http::{Method, StatusCode, header};
use hyper::body::Incoming;

use super::errors::{ApiError, Code};
use super::query::Query;
use super::reply::{Reply, text};
use super::route::{Route, route};
use super::{State, blobs, blocking, lists, manifests, referrers, search, uploads};

/// Answers a request; also returns the user's name, as far as it is known.
pub async fn answer(state: &Arc<State>, parts: &Parts, body: &mut Incoming) -> (Reply, Option<String>) {
    let mut user = None;
    let reply = match admit(state, parts, &mut user).await {
        Ok(route) => serve(state, route, parts, body).await,
        Err(error) => Err(error),
    };
    let reply = reply.unwrap_or_else(|error| {
        if let Some(cause) = &error.cause {
            let path = parts.uri.path().escape_default();
            (state.log)(super::Line::Fault(&format!("{} {path}: {cause}", parts.method)));
        }
        error.reply()
    });
    let reply = if parts.method == Method::HEAD { reply.without_body() } else { reply };
    (reply, user)
}

/// Tells whether a request is one, and may be.
async fn admit(state: &State, parts: &Parts, user: &mut Option<String>) -> Result<Route, ApiError> {
    // Two lengths are two requests to two readers: RFC 9112, section 6.3.
    if parts.headers.contains_key(header::TRANSFER_ENCODING)
        && parts.headers.contains_key(header::CONTENT_LENGTH)
    {
        return Err(ApiError::new(Code::Unsupported)
            .status(StatusCode::BAD_REQUEST)
            .because("Content-Length and Transfer-Encoding exclude each other")
            .closing());
    }
    state.callers.admit(parts)?;
    if let Some(auth) = &state.auth {
        *user = auth.check(&parts.method, &parts.headers).await?;
    }
    let route = route(parts.uri.path())?;
    let allowed = route.methods();
    let refuse = |why: &str, allowed: &[&str]| {
        ApiError::new(Code::Unsupported).because(why).header(header::ALLOW, text(&allowed.join(", ")))
    };
    if !allowed.contains(&parts.method) {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        return Err(refuse("this endpoint does not have this method", &names));
    }
    let reads = matches!(parts.method, Method::GET | Method::HEAD);
    if state.read_only && (!reads || matches!(route, Route::Upload(..))) {
        return Err(refuse("the registry is read-only", &["GET", "HEAD"]));
    }
    let removes = parts.method == Method::DELETE && !matches!(route, Route::Upload(..));
    if removes && !state.delete {
        return Err(refuse("nothing can be removed from this registry", &["GET", "HEAD"]));
    }
    Ok(route)
}

async fn serve(
    state: &Arc<State>,
    route: Route,
    parts: &Parts,
    body: &mut Incoming,
) -> Result<Reply, ApiError> {
    let query = Query::new(parts.uri.query());
    let (method, headers) = (&parts.method, &parts.headers);
    let of = state.clone();
    match route {
        Route::Root => Ok(Reply::new(StatusCode::OK)),
        Route::Base => Ok(Reply::new(StatusCode::OK).json(b"{}".to_vec())),
        Route::Catalog => blocking(move || lists::catalog(&of.sources, &query)).await,
        Route::Search => {
            let place = of.documents.list().await?;
            blocking(move || {
                let _place = place;
                search::get(&of.sources, &query)
            })
            .await
        }
        Route::Ping => Ok(Reply::new(StatusCode::OK).json(b"true".to_vec())),
        Route::Tags(name) => blocking(move || lists::tags(&of.sources, &name, &query)).await,
        Route::Referrers(name, subject) => {
            let place = of.documents.list().await?;
            blocking(move || {
                let _place = place;
                referrers::get(&of.repositories, &name, &subject, &query)
            })
            .await
        }
        Route::Blob(name, digest) => {
            let (removes, head) = (method == Method::DELETE, method == Method::HEAD);
            let headers = headers.clone();
            blocking(move || match removes {
                true => blobs::delete(&of.repositories, &name, &digest),
                false => blobs::get(&of, &name, &digest, &headers, head),
            })
            .await
        }
        Route::Manifest(name, which) if method == Method::PUT => {
            manifests::put(state, name, which, &query, headers, body).await
        }
        Route::Manifest(name, which) => {
            let removes = method == Method::DELETE;
            let headers = headers.clone();
            blocking(move || match removes {
                true => manifests::delete(&of.repositories, &of.sources, &name, &which),
                false => manifests::get(&of, &name, &which, &headers),
            })
            .await
        }
        Route::Uploads(name) => uploads::start(state, name, &query, headers, body).await,
        Route::Upload(name, id) => match *method {
            Method::PATCH => uploads::append(state, name, id, headers, body).await,
            Method::PUT => uploads::complete(state, name, id, &query, headers, body).await,
            Method::DELETE => uploads::cancel(state, name, id).await,
            _ => blocking(move || uploads::status(&of.repositories, &name, &id)).await,
        },
    }
}
