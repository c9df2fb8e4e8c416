//! How a store is named on the command line and in the configuration.
//!
//! `local`, `local?root=DIR`, `/DIR` (the same, as in `nix --store /DIR`), `file:///DIR`, `http(s)://HOST`.
//! Source: the Nix manual's "Store Types", of which these are the ones that need no daemon.

use std::{
    fmt,
    path::{Component, Path, PathBuf},
    str::FromStr,
};

use super::StoreError;

/// PATH_MAX, all of it escaped.
const MAX_BYTES: usize = 3 * 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUri {
    /// A store with a database; the root is `/` unless given.
    Local { root: Option<PathBuf> },
    /// A binary cache in a directory.
    File(PathBuf),
    /// A binary cache; no slash at its end.
    Http(String),
}

impl FromStr for StoreUri {
    type Err = StoreError;

    fn from_str(uri: &str) -> Result<Self, StoreError> {
        let refuse = |reason| StoreError::Uri {
            uri: uri.chars().take(200).collect(),
            reason,
        };
        let directory = |path: &str| {
            let path = PathBuf::from(path);
            let plain = path
                .components()
                .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
            if path.is_absolute() && plain && !path.as_os_str().as_encoded_bytes().contains(&0) {
                Ok(path)
            } else {
                Err(refuse("its directory must be absolute and without `..`"))
            }
        };
        let unescaped =
            |text| unescape(text).ok_or_else(|| refuse("an escape `%..` in it is broken"));
        if uri.len() > MAX_BYTES {
            return Err(refuse("it is too long"));
        }
        if uri.starts_with('/') {
            return directory(uri).map(|root| Self::Local { root: Some(root) });
        }
        if uri.starts_with("http://") || uri.starts_with("https://") {
            return parse_http(uri).ok_or_else(|| {
                refuse("it must be `http(s)://HOST[:PORT][/PATH]` without parameters")
            });
        }
        let (base, parameters) = match uri.split_once('?') {
            Some((base, parameters)) => (base, Some(parameters)),
            None => (uri, None),
        };
        if let Some(path) = base.strip_prefix("file://") {
            if parameters.is_some() {
                return Err(refuse("parameters are not understood here"));
            }
            return directory(&unescaped(path)?).map(Self::File);
        }
        match (base, parameters) {
            ("local", None) => Ok(Self::Local { root: None }),
            ("local", Some(parameters)) => {
                let root = parameters
                    .strip_prefix("root=")
                    .filter(|root| !root.contains('&'))
                    .ok_or_else(|| refuse("`root` is the only parameter that is understood"))?;
                let root = directory(&unescaped(root)?)?;
                Ok(Self::Local { root: Some(root) })
            }
            ("daemon" | "auto", _) => Err(refuse("say `local`: the database is read directly")),
            _ => Err(refuse(
                "it is none of `local`, `local?root=DIR`, `/DIR`, `file:///DIR`, `http(s)://HOST`",
            )),
        }
    }
}

fn parse_http(uri: &str) -> Option<StoreUri> {
    let uri = uri.trim_end_matches('/');
    let (_, rest) = uri.split_once("://")?;
    let host = rest.split('/').next().unwrap_or_default();
    let clean = rest
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte));
    (clean && !host.is_empty() && !host.starts_with(':')).then(|| StoreUri::Http(uri.to_owned()))
}

fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_at_checked(2)?;
            bytes.extend(data_encoding::HEXLOWER_PERMISSIVE.decode(digits).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// Only what would be read differently is escaped.
fn escape(path: &Path) -> String {
    path.to_string_lossy()
        .replace('%', "%25")
        .replace('?', "%3F")
        .replace('&', "%26")
}

impl fmt::Display for StoreUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { root: None } => f.write_str("local"),
            Self::Local { root: Some(root) } => write!(f, "local?root={}", escape(root)),
            Self::File(directory) => write!(f, "file://{}", escape(directory)),
            Self::Http(url) => f.write_str(url),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn accepted() {
        #[track_caller]
        fn case(text: &str, expected: StoreUri) {
            let uri: StoreUri = text.parse().unwrap();
            assert_eq!(uri, expected);
            assert_eq!(uri.to_string().parse::<StoreUri>().unwrap(), uri);
        }
        let local = |root: &str| StoreUri::Local {
            root: Some(root.into()),
        };
        case("local", StoreUri::Local { root: None });
        case("local?root=/tmp/x", local("/tmp/x"));
        case("local?root=%2Ftmp%2fa%20b%25%3f", local("/tmp/a b%?"));
        case("/tmp/x y", local("/tmp/x y"));
        case("/tmp/x?root=/y", local("/tmp/x?root=/y"));
        case("file:///srv/cache", StoreUri::File("/srv/cache".into()));
        case("file:///srv/a%20b", StoreUri::File("/srv/a b".into()));
        case(
            "https://cache.nixos.org",
            StoreUri::Http("https://cache.nixos.org".into()),
        );
        case(
            "http://[::1]:80/a/",
            StoreUri::Http("http://[::1]:80/a".into()),
        );
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn case(text: &str) {
            let message = text.parse::<StoreUri>().unwrap_err().to_string();
            assert!(message.contains("store URI"), "{message}");
        }
        case("");
        case("daemon");
        case("ssh://host");
        case("s3://bucket");
        case("tmp/x");
        case("/tmp/../x");
        case("/tmp/\0");
        case("local?root=tmp");
        case("local?root=");
        case("local?root=/x&trusted=1");
        case("local?real=/x");
        case("local?root=/%zz");
        case("local?root=/%f");
        case("local?root=/%ff");
        case("file://srv/cache");
        case("file:///srv?compression=xz");
        case("http://");
        case("https:///path");
        case("http://host?x=y");
        case("http://a b");
        case(&format!("/{}", "x".repeat(MAX_BYTES)));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_prints_back(text in any::<String>()) {
            for text in [text.clone(), format!("local?root=/{text}"), format!("file:///{text}"), format!("/{text}")] {
                if let Ok(uri) = text.parse::<StoreUri>() {
                    assert_eq!(uri.to_string().parse::<StoreUri>().unwrap(), uri);
                }
            }
        }
    }
}
