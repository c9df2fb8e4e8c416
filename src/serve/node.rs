//! A node: an agent (with a shim for Nix) or a seedbox, put together from its options and run until it is told to stop.

use std::fs::{self, File, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{InfoDicts, InfoDictsError, Offers};
use crate::follow::{ChannelOptions, Channels, FollowError};
use crate::nix::TrustedKeys;
use crate::payload;
use crate::runtime::Counters;
use crate::store::{Store, StoreError, StoreUri};
use crate::substitute::{Substituter, SubstituterParts};
use crate::swarm::{Swarm, SwarmError, SwarmOptions};
use crate::upstream::{UpstreamError, UpstreamOptions};

use super::router::{Shim, router};
use super::run_file::RunFile;
use super::status::StatusReport;

/// How often the store's database is looked at for a change: two stats. What Nix has just installed is offered soon.
const STORE_INTERVAL: Duration = Duration::from_secs(2);
/// Transfers get this long to notice that the program stops.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Agent,
    Seedbox,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Seedbox => "seedbox",
        }
    }
}

pub struct NodeOptions {
    pub role: Role,
    pub state: PathBuf,
    /// Where the HTTP side listens: an agent's shim, a seedbox's status.
    pub shim: SocketAddr,
    /// A socket that is bound already; then `shim` is not.
    pub shim_socket: Option<std::net::TcpListener>,
    /// The store whose installed paths are offered (and served to Nix, by an agent).
    pub store: Option<StoreUri>,
    pub swarm: SwarmOptions,
    pub channels: Vec<ChannelOptions>,
    pub upstreams: Vec<UpstreamOptions>,
    /// Keys whose signatures make a row worth serving to Nix.
    pub keys: TrustedKeys,
}

#[derive(Debug, Error)]
pub enum NodeError {
    #[error("cannot use the state directory {path}: {source}")]
    State { path: PathBuf, source: io::Error },
    #[error(
        "another narswarm runs with the state directory {path}: stop it, or give this one its own `state`"
    )]
    Locked { path: PathBuf },
    #[error(
        "cannot listen on {address} for Nix: {source}. Is another agent running, or [shim] listen wrong?"
    )]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    InfoDicts(#[from] InfoDictsError),
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
    state: PathBuf,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Held as long as the node lives.
    _lock: File,
}

impl Node {
    /// Returns when the node serves: the catalog that was kept is loaded, both ports are bound.
    pub async fn start(options: NodeOptions) -> Result<Self, NodeError> {
        let started = Instant::now();
        let lock = lock_state(&options.state)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let counters = Arc::new(Counters::default());
        let encoder_off = payload::self_test().err().map(|error| error.to_string());
        if let Some(reason) = &encoder_off {
            counters.error(format!("installed paths are not seeded: {reason}"));
        }
        let store = match options.store {
            Some(StoreUri::Local { root }) => Some(Store::open(root.as_deref())?),
            _ => None,
        };
        let offers = Arc::new(Offers::new(store));
        let infos = Arc::new(InfoDicts::open(&options.state.join("info.sqlite"))?);
        let swarm = Swarm::start(
            options.swarm,
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
        let recreating = encoder_off.is_none();
        if recreating || options.role == Role::Agent {
            read_installed(&offers, &counters, &mut None).await;
        }
        let substituter = match options.role {
            Role::Seedbox => None,
            Role::Agent => {
                let parts = SubstituterParts {
                    offers: offers.clone(),
                    downloads: Some(swarm.downloads().clone()),
                    upstreams: options.upstreams,
                    keys: options.keys,
                    counters: counters.clone(),
                };
                Some(Arc::new(Substituter::new(parts)?))
            }
        };
        let listener = match options.shim_socket {
            Some(socket) => adopt(socket),
            None => TcpListener::bind(options.shim).await,
        };
        let listener = listener.map_err(|source| NodeError::Listen {
            address: options.shim,
            source,
        })?;
        let address = listener.local_addr().map_err(|source| NodeError::Listen {
            address: options.shim,
            source,
        })?;
        let status = Arc::new(StatusReport {
            role: options.role.as_str(),
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
        channels.follow(&tasks);
        if let Err(error) = swarm.announce(&channels.topics()).await {
            counters.error(error.to_string());
        }
        let run_file = RunFile {
            event: "ready".to_owned(),
            role: options.role.as_str().to_owned(),
            shim: address,
            peer: swarm.address(),
            pid: std::process::id(),
        };
        run_file
            .write(&options.state)
            .map_err(|source| NodeError::State {
                path: options.state.clone(),
                source,
            })?;
        Ok(Self {
            run_file,
            state: options.state,
            tasks,
            stop,
            _lock: lock,
        })
    }

    /// Where it serves; also its ready line.
    pub fn run_file(&self) -> &RunFile {
        &self.run_file
    }

    /// Ends all tasks, with a little patience for those in the middle of something.
    pub async fn stop(self) {
        RunFile::remove(&self.state);
        self.stop.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(STOP_PATIENCE, self.tasks.wait()).await;
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The shim's listener with Nagle off: a narinfo is one small write.
struct NoDelay(TcpListener);

impl axum::serve::Listener for NoDelay {
    type Io = tokio::net::TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.0.accept().await {
                Ok((stream, address)) => {
                    let _ = stream.set_nodelay(true);
                    return (stream, address);
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection of Nix");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// A socket from systemd as one of ours.
fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

fn lock_state(state: &Path) -> Result<File, NodeError> {
    let failed = |source| NodeError::State {
        path: state.to_owned(),
        source,
    };
    fs::create_dir_all(state).map_err(failed)?;
    let lock = File::create(state.join("lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(NodeError::Locked {
            path: state.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Keeps what is installed up to date until `stop`.
async fn watch_store(offers: Arc<Offers>, counters: Arc<Counters>, stop: CancellationToken) {
    let mut seen = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STORE_INTERVAL) => {}
        }
        read_installed(&offers, &counters, &mut seen).await;
    }
}

/// Reads the whole table of valid paths when the database has changed since `seen`.
async fn read_installed(
    offers: &Arc<Offers>,
    counters: &Arc<Counters>,
    seen: &mut Option<crate::store::Generation>,
) {
    let Some(store) = offers.store().cloned() else {
        return;
    };
    let before = seen.clone();
    let read = tokio::task::spawn_blocking(move || {
        let generation = store.generation();
        if before.as_ref() == Some(&generation) {
            return Ok(None);
        }
        let installed = match store.has_database() {
            true => store.valid_hashes()?,
            false => vec![],
        };
        Ok::<_, StoreError>(Some((generation, installed)))
    });
    match read.await {
        Ok(Ok(Some((generation, installed)))) => {
            offers.set_installed(installed);
            *seen = Some(generation);
        }
        Ok(Ok(None)) | Err(_) => {}
        Ok(Err(error)) => counters.error(format!("the store: {error}")),
    }
}
