//! The upstreams that are asked, and the keys that are trusted: what the configuration may change while answers are
//! under way.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::timeout;

use crate::nix::{HashPart, Narinfo, TrustedKeys};
use crate::upstream::{Upstream, UpstreamError, UpstreamOptions};

use super::narinfos::Narinfos;

/// An upstream that has not answered by then is late, and the next one is asked too.
const UPSTREAM_STAGGER: Duration = Duration::from_millis(700);

#[derive(Default)]
pub struct Caches {
    pub upstreams: Vec<Arc<Upstream>>,
    pub keys: TrustedKeys,
}

/// Some upstream could not be asked.
pub struct Unanswered;

impl Caches {
    /// These instead: upstreams that are asked already keep what was seen of them.
    pub fn changed_to(
        &self,
        upstreams: Vec<UpstreamOptions>,
        keys: TrustedKeys,
    ) -> Result<Self, UpstreamError> {
        let known = |options: &UpstreamOptions| {
            let mut known = self.upstreams.iter();
            known
                .find(|upstream| upstream.has_options(options))
                .cloned()
        };
        let upstreams = upstreams.into_iter().map(|options| match known(&options) {
            Some(upstream) => Ok(upstream),
            None => Upstream::new(options).map(Arc::new),
        });
        let upstreams = upstreams.collect::<Result<_, _>>()?;
        Ok(Self { upstreams, keys })
    }

    /// The first `good` narinfo in the order of the upstreams; the next one is asked while the one before is late.
    /// An error when there is none but not all of them could say so.
    pub async fn ask(
        &self,
        narinfos: &Narinfos,
        hash_part: &HashPart,
        good: impl Fn(&Upstream, &Narinfo) -> bool,
    ) -> Result<Option<Narinfo>, Unanswered> {
        let mut waiting = self.upstreams.iter();
        let mut asking = FuturesUnordered::new();
        let mut result = Ok(None);
        loop {
            if let Some(upstream) = waiting.next() {
                asking.push(async move { (upstream, narinfos.from(upstream, hash_part).await) });
            }
            // Until an answer comes, or until the last one asked is late and there is another.
            let answer = if waiting.len() > 0 {
                match timeout(UPSTREAM_STAGGER, asking.next()).await {
                    Ok(answer) => answer,
                    Err(_) => continue,
                }
            } else {
                asking.next().await
            };
            match answer {
                Some((upstream, Ok(Some(narinfo)))) if good(upstream, &narinfo) => {
                    return Ok(Some(narinfo));
                }
                Some((_, Ok(_))) => {}
                Some((_, Err(error))) => {
                    tracing::debug!(%hash_part, %error, "no narinfo");
                    result = Err(Unanswered);
                }
                None => break,
            }
        }
        result
    }
}
