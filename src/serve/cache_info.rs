//! `/nix-cache-info`: what Nix asks of every substituter before anything else.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::nix::CacheInfo;

use super::router::{Shim, empty};

/// Before cache.nixos.org (40) when both are listed.
const PRIORITY: u32 = 30;

pub async fn get(State(shim): State<Shim>) -> Response {
    let Some(substituter) = shim.substituter else {
        return empty(StatusCode::NOT_FOUND);
    };
    let info = CacheInfo {
        store_dir: substituter.store_dir(),
        want_mass_query: true,
        priority: PRIORITY,
    };
    (
        [(header::CONTENT_TYPE, "text/x-nix-cache-info")],
        info.to_string(),
    )
        .into_response()
}
