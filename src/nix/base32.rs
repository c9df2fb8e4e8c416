//! Nix's base 32: the bytes read as one little-endian number, written from the most significant digit down.
//!
//! Sample: SHA-256 of the empty string is `0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73`.
//! Source: `src/libutil/hash.cc` in NixOS/nix (`printHash32`).

use std::sync::LazyLock;

use data_encoding::{BitOrder, Encoding, Specification};

use super::ParseError;

const WHAT: &str = "base 32";

static LEAST_DIGIT_FIRST: LazyLock<Encoding> = LazyLock::new(|| {
    let mut specification = Specification::new();
    specification
        .symbols
        .push_str("0123456789abcdfghijklmnpqrsvwxyz");
    specification.bit_order = BitOrder::LeastSignificantFirst;
    specification
        .encoding()
        .expect("32 distinct ASCII symbols are an encoding")
});

/// The number of digits that `len` bytes take.
const fn digits(len: usize) -> usize {
    (len * 8).div_ceil(5)
}

pub fn encode(bytes: &[u8]) -> String {
    LEAST_DIGIT_FIRST.encode(bytes).chars().rev().collect()
}

/// Decodes exactly `expected_len` bytes; upper case, other lengths and set bits beyond the last byte are refused.
pub fn decode(text: &str, expected_len: usize) -> Result<Vec<u8>, ParseError> {
    if text.len() != digits(expected_len) {
        return Err(ParseError::invalid(WHAT, text, "its length is wrong"));
    }
    let reversed: Vec<u8> = text.bytes().rev().collect();
    LEAST_DIGIT_FIRST
        .decode(&reversed)
        .map_err(|_| ParseError::invalid(WHAT, text, "a digit is not one of Nix's or too large"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn known_values() {
        #[track_caller]
        fn case(bytes: &[u8], text: &str) {
            assert_eq!(encode(bytes), text);
            assert_eq!(decode(text, bytes.len()).unwrap(), bytes);
        }
        case(b"", "");
        case(&[0x1f], "0z");
        case(&[0; 20], "00000000000000000000000000000000");
        case(&[0xff; 20], "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz");
        let empty = data_encoding::HEXLOWER
            .decode(b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
            .unwrap();
        case(
            &empty,
            "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
        );
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn case(text: &str, len: usize) {
            decode(text, len).unwrap_err();
        }
        case("0", 1);
        case("000", 1);
        case("z0", 1); // bits beyond the last byte
        case("0e", 1);
        case("0Z", 1);
        case("é", 1);
    }

    proptest! {
        #[test]
        fn round_trip(bytes: Vec<u8>) {
            assert_eq!(decode(&encode(&bytes), bytes.len()).unwrap(), bytes);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), len in 0_usize..80) {
            if let Ok(bytes) = decode(&text, len) {
                assert_eq!(encode(&bytes), text);
            }
        }
    }
}
