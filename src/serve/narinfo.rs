//! `/HASH.narinfo`: 200 or 404, nothing else. A 5xx makes Nix abort the whole command.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::nix::HashPart;
use crate::substitute::Substituter;

use super::router::empty;

pub async fn get(substituter: &Substituter, hash_part: &str) -> Response {
    let Ok(hash_part) = hash_part.parse::<HashPart>() else {
        return empty(StatusCode::NOT_FOUND);
    };
    match substituter.narinfo(&hash_part).await {
        Some(narinfo) => (
            [(header::CONTENT_TYPE, "text/x-nix-narinfo")],
            narinfo.to_string(),
        )
            .into_response(),
        None => empty(StatusCode::NOT_FOUND),
    }
}
