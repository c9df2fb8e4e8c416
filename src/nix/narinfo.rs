//! A narinfo, what a binary cache says about one store path.
//!
//! ```text
//! StorePath: /nix/store/05xfwnl62nipbw1ankbcv2crjhb9a918-python3-3.13.14
//! URL: nar/179vz34q5v9hgdfnjglr169p23356gymgghj4axql0lp7jb2046q.nar.zst
//! Compression: zstd
//! FileHash: sha256:0knp8lsasn96dc5yzqmg4fwf5ksdm5xwivdl861v55n128dvci25
//! FileSize: 56616908
//! NarHash: sha256:179vz34q5v9hgdfnjglr169p23356gymgghj4axql0lp7jb2046q
//! NarSize: 133215664
//! References: 05xfwnl62nipbw1ankbcv2crjhb9a918-python3-3.13.14 1sr8rmx4v0v994lkbzhwc1f0qr1gxxs9-bash-5.3p9
//! Deriver: j0irry3g1p3qxn00g0nf8kccwj1n47y4-python3-3.13.14.drv
//! Sig: cache.nixos.org-1:n3t9NmyHC95jDl2ZTIuw1bFm4epUOJ92uNNqcqNoUsMRQtQKog3AFiMXrsZ+wTeX1krPYdhph26onbIq/McNDQ==
//! CA: fixed:r:sha256:179vz34q5v9hgdfnjglr169p23356gymgghj4axql0lp7jb2046q
//! ```
//! The last four lines may be absent, `Sig` may repeat. Source: `src/libstore/nar-info.cc` in NixOS/nix.

use std::fmt;

use super::{
    Addressed, NarHash, ParseError, Signature, StoreDir, StorePath, TrustedKeys, fingerprint,
    raw_nar_url, verify_ca,
};

const WHAT: &str = "narinfo";

/// Thousands of references fit; it bounds what an upstream can make us hold.
const MAX_BYTES: usize = 1024 * 1024;

/// More than any text of that length can name.
const MAX_REFERENCES: usize = 64 * 1024;

/// Real ones have one to three; each costs a verification.
const MAX_SIGNATURES: usize = 64;

/// What Nix takes for the compression if no line says it.
const DEFAULT_COMPRESSION: &str = "bzip2";

/// Written by old caches instead of leaving the line out.
const NO_DERIVER: &str = "unknown-deriver";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Narinfo {
    pub store_dir: StoreDir,
    pub store_path: StorePath,
    pub url: String,
    pub compression: String,
    pub file_hash: Option<String>,
    pub file_size: Option<u64>,
    pub nar_hash: NarHash,
    pub nar_size: u64,
    /// Ascending and each once.
    pub references: Vec<StorePath>,
    pub deriver: Option<StorePath>,
    pub signatures: Vec<Signature>,
    pub ca: Option<String>,
}

impl Narinfo {
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES {
            return Err(ParseError::TooLong {
                what: WHAT,
                actual: text.len(),
                limit: MAX_BYTES,
            });
        }
        let lines = Lines::collect(text)?;
        let (store_dir, store_path) = split_store_path(required(lines.store_path, "StorePath")?)?;
        let nar_size = number(required(lines.nar_size, "NarSize")?, "NarSize")?;
        if nar_size == 0 {
            return Err(ParseError::invalid("NarSize", "0", "no NAR is empty"));
        }
        let said = |value: Option<&str>| value.filter(|value| !value.is_empty()).map(str::to_owned);
        Ok(Self {
            store_dir,
            store_path,
            url: required(lines.url, "URL")?.to_owned(),
            compression: said(lines.compression).unwrap_or_else(|| DEFAULT_COMPRESSION.to_owned()),
            file_hash: said(lines.file_hash),
            file_size: lines
                .file_size
                .map(|size| number(size, "FileSize"))
                .transpose()?,
            nar_hash: required(lines.nar_hash, "NarHash")?.parse()?,
            nar_size,
            references: parse_references(lines.references.unwrap_or_default())?,
            deriver: lines
                .deriver
                .filter(|deriver| !deriver.is_empty() && *deriver != NO_DERIVER)
                .map(StorePath::parse_base_name)
                .transpose()?,
            signatures: lines.signatures,
            ca: said(lines.ca),
        })
    }

    /// The text that its signatures sign.
    pub fn fingerprint(&self) -> String {
        fingerprint(
            &self.store_dir,
            &self.store_path,
            &self.nar_hash,
            self.nar_size,
            &self.references,
        )
    }

    /// Whether Nix would accept the path: one of its signatures is by a trusted key, or its NarHash makes its name.
    pub fn is_trusted(&self, keys: &TrustedKeys) -> bool {
        keys.any_verifies(self.fingerprint().as_bytes(), &self.signatures)
            || self.addressed() == Some(Addressed::Nar)
    }

    /// What its content address says of its name.
    pub fn addressed(&self) -> Option<Addressed> {
        verify_ca(
            &self.store_dir,
            &self.store_path,
            &self.nar_hash,
            &self.references,
            self.ca.as_deref(),
        )
    }

    /// The same path with its NAR served raw.
    pub fn raw(self) -> Self {
        Self {
            url: raw_nar_url(&self.store_path.hash_part(), &self.nar_hash),
            compression: "none".to_owned(),
            file_hash: None,
            file_size: None,
            ..self
        }
    }
}

/// The lines as they come, each seen at most once except `Sig`.
#[derive(Default)]
struct Lines<'a> {
    store_path: Option<&'a str>,
    url: Option<&'a str>,
    compression: Option<&'a str>,
    file_hash: Option<&'a str>,
    file_size: Option<&'a str>,
    nar_hash: Option<&'a str>,
    nar_size: Option<&'a str>,
    references: Option<&'a str>,
    deriver: Option<&'a str>,
    ca: Option<&'a str>,
    signatures: Vec<Signature>,
}

impl<'a> Lines<'a> {
    fn collect(text: &'a str) -> Result<Self, ParseError> {
        let Some(text) = text.strip_suffix('\n') else {
            return Err(ParseError::invalid(
                WHAT,
                text,
                "it does not end with a line break, so it was cut",
            ));
        };
        let mut lines = Self::default();
        for line in text.split('\n') {
            let (field, value) = line
                .split_once(": ")
                .or_else(|| line.strip_suffix(':').map(|field| (field, "")))
                .ok_or_else(|| {
                    ParseError::invalid(WHAT, line, "this line is not `Field: value`")
                })?;
            let (slot, field) = match field {
                "StorePath" => (&mut lines.store_path, "StorePath"),
                "URL" => (&mut lines.url, "URL"),
                "Compression" => (&mut lines.compression, "Compression"),
                "FileHash" => (&mut lines.file_hash, "FileHash"),
                "FileSize" => (&mut lines.file_size, "FileSize"),
                "NarHash" => (&mut lines.nar_hash, "NarHash"),
                "NarSize" => (&mut lines.nar_size, "NarSize"),
                "References" => (&mut lines.references, "References"),
                "Deriver" => (&mut lines.deriver, "Deriver"),
                "CA" => (&mut lines.ca, "CA"),
                "Sig" => {
                    // A broken signature is one that does not verify, not a broken narinfo.
                    lines.signatures.extend(value.parse::<Signature>().ok());
                    if lines.signatures.len() > MAX_SIGNATURES {
                        return Err(ParseError::TooMany {
                            what: WHAT,
                            field: "signatures",
                            limit: MAX_SIGNATURES,
                        });
                    }
                    continue;
                }
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(ParseError::Twice { what: WHAT, field });
            }
        }
        Ok(lines)
    }
}

fn required<'a>(value: Option<&'a str>, field: &'static str) -> Result<&'a str, ParseError> {
    value
        .filter(|value| !value.is_empty())
        .ok_or(ParseError::Missing { what: WHAT, field })
}

fn number(value: &str, field: &'static str) -> Result<u64, ParseError> {
    value
        .parse()
        .map_err(|_| ParseError::invalid(field, value, "it is not a number of bytes"))
}

/// The store dir is what stands before the base name.
fn split_store_path(text: &str) -> Result<(StoreDir, StorePath), ParseError> {
    let (dir, base_name) = text
        .rsplit_once('/')
        .ok_or_else(|| ParseError::invalid("StorePath", text, "it is not absolute"))?;
    Ok((dir.parse()?, StorePath::parse_base_name(base_name)?))
}

fn parse_references(text: &str) -> Result<Vec<StorePath>, ParseError> {
    let mut references = Vec::new();
    for base_name in text.split_ascii_whitespace() {
        if references.len() == MAX_REFERENCES {
            return Err(ParseError::TooMany {
                what: WHAT,
                field: "references",
                limit: MAX_REFERENCES,
            });
        }
        references.push(StorePath::parse_base_name(base_name)?);
    }
    references.sort_unstable();
    references.dedup();
    Ok(references)
}

impl fmt::Display for Narinfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "StorePath: {}", self.store_path.full(&self.store_dir))?;
        writeln!(f, "URL: {}", self.url)?;
        writeln!(f, "Compression: {}", self.compression)?;
        if let Some(file_hash) = &self.file_hash {
            writeln!(f, "FileHash: {file_hash}")?;
        }
        if let Some(file_size) = self.file_size {
            writeln!(f, "FileSize: {file_size}")?;
        }
        writeln!(f, "NarHash: {}", self.nar_hash)?;
        writeln!(f, "NarSize: {}", self.nar_size)?;
        let references: Vec<String> = self.references.iter().map(StorePath::base_name).collect();
        writeln!(f, "References: {}", references.join(" "))?;
        if let Some(deriver) = &self.deriver {
            writeln!(f, "Deriver: {deriver}")?;
        }
        for signature in &self.signatures {
            writeln!(f, "Sig: {signature}")?;
        }
        if let Some(ca) = &self.ca {
            writeln!(f, "CA: {ca}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    const SAMPLE: &str = "\
StorePath: /nix/store/05xfwnl62nipbw1ankbcv2crjhb9a918-python3-3.13.14
URL: nar/179vz34q5v9hgdfnjglr169p23356gymgghj4axql0lp7jb2046q.nar.zst
Compression: zstd
FileHash: sha256:0knp8lsasn96dc5yzqmg4fwf5ksdm5xwivdl861v55n128dvci25
FileSize: 56616908
NarHash: sha256:179vz34q5v9hgdfnjglr169p23356gymgghj4axql0lp7jb2046q
NarSize: 133215664
References: 05xfwnl62nipbw1ankbcv2crjhb9a918-python3-3.13.14 1sr8rmx4v0v994lkbzhwc1f0qr1gxxs9-bash-5.3p9
Deriver: j0irry3g1p3qxn00g0nf8kccwj1n47y4-python3-3.13.14.drv
Sig: cache.nixos.org-1:n3t9NmyHC95jDl2ZTIuw1bFm4epUOJ92uNNqcqNoUsMRQtQKog3AFiMXrsZ+wTeX1krPYdhph26onbIq/McNDQ==
Sig: other-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==
CA: fixed:r:sha256:179vz34q5v9hgdfnjglr169p23356gymgghj4axql0lp7jb2046q
";

    #[test]
    fn the_sample_round_trips() {
        let info = Narinfo::parse(SAMPLE).unwrap();
        assert_eq!(info.to_string(), SAMPLE);
        assert_eq!(info.references.len(), 2);
        assert_eq!(info.signatures.len(), 2);
        assert!(info.fingerprint().starts_with("1;/nix/store/05xf"));
    }

    /// Parses the sample after one replacement in it.
    #[track_caller]
    fn edited(from: &str, to: &str) -> Result<Narinfo, ParseError> {
        assert!(SAMPLE.contains(from));
        Narinfo::parse(&SAMPLE.replacen(from, to, 1))
    }

    #[test]
    fn what_may_be_absent_or_odd() {
        let without = |from| edited(from, "X-Unknown: ").unwrap();
        assert_eq!(without("Compression: ").compression, "bzip2");
        assert_eq!(without("FileHash: ").file_hash, None);
        assert_eq!(without("FileSize: ").file_size, None);
        assert_eq!(without("References: ").references, []);
        assert_eq!(without("Deriver: ").deriver, None);
        assert_eq!(without("CA: ").ca, None);
        assert_eq!(without("Sig: cache").signatures.len(), 1);
        assert_eq!(
            edited("Sig: other-1:", "Sig: broken:")
                .unwrap()
                .signatures
                .len(),
            2
        );
        assert_eq!(
            edited("Sig: other-1:", "Sig: ").unwrap().signatures.len(),
            1
        );
        let deriver = "j0irry3g1p3qxn00g0nf8kccwj1n47y4-python3-3.13.14.drv";
        assert_eq!(edited(deriver, "unknown-deriver").unwrap().deriver, None);
        let first = "05xfwnl62nipbw1ankbcv2crjhb9a918-python3-3.13.14 ";
        let unsorted = edited(
            first,
            "vc0n6ad64ww69hr2rlqh0v22cknhlrds-z 1sr8rmx4v0v994lkbzhwc1f0qr1gxxs9-bash-5.3p9 ",
        );
        let names: Vec<String> = unsorted
            .unwrap()
            .references
            .iter()
            .map(|r| r.name().to_owned())
            .collect();
        assert_eq!(names, ["bash-5.3p9", "z"]);
        let elsewhere = edited("/nix/store/", "/gnu/store/").unwrap();
        assert_eq!(elsewhere.store_dir.as_str(), "/gnu/store");
        let empty = SAMPLE.lines().map(|line| {
            if line.starts_with("References") {
                "References: \n".to_owned()
            } else {
                format!("{line}\n")
            }
        });
        assert_eq!(
            Narinfo::parse(&empty.collect::<String>())
                .unwrap()
                .references,
            []
        );
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn case(from: &str, to: &str) {
            edited(from, to).unwrap_err();
        }
        case("StorePath: ", "X: ");
        case("URL: ", "X: ");
        case("NarHash: ", "X: ");
        case("NarSize: ", "X: ");
        case("NarSize: 133215664", "NarSize: 0");
        case("NarSize: 133215664", "NarSize: -1");
        case("NarSize: 133215664", "NarSize: 99999999999999999999");
        case("FileSize: 56616908", "FileSize: many");
        case("sha256:179vz", "sha1:177h7");
        case("Deriver: ", "Deriver: /nix/store/");
        case("-bash-5.3p9", "-bash/5.3p9");
        case("StorePath: /nix/store/", "StorePath: ");
        case("URL: ", "NarSize: 5\nURL: ");
        case("URL: ", "no colon\nURL: ");
        case("046q\nNarSize", "046q\n\nNarSize");
        Narinfo::parse("").unwrap_err();
        Narinfo::parse(&SAMPLE[..SAMPLE.len() - 1]).unwrap_err();
        Narinfo::parse(&"X: y\n".repeat(MAX_BYTES / 5 + 1)).unwrap_err();
        let signature = "Sig: other-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA==\n";
        case("CA: ", &format!("{}CA: ", signature.repeat(MAX_SIGNATURES)));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), at in 0..SAMPLE.len()) {
            let _ = Narinfo::parse(&text);
            let _ = Narinfo::parse(&format!("{}{text}{}", &SAMPLE[..at], &SAMPLE[at..]));
        }
    }
}
