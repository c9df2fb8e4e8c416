//! `/channels/CHANNEL/FILE`: the release files of followed channels, for `nix-channel` and flakes.
//!
//! ```text
//! /channels/CHANNEL                          the names of its files (nix-channel wants an answer there)
//! /channels/CHANNEL/FILE                     the newest release's, with a link to where this very file stays
//! /channels/CHANNEL/immutable/SHA256/FILE    the file with this hash, as long as a release that lists it is kept
//! ```
//! They rest on the publisher's key alone, and are evaluated: there only with `[shim] expressions = true`.

use std::path::PathBuf;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use data_encoding::HEXLOWER;
use tokio::fs::File;
use tokio_util::io::ReaderStream;

use crate::catalog::Release;
use crate::manifest::ReleaseFile;

use super::router::{Shim, empty};

pub async fn channel(State(shim): State<Shim>, Path(channel): Path<String>) -> Response {
    let Some(newest) = releases(&shim, &channel).into_iter().next() else {
        return empty(StatusCode::NOT_FOUND);
    };
    let names = newest.header().files.iter().map(|file| &file.name);
    let list: String = names.flat_map(|name| [name.as_str(), "\n"]).collect();
    list.into_response()
}

pub async fn file(
    State(shim): State<Shim>,
    Path((channel, name)): Path<(String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let releases = releases(&shim, &channel);
    let newest = releases.first();
    let Some((listed, path)) = newest.and_then(|release| release.release_file(&name)) else {
        return empty(StatusCode::NOT_FOUND);
    };
    let mut response = respond(listed, path.to_owned(), &method, &headers).await;
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let host = host.map_or_else(|| shim.status.shim.to_string(), str::to_owned);
    let sha256 = HEXLOWER.encode(&listed.sha256);
    let link =
        format!("<http://{host}/channels/{channel}/immutable/{sha256}/{name}>; rel=\"immutable\"");
    if let Ok(link) = HeaderValue::from_str(&link) {
        response.headers_mut().insert(header::LINK, link);
    }
    response
}

pub async fn immutable(
    State(shim): State<Shim>,
    Path((channel, sha256, name)): Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let releases = releases(&shim, &channel);
    let mut found = releases
        .iter()
        .filter_map(|release| release.release_file(&name));
    let found = found.find(|(listed, _)| HEXLOWER.encode(&listed.sha256) == sha256);
    match found {
        Some((listed, path)) => respond(listed, path.to_owned(), &method, &headers).await,
        None => empty(StatusCode::NOT_FOUND),
    }
}

/// What is kept of the channel, newest first; nothing without `expressions`.
fn releases(shim: &Shim, channel: &str) -> Vec<Release> {
    shim.status.channels.releases_with_files(channel)
}

/// The file was checked when it was kept and when it was loaded.
async fn respond(
    listed: &ReleaseFile,
    path: PathBuf,
    method: &Method,
    headers: &HeaderMap,
) -> Response {
    // Nix asks again with the tag after an hour, and then needs no second copy.
    let tag = format!("\"{}\"", HEXLOWER.encode(&listed.sha256));
    let known = headers.get(header::IF_NONE_MATCH);
    let mut response = if known.is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        empty(StatusCode::NOT_MODIFIED)
    } else {
        let body = match (method, File::open(&path).await) {
            (_, Err(_)) => return empty(StatusCode::NOT_FOUND),
            (&Method::HEAD, Ok(_)) => Body::empty(),
            (_, Ok(file)) => Body::from_stream(ReaderStream::new(file)),
        };
        let mut response = Response::new(body);
        let length = HeaderValue::from(listed.length);
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        response
    };
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, "application/octet-stream");
    set(header::ETAG, &tag);
    response
}
