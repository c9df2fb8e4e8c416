//! A strict, streaming parser: only what Nix itself would write for some tree is accepted.

use std::io::{self, BufRead, BufReader, Read};

use super::{Limits, MAGIC, NarError, Sink, name_fault, padding};

/// One read of contents; at least this makes the source's cost per call disappear.
const BUFFER_BYTES: usize = 256 * 1024;

/// The longest of the words that belong to the grammar is `nix-archive-1`.
const MAX_KEYWORD_BYTES: usize = 16;

/// Reads one NAR to its end, and says how long it was. Trailing bytes are refused.
pub fn read(input: impl Read, sink: &mut impl Sink, limits: &Limits) -> Result<u64, NarError> {
    let mut parser = Parser {
        input: BufReader::with_capacity(BUFFER_BYTES, input),
        offset: 0,
        limits,
        word: Vec::new(),
        path: Vec::new(),
        open: Vec::new(),
        entries: 0,
    };
    parser.expect(MAGIC)?;
    parser.node(sink)?;
    while !parser.open.is_empty() {
        parser.entry_or_end(sink)?;
    }
    if !parser.fill()?.is_empty() {
        return Err(parser.malformed("bytes follow behind its end"));
    }
    Ok(parser.offset)
}

struct Parser<'a, R> {
    input: BufReader<R>,
    offset: u64,
    limits: &'a Limits,
    /// The word that was read last.
    word: Vec<u8>,
    /// Of the node that is being read.
    path: Vec<u8>,
    /// The directories that are being read, outermost first. Not recursion: the stack is not the sender's.
    open: Vec<OpenDirectory>,
    entries: u64,
}

struct OpenDirectory {
    path_len: usize,
    /// Empty before the first entry, and so below every name.
    previous_name: Vec<u8>,
}

impl<R: Read> Parser<'_, R> {
    /// Reads a node; of a directory only its start.
    fn node(&mut self, sink: &mut impl Sink) -> Result<(), NarError> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            return Err(NarError::TooMuch {
                what: "entries",
                limit: self.limits.entries,
            });
        }
        self.expect(b"(")?;
        self.expect(b"type")?;
        self.read_word(MAX_KEYWORD_BYTES)?;
        match self.word.as_slice() {
            b"regular" => self.regular(sink)?,
            b"symlink" => self.symlink(sink)?,
            b"directory" => {
                if self.open.len() == self.limits.depth {
                    return Err(NarError::TooMuch {
                        what: "directories inside of each other",
                        limit: self.limits.depth as u64,
                    });
                }
                self.open.push(OpenDirectory {
                    path_len: self.path.len(),
                    previous_name: Vec::new(),
                });
                let taken = sink.directory(&self.path);
                return self.taken(taken);
            }
            _ => return Err(self.malformed("a node is of an unknown type")),
        }
        self.close_node()
    }

    fn close_node(&mut self) -> Result<(), NarError> {
        self.expect(b")")?;
        if let Some(directory) = self.open.last() {
            self.path.truncate(directory.path_len);
            self.expect(b")")?;
        }
        Ok(())
    }

    fn regular(&mut self, sink: &mut impl Sink) -> Result<(), NarError> {
        self.read_word(MAX_KEYWORD_BYTES)?;
        let executable = self.word == b"executable";
        if executable {
            self.expect(b"")?;
            self.read_word(MAX_KEYWORD_BYTES)?;
        }
        if self.word != b"contents" {
            return Err(self.malformed("a file has no contents"));
        }
        let size = self.read_length()?;
        self.check_total(size)?;
        let taken = sink.regular(&self.path, executable, size);
        self.taken(taken)?;
        let mut left = size;
        while left > 0 {
            let available = self.fill()?;
            if available.is_empty() {
                return Err(NarError::Cut {
                    offset: self.offset,
                });
            }
            let length = usize::try_from(left).map_or(available.len(), |l| l.min(available.len()));
            let taken = sink.contents(&available[..length]);
            self.taken(taken)?;
            self.input.consume(length);
            self.offset += length as u64;
            left -= length as u64;
        }
        self.read_padding(size)
    }

    fn symlink(&mut self, sink: &mut impl Sink) -> Result<(), NarError> {
        self.expect(b"target")?;
        self.read_word(Limits::TARGET_BYTES)?;
        if self.word.is_empty() || self.word.contains(&0) {
            return Err(self.malformed("a symlink's target is empty or contains a zero byte"));
        }
        let taken = sink.symlink(&self.path, &self.word);
        self.taken(taken)
    }

    fn entry_or_end(&mut self, sink: &mut impl Sink) -> Result<(), NarError> {
        self.read_word(MAX_KEYWORD_BYTES)?;
        match self.word.as_slice() {
            b")" => {
                self.open.pop();
                // What `close_node` does behind its first bracket.
                match self.open.last() {
                    Some(directory) => {
                        self.path.truncate(directory.path_len);
                        self.expect(b")")
                    }
                    None => Ok(()),
                }
            }
            b"entry" => {
                self.expect(b"(")?;
                self.expect(b"name")?;
                self.read_word(Limits::NAME_BYTES)?;
                self.enter_name()?;
                self.expect(b"node")?;
                self.node(sink)
            }
            _ => Err(self.malformed("a directory contains something else than entries")),
        }
    }

    /// Checks the name in `word` and appends it to the path.
    fn enter_name(&mut self) -> Result<(), NarError> {
        let Some(directory) = self.open.last_mut() else {
            return Ok(());
        };
        let fault = name_fault(&self.word).or_else(|| {
            (self.word <= directory.previous_name)
                .then_some("it does not sort behind the one before")
        });
        if let Some(reason) = fault {
            return Err(NarError::Name {
                offset: self.offset,
                name: self.word.clone(),
                reason,
            });
        }
        directory.previous_name.clone_from(&self.word);
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(&self.word);
        Ok(())
    }

    fn expect(&mut self, word: &'static [u8]) -> Result<(), NarError> {
        self.read_word(MAX_KEYWORD_BYTES)?;
        if self.word == word {
            Ok(())
        } else {
            Err(self.malformed("another word should stand here"))
        }
    }

    fn read_word(&mut self, limit: usize) -> Result<(), NarError> {
        let size = self.read_length()?;
        let length = usize::try_from(size)
            .ok()
            .filter(|length| *length <= limit)
            .ok_or_else(|| self.malformed("a word is too long"))?;
        self.check_total(size)?;
        self.word.resize(length, 0);
        read_exact(&mut self.input, &mut self.offset, &mut self.word)?;
        self.read_padding(size)
    }

    fn read_length(&mut self) -> Result<u64, NarError> {
        let mut bytes = [0; 8];
        read_exact(&mut self.input, &mut self.offset, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn read_padding(&mut self, size: u64) -> Result<(), NarError> {
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..padding(size)];
        read_exact(&mut self.input, &mut self.offset, bytes)?;
        if bytes.iter().any(|byte| *byte != 0) {
            return Err(self.malformed("padding is not zero"));
        }
        Ok(())
    }

    /// Refuses what would end beyond the limit before any of it is taken in.
    fn check_total(&self, coming: u64) -> Result<(), NarError> {
        let limit = self.limits.size;
        match self.offset.checked_add(coming) {
            Some(total) if total <= limit => Ok(()),
            _ => Err(NarError::TooMuch {
                what: "bytes",
                limit,
            }),
        }
    }

    /// The bytes that are there, none at the end.
    fn fill(&mut self) -> Result<&[u8], NarError> {
        let offset = self.offset;
        loop {
            match self.input.fill_buf() {
                Ok(_) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(cause) => return Err(NarError::Input { offset, cause }),
            }
        }
        Ok(self.input.buffer())
    }

    fn malformed(&self, reason: &'static str) -> NarError {
        NarError::Malformed {
            offset: self.offset,
            reason,
        }
    }

    fn taken(&self, taken: io::Result<()>) -> Result<(), NarError> {
        taken.map_err(|cause| NarError::Sink {
            offset: self.offset,
            cause,
        })
    }
}

fn read_exact(input: &mut impl Read, offset: &mut u64, bytes: &mut [u8]) -> Result<(), NarError> {
    input.read_exact(bytes).map_err(|cause| {
        let offset = *offset;
        if cause.kind() == io::ErrorKind::UnexpectedEof {
            NarError::Cut { offset }
        } else {
            NarError::Input { offset, cause }
        }
    })?;
    *offset += bytes.len() as u64;
    Ok(())
}

#[cfg(test)]
mod tests;
