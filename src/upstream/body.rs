//! The body of an upstream's answer: an error instead of endless silence, and gone on with where it was cut off, if the
//! upstream can.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use reqwest::header::{
    ACCEPT_RANGES, CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, RANGE,
};
use reqwest::{Response, StatusCode};
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::client::Upstream;

/// A body that brings less than `LEAST` in so long is given up; the swarm or the next upstream goes on.
const BODY_SILENCE: Duration = Duration::from_secs(15);
/// 1 kB/s: a modem had more.
const LEAST: u64 = 15_000;
/// A line that cuts more often is no line. (Nix asks for the rest again itself, five times.)
const RESUMES: u32 = 5;

/// The bytes of `response`, which answered a request for `url`.
pub fn body(
    upstream: &Arc<Upstream>,
    url: Url,
    response: Response,
) -> impl Stream<Item = io::Result<Bytes>> + Send + Unpin + 'static {
    let body = Body {
        upstream: upstream.clone(),
        url,
        own: upstream.has_sent(&response),
        resumable: resumable(&response),
        resumes: RESUMES,
        received: 0,
        bytes: bytes_of(response),
        window: Window::new(),
    };
    stream::unfold(Some(body), |body| async {
        let mut body = body?;
        match body.next().await {
            Ok(Some(bytes)) => Some((Ok(bytes), Some(body))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Body {
    upstream: Arc<Upstream>,
    url: Url,
    /// Whether the upstream itself sends it.
    own: bool,
    resumable: Option<Resumable>,
    resumes: u32,
    received: u64,
    bytes: BoxStream<'static, io::Result<Bytes>>,
    window: Window,
}

/// What is needed to ask for the rest.
struct Resumable {
    length: u64,
    /// Names this very file: the rest of another one is not the rest.
    etag: Option<HeaderValue>,
}

/// The time in which `LEAST` bytes have to come.
struct Window {
    end: Instant,
    came: u64,
}

impl Window {
    fn new() -> Self {
        Self {
            end: Instant::now() + BODY_SILENCE,
            came: 0,
        }
    }
}

impl Body {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            match self.receive().await {
                Ok(received) => return Ok(received),
                Err(error) => {
                    if !self.resume().await {
                        return Err(error);
                    }
                    tracing::debug!(url = %self.url, at = self.received, %error, "gone on with");
                }
            }
        }
    }

    async fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let silent = || io::Error::new(io::ErrorKind::TimedOut, "the upstream fell silent");
        let received = timeout_at(self.window.end, self.bytes.next()).await;
        let received = received.map_err(|_| silent())?.transpose()?;
        let length = received.as_ref().map_or(0, Bytes::len) as u64;
        if length > 0 && self.own {
            self.upstream.flows();
        }
        self.received += length;
        self.window.came += length;
        if self.window.came >= LEAST {
            self.window = Window::new();
        }
        Ok(received)
    }

    /// Asks for the rest. Returns false when that is not to be had.
    async fn resume(&mut self) -> bool {
        let Some(Resumable { length, etag }) = &self.resumable else {
            return false;
        };
        if self.resumes == 0 || self.received >= *length {
            return false;
        }
        self.resumes -= 1;
        let mut headers = HeaderMap::new();
        let range = HeaderValue::from_str(&format!("bytes={}-", self.received));
        let Ok(range) = range else {
            return false;
        };
        headers.insert(RANGE, range);
        headers.extend(etag.clone().map(|etag| (IF_RANGE, etag)));
        let Ok(response) = self.upstream.send(self.url.clone(), headers).await else {
            return false;
        };
        let range = response.headers().get(CONTENT_RANGE);
        let range = range.and_then(|range| range.to_str().ok());
        let start = format!("bytes {}-", self.received);
        if response.status() != StatusCode::PARTIAL_CONTENT
            || !range.is_some_and(|range| range.starts_with(&start))
        {
            return false;
        }
        self.own = self.upstream.has_sent(&response);
        self.bytes = bytes_of(response);
        self.window = Window::new();
        true
    }
}

fn bytes_of(response: Response) -> BoxStream<'static, io::Result<Bytes>> {
    response.bytes_stream().map_err(io::Error::other).boxed()
}

fn resumable(response: &Response) -> Option<Resumable> {
    let header = |name| response.headers().get(name);
    let ranges = header(ACCEPT_RANGES).is_some_and(|ranges| ranges == "bytes");
    // A weak one does not promise the same bytes.
    let etag = header(ETAG).filter(|etag| !etag.as_bytes().starts_with(b"W/"));
    ranges.then_some(Resumable {
        length: response.content_length()?,
        etag: etag.cloned(),
    })
}
