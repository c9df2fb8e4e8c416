//! Real Nix fetching a closure into a chroot store, with one substituter and one key.

use std::{net::SocketAddr, path::Path, time::Instant};

use super::{Closure, Nix, Outcome, Place};

pub struct Substitution<'a> {
    pub nix: &'a Nix,
    pub place: &'a Place,
    /// The only substituter.
    pub shim: SocketAddr,
    /// The only key that Nix trusts.
    pub key: &'a str,
    /// The store that the paths go to.
    pub to: &'a Path,
}

impl Substitution<'_> {
    /// `nix-store --realise`, signatures required.
    pub fn realise(&self, store_path: &str) -> Outcome {
        let mut command = self.place.command("nix-store");
        self.nix.prepare(&mut command);
        let substituter = format!("http://{}", self.shim);
        command
            .args(["--realise", store_path, "--store"])
            .arg(self.to);
        command.args(["--option", "substituters", &substituter]);
        command.args(["--option", "trusted-public-keys", self.key]);
        command.args(["--option", "require-sigs", "true"]);
        // A path that is not there must not be built.
        command.args(["--max-jobs", "0"]);
        Outcome::of(command)
    }

    /// Fetches all of `closure`, and asks Nix whether it arrived whole and signed.
    #[track_caller]
    pub fn fetch(&self, closure: &Closure) {
        let start = Instant::now();
        self.realise(&closure.top).success();
        println!("{} paths in {:?}", closure.paths.len(), start.elapsed());
        let verify = [
            "store",
            "verify",
            "-r",
            &closure.top,
            "--trusted-public-keys",
            self.key,
        ];
        self.nix.on(self.to, "nix", &verify);
        let here = Closure::read(self.nix, self.to.to_owned(), closure.top.clone());
        let sorted = |closure: &Closure| {
            let mut paths: Vec<_> = closure
                .paths
                .iter()
                .map(|path| {
                    (
                        path.store_path.clone(),
                        path.nar_hash,
                        path.references.clone(),
                    )
                })
                .collect();
            paths.sort();
            paths
        };
        assert_eq!(sorted(&here), sorted(closure));
    }
}
