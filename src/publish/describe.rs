//! Describes the NARs of a release in parallel: hash checked, payload made, info dict kept for a run that resumes.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use futures_util::stream::{StreamExt, TryStreamExt};

use crate::catalog::InfoDicts;
use crate::payload::{self, Described};
use crate::runtime::{NewFile, Readers};
use crate::store::PathInfo;
use crate::torrent::InfoDict;

use super::error::PublishError;
use super::progress::Progress;
use super::source::PathSource;

/// What describing needs beside the paths.
pub struct Describer<'a> {
    pub source: &'a PathSource,
    pub infos: Arc<InfoDicts>,
    pub payloads: Option<Arc<Path>>,
    pub progress: Arc<dyn Progress + Send + Sync>,
}

impl Describer<'_> {
    /// The info dict of every path, in the order of `paths`.
    pub async fn describe_all(&self, paths: &[&PathInfo]) -> Result<Vec<InfoDict>, PublishError> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let described = futures_util::stream::iter(paths).map(|info| self.describe(info));
        described.buffered(workers).try_collect().await
    }

    async fn describe(&self, info: &PathInfo) -> Result<InfoDict, PublishError> {
        let nar = self.source.nar(&info.store_path).await?;
        let (info, infos) = (info.clone(), self.infos.clone());
        let (payloads, progress) = (self.payloads.clone(), self.progress.clone());
        let work = move || {
            let mut nar = Counted {
                inner: nar,
                progress: progress.as_ref(),
            };
            let described = match &payloads {
                None => run(&mut nar, &info, |_| Ok(()))?,
                Some(directory) => write_payload(&mut nar, &info, directory)?,
            };
            infos.put(&described.info)?;
            progress.path_done();
            Ok(described.info)
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| PublishError::Worker)?
    }
}

fn run(
    nar: &mut impl Read,
    info: &PathInfo,
    sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Described, PublishError> {
    let path = || info.store_path.clone();
    let described = payload::describe(nar, info.nar_size, sink);
    let described = described.map_err(|source| PublishError::Describe {
        path: path(),
        source,
    })?;
    if described.nar_hash != info.nar_hash {
        return Err(PublishError::NarHash {
            path: path(),
            expected: info.nar_hash,
            found: described.nar_hash,
        });
    }
    Ok(described)
}

/// The payload appears under its name only when its NAR had the right hash.
fn write_payload(
    nar: &mut impl Read,
    info: &PathInfo,
    directory: &Path,
) -> Result<Described, PublishError> {
    let failed = |source| PublishError::Io {
        action: "write a payload to",
        path: directory.to_owned(),
        source,
    };
    fs::create_dir_all(directory).map_err(failed)?;
    let mut file = NewFile::create_in(directory).map_err(failed)?;
    let described = run(nar, info, |frame| file.write_all(frame))?;
    let to = directory.join(&described.info.name);
    file.keep_as(&to, Readers::Everybody).map_err(failed)?;
    Ok(described)
}

/// Tells the progress of every read.
struct Counted<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.progress.read(n as u64);
        Ok(n)
    }
}
