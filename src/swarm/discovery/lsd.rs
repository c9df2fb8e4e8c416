//! Local service discovery (BEP 14): agents of one LAN find each other by multicast under the topics of their channels.
//!
//! Multicast goes out on the interfaces with private addresses, IPv4 and IPv6, and what comes from elsewhere than the
//! LAN is not believed. With `share = "off"` it only listens.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::select_all;
use librqbit_core::hash_id::Id20;
use librqbit_lsd::{LocalServiceDiscovery, LocalServiceDiscoveryOptions};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::torrent::InfoHash;

use super::peers::{PeerBook, PeerOrigin};
use super::pointers::Pointers;
use crate::swarm::share::{Share, SharePolicy};

/// Groups are joined on the interfaces that are there: a laptop moves, a bridge comes up.
const INTERFACES: Duration = Duration::from_secs(15);

pub struct Lsd {
    /// The peer port.
    pub port: u16,
    pub policy: Arc<SharePolicy>,
    pub pointers: Arc<Pointers>,
    pub peers: Arc<PeerBook>,
    /// Why it does not work, if it does not.
    pub fault: watch::Sender<Option<String>>,
}

impl Lsd {
    /// Announces and listens until `stop`; anew whenever interfaces or channels have changed, or whether it may announce.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let (interfaces, topics) = (interfaces(), self.topics());
            let announces = self.policy.share() != Share::Off;
            let round = stop.child_token();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.listen(&topics, announces, round.clone()) => {}
                () = self.change(&interfaces, &topics) => {}
                () = self.policy.until(|share| (share != Share::Off) != announces) => {}
            }
            round.cancel();
        }
    }

    async fn listen(&self, topics: &BTreeSet<InfoHash>, announces: bool, stop: CancellationToken) {
        let options = LocalServiceDiscoveryOptions {
            cancel_token: stop,
            ..LocalServiceDiscoveryOptions::default()
        };
        let lsd = match LocalServiceDiscovery::new(options).await {
            Ok(lsd) => lsd,
            Err(error) => {
                let fault = format!("local service discovery: {error:#}");
                tracing::debug!("{fault}");
                self.fault.send_replace(Some(fault));
                return std::future::pending().await;
            }
        };
        self.fault.send_replace(None);
        let port = announces.then_some(self.port);
        let found = topics
            .iter()
            .map(|topic| lsd.announce(Id20::new(*topic.as_bytes()), port));
        let mut found = select_all(found);
        while let Some(address) = found.next().await {
            if self.policy.is_lan(address.ip().to_canonical()) {
                self.peers.add(address, PeerOrigin::Lan);
            }
        }
        std::future::pending().await
    }

    async fn change(&self, interfaces_before: &BTreeSet<IpAddr>, topics: &BTreeSet<InfoHash>) {
        let mut news = self.pointers.subscribe();
        while interfaces() == *interfaces_before && self.topics() == *topics {
            tokio::select! {
                () = sleep(INTERFACES) => {}
                _ = news.changed() => {}
            }
        }
    }

    fn topics(&self) -> BTreeSet<InfoHash> {
        let followed = self.pointers.followed();
        followed.iter().map(|topic| topic.info_hash).collect()
    }
}

fn interfaces() -> BTreeSet<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(|interface| interface.ip()).collect()
}
