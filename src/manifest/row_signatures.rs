//! A row's signatures as upstream made them, packed: varint count, each a varint key index and 64 bytes, ascending.

use crate::nix::Signature;

use super::cursor::{Cursor, Fault, put_varint};
use super::limits::MAX_SIGNATURES;

/// Reads the signatures of one row, as indexes into the key names and bytes.
pub struct RowSignatures<'a> {
    cursor: Cursor<'a>,
    left: u64,
    previous: Option<(u64, &'a [u8; 64])>,
}

impl<'a> RowSignatures<'a> {
    pub fn new(mut cursor: Cursor<'a>) -> Result<Self, Fault> {
        let left = cursor.varint()?;
        match left <= MAX_SIGNATURES as u64 {
            true => Ok(Self {
                cursor,
                left,
                previous: None,
            }),
            false => Err("has more signatures than a row may"),
        }
    }

    /// Where the next row's signatures start, once these have all been read.
    pub fn cursor(self) -> Cursor<'a> {
        self.cursor
    }

    fn read(&mut self) -> Result<(u64, &'a [u8; 64]), Fault> {
        let signature = (self.cursor.varint()?, self.cursor.array()?);
        if self.previous.is_some_and(|previous| previous >= signature) {
            return Err("has signatures that do not ascend");
        }
        self.previous = Some(signature);
        Ok(signature)
    }
}

impl<'a> Iterator for RowSignatures<'a> {
    type Item = Result<(u64, &'a [u8; 64]), Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        Some(self.read())
    }
}

/// Whether signatures by this key can be written as `name:base64`: what is printed into a narinfo must not carry a
/// line of its own.
pub fn is_key_name(name: &str) -> bool {
    let signature = Signature {
        key_name: name.to_owned(),
        bytes: [0; 64],
    };
    let parsed = signature.to_string().parse::<Signature>();
    parsed.is_ok_and(|parsed| parsed == signature)
}

pub fn put_signatures(out: &mut Vec<u8>, signatures: &[(u64, &[u8; 64])]) {
    put_varint(out, signatures.len() as u64);
    for (key, bytes) in signatures {
        put_varint(out, *key);
        out.extend_from_slice(*bytes);
    }
}
