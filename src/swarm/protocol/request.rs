//! A block that is asked for: what BEP 3's request and cancel say, and BEP 6's reject.

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
