//! The dictionary that a layer is, column by column.
//!
//! ```text
//! d2:ca0:8:derivers2:..7:encoder21:nar-zstd-1.5.7-l3-4m6:formati1e10:hash parts40:..11:info hashes40:..
//!   9:key namesl17:cache.nixos.org-1e5:layeri1e5:names12:..10:nar hashes64:..9:nar sizes4:..
//!   15:payload lengths4:..10:references6:..4:rowsi2e10:signatures132:..6:system12:x86_64-linuxe
//! ```
//! (without the line breaks). Rows are sorted by hash part; `n` stands for their number:
//! - `hash parts` 20n, strictly ascending · `nar hashes` 32n · `info hashes` 20n
//! - `names`: u8 length + bytes · `nar sizes`, `payload lengths`: a varint each
//! - `derivers`: u8 tag. 0: none. 1+k (k <= 200): a 20-byte hash part, the name being the row's without its last k
//!   bytes + `.drv`. 255: hash part + u8 length + name
//! - `references`: see `references.rs`
//! - `signatures`: varint count, each a varint index into `key names` + 64 bytes, ascending
//! - `ca`, only for rows that have one: varint rows skipped + u8 length + bytes

use crate::torrent::bencode::{BencodeError, Reader, Writer};

use super::limits::{MAX_KEY_NAME, MAX_KEY_NAMES, MAX_LABEL, MAX_LAYER_BYTES, MAX_ROWS};

pub const FORMAT: u64 = 1;

pub struct LayerColumns<'a> {
    pub ca: &'a [u8],
    pub derivers: &'a [u8],
    pub encoder: &'a str,
    pub format: u64,
    pub hash_parts: &'a [u8],
    pub info_hashes: &'a [u8],
    pub key_names: Vec<&'a str>,
    pub layer: u32,
    pub names: &'a [u8],
    pub nar_hashes: &'a [u8],
    pub nar_sizes: &'a [u8],
    pub payload_lengths: &'a [u8],
    pub references: &'a [u8],
    pub rows: u32,
    pub signatures: &'a [u8],
    pub system: &'a str,
}

impl<'a> LayerColumns<'a> {
    pub fn read(input: &'a [u8]) -> Result<Self, BencodeError> {
        let mut reader = Reader::new(input);
        reader.open_dict()?;
        let columns = Self {
            ca: column(&mut reader, "ca")?,
            derivers: column(&mut reader, "derivers")?,
            encoder: text(&mut reader, "encoder")?,
            format: number(&mut reader, "format", u64::MAX)?,
            hash_parts: column(&mut reader, "hash parts")?,
            info_hashes: column(&mut reader, "info hashes")?,
            key_names: {
                reader.key("key names")?;
                reader.list(MAX_KEY_NAMES, |reader| reader.text(MAX_KEY_NAME))?
            },
            layer: number(&mut reader, "layer", u32::MAX.into())? as u32,
            names: column(&mut reader, "names")?,
            nar_hashes: column(&mut reader, "nar hashes")?,
            nar_sizes: column(&mut reader, "nar sizes")?,
            payload_lengths: column(&mut reader, "payload lengths")?,
            references: column(&mut reader, "references")?,
            rows: number(&mut reader, "rows", MAX_ROWS.into())? as u32,
            signatures: column(&mut reader, "signatures")?,
            system: text(&mut reader, "system")?,
        };
        reader.close()?;
        reader.finish()?;
        Ok(columns)
    }

    pub fn write(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.open_dict();
        out.bytes_at("ca", self.ca);
        out.bytes_at("derivers", self.derivers);
        out.bytes_at("encoder", self.encoder);
        out.unsigned_at("format", self.format);
        out.bytes_at("hash parts", self.hash_parts);
        out.bytes_at("info hashes", self.info_hashes);
        out.texts_at("key names", self.key_names.iter().map(ToString::to_string));
        out.unsigned_at("layer", self.layer.into());
        out.bytes_at("names", self.names);
        out.bytes_at("nar hashes", self.nar_hashes);
        out.bytes_at("nar sizes", self.nar_sizes);
        out.bytes_at("payload lengths", self.payload_lengths);
        out.bytes_at("references", self.references);
        out.unsigned_at("rows", self.rows.into());
        out.bytes_at("signatures", self.signatures);
        out.bytes_at("system", self.system);
        out.close();
        out.finish()
    }
}

fn column<'a>(reader: &mut Reader<'a>, key: &'static str) -> Result<&'a [u8], BencodeError> {
    reader.key(key)?;
    reader.bytes(MAX_LAYER_BYTES)
}

fn text<'a>(reader: &mut Reader<'a>, key: &'static str) -> Result<&'a str, BencodeError> {
    reader.key(key)?;
    reader.text(MAX_LABEL)
}

fn number(reader: &mut Reader<'_>, key: &'static str, max: u64) -> Result<u64, BencodeError> {
    reader.key(key)?;
    reader.unsigned(max)
}
