//! What this machine tells its neighbours of others, and answers them: who else has something, info dicts, a connection
//! back, peers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rand::seq::SliceRandom;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::swarm::protocol::{Incoming, messages};
use crate::swarm::seeding::Visit;

use super::Gossip;
use super::layers::RowName;
use super::message::{Holder, MAX_DICT_BYTES, MAX_DICTS, MAX_HOLDERS, MAX_PEERS, Message, packed};
use super::neighbour::{Neighbour, Way};
use super::topic::Topic;

/// Holders named for one row: a downloader uses few at a time.
const HOLDERS_PER_ROW: usize = 4;
/// Info dicts that are computed for one request: whoever has reached our port can ask for the others there, whom we have
/// dialled only here.
const MAX_COMPUTED: usize = 16;
const MAX_COMPUTED_FOR_DIALLED: usize = 256;
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Neighbours that hear of a new one. When many come at the same moment, nobody was reached yet when they said hello.
const TOLD_OF_NEW: usize = 4;

impl Gossip {
    /// Which other neighbours have some of these rows: what they said themselves, so nothing travels more than twice.
    pub fn holders_for(&self, topic: &Topic, asker: &Neighbour, rows: Vec<RowName>) -> Vec<Holder> {
        let layers = topic.layers();
        let mut neighbours = topic.neighbours();
        neighbours.shuffle(&mut rand::rng());
        let mut named: HashMap<RowName, usize> = HashMap::new();
        let mut holders = Vec::new();
        for neighbour in neighbours {
            let (open, address) = match (neighbour.way(), neighbour.contact()) {
                (Way::Closed, _) | (_, None) => continue,
                (Way::Direct(address), _) => (true, address),
                (Way::DialBack, Some(address)) => (false, address),
            };
            if neighbour.id == asker.id || !self.may_name(&neighbour, asker) {
                continue;
            }
            let has = |row: &&RowName| {
                named.get(row).is_none_or(|n| *n < HOLDERS_PER_ROW) && neighbour.has(&[**row])
            };
            let its: Vec<RowName> = rows.iter().filter(has).copied().collect();
            if its.is_empty() {
                continue;
            }
            its.iter()
                .for_each(|row| *named.entry(*row).or_default() += 1);
            // An address that was dialled is the neighbour's own word for where it serves.
            holders.push(Holder {
                address,
                open,
                rows: layers.encode(its),
            });
            if holders.len() == MAX_HOLDERS {
                break;
            }
        }
        holders
    }

    /// Whether one neighbour may be told of another: what is on the LAN is named there only, and the rest if it is public.
    fn may_name(&self, neighbour: &Neighbour, to: &Neighbour) -> bool {
        let public = neighbour.hello().is_some_and(|hello| hello.public);
        !neighbour.mute
            && if neighbour.is_near {
                to.is_near
            } else {
                public
            }
    }

    /// Sends the info dicts of these rows, as far as this machine has the rows; those that must be computed come last.
    pub fn answer_infos(
        self: &Arc<Self>,
        topic: &Topic,
        neighbour: &Arc<Neighbour>,
        rows: &[RowName],
    ) -> JoinHandle<()> {
        let layers = topic.layers();
        let wanted = rows.iter().filter_map(|row| layers.info_hash(row));
        let wanted: Vec<_> = wanted.collect();
        let (gossip, neighbour) = (self.clone(), neighbour.clone());
        let most = match neighbour.dialled {
            true => MAX_COMPUTED_FOR_DIALLED,
            false => MAX_COMPUTED,
        };
        self.tasks.spawn(async move {
            let (mut known, mut unknown) = (Vec::new(), Vec::new());
            for info_hash in wanted {
                let Some(offer) = gossip.seeder.book.find(&info_hash) else {
                    continue;
                };
                match offer.known_info().await {
                    Some(info) => known.push(info.encode()),
                    None if unknown.len() < most => unknown.push(offer),
                    None => {}
                }
            }
            known.retain(|dict| dict.len() <= MAX_DICT_BYTES);
            for batch in known.chunks(MAX_DICTS) {
                for message in packed(batch.to_vec(), Vec::len, Message::Info) {
                    neighbour.tell(message);
                }
            }
            for offer in unknown {
                let computed = tokio::select! {
                    () = neighbour.stop.cancelled() => return,
                    computed = gossip.seeder.info(&offer, neighbour.address.ip()) => computed,
                };
                if let Ok(info) = computed
                    && info.encode().len() <= MAX_DICT_BYTES
                {
                    neighbour.tell(Message::Info(vec![info.encode()]));
                }
            }
        })
    }

    /// Connects to the neighbour, at the address of its connection and the port that it named there, and serves it
    /// this row. Nobody else can be meant: that is all that it can say.
    pub fn dial_back(self: &Arc<Self>, topic: &Topic, neighbour: &Arc<Neighbour>, row: RowName) {
        let target = neighbour.contact();
        let info_hash = topic.layers().info_hash(&row);
        let (Some(target), Some(info_hash)) = (target, info_hash) else {
            return;
        };
        if neighbour.mute || !self.policy.allows(target) {
            return;
        }
        let Some(offer) = self.seeder.book.find(&info_hash) else {
            return;
        };
        let machine = self.policy.machine_of(target.ip());
        let Some(place) = self.dialled_back.take(machine) else {
            return;
        };
        // Nobody holds it half-open: it is we who connect.
        place.greeted();
        let gossip = self.clone();
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            let serve = async {
                let connected = timeout(DIAL_TIMEOUT, TcpStream::connect(target)).await;
                let mut stream = connected.ok()?.ok()?;
                let mut out = BytesMut::new();
                messages::put_handshake(&mut out, info_hash, gossip.peer_id, true);
                stream.write_all(&out).await.ok()?;
                let mut peer = Incoming::read(stream).await.ok()?;
                peer.greeted = true;
                if peer.hello.info_hash == info_hash {
                    let holders = gossip.count_holders(&info_hash, offer.piece_count());
                    let visit = Visit {
                        place: &place,
                        holders,
                    };
                    let served = gossip.seeder.serve(offer, peer, visit).await;
                    tracing::debug!(%target, %info_hash, ?served, "served by dialling back");
                }
                Some(())
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = place.displaced() => {}
                () = gossip.policy.refuses(target) => {}
                served = serve => if served.is_none() {
                    tracing::debug!(%target, %info_hash, "could not dial back");
                }
            }
        });
    }

    /// Addresses worth knowing for this neighbour: those that were reached, and may be named to it.
    pub fn peers_for(&self, to: &Neighbour) -> Vec<SocketAddr> {
        let mut peers = self.peers.reached();
        let topics = self.topics();
        let neighbours = topics.iter().flat_map(|topic| topic.neighbours());
        let neighbours: HashMap<SocketAddr, Arc<Neighbour>> = neighbours
            .filter_map(|neighbour| Some((neighbour.contact()?, neighbour)))
            .collect();
        let own = to.contact();
        let may = |peer: &SocketAddr| match neighbours.get(peer) {
            _ if Some(*peer) == own => false,
            Some(neighbour) => self.may_name(neighbour, to),
            // Nothing is known of its wishes: an address on the LAN stays there.
            None => self.may_tell(to, *peer),
        };
        peers.shuffle(&mut rand::rng());
        peers.into_iter().filter(may).take(MAX_PEERS).collect()
    }
    /// Tells some of the others of a neighbour that was just reached.
    pub fn tell_of(&self, new: &Neighbour, topic: &Topic) {
        let Some(contact) = new.contact() else {
            return;
        };
        let mut others = topic.neighbours();
        others.retain(|other| other.id != new.id && self.may_name(new, other));
        others.shuffle(&mut rand::rng());
        for other in others.into_iter().take(TOLD_OF_NEW) {
            other.tell(Message::Peers(vec![contact]));
        }
    }
}
