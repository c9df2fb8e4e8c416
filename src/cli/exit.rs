//! Exit codes, and an error that knows which one it ends with.

use std::fmt::Display;

pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const REFUSED: u8 = 3;
pub const NOT_FOUND: u8 = 4;
pub const UNREACHABLE: u8 = 5;

#[derive(Debug)]
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    pub fn new(code: u8, message: impl Display) -> Self {
        Self {
            code,
            message: message.to_string(),
        }
    }

    pub fn failed(message: impl Display) -> Self {
        Self::new(FAILED, message)
    }

    pub fn usage(message: impl Display) -> Self {
        Self::new(USAGE, message)
    }
}
