//! What the promises are tested with: Nix, stores with real content, nodes, hosts, servers and clients.

#[path = "../../lab/mod.rs"]
mod shared;

mod channel;
mod child_process;
mod clock;
mod closure;
mod dht_liar;
mod forgery;
mod http_client;
mod http_server;
mod librqbit_client;
mod lone_nar;
mod node;
mod node_config;
mod poll;
mod publisher;
mod raw_peer;
mod scratch;
mod scripted_peer;
mod stock_client;
mod substitution;
mod topic_peer;
mod topic_tracker;

pub use channel::Channel;
pub use child_process::ChildProcess;
pub use clock::Clock;
pub use closure::{Closure, InstalledPath};
pub use dht_liar::{DhtLiar, ForgedItem};
pub use forgery::{Forgery, bytes_at, install, with_number};
pub use http_client::{Response, get, head, request, request_in};
pub use http_server::{Answer, HttpServer};
pub use lone_nar::LoneNar;
pub use node::Node;
pub use node_config::NodeConfig;
pub use poll::wait_for;
pub use publisher::Publisher;
pub use raw_peer::{RawPeer, host as raw_host};
pub use scratch::Scratch;
pub use scripted_peer::{Manner, Payload, ScriptedPeer, payload_of};
pub use shared::{
    Hosts, Keys, Mount, Need, Nix, Outcome, PROGRAM, Place, Publication, Release, Way,
    make_writable, narswarm,
};
pub use stock_client::{PORT, Stock, StockClient};
pub use substitution::Substitution;
pub use topic_peer::{
    TopicPeer, answer_for_the_topic_only, connect_silently, pointer_message, topic,
};
pub use topic_tracker::TopicTracker;
