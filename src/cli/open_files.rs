//! Raises the limit of open files: each peer takes one, and so does each file that is read for it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The soft limit is mostly 1024, for the sake of programs that use select(). As many as all peers and uploads can take;
/// where more is allowed, children that close every number would only have more to do.
const WANTED: u64 = 65_536;

/// As far as this is allowed. What fails for want of one later says so itself.
pub fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
    if current.is_none_or(|current| current >= wanted) {
        return;
    }
    let raised = Rlimit {
        current: Some(wanted),
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, ?current, "the limit of open files could not be raised");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_as_far_as_is_allowed() {
        raise_limit();
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        let enough = maximum.map_or(WANTED, |maximum| maximum.min(WANTED));
        assert!(current.is_none_or(|current| current >= enough));
    }
}
