//! What the publisher of an option set is told on its command line.

use std::process::Command;

use crate::evaluation::Evaluation;
use crate::{NARSWARM, STUB, must_succeed};

#[test]
fn the_publisher_is_told_what_was_set() {
    let Some(evaluation) = Evaluation::get("the_publisher_is_told_what_was_set") else {
        return;
    };
    // A shell splits the script as systemd's would.
    let words = |case: &str| -> Vec<String> {
        let script = evaluation.case(case)["scripts"]["narswarm-publisher"]
            .as_str()
            .unwrap();
        let program = format!("exec {STUB}");
        let script = script.replace(&program, "printf '%s\\n'");
        let mut shell = Command::new("sh");
        let shell = shell.env(
            "CREDENTIALS_DIRECTORY",
            "/run/credentials/narswarm publisher",
        );
        let output = shell.arg("-euc").arg(script).output().unwrap();
        must_succeed(&output);
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(str::to_owned)
            .collect()
    };
    let everything = "publish
--channel
my-channel
--from
http://127.0.0.1:1
--out
/srv/channel
--store-paths
/srv/store-paths
--system
aarch64-linux
--payloads
/srv/payloads
--lifetime
7d
--file
/srv/nixexprs.tar.xz
--seedbox
192.0.2.7:6881
--seedbox
[2001:db8::7]:6881
--tracker
udp://192.0.2.8:6969
--release
26.11 'beta'
--secret-key
/run/credentials/narswarm publisher/secret-key
--narinfo-key
/run/credentials/narswarm publisher/narinfo-key";
    assert_eq!(words("publisherOfEverything").join("\n"), everything);

    let short = words("publisher");
    let release = short.iter().position(|word| word == "--release").unwrap() + 1;
    let is_time = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    assert!(
        short[release].len() == 15 && short[release].bytes().all(is_time),
        "{short:?}"
    );
    assert!(!short.contains(&"--narinfo-key".to_owned()));

    // The program takes them: what it complains of is the cache, which is not there.
    let output = Command::new(NARSWARM)
        .args(words("publisherOfEverything"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("asking http://127.0.0.1:1/") && !error.contains("Usage"),
        "{error}"
    );
}
