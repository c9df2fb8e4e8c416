//! A program in the background: its output in files, its end with the value. A failing test shows what it said.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use super::wait_for;

/// Of each output, this much is shown when a test fails.
const SHOWN_LINES: usize = 25;

pub struct ChildProcess {
    child: Child,
    name: String,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl ChildProcess {
    /// Starts `command`, with `NAME.out` and `NAME.err` in `directory`.
    #[track_caller]
    pub fn start(mut command: Command, directory: &Path, name: &str) -> Self {
        fs::create_dir_all(directory).unwrap();
        let stdout = directory.join(format!("{name}.out"));
        let stderr = directory.join(format!("{name}.err"));
        command
            .stdin(Stdio::null())
            .stdout(File::create(&stdout).unwrap())
            .stderr(
                File::options()
                    .create(true)
                    .append(true)
                    .open(&stderr)
                    .unwrap(),
            );
        let child = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self {
            child,
            name: name.to_owned(),
            stdout,
            stderr,
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The first line on stdout for which `find` has something.
    #[track_caller]
    pub fn line<T>(
        &mut self,
        what: &str,
        patience: Duration,
        find: impl Fn(&str) -> Option<T>,
    ) -> T {
        wait_for(&format!("{what} from {}", self.name), patience, || {
            let text = fs::read_to_string(&self.stdout).unwrap_or_default();
            // The last line may still be on its way.
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let found = whole.lines().find_map(&find);
            if found.is_none() {
                let ended = self.child.try_wait().unwrap();
                assert!(
                    ended.is_none(),
                    "{} ended with {ended:?}: {}",
                    self.name,
                    self.stderr()
                );
            }
            found
        })
    }

    pub fn stdout(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    pub fn stderr(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// Asks it to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.id());
        Command::new("sh").args(["-c", &kill]).status().unwrap();
    }

    /// As if the power went.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("end of {}", self.name);
        wait_for(&what, patience, || self.child.try_wait().unwrap())
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for (stream, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
                let lines: Vec<&str> = text.lines().collect();
                let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n  ");
                eprintln!("{} of {}:\n  {shown}", stream, self.name);
            }
        }
    }
}
