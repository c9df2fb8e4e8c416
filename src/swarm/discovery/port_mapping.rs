//! Asks the router for a way in to the peer port (UPnP), as long as this machine serves the public.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use librqbit_upnp::{SSDP_SEARCH_WAN_IPCONNECTION_ST, discover_once};
use reqwest::Client;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::internet_gateway::{self, InternetGateway, PortForward};
use super::plain_http;
use crate::swarm::share::{Share, SharePolicy};

/// A router keeps a mapping for so long after the last request; it is asked again twice as often.
const LEASE: Duration = Duration::from_secs(600);
/// Between two searches while no router does it.
const SEARCH_INTERVAL: Duration = Duration::from_secs(60);
/// They answer within the 3 s that the question gives them.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(5);
/// There is mostly one; anybody on the LAN may answer like one.
const MAX_GATEWAYS: usize = 4;
/// What is left is let go with the lease.
const FAREWELL: Duration = Duration::from_millis(800);

pub struct PortMapping {
    /// The peer port: the same on the router.
    pub port: u16,
    pub policy: Arc<SharePolicy>,
}

impl PortMapping {
    /// Until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let client = match plain_http::client(internet_gateway::ANSWER_TIMEOUT) {
            Ok(client) => client,
            Err(error) => return tracing::warn!("upnp: {error}"),
        };
        while !stop.is_cancelled() {
            let mut forwards = Vec::new();
            let mapped = async {
                self.policy.until(|share| share == Share::Public).await;
                tokio::select! {
                    () = self.keep(&client, &mut forwards) => {}
                    () = self.policy.until(|share| share != Share::Public) => {}
                }
            };
            stop.run_until_cancelled(mapped).await;
            let removed = forwards.iter().map(|forward| forward.remove(&client));
            let _ = timeout(FAREWELL, join_all(removed)).await;
        }
    }

    /// Maps the port again and again; `forwards` is what is mapped now.
    async fn keep(&self, client: &Client, forwards: &mut Vec<PortForward>) {
        let mut told = HashSet::new();
        loop {
            let gateways = self.search().await;
            let asked = gateways.iter().map(async |gateway| {
                let mapped = gateway.map(client, self.port, LEASE).await;
                (gateway.address, mapped)
            });
            let (mut made, mut faults) = (Vec::new(), HashSet::new());
            if gateways.is_empty() {
                faults.insert("no router of the LAN answers".to_owned());
            }
            for (router, mapped) in join_all(asked).await {
                match mapped {
                    Ok(forward) => {
                        if !forwards.contains(&forward) {
                            tracing::info!(%router, port = self.port, "upnp: the router forwards the port");
                        }
                        made.push(forward);
                    }
                    Err(error) => {
                        faults.insert(format!(
                            "router {router} does not forward the port: {error}"
                        ));
                    }
                }
            }
            // What was said in the last round is no news.
            let news = faults.difference(&told);
            news.for_each(|fault| tracing::warn!("upnp: {fault}"));
            told = faults;
            let pause = match made.is_empty() {
                true => SEARCH_INTERVAL,
                false => LEASE / 2,
            };
            // A router that was not heard this time still keeps to its lease.
            forwards.retain(|forward| !made.contains(forward));
            forwards.extend(made);
            let oldest = forwards.len().saturating_sub(2 * MAX_GATEWAYS);
            forwards.drain(..oldest);
            sleep(pause).await;
        }
    }

    /// Those that answer, one for each address.
    async fn search(&self) -> Vec<InternetGateway> {
        let mut gateways: Vec<InternetGateway> = Vec::new();
        let (found, mut answers) = mpsc::unbounded_channel();
        let search = discover_once(
            &found,
            SSDP_SEARCH_WAN_IPCONNECTION_ST,
            SEARCH_TIMEOUT,
            None,
        );
        let take = async {
            while gateways.len() < MAX_GATEWAYS
                && let Some(answer) = answers.recv().await
            {
                let Some(gateway) = InternetGateway::of(&answer, &self.policy) else {
                    tracing::debug!(from = %answer.received_from, "upnp: an answer that names somebody else");
                    continue;
                };
                if gateways
                    .iter()
                    .all(|known| known.address != gateway.address)
                {
                    gateways.push(gateway);
                }
            }
        };
        tokio::select! {
            // First, so that answers do not pile up.
            biased;
            () = take => {}
            result = search => {
                if let Err(error) = result {
                    tracing::debug!("upnp: {error:#}");
                }
            }
        }
        gateways
    }
}
