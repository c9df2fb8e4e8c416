//! The HTTP client of one upstream.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use reqwest::{Client, Response, StatusCode};
use thiserror::Error;
use tokio::io::AsyncRead;
use tokio::time::timeout;
use tokio_util::io::StreamReader;
use url::Url;

use crate::nix::{HashPart, Narinfo, ParseError, PublicKey};

use super::breaker::{Breaker, BreakerState, Permission};
use super::decompress::decompress;
use super::resolver::{BoundedResolver, ResolvePin};

/// A narinfo is a few kB; the largest closures' stay far below this.
const MAX_NARINFO: usize = 1 << 20;
/// A body that brings no byte for so long is given up; the swarm or the next upstream goes on.
const BODY_SILENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamOptions {
    pub url: Url,
    pub keys: Vec<PublicKey>,
    pub resolve: Vec<ResolvePin>,
    /// From the request to the answer's head.
    pub timeout: Duration,
    /// Whether a failure keeps it from being asked again for a while. A publisher rather waits.
    pub breaks: bool,
}

#[derive(Debug, Error)]
pub enum UpstreamError {
    #[error("{url} is not asked: it was down a moment ago")]
    Down { url: String },
    #[error("asking {url}: {reason}")]
    Request { url: String, reason: String },
    #[error("{url} gave no answer within {timeout:?}")]
    Timeout { url: String, timeout: Duration },
    #[error("{url} answered {status}")]
    Status { url: String, status: StatusCode },
    #[error("{url} sent a narinfo that Nix would not read: {source}")]
    Narinfo { url: String, source: ParseError },
    #[error("{url} compresses with '{compression}', which is not known")]
    Compression { url: String, compression: String },
    #[error("cannot make an HTTP client for {url}: {reason}")]
    Client { url: String, reason: String },
}

/// A body passed through as it is.
pub struct Body {
    pub content_type: Option<String>,
    pub content_length: Option<u64>,
    pub bytes: BoxStream<'static, std::io::Result<Bytes>>,
}

pub struct Upstream {
    options: UpstreamOptions,
    client: Client,
    breaker: Breaker,
}

impl Upstream {
    pub fn new(options: UpstreamOptions) -> Result<Self, UpstreamError> {
        let options = UpstreamOptions {
            url: as_directory(options.url),
            ..options
        };
        let resolver = BoundedResolver::new(options.resolve.clone());
        let client = Client::builder()
            .user_agent(concat!("narswarm/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(resolver))
            .connect_timeout(options.timeout)
            .build()
            .map_err(|error| UpstreamError::Client {
                url: options.url.to_string(),
                reason: chain(&error),
            })?;
        Ok(Self {
            options,
            client,
            breaker: Breaker::default(),
        })
    }

    /// Whether it was made with these options.
    pub fn has_options(&self, options: &UpstreamOptions) -> bool {
        let url = as_directory(options.url.clone());
        self.options
            == UpstreamOptions {
                url,
                ..options.clone()
            }
    }

    pub fn url(&self) -> &Url {
        &self.options.url
    }

    pub fn keys(&self) -> &[PublicKey] {
        &self.options.keys
    }

    pub fn state(&self) -> BreakerState {
        self.breaker.state()
    }

    pub fn last_error(&self) -> Option<String> {
        self.breaker.last_error()
    }

    /// The narinfo of a store path; `None` when this cache does not have it.
    pub async fn narinfo(
        self: &Arc<Self>,
        hash_part: &HashPart,
    ) -> Result<Option<Narinfo>, UpstreamError> {
        let Some(response) = self.get(&format!("{hash_part}.narinfo")).await? else {
            return Ok(None);
        };
        let url = response.url().to_string();
        let read = async {
            let mut text = Vec::new();
            let mut body = response.bytes_stream();
            while let Some(chunk) = body
                .try_next()
                .await
                .map_err(|error| self.failure(&url, &error))?
            {
                if text.len() + chunk.len() > MAX_NARINFO {
                    let reason = format!("the narinfo is larger than {MAX_NARINFO} bytes");
                    return Err(UpstreamError::Request {
                        url: url.to_owned(),
                        reason,
                    });
                }
                text.extend_from_slice(&chunk);
            }
            let text = String::from_utf8_lossy(&text);
            let narinfo = Narinfo::parse(&text);
            narinfo.map(Some).map_err(|source| UpstreamError::Narinfo {
                url: url.to_owned(),
                source,
            })
        };
        timeout(self.options.timeout, read)
            .await
            .unwrap_or_else(|_| Err(self.timed_out(&url)))
    }

    /// The raw NAR that a narinfo of this upstream names.
    pub async fn nar(
        self: &Arc<Self>,
        narinfo: &Narinfo,
    ) -> Result<Option<Box<dyn AsyncRead + Send + Unpin>>, UpstreamError> {
        let Some(response) = self.get(&narinfo.url).await? else {
            return Ok(None);
        };
        let url = response.url().to_string();
        let body = StreamReader::new(patient(response));
        match decompress(&narinfo.compression, body) {
            Some(nar) => Ok(Some(nar)),
            None => Err(UpstreamError::Compression {
                url,
                compression: narinfo.compression.clone(),
            }),
        }
    }

    /// Any other file, as it is.
    pub async fn file(self: &Arc<Self>, path: &str) -> Result<Option<Body>, UpstreamError> {
        let Some(response) = self.get(path).await? else {
            return Ok(None);
        };
        let header = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let content_type = header(reqwest::header::CONTENT_TYPE);
        let content_length = response.content_length();
        Ok(Some(Body {
            content_type,
            content_length,
            bytes: patient(response).boxed(),
        }))
    }

    /// `None` for what the cache does not have. 403 is how S3 says 404.
    async fn get(self: &Arc<Self>, path: &str) -> Result<Option<Response>, UpstreamError> {
        match self.breaker.permission() {
            _ if !self.options.breaks => self.request(path).await,
            Permission::Ask => self.request(path).await,
            Permission::Refuse => Err(UpstreamError::Down {
                url: self.options.url.to_string(),
            }),
            Permission::Probe => {
                let upstream = self.clone();
                tokio::spawn(async move {
                    if upstream.request("nix-cache-info").await.is_ok() {
                        tracing::info!(upstream = %upstream.options.url, "an upstream is back");
                    }
                });
                Err(UpstreamError::Down {
                    url: self.options.url.to_string(),
                })
            }
        }
    }

    async fn request(&self, path: &str) -> Result<Option<Response>, UpstreamError> {
        let url = self
            .options
            .url
            .join(path)
            .map_err(|error| UpstreamError::Request {
                url: self.options.url.to_string(),
                reason: format!("'{path}' is not a path below it: {error}"),
            })?;
        let answer = match timeout(self.options.timeout, self.client.get(url.clone()).send()).await
        {
            Ok(answer) => answer.map_err(|error| self.failure(url.as_str(), &error))?,
            Err(_) => return Err(self.timed_out(url.as_str())),
        };
        match answer.status() {
            StatusCode::OK => {
                self.breaker.succeeded();
                Ok(Some(answer))
            }
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => {
                self.breaker.succeeded();
                Ok(None)
            }
            status => {
                let error = UpstreamError::Status {
                    url: url.to_string(),
                    status,
                };
                if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
                    self.breaker.failed(error.to_string());
                }
                Err(error)
            }
        }
    }

    fn failure(&self, url: &str, error: &reqwest::Error) -> UpstreamError {
        let error = UpstreamError::Request {
            url: url.to_owned(),
            reason: chain(error),
        };
        self.breaker.failed(error.to_string());
        error
    }

    fn timed_out(&self, url: &str) -> UpstreamError {
        let error = UpstreamError::Timeout {
            url: url.to_owned(),
            timeout: self.options.timeout,
        };
        self.breaker.failed(error.to_string());
        error
    }
}

/// With a slash at its end: `join` drops what follows the last one.
fn as_directory(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    url
}

/// The body, with an error instead of endless silence.
fn patient(
    response: Response,
) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> + Send + Unpin {
    let body = response.bytes_stream().map_err(std::io::Error::other);
    Box::pin(futures_util::stream::unfold(
        Some(Box::pin(body)),
        |body| async move {
            let mut body = body?;
            match timeout(BODY_SILENCE, body.next()).await {
                Ok(None) => None,
                Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some(body))),
                Ok(Some(Err(error))) => Some((Err(error), None)),
                Err(_) => Some((
                    Err(std::io::Error::new(
                        std::io::ErrorKind::TimedOut,
                        "the upstream fell silent",
                    )),
                    None,
                )),
            }
        },
    ))
}

/// reqwest's own message rarely says why; the sources do.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
