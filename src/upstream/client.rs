//! The HTTP client of one upstream.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt, TryStreamExt};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Client, Response, StatusCode};
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncReadExt, BufReader};
use tokio::time::timeout;
use tokio_util::io::StreamReader;
use url::Url;

use crate::nix::{HashPart, Narinfo, ParseError, PublicKey};

use super::below::is_below;
use super::body::body;
use super::breaker::{Breaker, BreakerState, Permission};
use super::decompress::decompress;
use super::line::Line;
use super::netrc::Credentials;
use super::resolver::{BoundedResolver, ResolvePin};

/// A narinfo is a few kB; the largest closures' stay far below this.
const MAX_NARINFO: usize = 1 << 20;

/// A question that failed so soon is asked once more before the upstream counts as down: that is a connection that was
/// just closed, or one server of many.
const QUICK: Duration = Duration::from_secs(1);
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// A connection that rests longer is not used again: it may have died without a word.
const IDLE: Duration = Duration::from_secs(30);

/// Read of a body at a time.
const NAR_BUFFER: usize = 64 * 1024;
const CACHE_INFO: &str = "nix-cache-info";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamOptions {
    pub url: Url,
    pub keys: Vec<PublicKey>,
    pub resolve: Vec<ResolvePin>,
    /// From the question to the whole of a narinfo, to the head of any other answer.
    pub timeout: Duration,
    /// Whether a failure keeps it from being asked again for a while. A publisher rather waits.
    pub breaks: bool,
    pub credentials: Option<Credentials>,
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
    /// S3 keeps logs and listings compressed, whatever was asked for.
    pub content_encoding: Option<String>,
    pub content_length: Option<u64>,
    pub bytes: BoxStream<'static, std::io::Result<Bytes>>,
}

pub struct Upstream {
    options: UpstreamOptions,
    line: Line,
    breaker: Breaker,
}

impl Upstream {
    pub fn new(options: UpstreamOptions) -> Result<Self, UpstreamError> {
        let options = UpstreamOptions {
            url: as_directory(options.url),
            ..options
        };
        let host = options.url.host_str().unwrap_or_default();
        let resolver = Arc::new(BoundedResolver::new(host, options.resolve.clone()));
        let patience = options.timeout;
        let line = Line::new(move || {
            Client::builder()
                .user_agent(concat!("narswarm/", env!("CARGO_PKG_VERSION")))
                .dns_resolver(resolver.clone())
                .connect_timeout(patience)
                .pool_idle_timeout(IDLE)
                .build()
        });
        let line = line.map_err(|error| UpstreamError::Client {
            url: options.url.to_string(),
            reason: chain(&error),
        })?;
        Ok(Self {
            options,
            line,
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
        self.must_be_well().await?;
        let (name, start) = (format!("{hash_part}.narinfo"), Instant::now());
        let reading = async {
            let Some((url, response)) = self.request(&name).await? else {
                return Ok(None);
            };
            let read = read_narinfo(&url, response).await;
            read.inspect_err(|error| self.note(error, start)).map(Some)
        };
        match timeout(self.options.timeout, reading).await {
            Ok(read) => {
                if read.is_ok() {
                    self.line.answered();
                }
                read
            }
            Err(_) => {
                let error = self.timed_out(&self.options.url);
                self.note(&error, start);
                Err(error)
            }
        }
    }

    /// The raw NAR that a narinfo of this upstream names.
    pub async fn nar(
        self: &Arc<Self>,
        narinfo: &Narinfo,
    ) -> Result<Option<Box<dyn AsyncRead + Send + Unpin>>, UpstreamError> {
        let Some((url, response)) = self.get(&narinfo.url).await? else {
            return Ok(None);
        };
        let encoding = header(&response, CONTENT_ENCODING);
        let body = StreamReader::new(body(self, url.clone(), response));
        let body = BufReader::with_capacity(NAR_BUFFER, decoded(&url, encoding, body)?);
        match decompress(&narinfo.compression, body) {
            Some(nar) => Ok(Some(nar)),
            None => Err(UpstreamError::Compression {
                url: url.to_string(),
                compression: narinfo.compression.clone(),
            }),
        }
    }

    /// Any other file, as it is. `path` may be anybody's: what else is on that server is not asked for.
    pub async fn file(self: &Arc<Self>, path: &str) -> Result<Option<Body>, UpstreamError> {
        if !is_below(&self.options.url, path) {
            return Ok(None);
        }
        let Some((url, response)) = self.get(path).await? else {
            return Ok(None);
        };
        let content_type = header(&response, CONTENT_TYPE);
        let content_encoding = header(&response, CONTENT_ENCODING);
        let content_length = response.content_length();
        Ok(Some(Body {
            content_type,
            content_encoding,
            content_length,
            bytes: body(self, url, response).boxed(),
        }))
    }

    /// `None` for what the cache does not have. 403 is how S3 says 404.
    async fn get(self: &Arc<Self>, path: &str) -> Result<Option<(Url, Response)>, UpstreamError> {
        self.must_be_well().await?;
        self.request(path).await
    }

    async fn must_be_well(self: &Arc<Self>) -> Result<(), UpstreamError> {
        if self.options.breaks && !self.is_well().await {
            return Err(UpstreamError::Down {
                url: self.options.url.to_string(),
            });
        }
        Ok(())
    }

    /// What the breaker says, after the probe that is due.
    async fn is_well(self: &Arc<Self>) -> bool {
        match self.breaker.permission() {
            Permission::Ask => return true,
            Permission::Refuse => return false,
            Permission::Wait => {}
            Permission::Probe => {
                // On its own: whoever started it may hang up.
                let upstream = self.clone();
                tokio::spawn(async move {
                    match upstream.request(CACHE_INFO).await {
                        Ok(_) => {
                            tracing::info!(upstream = %upstream.options.url, "an upstream is back")
                        }
                        // An answer that is no failure of the upstream's is one all the same.
                        Err(error) => upstream.breaker.failed(error.to_string()),
                    }
                });
            }
        }
        self.breaker.settled().await;
        self.breaker.state() == BreakerState::Closed
    }

    async fn request(&self, path: &str) -> Result<Option<(Url, Response)>, UpstreamError> {
        let url = self
            .options
            .url
            .join(path)
            .map_err(|error| UpstreamError::Request {
                url: self.options.url.to_string(),
                reason: format!("'{path}' is not a path below it: {error}"),
            })?;
        let start = Instant::now();
        let mut answer = self.ask(&url).await;
        if answer.is_err() && start.elapsed() < QUICK {
            tokio::time::sleep(AGAIN_AFTER).await;
            answer = self.ask(&url).await;
        }
        match &answer {
            Ok(_) => self.breaker.succeeded(),
            // One object that it cannot give is no outage.
            Err(error)
                if self.options.breaks
                    && path != CACHE_INFO
                    && error.is_of_server()
                    && self.is_alive().await => {}
            Err(error) => self.note(error, start),
        }
        Ok(answer?.map(|answer| (url, answer)))
    }

    /// A question that began at `start` failed.
    fn note(&self, error: &UpstreamError, start: Instant) {
        let unanswered = matches!(error, UpstreamError::Timeout { .. });
        if !error.is_outage() || unanswered && self.line.excuses(start) {
            return;
        }
        self.breaker.failed(error.to_string());
        if unanswered {
            self.line.renew(start);
        }
    }

    /// A body that this host sends has brought something.
    pub(super) fn flows(&self) {
        self.line.flows();
    }

    /// Whether this host sent it, not another one that it redirects to.
    pub(super) fn has_sent(&self, response: &Response) -> bool {
        response.url().origin() == self.options.url.origin()
    }

    /// Whether it gives what every cache has.
    async fn is_alive(&self) -> bool {
        let info = self.options.url.join(CACHE_INFO);
        match info {
            Ok(info) => self.ask(&info).await.is_ok(),
            Err(_) => false,
        }
    }

    async fn ask(&self, url: &Url) -> Result<Option<Response>, UpstreamError> {
        let answer = self.send(url.clone(), HeaderMap::new()).await?;
        match answer.status() {
            StatusCode::OK => Ok(Some(answer)),
            StatusCode::NOT_FOUND | StatusCode::FORBIDDEN | StatusCode::GONE => Ok(None),
            status => Err(UpstreamError::Status {
                url: url.to_string(),
                status,
            }),
        }
    }

    /// One question, whatever the answer says.
    pub(super) async fn send(
        &self,
        url: Url,
        headers: HeaderMap,
    ) -> Result<Response, UpstreamError> {
        let mut request = self.line.client().get(url.clone()).headers(headers);
        // A narinfo may name a NAR on another host: that is not told the password.
        if let Some(Credentials { login, password }) = &self.options.credentials
            && url.origin() == self.options.url.origin()
        {
            request = request.basic_auth(login, Some(password));
        }
        match timeout(self.options.timeout, request.send()).await {
            Ok(answer) => answer.map_err(|error| request_error(&url, &error)),
            Err(_) => Err(self.timed_out(&url)),
        }
    }

    fn timed_out(&self, url: &Url) -> UpstreamError {
        UpstreamError::Timeout {
            url: url.to_string(),
            timeout: self.options.timeout,
        }
    }
}

impl UpstreamError {
    fn is_of_server(&self) -> bool {
        matches!(self, Self::Status { status, .. } if status.is_server_error())
    }

    /// Whether the upstream is not well, as opposed to having said something else than was hoped for.
    fn is_outage(&self) -> bool {
        match self {
            Self::Request { .. } | Self::Timeout { .. } => true,
            Self::Status { status, .. } => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            _ => false,
        }
    }
}

fn request_error(url: &Url, error: &reqwest::Error) -> UpstreamError {
    UpstreamError::Request {
        url: url.to_string(),
        // Once is enough.
        reason: chain(error).replace(&format!(" for url ({url})"), ""),
    }
}

fn header(response: &Response, name: HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

/// Undoes `Content-Encoding`, whose names are those of narinfos but for "identity".
fn decoded(
    url: &Url,
    encoding: Option<String>,
    body: impl AsyncBufRead + Send + Unpin + 'static,
) -> Result<Box<dyn AsyncRead + Send + Unpin>, UpstreamError> {
    let encoding = encoding.filter(|encoding| encoding != "identity");
    let compression = encoding.unwrap_or_else(|| "none".to_owned());
    decompress(&compression, body).ok_or_else(|| UpstreamError::Compression {
        url: url.to_string(),
        compression,
    })
}

async fn read_narinfo(url: &Url, response: Response) -> Result<Narinfo, UpstreamError> {
    let failed = |reason| UpstreamError::Request {
        url: url.to_string(),
        reason,
    };
    let encoding = header(&response, CONTENT_ENCODING);
    let body = response
        .bytes_stream()
        .map_err(|error| io::Error::other(error.without_url()));
    let body = StreamReader::new(body);
    let mut text = Vec::new();
    let mut body = decoded(url, encoding, body)?.take(MAX_NARINFO as u64 + 1);
    let read = body.read_to_end(&mut text).await;
    read.map_err(|error| failed(chain(&error)))?;
    if text.len() > MAX_NARINFO {
        return Err(failed(format!(
            "the narinfo is larger than {MAX_NARINFO} bytes"
        )));
    }
    Narinfo::parse(&String::from_utf8_lossy(&text)).map_err(|source| UpstreamError::Narinfo {
        url: url.to_string(),
        source,
    })
}

/// With a slash at its end: `join` drops what follows the last one.
fn as_directory(mut url: Url) -> Url {
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    url
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
