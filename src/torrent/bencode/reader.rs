//! A strict cursor over canonical bencode. Nothing is allocated for what the input only claims to contain.

use super::BencodeError;

/// Levels that `skip` follows: unknown parts of a `.torrent` file are never deeper, and recursion stays bounded.
const MAX_DEPTH: usize = 16;
/// More digits than any `u64` has; longer digit runs are not worth reading.
const MAX_DIGITS: usize = 20;
/// The longest dictionary key that is compared or shown.
const MAX_KEY: usize = 64;

pub struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    pub fn open_dict(&mut self) -> Result<(), BencodeError> {
        self.expect(b'd', "a dictionary")
    }

    pub fn open_list(&mut self) -> Result<(), BencodeError> {
        self.expect(b'l', "a list")
    }

    /// Ends a dictionary or a list; whatever else stands here was not expected.
    pub fn close(&mut self) -> Result<(), BencodeError> {
        self.expect(b'e', "the end of a dictionary or list")
    }

    pub fn at_close(&self) -> bool {
        self.input.get(self.at) == Some(&b'e')
    }

    /// Reads a key that must be this one. Callers name the keys in sorted order, so order and uniqueness follow.
    pub fn key(&mut self, wanted: &'static str) -> Result<(), BencodeError> {
        let at = self.at;
        let found = self.bytes(MAX_KEY)?;
        if found == wanted.as_bytes() {
            return Ok(());
        }
        Err(BencodeError::Key {
            at,
            found: lossy(found),
            wanted,
        })
    }

    /// Reads the key if it is this one, and leaves it alone otherwise.
    pub fn optional_key(&mut self, wanted: &'static str) -> Result<bool, BencodeError> {
        if self.at_close() {
            return Ok(false);
        }
        let at = self.at;
        let found = self.bytes(MAX_KEY)? == wanted.as_bytes();
        if !found {
            self.at = at;
        }
        Ok(found)
    }

    /// Reads the next key of a dictionary that may hold unknown ones; it must sort after `previous`.
    pub fn next_key(&mut self, previous: Option<&[u8]>) -> Result<&'a [u8], BencodeError> {
        let at = self.at;
        let found = self.bytes(MAX_KEY)?;
        if previous.is_some_and(|previous| previous >= found) {
            return Err(BencodeError::Order {
                at,
                found: lossy(found),
            });
        }
        Ok(found)
    }

    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], BencodeError> {
        let at = self.at;
        if !self.peek("a string")?.is_ascii_digit() {
            return Err(self.unexpected("a string"));
        }
        let len = self.digits(b':', u64::MAX, "a string length")?;
        let (Ok(size), true) = (usize::try_from(len), len <= max as u64) else {
            return Err(BencodeError::TooLong { at, len, max });
        };
        let end = self.at.checked_add(size);
        let found = end.and_then(|end| self.input.get(self.at..end));
        let found = found.ok_or(BencodeError::CutOff {
            at: self.input.len(),
            wanted: "a string",
        })?;
        self.at += size;
        Ok(found)
    }

    /// Reads a string of exactly `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], BencodeError> {
        let at = self.at;
        let found = self.bytes(N)?;
        found.try_into().map_err(|_| BencodeError::TooShort {
            at,
            len: found.len(),
            wanted: N,
        })
    }

    pub fn text(&mut self, max: usize) -> Result<&'a str, BencodeError> {
        let at = self.at;
        std::str::from_utf8(self.bytes(max)?).map_err(|_| BencodeError::NotUtf8 { at })
    }

    /// Reads a number that is not negative and at most `max`.
    pub fn unsigned(&mut self, max: u64) -> Result<u64, BencodeError> {
        self.expect(b'i', "a number")?;
        self.digits(b'e', max, "a number that is not negative")
    }

    /// Reads a list of at most `max` items with `item`.
    pub fn list<T, E: From<BencodeError>>(
        &mut self,
        max: usize,
        mut item: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let at = self.at;
        self.open_list()?;
        let mut items = Vec::new();
        while !self.at_close() {
            if items.len() == max {
                return Err(BencodeError::TooMany { at, max }.into());
            }
            items.push(item(self)?);
        }
        self.close()?;
        Ok(items)
    }

    /// Steps over one value of any kind.
    pub fn skip(&mut self) -> Result<(), BencodeError> {
        self.skip_below(0)
    }

    /// The bytes since `start`, an earlier `position`.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.input[start.min(self.at)..self.at]
    }

    pub fn position(&self) -> usize {
        self.at
    }

    /// Nothing may follow the one value that the input is.
    pub fn finish(self) -> Result<(), BencodeError> {
        match self.input.len() - self.at {
            0 => Ok(()),
            len => Err(BencodeError::Trailing { len }),
        }
    }

    fn skip_below(&mut self, depth: usize) -> Result<(), BencodeError> {
        if depth == MAX_DEPTH {
            return Err(BencodeError::TooDeep {
                at: self.at,
                max: MAX_DEPTH,
            });
        }
        match self.peek("a value")? {
            b'i' => {
                self.at += 1;
                if self.peek("a number")? == b'-' {
                    self.at += 1;
                    if self.peek("a number")? == b'0' {
                        return Err(BencodeError::NotMinimal { at: self.at });
                    }
                }
                self.digits(b'e', u64::MAX, "a number").map(|_| ())
            }
            b'l' => {
                self.at += 1;
                while !self.at_close() {
                    self.skip_below(depth + 1)?;
                }
                self.close()
            }
            b'd' => {
                self.at += 1;
                let mut previous = None;
                while !self.at_close() {
                    previous = Some(self.next_key(previous)?);
                    self.skip_below(depth + 1)?;
                }
                self.close()
            }
            _ => self.bytes(self.input.len()).map(|_| ()),
        }
    }

    fn digits(&mut self, end: u8, max: u64, wanted: &'static str) -> Result<u64, BencodeError> {
        let start = self.at;
        let mut value = 0u64;
        loop {
            let byte = self.peek(wanted)?;
            let len = self.at - start;
            if byte == end && len > 0 {
                self.at += 1;
                break;
            }
            if !byte.is_ascii_digit() {
                return Err(self.unexpected(wanted));
            }
            if len > 0 && self.input[start] == b'0' {
                return Err(BencodeError::NotMinimal { at: start });
            }
            let next = value.checked_mul(10);
            let next = next.and_then(|value| value.checked_add(u64::from(byte - b'0')));
            match next {
                Some(next) if len < MAX_DIGITS => value = next,
                _ => return Err(BencodeError::TooLarge { at: start, max }),
            }
            self.at += 1;
        }
        if value > max {
            return Err(BencodeError::TooLarge { at: start, max });
        }
        Ok(value)
    }

    fn expect(&mut self, byte: u8, wanted: &'static str) -> Result<(), BencodeError> {
        if self.peek(wanted)? != byte {
            return Err(self.unexpected(wanted));
        }
        self.at += 1;
        Ok(())
    }

    fn peek(&self, wanted: &'static str) -> Result<u8, BencodeError> {
        let byte = self.input.get(self.at).copied();
        byte.ok_or(BencodeError::CutOff {
            at: self.at,
            wanted,
        })
    }

    fn unexpected(&self, wanted: &'static str) -> BencodeError {
        match self.input.get(self.at) {
            Some(&found) => BencodeError::Unexpected {
                at: self.at,
                found,
                wanted,
            },
            None => BencodeError::CutOff {
                at: self.at,
                wanted,
            },
        }
    }
}

fn lossy(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    #[test]
    fn strings() {
        fn case(input: &str, expected: Result<&str, BencodeError>) {
            assert_eq!(Reader::new(input.as_bytes()).text(5), expected, "{input}");
        }
        let wanted = "a string";
        case("5:hello", Ok("hello"));
        case("0:", Ok(""));
        case("5:hell", Err(BencodeError::CutOff { at: 6, wanted }));
        case("05:hello", Err(BencodeError::NotMinimal { at: 0 }));
        case("00:", Err(BencodeError::NotMinimal { at: 0 }));
        case("", Err(BencodeError::CutOff { at: 0, wanted }));
        let long = |len| Err(BencodeError::TooLong { at: 0, len, max: 5 });
        case("6:hello!", long(6));
        case("18446744073709551615:a", long(u64::MAX));
        let max = u64::MAX;
        case(
            "18446744073709551616:a",
            Err(BencodeError::TooLarge { at: 0, max }),
        );
        let found = b'-';
        case(
            "-1:a",
            Err(BencodeError::Unexpected {
                at: 0,
                found,
                wanted,
            }),
        );
    }

    #[test]
    fn numbers() {
        fn case(input: &str, expected: Option<u64>) {
            let mut reader = Reader::new(input.as_bytes());
            assert_eq!(reader.unsigned(1000).ok(), expected, "{input}");
        }
        case("i0e", Some(0));
        case("i1000e", Some(1000));
        case("i1001e", None);
        case("i-1e", None);
        case("i-0e", None);
        case("i01e", None);
        case("i+1e", None);
        case("ie", None);
        case("i1", None);
        case("i99999999999999999999999e", None);
    }

    #[test]
    fn skipping() {
        fn case(input: &str, good: bool) {
            let mut reader = Reader::new(input.as_bytes());
            let result = reader.skip().and_then(|()| reader.finish());
            assert_eq!(result.is_ok(), good, "{input}: {result:?}");
        }
        case("d1:ai-5e1:bli1e2:xxee", true);
        case("d1:bi1e1:ai1ee", false);
        case("d1:ai1e1:ai2ee", false);
        case("i-0e", false);
        case("i1ei2e", false);
        case(&"l".repeat(100_000), false);
        case(&format!("{}{}", "l".repeat(16), "e".repeat(16)), true);
        case(&format!("{}{}", "l".repeat(17), "e".repeat(17)), false);
    }

    #[test]
    fn a_list_is_bounded() {
        let mut reader = Reader::new(b"li1ei2ei3ee");
        let result = reader.list(2, |reader| reader.unsigned(9));
        assert_eq!(result, Err(BencodeError::TooMany { at: 0, max: 2 }));
    }

    proptest! {
        #[test]
        fn never_panics(input in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader::new(&input);
            let _ = reader.skip();
            let _ = reader.finish();
        }
    }
}
