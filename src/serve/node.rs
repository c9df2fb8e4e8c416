//! A node: an agent (with a shim for Nix) or a seedbox, put together from its options and run until it is told to stop.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{InfoDicts, Offers};
use crate::follow::{Channels, FollowError};
use crate::payload;
use crate::runtime::{Accounting, Counters, remove_leftovers};
use crate::store::{Store, StoreError, StoreUri};
use crate::substitute::{Substituter, SubstituterParts};
use crate::swarm::{Swarm, SwarmError};
use crate::upstream::UpstreamError;

use super::configured::{Configured, Parts, Reload};
use super::installed::{read_installed, watch_store};
use super::listener::{NoDelay, adopt};
use super::options::{NodeOptions, Role};
use super::router::{Shim, router};
use super::run_file::RunFile;
use super::share_file::ShareFile;
use super::status::StatusReport;

/// What a crash may cost of the accounting. Nothing is written while nothing moves.
const ACCOUNTS_INTERVAL: Duration = Duration::from_secs(60);
/// Nobody takes so long for a small file.
const LEFT_OVER: Duration = Duration::from_secs(60);
/// Between two tries to write `run.json` where the disk is full.
const RUN_FILE_RETRY: Duration = Duration::from_secs(5);
/// Short answers come to their end in this; a NAR is cut, and Nix resumes it at the next agent.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
pub enum NodeError {
    #[error("cannot use the state directory {path}: {source}")]
    State { path: PathBuf, source: io::Error },
    #[error(
        "another narswarm runs with the state directory {path}: stop it, or give this one its own `state`"
    )]
    Locked { path: PathBuf },
    #[error(
        "cannot listen on {address}: {source}. Does another node run there, or is [{section}] listen wrong?"
    )]
    Listen {
        section: &'static str,
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    #[error(transparent)]
    Follow(#[from] FollowError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// A running node. `stop` ends it in order; dropping it cancels its tasks.
pub struct Node {
    run_file: RunFile,
    counters: Arc<Counters>,
    reloads: mpsc::Sender<Reload>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Held as long as the node lives.
    _lock: File,
}

impl Node {
    /// Returns when the node serves: the catalog that was kept is loaded, both ports are bound.
    pub async fn start(mut options: NodeOptions) -> Result<Self, NodeError> {
        let started = Instant::now();
        let lock = lock_state(&options.state)?;
        let state = options.state.clone();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let accounting = Accounting::open(&state.join("accounting.json"));
        let accounting = accounting.map_err(|source| NodeError::State {
            path: state.clone(),
            source,
        })?;
        let counters = Arc::new(Counters::keeping(accounting));
        let encoder_off = payload::self_test().err().map(|error| error.to_string());
        if let Some(reason) = &encoder_off {
            counters.error(format!("installed paths are not seeded: {reason}"));
        }
        let store = match &options.store {
            Some(StoreUri::Local { root }) => Some(Store::open(root.as_deref())?),
            _ => None,
        };
        let offers = Arc::new(Offers::new(store, encoder_off.is_none()));
        let infos = state.join("info.sqlite");
        let infos = InfoDicts::open(&infos).unwrap_or_else(|error| {
            counters.error(error.to_string());
            InfoDicts::closed(&infos)
        });
        let infos = Arc::new(infos);
        let chosen = ShareFile::new(&options.state).read_or_off(&counters);
        let swarm = Swarm::start(
            options.swarm.clone().chosen(chosen),
            offers.clone(),
            infos,
            counters.clone(),
            tasks.clone(),
            stop.clone(),
        )
        .await?;
        let swarm = Arc::new(swarm);
        let channels = Channels::open(
            &options.channels,
            &options.state,
            offers.clone(),
            swarm.clone(),
            counters.clone(),
            stop.clone(),
        )?;
        channels.refresh_local().await;
        read_installed(&offers, &counters, &mut None).await;
        let substituter = match options.role {
            Role::Seedbox => None,
            Role::Agent => {
                let parts = SubstituterParts {
                    offers: offers.clone(),
                    downloads: Some(swarm.downloads().clone()),
                    upstreams: options.upstreams.clone(),
                    keys: options.keys.clone(),
                    counters: counters.clone(),
                };
                Some(Arc::new(Substituter::new(parts)?))
            }
        };
        let socket = options.shim_socket.take();
        let adopted = socket.is_some();
        let listener = match socket {
            Some(socket) => adopt(socket),
            None => TcpListener::bind(options.shim).await,
        };
        let unheard = |source| NodeError::Listen {
            section: options.http_section(),
            address: options.shim,
            source,
        };
        let listener = listener.map_err(unheard)?;
        let address = listener.local_addr().map_err(unheard)?;
        if adopted && address != options.shim {
            counters.error(format!(
                "systemd's socket listens on {address}, not on shim.listen = {}: run `narswarm setup` again",
                options.shim
            ));
        }
        let role = options.role.as_str();
        let parts = Parts {
            swarm: swarm.clone(),
            channels: channels.clone(),
            substituter: substituter.clone(),
            counters: counters.clone(),
            tasks: tasks.clone(),
        };
        let configured = Configured::new(options, chosen, parts);
        let status = Arc::new(StatusReport {
            role,
            config: configured.view(),
            started,
            encoder_off,
            shim: address,
            channels: channels.clone(),
            swarm: swarm.clone(),
            counters: counters.clone(),
            substituter: substituter.clone(),
        });
        let app = router(Shim {
            substituter,
            status,
        });
        let stopping = stop.clone();
        tasks.spawn(async move {
            let serving = axum::serve(NoDelay(listener), app)
                .with_graceful_shutdown(stopping.cancelled_owned());
            let _ = serving.await;
        });
        tasks.spawn(watch_store(offers, counters.clone(), stop.clone()));
        tasks.spawn(keep_accounts(counters.clone(), stop.clone()));
        channels.follow(&tasks);
        if let Err(error) = swarm.announce(&channels.topics()).await {
            counters.error(error.to_string());
        }
        let (reloads, receiver) = mpsc::channel(1);
        tasks.spawn(configured.follow(receiver, stop.clone()));
        let run_file = RunFile {
            event: "ready".to_owned(),
            role: role.to_owned(),
            shim: address,
            peer: swarm.address(),
            pid: std::process::id(),
            state: state.clone(),
        };
        // Nix is served all the same; only `status` does not find it.
        let unwritten = run_file.write(&state);
        if !unwritten.is_empty() {
            tasks.spawn(write_again(run_file.clone(), stop.clone()));
        }
        for (path, error) in unwritten {
            counters.error(format!("{} could not be written: {error}", path.display()));
        }
        Ok(Self {
            run_file,
            counters,
            reloads,
            tasks,
            stop,
            _lock: lock,
        })
    }

    /// Where it serves; also its ready line.
    pub fn run_file(&self) -> &RunFile {
        &self.run_file
    }

    /// Takes over a configuration that was read again, or says why there is none; see `Configured`.
    pub async fn reload(&self, read: Result<NodeOptions, String>) {
        let (done, in_force) = oneshot::channel();
        if self.reloads.send((read, done)).await.is_ok() {
            // Fails only when the node stops.
            let _ = in_force.await;
        }
    }

    /// Ends all tasks, with a little patience for those in the middle of something.
    pub async fn stop(self) {
        RunFile::remove(&self.run_file.state);
        self.stop.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(STOP_PATIENCE, self.tasks.wait()).await;
        if ended.is_err() {
            tracing::debug!(tasks = self.tasks.len(), "cut short");
        }
        // It may just have been written again.
        RunFile::remove(&self.run_file.state);
        save_accounts(&self.counters);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Until there is room for it, or `stop`.
async fn write_again(run_file: RunFile, stop: CancellationToken) {
    let pause = || stop.run_until_cancelled(tokio::time::sleep(RUN_FILE_RETRY));
    while pause().await.is_some() {
        let run_file = run_file.clone();
        let written = tokio::task::spawn_blocking(move || run_file.write(&run_file.state));
        if written.await.is_ok_and(|unwritten| unwritten.is_empty()) {
            return;
        }
    }
}

/// Writes the accounting now and then until `stop`.
async fn keep_accounts(counters: Arc<Counters>, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(ACCOUNTS_INTERVAL))
        .await
        .is_some()
    {
        let counters = counters.clone();
        let _ = tokio::task::spawn_blocking(move || save_accounts(&counters)).await;
    }
}

fn save_accounts(counters: &Counters) {
    if let Err(error) = counters.accounting().save() {
        counters.error(format!("the accounting could not be written: {error}"));
    }
}

fn lock_state(state: &Path) -> Result<File, NodeError> {
    let failed = |source| NodeError::State {
        path: state.to_owned(),
        source,
    };
    fs::create_dir_all(state).map_err(failed)?;
    let path = state.join("lock");
    // On a disk that has become read-only the one that is there will do.
    let lock = File::create(&path).or_else(|error| File::open(&path).map_err(|_| error));
    let lock = lock.map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {
            // `narswarm share` writes there too.
            let _ = remove_leftovers(state, LEFT_OVER);
            Ok(lock)
        }
        Err(TryLockError::WouldBlock) => Err(NodeError::Locked {
            path: state.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}
