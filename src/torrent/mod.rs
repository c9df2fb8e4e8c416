//! BitTorrent's own formats, pure: info hashes, info dicts, `.torrent` files, links and the bencode under them.

pub mod bencode;
mod bitfield;
mod channel_link;
mod error;
mod info_dict;
mod info_hash;
mod link_parameters;
mod magnet;
mod metainfo;
mod piece_length;

pub use bitfield::Bitfield;
pub use channel_link::ChannelLink;
pub use error::TorrentError;
pub use info_dict::{InfoDict, MAX_INFO_DICT, MAX_LENGTH};
pub use info_hash::InfoHash;
pub use magnet::Magnet;
pub use metainfo::Metainfo;
pub use piece_length::piece_length;
