//! The configuration of a running node, read again: what can change changes at once, the rest is named and waits for a
//! restart, and a file that is refused leaves everything as it was.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::follow::Channels;
use crate::runtime::Counters;
use crate::substitute::Substituter;
use crate::swarm::{Share, Swarm, SwarmOptions};

use super::node::NodeError;
use super::options::NodeOptions;
use super::share_file::ShareFile;

/// How often the choice of `narswarm share` is looked at: one small read.
const SHARE_INTERVAL: Duration = Duration::from_secs(1);

/// A configuration that was read, or why it is refused; answered when it is in force.
pub type Reload = (Result<NodeOptions, String>, oneshot::Sender<()>);

/// What a configuration reaches.
pub struct Parts {
    pub swarm: Arc<Swarm>,
    pub channels: Arc<Channels>,
    pub substituter: Option<Arc<Substituter>>,
    pub counters: Arc<Counters>,
    pub tasks: TaskTracker,
}

pub struct Configured {
    started_with: NodeOptions,
    /// The newest that were not refused.
    swarm: SwarmOptions,
    warnings: Vec<String>,
    chosen: Option<Share>,
    share_file: ShareFile,
    parts: Parts,
    view: Arc<RwLock<ConfigView>>,
}

/// How `status` shows it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ConfigView {
    /// Why the file as it is now is not in force.
    pub error: Option<String>,
    /// Keys that have another value in the file than in this run.
    pub needs_restart: Vec<&'static str>,
    /// What the file says.
    pub share: &'static str,
    /// What `narswarm share` chose instead.
    pub share_chosen: Option<&'static str>,
    /// What the file allows but probably does not mean.
    pub warnings: Vec<String>,
}

impl Configured {
    /// Of a node that was started with these options and this choice.
    pub fn new(options: NodeOptions, chosen: Option<Share>, parts: Parts) -> Self {
        let configured = Self {
            swarm: options.swarm.clone(),
            warnings: options.warnings.clone(),
            chosen,
            share_file: ShareFile::new(&options.state),
            started_with: options,
            parts,
            view: Arc::default(),
        };
        configured.show(None, vec![]);
        configured
    }

    pub fn view(&self) -> Arc<RwLock<ConfigView>> {
        self.view.clone()
    }

    /// Takes over what is read, and what `narswarm share` chooses, until `stop`.
    pub async fn follow(mut self, mut reloads: mpsc::Receiver<Reload>, stop: CancellationToken) {
        let mut looks = interval(SHARE_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some((read, done)) = reloads.recv() => {
                    self.reload(read).await;
                    // Whoever asked may be gone.
                    let _ = done.send(());
                }
                _ = looks.tick() => self.look_at_choice().await,
            }
        }
    }

    async fn reload(&mut self, read: Result<NodeOptions, String>) {
        let taken = match read {
            Ok(options) => self.take_over(options).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        self.apply().await;
        match taken {
            Ok(waiting) => {
                tracing::info!("the configuration was read again");
                if !waiting.is_empty() {
                    tracing::warn!("restart narswarm for the new {}", waiting.join(", "));
                }
                self.show(None, waiting);
            }
            Err(error) => {
                tracing::error!("the configuration is refused, the one before stays: {error}");
                self.show(Some(error), vec![]);
            }
        }
    }

    async fn look_at_choice(&mut self) {
        let chosen = match self.share_file.read() {
            Ok(chosen) => chosen,
            // Told when it happened.
            Err(_) if self.chosen == Some(Share::Off) => return,
            Err(_) => self.share_file.read_or_off(&self.parts.counters),
        };
        if chosen == self.chosen {
            return;
        }
        self.chosen = chosen;
        self.apply().await;
        tracing::info!(
            share = self.parts.swarm.share().as_str(),
            "whom this machine serves was changed"
        );
        let view = self
            .view
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        self.show(view.error, view.needs_restart);
    }

    /// What the swarm may change at once. Announces are made anew: whom they may reach depends on it.
    async fn apply(&self) {
        let parts = &self.parts;
        parts
            .swarm
            .reconfigure(self.swarm.clone().chosen(self.chosen));
        if let Err(error) = parts.swarm.announce(&parts.channels.topics()).await {
            parts.counters.error(error.to_string());
        }
    }

    /// The keys that wait for a restart.
    fn take_over(&mut self, options: NodeOptions) -> Result<Vec<&'static str>, NodeError> {
        let waiting = self.started_with.needing_restart(&options);
        let substituter = self.parts.substituter.as_ref();
        let caches = substituter
            .map(|substituter| substituter.prepare(options.upstreams, options.keys))
            .transpose()?;
        self.parts
            .channels
            .reconfigure(&options.channels, &self.parts.tasks)?;
        // From here on nothing fails: all of it is in force, or nothing.
        if let (Some(substituter), Some(caches)) = (substituter, caches) {
            substituter.reconfigure(caches);
        }
        self.swarm = options.swarm;
        self.warnings = options.warnings;
        Ok(waiting)
    }

    fn show(&self, error: Option<String>, needs_restart: Vec<&'static str>) {
        let view = ConfigView {
            error,
            needs_restart,
            share: self.swarm.share.as_str(),
            share_chosen: self.chosen.map(Share::as_str),
            warnings: self.warnings.clone(),
        };
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
    }
}
