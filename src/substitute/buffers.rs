//! Buffers for what is read from disk, used again when whoever sent their bytes is done: fresh ones cost as much as the
//! reading, because the kernel hands them out zeroed, page by page.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Large enough that a read is worth its system call, small enough to keep many streams in memory.
pub const BUFFER: usize = 256 * 1024;
/// Idle ones that are kept: 8 MiB.
const IDLE: usize = 32;

#[derive(Default)]
pub struct Buffers {
    idle: Mutex<Vec<Box<[u8]>>>,
}

/// A buffer with `filled` bytes; it goes back when dropped.
struct Filled {
    buffer: Box<[u8]>,
    filled: usize,
    home: Arc<Buffers>,
}

impl Buffers {
    /// What `fill` puts into a buffer, and how many bytes it says that these are.
    pub fn fill<E>(
        self: &Arc<Self>,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<Bytes, E> {
        let mut buffer = self.take();
        match fill(&mut buffer) {
            Ok(filled) => Ok(Bytes::from_owner(Filled {
                buffer,
                filled,
                home: self.clone(),
            })),
            Err(error) => {
                self.put(buffer);
                Err(error)
            }
        }
    }

    fn take(&self) -> Box<[u8]> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        idle.unwrap_or_else(|| vec![0; BUFFER].into())
    }

    fn put(&self, buffer: Box<[u8]>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(buffer);
        }
    }
}

impl AsRef<[u8]> for Filled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        self.home.put(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_its_bytes_are_gone() {
        let buffers = Arc::new(Buffers::default());
        let fill = |with: u8, count: usize| {
            let filled = buffers.fill(|buffer| {
                buffer[..count].fill(with);
                Ok::<_, ()>(count)
            });
            filled.unwrap()
        };
        let idle = || buffers.idle.lock().unwrap().len();
        let (one, other) = (fill(1, 3), fill(2, BUFFER));
        let part = one.slice(1..);
        drop(one);
        assert_eq!((idle(), &part[..]), (0, &[1, 1][..]));
        drop(part);
        assert_eq!(idle(), 1);
        assert_eq!(fill(3, 1)[..], [3], "nothing of what was there before");
        assert!(other.iter().all(|byte| *byte == 2));
        assert!(buffers.fill(|_| Err::<usize, _>(())).is_err());
        drop(other);
        assert_eq!(idle(), 2);
    }
}
