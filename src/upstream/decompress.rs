//! The compressions that binary caches use, as one stream of raw NAR bytes.

use async_compression::tokio::bufread::{
    BrotliDecoder, BzDecoder, GzipDecoder, XzDecoder, ZstdDecoder,
};
use tokio::io::{AsyncBufRead, AsyncRead};

/// `compression` as a narinfo names it; Nix takes a missing one for bzip2. `None` for a name that is not known.
pub fn decompress(
    compression: &str,
    body: impl AsyncBufRead + Send + Unpin + 'static,
) -> Option<Box<dyn AsyncRead + Send + Unpin>> {
    // Streams of several frames or members are one file to every tool.
    macro_rules! multiple {
        ($decoder:ident) => {{
            let mut decoder = $decoder::new(body);
            decoder.multiple_members(true);
            Box::new(decoder)
        }};
    }
    Some(match compression {
        "none" => Box::new(body),
        "xz" => multiple!(XzDecoder),
        "zstd" => multiple!(ZstdDecoder),
        "bzip2" | "" => multiple!(BzDecoder),
        "gzip" => multiple!(GzipDecoder),
        "br" => Box::new(BrotliDecoder::new(body)),
        _ => return None,
    })
}
