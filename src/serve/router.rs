//! The routes of the shim, and what they share.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::substitute::Substituter;

use super::status::StatusReport;
use super::{cache_info, host, metrics, nar, narinfo, passthrough, release_files, status};

#[derive(Clone)]
pub struct Shim {
    /// A seedbox has none: it only answers `status`.
    pub substituter: Option<Arc<Substituter>>,
    pub status: Arc<StatusReport>,
}

pub fn router(shim: Shim) -> Router {
    let is_on_loopback = shim.status.shim.ip().to_canonical().is_loopback();
    let router = Router::new()
        .route("/status.json", get(status::get))
        .route("/metrics", get(metrics::get));
    let router = match shim.substituter {
        None => router,
        Some(_) => router
            .route("/nix-cache-info", get(cache_info::get))
            .route("/nar/{file}", get(nar::get))
            .route("/log/{*path}", get(passthrough::get))
            .route("/realisations/{*path}", get(passthrough::get))
            .route("/debuginfo/{*path}", get(passthrough::get))
            .route("/channels/{channel}", get(release_files::channel))
            .route("/channels/{channel}/{file}", get(release_files::file))
            .route(
                "/channels/{channel}/immutable/{sha256}/{file}",
                get(release_files::immutable),
            )
            .route("/{file}", get(top)),
    };
    let router = router.fallback(async || StatusCode::NOT_FOUND);
    let router = match is_on_loopback {
        true => router.layer(from_fn(host::refuse_other_names)),
        // Its names are those that its network gives it.
        false => router,
    };
    router.with_state(shim)
}

/// `HASH.narinfo` and `HASH.ls` share their place with everything else that does not exist.
async fn top(State(shim): State<Shim>, Path(file): Path<String>, method: Method) -> Response {
    let Some(substituter) = shim.substituter else {
        return StatusCode::NOT_FOUND.into_response();
    };
    if let Some(hash_part) = file.strip_suffix(".narinfo") {
        return narinfo::get(&substituter, hash_part).await;
    }
    if file
        .strip_suffix(".ls")
        .is_some_and(|hash_part| hash_part.parse::<crate::nix::HashPart>().is_ok())
    {
        return passthrough::pass(&substituter, &file, &method).await;
    }
    StatusCode::NOT_FOUND.into_response()
}

/// An answer without a body, whatever went wrong: what went wrong here never leaves in a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
