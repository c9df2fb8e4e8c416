//! `narswarm payload`: the canonical payload of an installed path, its NarHash verified.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::Size;
use crate::manifest::payload_name;
use crate::payload::{self, Described};
use crate::runtime::{NewFile, Readers};

use super::args::PayloadArgs;
use super::exit::{Failure, REFUSED};
use super::local_path::LocalPath;

pub async fn run(args: PayloadArgs) -> Result<(), Failure> {
    let work = tokio::task::spawn_blocking(move || write(&args));
    work.await.map_err(Failure::failed)?
}

fn write(args: &PayloadArgs) -> Result<(), Failure> {
    payload::self_test().map_err(Failure::failed)?;
    let path = LocalPath::find(&args.store_path, &args.store)?;
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(payload_name(&path.info.nar_hash)));
    if output == Path::new("-") {
        let mut stdout = io::stdout().lock();
        describe(&path, |frame| stdout.write_all(frame))?;
        return stdout.flush().map_err(Failure::failed);
    }
    let failed =
        |error: io::Error| Failure::failed(format!("cannot write {}: {error}", output.display()));
    let mut file = new_output(&output).map_err(failed)?;
    let described = describe(&path, |frame| file.write_all(frame))?;
    let kept = file.keep_as(&output, Readers::Everybody);
    kept.map_err(failed)?;
    println!(
        "{}: {} of {}, info hash {}",
        output.display(),
        Size(described.info.length),
        Size(described.nar_size),
        described.info.info_hash()
    );
    Ok(())
}

/// The file that was asked for. A device, or a link like /dev/stdout, would be replaced by it.
pub fn new_output(output: &Path) -> io::Result<NewFile> {
    if fs::symlink_metadata(output).is_ok_and(|there| !there.is_file()) {
        let why = "it is there and not a regular file; - is standard output";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    NewFile::create(output)
}

/// One pass over the NAR of an installed path. What is on disk must be what the database says.
pub fn describe(
    path: &LocalPath,
    sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Described, Failure> {
    let info = &path.info;
    let described = payload::describe(&mut path.nar()?, info.nar_size, sink);
    let described =
        described.map_err(|error| Failure::failed(format!("{}: {error}", info.store_path)))?;
    if described.nar_hash != info.nar_hash {
        let message = format!(
            "{} has NarHash {}, not {}: it was changed",
            info.store_path, described.nar_hash, info.nar_hash
        );
        return Err(Failure::new(REFUSED, message));
    }
    Ok(described)
}
