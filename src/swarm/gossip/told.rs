//! What was told to a neighbour so far, so that only what is new to it is told again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::manifest::Pointer;

use super::layers::{Layers, RowName};
use super::message::{Have, Hello, LayerId, LayerRows, Message, packed};
use super::neighbour::Neighbour;
use super::row_set::RowSet;
use super::topic::Holdings;

#[derive(Default)]
pub struct Told {
    haves: HashMap<LayerId, Arc<RowSet>>,
    getting: Vec<RowName>,
    pointers: Vec<Arc<Pointer>>,
}

impl Told {
    /// It has said which layers it knows: one that it lists anew starts empty there.
    pub fn hello(&mut self, hello: &Hello) {
        self.haves.retain(|layer, _| hello.layers.contains(layer));
    }

    /// What has changed in what this machine has, of the layers that both know.
    pub fn holdings(
        &mut self,
        holdings: &Holdings,
        neighbour: &Neighbour,
        layers: &Layers,
    ) -> Vec<Message> {
        let mut haves = Vec::new();
        for (layer, now) in &holdings.haves {
            if !neighbour.knows(layer) {
                continue;
            }
            let (fresh, change) = match self.haves.get(layer) {
                None => (true, RowSet::clone(now)),
                Some(told) if told == now => continue,
                Some(told) => (false, told.difference(now)),
            };
            let mut parts = change.encode();
            if parts.is_empty() {
                parts.push(RowSet::EMPTY.to_vec());
            }
            haves.extend(parts.into_iter().enumerate().map(|(at, rows)| Have {
                fresh: fresh && at == 0,
                rows: LayerRows {
                    layer: *layer,
                    rows,
                },
            }));
            self.haves.insert(*layer, now.clone());
        }
        let mut news = packed(haves, |have| have.rows.rows.len(), Message::Have);
        if self.getting != holdings.getting && neighbour.hello().is_some() {
            let rows = layers.encode(holdings.getting.iter().copied());
            news.push(Message::Getting(rows));
            self.getting = holdings.getting.clone();
        }
        news
    }

    /// Those of the pointers that are passed on which it does not know yet.
    pub fn pointers(&mut self, now: Vec<Arc<Pointer>>) -> Vec<Message> {
        let news = now
            .iter()
            .filter(|pointer| !self.pointers.contains(pointer));
        let news = news.map(|pointer| Message::Pointer(pointer.encode()));
        let news = news.collect();
        self.pointers = now;
        news
    }
}
