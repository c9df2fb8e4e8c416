//! One path of bytes that do not compress: listed by a channel, in a binary cache, and as a payload for scripted peers.

use std::{path::PathBuf, time::Duration};

use super::{
    Answer, Closure, HttpServer, InstalledPath, Keys, Need, Nix, Node, NodeConfig, Payload,
    Publication, Release, Scratch, payload_of,
};

pub struct LoneNar {
    pub nix: Nix,
    pub scratch: Scratch,
    pub keys: Keys,
    pub publication: Publication,
    pub closure: Closure,
    pub bytes: Vec<u8>,
    pub payload: Payload,
    pub cache: PathBuf,
}

impl LoneNar {
    /// `None`, said plainly, where Nix is not installed.
    pub fn new(test: &str, size: u64) -> Option<Self> {
        if !Need::all(test, &[Need::NIX]) {
            return None;
        }
        let nix = Nix::installed();
        let closure = Closure::noise(&nix, size);
        Some(Self::of(nix, closure))
    }

    /// The same of a path of this closure alone, in the store of `nix`.
    pub fn of(nix: Nix, closure: Closure) -> Self {
        let scratch = Scratch::new();
        let keys = Keys::make(&nix, &scratch.path("keys"));
        let publication = Release::of(&closure, &keys, scratch.path("release")).publish();
        let bytes = nix.dump(&closure.root, &closure.top);
        let options = "compression=zstd";
        let cache = closure.copy_to_cache(&nix, &keys, options, &scratch.path("cache"));
        Self {
            payload: payload_of(&bytes),
            bytes,
            keys,
            publication,
            closure,
            cache,
            scratch,
            nix,
        }
    }

    /// With a seedbox that offers it, with these settings.
    pub fn seeded(
        test: &str,
        size: u64,
        settings: impl FnOnce(NodeConfig) -> NodeConfig,
    ) -> Option<(Self, Node)> {
        let lone = Self::new(test, size)?;
        let seedbox = Node::start(&settings(lone.seedbox("seedbox")));
        seedbox.wait_for_offer(1);
        Some((lone, seedbox))
    }

    pub fn path(&self) -> &InstalledPath {
        self.closure.top()
    }

    /// The path itself, which is one file as a rule, in its store.
    pub fn file(&self) -> PathBuf {
        let path = self.closure.top.trim_start_matches('/');
        self.closure.root.join(path)
    }

    /// Nix collects it.
    #[track_caller]
    pub fn delete(&self) {
        let path = &self.closure.top;
        self.nix.on_store("nix-store", &["--delete", path]);
    }

    /// Nix installs it again.
    #[track_caller]
    pub fn add_again(&self) {
        let (_, name) = self.path().base_name().split_once('-').unwrap();
        let closure = Closure::add(&self.nix, &self.nix.work().join(name));
        assert_eq!(closure.top, self.closure.top);
    }

    /// An agent that follows the channel and has an empty store.
    pub fn agent(&self, name: &str) -> NodeConfig {
        self.stranger(name)
            .follow(&self.publication)
            .trust(&self.keys.narinfo)
    }

    /// An agent that knows nothing.
    pub fn stranger(&self, name: &str) -> NodeConfig {
        let store = self.scratch.path(&format!("{name}-store"));
        NodeConfig::agent(self.scratch.path(name), &store)
    }

    /// A seedbox of the path.
    pub fn seedbox(&self, name: &str) -> NodeConfig {
        NodeConfig::store_seedbox(self.scratch.path(name), &self.closure.root)
            .follow(&self.publication)
    }

    /// The cache, with something done to every answer for a NAR.
    pub fn upstream(
        &self,
        spoil: impl Fn(Vec<u8>) -> Answer + Send + Sync + 'static,
    ) -> HttpServer {
        let cache = self.cache.clone();
        HttpServer::start(move |path| match Answer::file(&cache, path) {
            Answer::Body(body) if path.starts_with("/nar/") => spoil(body),
            answer => answer,
        })
    }

    pub fn good_upstream(&self) -> HttpServer {
        self.upstream(Answer::Body)
    }

    /// Asks for the NAR: right and whole, or a failure that tells what came.
    #[track_caller]
    pub fn check(&self, agent: &Node) {
        self.check_within(agent, Duration::MAX);
    }

    /// The same, in this time.
    #[track_caller]
    pub fn check_within(&self, agent: &Node, worst: Duration) {
        let nar = agent.get(&self.path().nar());
        assert_eq!(nar.status, 200, "{}", agent.status());
        let (name, came, size) = (agent.name(), nar.body.len(), self.bytes.len());
        assert!(nar.body == self.bytes, "{name}: {came} of {size} bytes");
        assert!(nar.elapsed < worst, "{name}: {:?}", nar.elapsed);
    }

    /// Asks for it where nobody gives it whole: a 404 when nothing was sent, an honest cut after that, in this time.
    #[track_caller]
    pub fn check_failure(&self, agent: &Node, worst: Duration) {
        let nar = agent.get(&self.path().nar());
        assert!(nar.elapsed < worst, "{:?}", nar.elapsed);
        let came = nar.body.len();
        match nar.status {
            200 => assert!(
                came < self.bytes.len() && self.bytes.starts_with(&nar.body),
                "{came} bytes"
            ),
            status => assert_eq!((status, came), (404, 0)),
        }
    }
}
