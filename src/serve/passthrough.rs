//! `/log/*`, `*.ls`, `/realisations/*`, `/debuginfo/*`: as an upstream has them, or 404.

use axum::body::Body;
use axum::extract::{OriginalUri, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::Response;

use crate::substitute::Substituter;

use super::router::{Shim, empty};

pub async fn get(
    State(shim): State<Shim>,
    OriginalUri(uri): OriginalUri,
    method: Method,
) -> Response {
    match shim.substituter {
        Some(substituter) => pass(&substituter, uri.path().trim_start_matches('/'), &method).await,
        None => empty(StatusCode::NOT_FOUND),
    }
}

pub async fn pass(substituter: &Substituter, path: &str, method: &Method) -> Response {
    let Some(file) = substituter.file(path).await else {
        return empty(StatusCode::NOT_FOUND);
    };
    let body = if method == Method::HEAD {
        Body::empty()
    } else {
        Body::from_stream(file.bytes)
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Some(content_type) = file
        .content_type
        .and_then(|value| HeaderValue::from_str(&value).ok())
    {
        headers.insert(header::CONTENT_TYPE, content_type);
    }
    if let Some(encoding) = file
        .content_encoding
        .and_then(|value| HeaderValue::from_str(&value).ok())
    {
        headers.insert(header::CONTENT_ENCODING, encoding);
    }
    if let Some(length) = file.content_length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}
