//! A manifest's header: what one release of a channel is made of.
//!
//! ```text
//! d9:bootstrapl14:192.0.2.1:6881e7:channel14:nixos-unstable7:createdi1700000000e7:expiresi1702592000e
//!   5:filesld9:info hash20:...6:lengthi42e4:name15:nixexprs.tar.xz6:sha25632:...ee6:formati1e
//!   6:layersld9:info hash20:...6:lengthi900e4:live1:.6:numberi1e4:rowsi4e6:sha25632:...6:system12:x86_64-linuxee
//!   7:release12:24.05pre12349:seedboxesl14:192.0.2.2:6881e8:sequencei7e9:store dir10:/nix/store
//!   7:systemsl12:x86_64-linuxe8:trackersl30:http://192.0.2.3:6969/announceee
//! ```
//! (without the line breaks). Canonical bencode: there is one encoding of a header.

use std::net::SocketAddr;

use crate::nix::StoreDir;
use crate::torrent::InfoHash;
use crate::torrent::bencode::{Reader, Writer};

use super::limits::{
    MAX_ADDRESSES, MAX_FILE_BYTES, MAX_FILES, MAX_LABEL, MAX_LAYER_BYTES, MAX_LAYERS,
    MAX_RELEASE_BYTES, MAX_ROWS, MAX_SEQUENCE, MAX_STORE_DIR, MAX_SYSTEMS, MAX_TRACKER_URL,
    is_label,
};
use super::{ChannelName, HeaderError, LayerEntry, LiveRows, ReleaseFile, TrackerUrl};

const FORMAT: u64 = 1;
/// The longest `[address]:port`.
const MAX_ADDRESS: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub channel: ChannelName,
    pub release: String,
    /// Rises with every release; what is lower than one already seen is refused.
    pub sequence: u64,
    /// Seconds since 1970, as `expires`.
    pub created: u64,
    pub expires: u64,
    pub store_dir: StoreDir,
    pub systems: Vec<String>,
    pub layers: Vec<LayerEntry>,
    pub files: Vec<ReleaseFile>,
    pub trackers: Vec<TrackerUrl>,
    pub seedboxes: Vec<SocketAddr>,
    pub bootstrap: Vec<SocketAddr>,
}

impl Header {
    /// The entry of the layer with this number.
    pub fn layer(&self, number: u32) -> Option<&LayerEntry> {
        let at = self
            .layers
            .binary_search_by_key(&number, |entry| entry.number);
        at.ok().map(|at| &self.layers[at])
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let addresses = |addresses: &[SocketAddr]| {
            addresses
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let mut out = Writer::new();
        out.open_dict();
        out.texts_at("bootstrap", addresses(&self.bootstrap));
        out.bytes_at("channel", self.channel.as_str());
        out.unsigned_at("created", self.created);
        out.unsigned_at("expires", self.expires);
        out.bytes("files");
        out.open_list();
        self.files
            .iter()
            .for_each(|file| encode_file(&mut out, file));
        out.close();
        out.unsigned_at("format", FORMAT);
        out.bytes("layers");
        out.open_list();
        self.layers
            .iter()
            .for_each(|layer| encode_layer(&mut out, layer));
        out.close();
        out.bytes_at("release", &self.release);
        out.texts_at("seedboxes", addresses(&self.seedboxes));
        out.unsigned_at("sequence", self.sequence);
        out.bytes_at("store dir", self.store_dir.as_str());
        out.texts_at("systems", self.systems.iter().cloned());
        out.texts_at("trackers", self.trackers.iter().map(ToString::to_string));
        out.close();
        out.finish()
    }

    /// Takes exactly the bytes that `encode` writes for a valid header.
    pub(super) fn decode(input: &[u8]) -> Result<Self, HeaderError> {
        let mut reader = Reader::new(input);
        reader.open_dict()?;
        reader.key("bootstrap")?;
        let bootstrap = reader.list(MAX_ADDRESSES, |reader| address(reader, "bootstrap"))?;
        reader.key("channel")?;
        let channel = reader.text(MAX_LABEL)?.parse()?;
        reader.key("created")?;
        let created = reader.unsigned(u64::MAX)?;
        reader.key("expires")?;
        let expires = reader.unsigned(u64::MAX)?;
        reader.key("files")?;
        let files = reader.list(MAX_FILES, decode_file)?;
        reader.key("format")?;
        let format = reader.unsigned(u64::MAX)?;
        if format != FORMAT {
            return Err(HeaderError::Format(format));
        }
        reader.key("layers")?;
        let layers = reader.list(MAX_LAYERS, decode_layer)?;
        reader.key("release")?;
        let release = label(&mut reader, "release")?;
        reader.key("seedboxes")?;
        let seedboxes = reader.list(MAX_ADDRESSES, |reader| address(reader, "seedbox"))?;
        reader.key("sequence")?;
        let sequence = reader.unsigned(u64::MAX)?;
        reader.key("store dir")?;
        let store_dir = reader.text(MAX_STORE_DIR)?;
        let store_dir = store_dir
            .parse()
            .map_err(|_| HeaderError::StoreDir(store_dir.to_owned()))?;
        reader.key("systems")?;
        let systems = reader.list(MAX_SYSTEMS, |reader| label(reader, "system"))?;
        reader.key("trackers")?;
        let trackers = reader.list(MAX_ADDRESSES, |reader| {
            reader.text(MAX_TRACKER_URL)?.parse()
        })?;
        reader.close()?;
        reader.finish()?;
        let header = Self {
            channel,
            release,
            sequence,
            created,
            expires,
            store_dir,
            systems,
            layers,
            files,
            trackers,
            seedboxes,
            bootstrap,
        };
        header.check()?;
        Ok(header)
    }

    /// What no single field shows.
    fn check(&self) -> Result<(), HeaderError> {
        let (created, expires) = (self.created, self.expires);
        if expires <= created {
            return Err(HeaderError::Times { created, expires });
        }
        if !(1..=MAX_SEQUENCE).contains(&self.sequence) {
            return Err(HeaderError::Sequence(self.sequence));
        }
        unique("system", self.systems.iter())?;
        unique("release file", self.files.iter().map(|file| &file.name))?;
        let mut previous = 0;
        for layer in &self.layers {
            let number = layer.number;
            if number <= previous {
                return Err(HeaderError::LayerOrder { number, previous });
            }
            if !self.systems.contains(&layer.system) {
                let system = layer.system.clone();
                return Err(HeaderError::LayerSystem { number, system });
            }
            previous = number;
        }
        match self.layers.iter().map(|layer| layer.length).sum() {
            bytes if bytes > MAX_RELEASE_BYTES => Err(HeaderError::LayerBytes(bytes)),
            _ => Ok(()),
        }
    }
}

fn encode_file(out: &mut Writer, file: &ReleaseFile) {
    out.open_dict();
    out.bytes_at("info hash", file.info_hash.as_bytes());
    out.unsigned_at("length", file.length);
    out.bytes_at("name", &file.name);
    out.bytes_at("sha256", file.sha256);
    out.close();
}

fn decode_file(reader: &mut Reader<'_>) -> Result<ReleaseFile, HeaderError> {
    reader.open_dict()?;
    reader.key("info hash")?;
    let info_hash = InfoHash::from_bytes(reader.array()?);
    reader.key("length")?;
    let length = reader.unsigned(u64::MAX)?;
    reader.key("name")?;
    let name = label(reader, "release file")?;
    if length == 0 || length > MAX_FILE_BYTES {
        return Err(HeaderError::FileLength { name, length });
    }
    reader.key("sha256")?;
    let sha256 = reader.array()?;
    reader.close()?;
    Ok(ReleaseFile {
        name,
        length,
        sha256,
        info_hash,
    })
}

fn encode_layer(out: &mut Writer, layer: &LayerEntry) {
    out.open_dict();
    out.bytes_at("info hash", layer.info_hash.as_bytes());
    out.unsigned_at("length", layer.length);
    if let LiveRows::Some(bitmap) = &layer.live {
        out.bytes_at("live", bitmap);
    }
    out.unsigned_at("number", layer.number.into());
    out.unsigned_at("rows", layer.rows.into());
    out.bytes_at("sha256", layer.sha256);
    out.bytes_at("system", &layer.system);
    out.close();
}

fn decode_layer(reader: &mut Reader<'_>) -> Result<LayerEntry, HeaderError> {
    reader.open_dict()?;
    reader.key("info hash")?;
    let info_hash = InfoHash::from_bytes(reader.array()?);
    reader.key("length")?;
    let length = reader.unsigned(MAX_LAYER_BYTES as u64)?;
    let bitmap = match reader.optional_key("live")? {
        true => Some(reader.bytes(MAX_ROWS.div_ceil(8) as usize)?),
        false => None,
    };
    reader.key("number")?;
    let number = reader.unsigned(u32::MAX.into())? as u32;
    reader.key("rows")?;
    let rows = reader.unsigned(MAX_ROWS.into())? as u32;
    reader.key("sha256")?;
    let sha256 = reader.array()?;
    reader.key("system")?;
    let system = label(reader, "system")?;
    reader.close()?;
    if rows == 0 || length == 0 {
        return Err(HeaderError::EmptyLayer {
            number,
            length,
            rows,
        });
    }
    let live = match bitmap {
        None => LiveRows::All,
        Some(bitmap) => {
            LiveRows::parse(bitmap, rows).map_err(|reason| HeaderError::Live { number, reason })?
        }
    };
    Ok(LayerEntry {
        number,
        system,
        rows,
        live,
        length,
        sha256,
        info_hash,
    })
}

fn label(reader: &mut Reader<'_>, part: &'static str) -> Result<String, HeaderError> {
    let text = reader.text(MAX_LABEL)?;
    match is_label(text) {
        true => Ok(text.to_owned()),
        false => Err(HeaderError::label(part, text)),
    }
}

/// An address in the one form in which it is written.
fn address(reader: &mut Reader<'_>, part: &'static str) -> Result<SocketAddr, HeaderError> {
    let text = reader.text(MAX_ADDRESS)?;
    let parsed = text.parse::<SocketAddr>().ok();
    let parsed = parsed.filter(|address| address.to_string() == text);
    parsed.ok_or_else(|| HeaderError::Address {
        part,
        value: text.to_owned(),
    })
}

fn unique<'a>(
    part: &'static str,
    names: impl Iterator<Item = &'a String>,
) -> Result<(), HeaderError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            let value = name.clone();
            return Err(HeaderError::Twice { part, value });
        }
    }
    Ok(())
}
