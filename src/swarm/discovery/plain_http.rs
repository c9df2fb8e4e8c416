//! HTTP with servers that nobody vouches for: neither proxy nor redirect comes between, and an answer is short and small.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use thiserror::Error;

/// Enough for trackers and routers, whose answers are a few kB.
pub const MAX_BODY: usize = 64 * 1024;

#[derive(Debug, Error)]
pub enum BodyError {
    #[error("the answer is larger than {MAX_BODY} bytes")]
    TooLarge,
    #[error("the answer broke off: {0}")]
    BrokeOff(reqwest::Error),
}

/// An answer that is not there in full after `patience` does not come.
pub fn client(patience: Duration) -> reqwest::Result<Client> {
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .timeout(patience)
        .build()
}

/// All of it, or an error as soon as it is larger than `MAX_BODY`. The client's patience covers the body.
pub async fn read_body(mut response: Response) -> Result<Vec<u8>, BodyError> {
    let mut body = Vec::new();
    let broke_off = |error: reqwest::Error| BodyError::BrokeOff(error.without_url());
    while let Some(chunk) = response.chunk().await.map_err(broke_off)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}
