//! An open NAR that several frames are made of: planned once, and open at the file that is read next.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::payload::NarSource;
use crate::store::{NarReader, StoreError, scan};

/// Locked while it is read, not while a frame is encoded.
#[derive(Clone)]
pub struct OpenNar(Arc<Mutex<NarReader>>);

impl OpenNar {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self(Arc::new(Mutex::new(NarReader::open(scan(path)?)))))
    }
}

impl NarSource for OpenNar {
    fn read_exact_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut nar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < buffer.len() {
            match nar
                .read_at(offset + done as u64, &mut buffer[done..])
                .map_err(io::Error::other)?
            {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}
