//! `/nar/HASH-NARHASH.nar`: 200, 206 or 404 before the first byte; after it a failure cuts the connection.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use crate::nix::parse_raw_nar;

use super::router::{Shim, empty};

pub async fn get(
    State(shim): State<Shim>,
    Path(file): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let (Some(substituter), Some((hash_part, nar_hash))) = (shim.substituter, parse_raw_nar(&file))
    else {
        return empty(StatusCode::NOT_FOUND);
    };
    let from = headers
        .get(header::RANGE)
        .and_then(|value| range_start(value.to_str().ok()?))
        .unwrap_or(0);
    if method == Method::HEAD {
        return match substituter.nar_size(&hash_part, &nar_hash).await {
            Some(size) => respond(Body::empty(), 0, size),
            None => empty(StatusCode::NOT_FOUND),
        };
    }
    match substituter.nar(&hash_part, &nar_hash, from).await {
        Some(nar) => respond(Body::from_stream(nar.bytes), from, nar.size),
        None => empty(StatusCode::NOT_FOUND),
    }
}

fn respond(body: Body, from: u64, size: u64) -> Response {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/x-nix-nar"),
    );
    // Without this Nix fails at once when a connection is cut, instead of asking for the rest.
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size - from));
    if from > 0 {
        if let Ok(range) = HeaderValue::from_str(&format!("bytes {from}-{}/{size}", size - 1)) {
            headers.insert(header::CONTENT_RANGE, range);
        }
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    response
}

/// The start of `bytes=N-`, the only form in which Nix resumes; others are answered with the whole NAR (RFC 9110).
fn range_start(value: &str) -> Option<u64> {
    value
        .strip_prefix("bytes=")?
        .strip_suffix('-')?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (value, start) in [
            ("bytes=5-", Some(5)),
            ("bytes=5-9", None),
            ("bytes=-5", None),
            ("lines=5-", None),
        ] {
            assert_eq!(range_start(value), start, "{value}");
        }
    }
}
