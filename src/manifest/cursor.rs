//! Steps through the packed bytes of a column.
//!
//! A varint is unsigned LEB128: seven bits a byte, low ones first, the high bit set on all but the last. Only the
//! shortest form is taken, so one value has one encoding.

/// What is wrong with an item, as the end of "row 7 of the names ...".
pub type Fault = &'static str;

#[derive(Clone, Copy)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that are still to come.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    pub fn byte(&mut self) -> Result<u8, Fault> {
        let (byte, rest) = self.rest.split_first().ok_or("is cut off")?;
        self.rest = rest;
        Ok(*byte)
    }

    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or("is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Fault> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or("is cut off")?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return match bits == 0 && shift > 0 {
                    true => Err("has a number that is not in its shortest form"),
                    false => Ok(value),
                };
            }
        }
        Err("has a number of more than 64 bits")
    }
}

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    #[test]
    fn varints() {
        fn case(bytes: &[u8], expected: Option<u64>) {
            let mut cursor = Cursor::new(bytes);
            let found = cursor.varint().ok();
            assert_eq!(found, expected, "{bytes:?}");
            if let Some(value) = found {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out, bytes);
            }
        }
        case(&[0], Some(0));
        case(&[0x7f], Some(127));
        case(&[0x80, 1], Some(128));
        case(
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            Some(u64::MAX),
        );
        case(
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
            None,
        );
        case(&[0x80; 11], None);
        case(&[0x80, 0], None);
        case(&[0x80], None);
        case(&[], None);
    }

    proptest! {
        #[test]
        fn round_trip(value: u64, shift in 0u32..64) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            let mut cursor = Cursor::new(&out);
            prop_assert_eq!(cursor.varint(), Ok(value));
            prop_assert!(cursor.is_empty());
        }

        #[test]
        fn one_value_has_one_form(bytes in proptest::collection::vec(any::<u8>(), 0..12)) {
            let mut cursor = Cursor::new(&bytes);
            if let Ok(value) = cursor.varint() {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                prop_assert_eq!(&out[..], &bytes[..bytes.len() - cursor.left()]);
            }
        }
    }
}
