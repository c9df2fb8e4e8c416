//! A block that is asked for: what BEP 3's request and cancel say, and BEP 6's reject.

/// What every client asks for at a time, in bytes.
pub const BLOCK: u32 = 16 * 1024;
/// Blocks that our own downloads keep on the way from one peer: 2 MiB fill 100 Mbit/s at 160 ms.
pub const REQUEST_WINDOW: u32 = 128;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub index: u32,
    pub begin: u32,
    pub length: u32,
}

impl Request {
    /// `None` beyond every piece.
    pub fn end(&self) -> Option<u32> {
        self.begin.checked_add(self.length)
    }
}
