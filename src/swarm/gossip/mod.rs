//! Gossip: the agents of a channel meet on its topic and tell each other what they have (design 3.4).
//!
//! `Topic` keeps the neighbours, `Connection` speaks with one of them, `dialer` looks for more. What a download asks is
//! answered from what the neighbours have said; `Questions` goes one step further, to the neighbours' neighbours.

mod answers;
mod budget;
mod connection;
mod dial_backs;
mod dialer;
#[cfg(test)]
pub mod lab;
mod layers;
mod message;
mod neighbour;
mod questions;
mod reach;
mod row_set;
mod topic;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::Release;
use crate::torrent::{InfoDict, InfoHash};

use super::incoming::Incoming;
use super::offer_book::OfferBook;
use super::peers::{PeerBook, PeerOrigin};
use super::pointers::Pointers;
use super::seeder::Seeder;
use super::share::{Share, SharePolicy};

pub use dial_backs::DialBacks;
pub use message::EXTENSION;
pub use reach::Port;

use connection::{Connection, ConnectionError, Greeted};
pub use layers::Layers;
pub use message::LayerId;
use message::{Hello, Message};
use neighbour::{Introduction, Neighbour, Way};
use questions::{ANSWER_TIMEOUT, Questions, Queues, gather, is_met};
use reach::Reach;
pub use row_set::RowSet;
use topic::{Holdings, Kind, Topic};

/// Messages that wait for a neighbour to take them.
const OUTBOX: usize = 64;
/// What this machine has is looked through at most so often; it takes some 30 ms for 100,000 rows.
const HOLDINGS_INTERVAL: Duration = Duration::from_secs(2);
/// Files that somebody puts into or takes out of a seedbox's directory are noticed after this time.
const HOLDINGS_REFRESH: Duration = Duration::from_secs(60);
/// Running downloads that are told of.
const MAX_GETTING: usize = 64;
/// Connections of strangers from one network (a /24, a /48): one part of the slots in so many.
const PER_NETWORK: usize = 4;
/// Connections that came in and have no slot yet: each may stay some seconds.
const VISITORS: usize = 64;
/// Holders asked to connect to us for one payload.
const DIAL_BACKS: usize = 4;

/// What the configuration says of gossip, and what gossip is made of.
pub struct GossipParts {
    pub peer_id: [u8; 20],
    pub port: u16,
    pub seedbox: bool,
    /// Neighbours of each topic at most.
    pub neighbours: usize,
    pub policy: Arc<SharePolicy>,
    pub peers: Arc<PeerBook>,
    pub pointers: Arc<Pointers>,
    pub book: Arc<OfferBook>,
    pub seeder: Arc<Seeder>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

pub struct Gossip {
    peer_id: [u8; 20],
    port: u16,
    seedbox: bool,
    limit: usize,
    policy: Arc<SharePolicy>,
    peers: Arc<PeerBook>,
    pointers: Arc<Pointers>,
    book: Arc<OfferBook>,
    seeder: Arc<Seeder>,
    topics: RwLock<Vec<Arc<Topic>>>,
    questions: Questions,
    reach: Reach,
    pub dial_backs: DialBacks,
    /// Rises when somebody may have something that nobody had before.
    news: watch::Sender<u64>,
    /// Those who came in and have no slot yet.
    visitors: Arc<Semaphore>,
    /// Wakes the look through what this machine has.
    releases: watch::Sender<u64>,
    next_id: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How a topic connection came about, and what its slot brings.
enum Entry {
    /// Whoever dialled is told.
    Dialled(oneshot::Sender<()>),
    /// The place of a visitor is free again.
    Came(OwnedSemaphorePermit),
}

/// Who has a payload, as far as the neighbours say.
#[derive(Default)]
pub struct Holders {
    /// They have all of it.
    pub whole: Vec<SocketAddr>,
    /// They are downloading it.
    pub getting: Vec<SocketAddr>,
    /// They are said to have it, and nobody could reach them.
    pub doubtful: Vec<SocketAddr>,
    /// Neighbours that have it and would have to connect to us.
    pub behind: usize,
}

impl Holders {
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.getting.is_empty() && self.behind == 0
    }
}

/// Gossip as `status` shows it.
#[derive(Debug, Clone)]
pub struct GossipReport {
    /// Of all topics.
    pub neighbours: usize,
    pub port: Port,
    /// Machines that have something that was asked for, and that nobody could reach.
    pub unreachable: usize,
}

impl GossipReport {
    /// What a person should know of ports that cannot be reached.
    pub fn nat(&self, port: u16) -> Option<String> {
        let Port::Closed(tried) = self.port else {
            return (self.unreachable > 0).then(|| {
                format!(
                    "{} machines have what was asked for and cannot be reached (NAT or a firewall): they have to connect \
                     to this one first, or a seedbox has to hold it",
                    self.unreachable
                )
            });
        };
        let ours = format!(
            "port {port} of this machine was reached by none of {tried} neighbours (NAT or a firewall): forward or open \
             it, so that others can fetch from here"
        );
        Some(match self.unreachable {
            0 => ours,
            others => format!(
                "{ours}. {others} machines have what was asked for and are behind NAT as well: neither side can connect \
                 to the other; one of both has to open its port, or a seedbox has to hold it"
            ),
        })
    }
}

impl Gossip {
    /// Starts looking for neighbours; there is nobody to look for before `set_topics`.
    pub fn start(parts: GossipParts) -> Arc<Self> {
        let (questions, queues) = Questions::new();
        let gossip = Arc::new(Self {
            peer_id: parts.peer_id,
            port: parts.port,
            seedbox: parts.seedbox,
            limit: parts.neighbours,
            policy: parts.policy,
            peers: parts.peers,
            pointers: parts.pointers,
            book: parts.book,
            seeder: parts.seeder,
            topics: RwLock::default(),
            questions,
            reach: Reach::default(),
            dial_backs: DialBacks::default(),
            news: watch::Sender::new(0),
            visitors: Arc::new(Semaphore::new(VISITORS)),
            releases: watch::Sender::new(0),
            next_id: AtomicU64::new(0),
            tasks: parts.tasks,
            stop: parts.stop,
        });
        let Queues { holders, infos } = queues;
        gossip.tasks.spawn(gossip.clone().keep_slots_filled());
        gossip.tasks.spawn(gossip.clone().watch_holdings());
        gossip.tasks.spawn(gossip.clone().ask_for_holders(holders));
        gossip.tasks.spawn(gossip.clone().ask_for_infos(infos));
        gossip
    }

    /// The followed channels: where each meets, and its kept releases, the newest first.
    pub fn set_topics(&self, channels: impl IntoIterator<Item = (InfoHash, Vec<Release>)>) {
        let before = self.topics();
        let mut topics = Vec::new();
        for (hash, releases) in channels {
            let known = before.iter().find(|topic| topic.hash == hash);
            let topic = known.cloned().unwrap_or_else(|| Arc::new(Topic::new(hash)));
            topic.set_releases(releases);
            topics.push(topic);
        }
        for old in before {
            if topics.iter().all(|topic| topic.hash != old.hash) {
                old.neighbours().iter().for_each(|n| n.stop.cancel());
            }
        }
        *self.topics.write().unwrap_or_else(PoisonError::into_inner) = topics;
        self.releases.send_modify(|version| *version += 1);
    }

    pub fn is_topic(&self, hash: &InfoHash) -> bool {
        self.topics().iter().any(|topic| topic.hash == *hash)
    }

    /// Speaks with one that came in on a topic; the policy allows it.
    pub async fn accept(self: &Arc<Self>, peer: Incoming, address: SocketAddr) {
        let hash = peer.hello.info_hash;
        let Some(topic) = self.topics().into_iter().find(|t| t.hash == hash) else {
            return;
        };
        let Ok(visit) = self.visitors.clone().try_acquire_owned() else {
            return;
        };
        let speak = async {
            let greeted = Greeted::answer(peer, self.peer_id).await?;
            self.speak(&topic, greeted, address, Entry::Came(visit))
                .await
        };
        if let Err(error) = speak.await {
            tracing::debug!(%address, %error, "a topic connection ended");
        }
    }

    /// Opens a topic connection. Returns, once that is clear, whether it came to be a neighbour; then it stays.
    async fn dial(self: &Arc<Self>, topic: Arc<Topic>, address: SocketAddr) -> bool {
        let greeted = match Greeted::dial(address, topic.hash, self.peer_id).await {
            Ok(greeted) => greeted,
            Err(error) => {
                tracing::debug!(%address, %error, "no topic connection");
                match error {
                    ConnectionError::Ourselves => self.peers.forget(&address),
                    ConnectionError::Connect(_) | ConnectionError::Silent => {
                        self.peers.saw(address, false);
                    }
                    _ => self.peers.saw(address, true),
                }
                return false;
            }
        };
        self.peers.saw(address, true);
        let (admitted, admission) = oneshot::channel();
        let gossip = self.clone();
        self.tasks.spawn(async move {
            let spoken = tokio::select! {
                () = gossip.stop.cancelled() => return,
                spoken = gossip.speak(&topic, greeted, address, Entry::Dialled(admitted)) => spoken,
            };
            if let Err(error) = spoken {
                tracing::debug!(%address, %error, "a topic connection ended");
            }
        });
        admission.await.is_ok()
    }

    /// The whole life of a topic connection.
    async fn speak(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        greeted: Greeted,
        address: SocketAddr,
        entry: Entry,
    ) -> Result<(), ConnectionError> {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let neighbour = Arc::new(Neighbour::new(Introduction {
            id: self.next_id.fetch_add(1, Relaxed),
            address,
            dialled: matches!(entry, Entry::Dialled(_)),
            peer_id: greeted.peer_id,
            our_id: self.peer_id,
            mute: !self.policy.allows(address),
            is_near: self.policy.is_lan(address.ip()),
            stop: self.stop.child_token(),
            outbox,
        }));
        let kind = self.kind(&address);
        let crowded = kind == Kind::Stranger
            && !neighbour.dialled
            && topic.strangers_near(address.ip()) >= self.limit.div_ceil(PER_NETWORK);
        let admitted = !crowded && topic.admit(&neighbour, kind, self.limit);
        let (mut connection, mut reader) =
            Connection::new(self.clone(), topic.clone(), neighbour.clone(), greeted);
        if !admitted {
            connection.receive_visitor(&mut reader).await?;
            let kind = self.kind(&neighbour.contact().unwrap_or(address));
            let admitted = (kind != Kind::Stranger && topic.admit(&neighbour, kind, self.limit))
                || (!crowded && topic.admit_lonely(&neighbour, kind, self.limit));
            if !admitted {
                return Err(ConnectionError::Full);
            }
        }
        match entry {
            Entry::Dialled(admitted) => drop(admitted.send(())),
            Entry::Came(visit) => drop(visit),
        }
        let spoken = connection.run(reader, messages).await;
        topic.leave(&neighbour);
        self.questions.forget(neighbour.id);
        self.reach.forget(neighbour.id);
        self.holders_changed();
        if let Err(
            ConnectionError::Flood | ConnectionError::Message(_) | ConnectionError::Rows(_),
        ) = spoken
        {
            self.shun(&neighbour);
        }
        spoken
    }

    /// What this machine says of itself to a neighbour.
    fn hello_for(&self, topic: &Topic, neighbour: &Neighbour) -> Hello {
        Hello {
            layers: topic.layers().ids(),
            neighbours: topic.count() as u64,
            port: if neighbour.mute { 0 } else { self.port },
            public: self.policy.share() == Share::Public,
            seedbox: self.seedbox && !neighbour.mute,
        }
    }

    /// A neighbour has said hello.
    fn met(self: &Arc<Self>, topic: &Arc<Topic>, neighbour: &Arc<Neighbour>) {
        if let Some(contact) = neighbour.contact() {
            topic.set_kind(neighbour, self.kind(&contact));
        }
        self.probe(topic, neighbour);
        let unmet = self.questions.unmet();
        self.questions.ask(neighbour, topic, &unmet);
        self.holders_changed();
    }

    fn heard_peers(&self, peers: Vec<SocketAddr>) {
        for peer in peers {
            self.peers.add(peer, PeerOrigin::Exchange);
        }
    }

    /// An address of which others told, or which came to us, turned out to be good.
    fn reached(&self, address: SocketAddr) {
        self.peers.add(address, PeerOrigin::Exchange);
        self.peers.saw(address, true);
    }

    fn holders_changed(&self) {
        self.news.send_modify(|version| *version += 1);
    }

    /// Changes whenever somebody may have something that nobody had before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Asks the neighbours for holders of a payload, so that `holders` knows more of them soon.
    pub fn seek(&self, info_hash: InfoHash) {
        self.questions.seek(info_hash);
    }

    pub fn has_neighbours(&self) -> bool {
        self.topics().iter().any(|topic| topic.count() > 0)
    }

    /// Who has a payload.
    pub fn holders(&self, info_hash: &InfoHash) -> Holders {
        let mut holders = Holders::default();
        for topic in self.topics() {
            let rows = topic.layers().rows_of(info_hash);
            for neighbour in topic.neighbours() {
                let list = match (neighbour.has(&rows), neighbour.is_getting(&rows)) {
                    (true, _) => &mut holders.whole,
                    (_, true) => &mut holders.getting,
                    _ => continue,
                };
                match neighbour.way() {
                    Way::Direct(address) => list.push(address),
                    Way::DialBack => holders.behind += 1,
                    Way::Closed => {}
                }
            }
        }
        for found in self.questions.found(info_hash) {
            match found.open {
                true => holders.whole.push(found.address),
                false => holders.doubtful.push(found.address),
            }
        }
        let mut seen = HashSet::new();
        let lists = [
            &mut holders.whole,
            &mut holders.getting,
            &mut holders.doubtful,
        ];
        for list in lists {
            list.retain(|address| !self.peers.is_shunned(*address) && seen.insert(*address));
        }
        holders
    }

    /// Whether a neighbour with this address would have said so, had it this payload.
    pub fn lacks(&self, address: &SocketAddr, info_hash: &InfoHash) -> bool {
        self.topics().iter().any(|topic| {
            let rows = topic.layers().rows_of(info_hash);
            let neighbours = topic.neighbours();
            let mut its = neighbours.iter().filter(|n| n.contact() == Some(*address));
            its.any(|n| n.lacks(&rows))
        })
    }

    /// Whether neighbours may still say who has this payload: they were asked, or have only just come.
    pub fn is_asking(&self, info_hash: &InfoHash) -> bool {
        self.questions.is_asking(info_hash)
            || self.topics().iter().any(|topic| {
                let rows = topic.layers().rows_of(info_hash);
                let neighbours = topic.neighbours();
                let mut fresh = neighbours
                    .iter()
                    .filter(|n| n.since.elapsed() < ANSWER_TIMEOUT);
                !rows.is_empty() && fresh.any(|n| !n.has_told(&rows))
            })
    }

    /// The info dict of a payload from a neighbour, if one has it and answers.
    pub async fn info(&self, info_hash: InfoHash) -> Option<Arc<InfoDict>> {
        let mut news = self.changes();
        loop {
            if let Ok(info) = self.questions.want_info(info_hash).await {
                return Some(info);
            }
            if !self.is_asking(&info_hash) {
                return None;
            }
            tokio::select! {
                changed = news.changed() => changed.ok()?,
                () = tokio::time::sleep(ANSWER_TIMEOUT) => {}
            }
        }
    }

    /// Asks neighbours that have a payload and cannot be reached to connect to us.
    pub fn ask_dial_backs(&self, info_hash: &InfoHash) {
        for topic in self.topics() {
            let rows = topic.layers().rows_of(info_hash);
            let mut left = DIAL_BACKS;
            for neighbour in topic.neighbours() {
                let row = rows.iter().find(|row| neighbour.has(&[**row]));
                if let Some((layer, row)) = row.copied()
                    && neighbour.way() == Way::DialBack
                    && !neighbour.mute
                    && left > 0
                {
                    left -= 1;
                    self.dial_backs.expect(*info_hash, &neighbour);
                    neighbour.tell(Message::DialBack { layer, row });
                }
            }
        }
    }

    /// A neighbour connects because it was asked to: librqbit takes it from here.
    pub async fn dialled_back(
        &self,
        neighbour: &Neighbour,
        peer: Incoming,
        info_hash: &InfoHash,
    ) -> io::Result<()> {
        let bytes = self.dial_backs.splice(peer).await?;
        tracing::debug!(neighbour = %neighbour.address, %info_hash, bytes, "a holder dialled back");
        if bytes > 0 {
            neighbour.kept_its_word();
        }
        Ok(())
    }

    /// A peer sent good bytes of this payload.
    pub fn delivered(&self, info_hash: &InfoHash, address: &SocketAddr) {
        for neighbour in self.vouchers(info_hash, address) {
            neighbour.kept_its_word();
        }
    }

    /// A peer that is said to have this payload hung up without a byte of it. Whoever said so is believed less.
    pub fn disappointed(&self, info_hash: &InfoHash, address: &SocketAddr) {
        for neighbour in self.vouchers(info_hash, address) {
            if neighbour.broke_its_word() {
                tracing::info!(neighbour = %neighbour.address, "a neighbour names what is not there; it is left alone for a while");
                self.shun(&neighbour);
            }
        }
        self.questions.strike(info_hash, address);
    }

    /// The neighbours whose word it is that `address` has this payload.
    fn vouchers(&self, info_hash: &InfoHash, address: &SocketAddr) -> Vec<Arc<Neighbour>> {
        let told_by = self.questions.told_by(info_hash, address);
        let mut vouchers = Vec::new();
        for topic in self.topics() {
            let rows = topic.layers().rows_of(info_hash);
            vouchers.extend(topic.neighbours().into_iter().filter(|n| {
                Some(n.id) == told_by || (n.contact() == Some(*address) && n.has(&rows))
            }));
        }
        vouchers
    }

    fn shun(&self, neighbour: &Neighbour) {
        let address = neighbour.contact().unwrap_or(neighbour.address);
        self.peers.shun(address);
    }

    pub fn report(&self) -> GossipReport {
        let topics = self.topics();
        GossipReport {
            neighbours: topics.iter().map(|topic| topic.count()).sum(),
            port: self.reach.port(),
            unreachable: self.questions.unreachable(),
        }
    }

    fn kind(&self, address: &SocketAddr) -> Kind {
        if self.peers.is_named(address) {
            Kind::Named
        } else if self.policy.is_lan(address.ip()) {
            Kind::Lan
        } else {
            Kind::Stranger
        }
    }

    fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Looks through what this machine has whenever that may have changed.
    async fn watch_holdings(self: Arc<Self>) {
        let mut changes = self.book.changes();
        let mut releases = self.releases.subscribe();
        loop {
            for topic in self.topics() {
                let (book, topic) = (self.book.clone(), topic.clone());
                // A panic in there ends gossip's news, and nothing else.
                let _ = tokio::task::spawn_blocking(move || {
                    let (releases, layers) = (topic.releases(), topic.layers());
                    let haves = book.select(&releases, &layers);
                    let running = book.running();
                    let rows = running.iter().flat_map(|ih| layers.rows_of(ih));
                    let getting = rows.take(MAX_GETTING).collect();
                    topic.set_holdings(Holdings { haves, getting });
                })
                .await;
            }
            let changed = async {
                let more = tokio::select! {
                    changed = changes.changed() => changed.is_ok(),
                    changed = releases.changed() => changed.is_ok(),
                    () = tokio::time::sleep(HOLDINGS_REFRESH) => true,
                };
                // What comes soon after is looked at with it.
                tokio::time::sleep(HOLDINGS_INTERVAL).await;
                more
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                more = changed => if !more { return },
            }
        }
    }

    async fn ask_for_holders(self: Arc<Self>, mut queue: mpsc::Receiver<InfoHash>) {
        loop {
            let batch = tokio::select! {
                () = self.stop.cancelled() => return,
                batch = gather(&mut queue) => match batch {
                    Some(batch) => batch,
                    None => return,
                },
            };
            for topic in self.topics() {
                let (layers, neighbours) = (topic.layers(), topic.neighbours());
                let mut open = batch.clone();
                open.retain(|info_hash| !is_met(&neighbours, &layers.rows_of(info_hash)));
                for neighbour in &neighbours {
                    self.questions.ask(neighbour, &topic, &open);
                }
            }
        }
    }

    async fn ask_for_infos(self: Arc<Self>, mut queue: mpsc::Receiver<InfoHash>) {
        loop {
            let batch = tokio::select! {
                () = self.stop.cancelled() => return,
                batch = gather(&mut queue) => match batch {
                    Some(batch) => batch,
                    None => return,
                },
            };
            self.questions.ask_infos(&self.topics(), &batch);
        }
    }
}
