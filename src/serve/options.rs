//! What a node is started with, and what of it a running one can take over.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::follow::ChannelOptions;
use crate::nix::TrustedKeys;
use crate::store::StoreUri;
use crate::swarm::SwarmOptions;
use crate::upstream::UpstreamOptions;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Agent,
    Seedbox,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Seedbox => "seedbox",
        }
    }
}

pub struct NodeOptions {
    pub role: Role,
    pub state: PathBuf,
    /// Where the HTTP side listens: an agent's shim, a seedbox's status.
    pub shim: SocketAddr,
    /// A socket that is bound already; then `shim` is not.
    pub shim_socket: Option<std::net::TcpListener>,
    /// The store whose installed paths are offered (and served to Nix, by an agent).
    pub store: Option<StoreUri>,
    pub swarm: SwarmOptions,
    pub channels: Vec<ChannelOptions>,
    pub upstreams: Vec<UpstreamOptions>,
    /// Keys whose signatures make a row worth serving to Nix.
    pub keys: TrustedKeys,
    /// What the configuration allows but probably does not mean.
    pub warnings: Vec<String>,
}

impl NodeOptions {
    /// The section that says where HTTP is answered.
    pub fn http_section(&self) -> &'static str {
        match self.role {
            Role::Agent => "shim",
            Role::Seedbox => "http",
        }
    }

    /// The keys in which `new` differs and that only a restart can change.
    pub fn needing_restart(&self, new: &Self) -> Vec<&'static str> {
        let (listen, store) = match self.role {
            Role::Agent => ("shim.listen", "store.uri"),
            Role::Seedbox => ("http.listen", "hold.location"),
        };
        let own = [
            ("state", self.state != new.state),
            (listen, self.shim != new.shim),
            (store, self.store != new.store),
        ];
        let own = own
            .into_iter()
            .filter_map(|(key, differs)| differs.then_some(key));
        own.chain(self.swarm.needing_restart(&new.swarm)).collect()
    }
}
