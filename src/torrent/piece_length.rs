//! The piece-length rule, version 1. It is part of what the encoder id fixes: another rule, another info hash.

/// Small enough that a peer soon has a whole piece to pass on, one hash for most NARs.
const SMALLEST: u32 = 256 * 1024;
/// Bounds the pieces, and with them the info dict that a peer must fetch first (20 bytes each).
const MOST_PIECES: u64 = 4096;
/// The largest that stock clients take without complaint.
const LARGEST: u32 = 16 * 1024 * 1024;

/// The piece length for a payload of a NAR of `len` bytes, or for any other file of that length. It goes by the NAR and
/// not by the payload, so that it is known before the first frame is encoded.
pub fn piece_length(len: u64) -> u32 {
    let mut length = SMALLEST;
    while length < LARGEST && len.div_ceil(length.into()) > MOST_PIECES {
        length *= 2;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rule() {
        const KIB: u64 = 1024;
        const MIB: u64 = 1024 * KIB;
        const GIB: u64 = 1024 * MIB;
        fn case(len: u64, expected: u64) {
            assert_eq!(u64::from(piece_length(len)), expected, "{len}");
        }
        case(0, 256 * KIB);
        case(GIB, 256 * KIB);
        case(GIB + 1, 512 * KIB);
        case(2 * GIB, 512 * KIB);
        case(2 * GIB + 1, MIB);
        case(64 * GIB, 16 * MIB);
        case(64 * GIB + 1, 16 * MIB);
        case(u64::MAX, 16 * MIB);
    }
}
