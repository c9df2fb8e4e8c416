//! The URL of a raw NAR, below that of the cache that serves it, which stays true: `nar/HASHPART-NARHASH.nar`, both in
//! Nix's base 32.

use super::{HashPart, NarHash};

pub fn raw_nar_url(hash_part: &HashPart, nar_hash: &NarHash) -> String {
    format!("nar/{hash_part}-{}.nar", nar_hash.base32())
}

/// What such a URL names; `file` is what follows `nar/`.
pub fn parse_raw_nar(file: &str) -> Option<(HashPart, NarHash)> {
    let (hash_part, nar_hash) = file.strip_suffix(".nar")?.split_once('-')?;
    Some((
        hash_part.parse().ok()?,
        NarHash::from_base32(nar_hash).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let (hash_part, nar_hash) = (HashPart::from_bytes([7; 20]), NarHash::from_bytes([9; 32]));
        let url = raw_nar_url(&hash_part, &nar_hash);
        let file = url.strip_prefix("nar/").unwrap();
        assert_eq!(parse_raw_nar(file), Some((hash_part, nar_hash)));
    }

    #[test]
    fn other_names_name_nothing() {
        for bad in [
            "x.nar",
            "05xfwnl62nipbw1ankbcv2crjhb9a918.nar",
            "05xfwnl62nipbw1ankbcv2crjhb9a918-abc.nar",
            "",
        ] {
            assert!(parse_raw_nar(bad).is_none(), "{bad}");
        }
    }
}
