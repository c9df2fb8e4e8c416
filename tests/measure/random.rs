//! splitmix64: the same content in every run.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }

    /// Bytes that no encoder makes smaller.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// A file of so many bytes that no encoder makes smaller.
pub fn write_file(place: &Path, seed: u64, bytes: u64) {
    let mut file = BufWriter::new(File::create(place).unwrap());
    let (mut random, mut buffer) = (Random(seed), vec![0; 1_000_000]);
    let mut left = bytes;
    while left > 0 {
        let most = left.min(buffer.len() as u64) as usize;
        random.fill(&mut buffer[..most]);
        file.write_all(&buffer[..most]).unwrap();
        left -= most as u64;
    }
    file.flush().unwrap();
}
