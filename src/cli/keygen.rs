//! `narswarm keygen`: an ed25519 key pair as `name:base64`.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::nix::SecretKey;

use super::args::KeygenArgs;
use super::exit::Failure;

pub fn run(args: &KeygenArgs) -> Result<(), Failure> {
    let key = SecretKey::generate(&args.name).map_err(Failure::usage)?;
    write(&args.secret, 0o600, &key.to_key_string())?;
    write(&args.public, 0o644, &key.public().to_string())?;
    println!("{}", key.public());
    Ok(())
}

/// A key that is lost cannot be made again: an existing file stays.
fn write(path: &Path, mode: u32, text: &str) -> Result<(), Failure> {
    let open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let written = open.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let path = path.display();
        Failure::failed(match error.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "{path} exists, and a key is never overwritten: choose another file, or remove it"
            ),
            _ => format!("cannot write the key to {path}: {error}"),
        })
    })
}
