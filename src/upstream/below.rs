//! What is a file of a cache, and what only lies on the same server: that is not asked for with the cache's password.

use percent_encoding::percent_decode_str;
use url::Url;

/// Whether `path`, as a client wrote it, names a file of the cache at `base`, which ends with a slash.
pub fn is_below(base: &Url, path: &str) -> bool {
    // A server decodes before it looks for `..`, and some take a backslash for a slash.
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let mut parts = decoded.split(['/', '\\']);
    if parts.any(|part| matches!(part, "" | "." | "..")) {
        return false;
    }
    // Whatever else `join` knows.
    base.join(path).is_ok_and(|url| {
        url.origin() == base.origin()
            && url.path().starts_with(base.path())
            && url.query().or(url.fragment()).is_none()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_spelling_climbs() {
        #[track_caller]
        fn case(path: &str, expected: bool) {
            for base in ["https://cache.example/mine/", "https://cache.example/"] {
                let base = Url::parse(base).unwrap();
                assert_eq!(is_below(&base, path), expected, "{base} {path}");
            }
        }
        case("log/0123-x.drv", true);
        case("realisations/sha256:0123!out.doi", true);
        case("log/0123-x..y.drv", true);
        case("log/0123-x%3Fy+z.drv", true);
        case("log/%e4.drv", true);
        for climbing in [
            "log/../x",
            "log/%2e%2e/x",
            "log/.%2E/x",
            "log/..\\x",
            "log/..%2fx",
            "log/%2e%2e%2fx",
            "log/..%5cx",
            "../x",
            "..",
            "log/./x",
            "log//x",
            "log/",
            "/x",
            "//other.example/x",
            "http://other.example/x",
            "sha256:x",
            "log/x?y",
            "log/x#y",
            "",
        ] {
            case(climbing, false);
        }
        // `join` leaves tabs out.
        let base = Url::parse("https://cache.example/mine/").unwrap();
        assert!(!is_below(&base, "log/.\t./.\t./x"));
    }
}
