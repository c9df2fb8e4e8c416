//! An HTTP tracker (BEP 3, BEP 23) on loopback that remembers who announced what.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use narswarm::torrent::InfoHash;

use super::{Answer, HttpServer};

/// Ports of this machine by info hash.
type Swarms = BTreeMap<InfoHash, Vec<u16>>;

pub struct TopicTracker {
    server: HttpServer,
    swarms: Arc<Mutex<Swarms>>,
}

impl TopicTracker {
    pub fn start() -> Self {
        let swarms: Arc<Mutex<Swarms>> = Arc::default();
        let known = swarms.clone();
        let server = HttpServer::start(move |target| {
            let query = target.split_once('?').map_or("", |(_, query)| query);
            let fields: BTreeMap<&str, &str> = query
                .split('&')
                .filter_map(|field| field.split_once('='))
                .collect();
            let info_hash: Vec<u8> =
                percent_encoding::percent_decode_str(fields["info_hash"]).collect();
            let info_hash = InfoHash::from_bytes(info_hash.try_into().unwrap());
            let port = fields["port"].parse().unwrap();
            let mut known = known.lock().unwrap();
            let swarm = known.entry(info_hash).or_default();
            let others = swarm.iter().filter(|other| **other != port);
            let others: Vec<u8> = others
                .flat_map(|port| [&[127, 0, 0, 1][..], &port.to_be_bytes()].concat())
                .collect();
            if !swarm.contains(&port) {
                swarm.push(port);
            }
            let length = others.len();
            let start = format!("d8:intervali1800e5:peers{length}:");
            Answer::Body([start.as_bytes(), &others, b"e"].concat())
        });
        Self { server, swarms }
    }

    pub fn url(&self) -> String {
        format!("{}/announce", self.server.url())
    }

    /// What was announced, and how many did.
    pub fn announced(&self) -> BTreeMap<InfoHash, usize> {
        let swarms = self.swarms.lock().unwrap();
        let counts = swarms.iter().map(|(hash, ports)| (*hash, ports.len()));
        counts.collect()
    }
}
