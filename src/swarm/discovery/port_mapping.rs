//! Asks the router for a way in to the peer port (UPnP), as long as this machine serves the public.

use std::sync::Arc;
use std::time::Duration;

use librqbit_upnp::{UpnpPortForwarder, UpnpPortForwarderOptions};

use crate::swarm::share::{Share, SharePolicy};

/// A router keeps a mapping for so long after the last request; it is asked again twice as often.
const LEASE: Duration = Duration::from_secs(600);
/// Between two searches for routers: one that restarts has forgotten everything.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);
/// They answer within the 3 s that the question gives them.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

pub struct PortMapping {
    /// The peer port: the same on the router.
    pub port: u16,
    pub policy: Arc<SharePolicy>,
}

impl PortMapping {
    /// Until dropped.
    pub async fn run(self) {
        loop {
            self.policy.until(|share| share == Share::Public).await;
            let options = UpnpPortForwarderOptions {
                lease_duration: LEASE,
                discover_interval: SEARCH_INTERVAL,
                discover_timeout: ANSWER_TIMEOUT,
            };
            let forwarder = match UpnpPortForwarder::new(vec![self.port], Some(options), None) {
                Ok(forwarder) => forwarder,
                Err(error) => return tracing::warn!("upnp: {error:#}"),
            };
            tokio::select! {
                never = forwarder.run_forever() => never,
                () = self.policy.until(|share| share != Share::Public) => {}
            }
        }
    }
}
