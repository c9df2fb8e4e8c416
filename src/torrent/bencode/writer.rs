//! Writes bencode. The caller names dictionary keys in sorted order; every reader in this program checks that.

#[derive(Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn open_dict(&mut self) {
        self.out.push(b'd');
    }

    pub fn open_list(&mut self) {
        self.out.push(b'l');
    }

    pub fn close(&mut self) {
        self.out.push(b'e');
    }

    pub fn bytes(&mut self, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.out
            .extend_from_slice(value.len().to_string().as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(value);
    }

    pub fn unsigned(&mut self, value: u64) {
        self.out.extend_from_slice(format!("i{value}e").as_bytes());
    }

    /// A key and its string.
    pub fn bytes_at(&mut self, key: &str, value: impl AsRef<[u8]>) {
        self.bytes(key);
        self.bytes(value);
    }

    /// A key and its number.
    pub fn unsigned_at(&mut self, key: &str, value: u64) {
        self.bytes(key);
        self.unsigned(value);
    }

    /// A key and its list of strings.
    pub fn texts_at(&mut self, key: &str, values: impl IntoIterator<Item = String>) {
        self.bytes(key);
        self.open_list();
        for value in values {
            self.bytes(value);
        }
        self.close();
    }

    /// Puts bytes that are bencode already.
    pub fn raw(&mut self, value: &[u8]) {
        self.out.extend_from_slice(value);
    }

    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}
