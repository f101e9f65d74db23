//! Fetches single contents of the vault by version: the bases of merges, and contents that were overwritten.

use std::sync::Arc;

use obsync_client::{ClientError, Content, FetchFailure, FetchPool, PullRequest, Receiver};
use obsync_protocol::limits::MERGED_TEXT;
use obsync_protocol::{CONTENT_OVERHEAD, ContentHash, ContentHasher, Uid, VaultKeys, VaultPath};
use thiserror::Error;
use tokio::sync::mpsc;

use crate::destination::{Destination, DestinationError, Staged};
use crate::error::PullError;
use crate::model::{FileMeta, KnownContent};
use crate::run::Run;

/// A version of a file in the vault, with its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) uid: Uid,
    pub(crate) content: KnownContent,
}

impl Version {
    fn request(&self) -> PullRequest {
        let size = self.content.size.saturating_add(CONTENT_OVERHEAD);
        PullRequest { uid: self.uid, hash: self.content.hash, size }
    }
}

/// Collects a content in memory.
struct TextReceiver {
    keys: VaultKeys,
}

#[derive(Debug, Error)]
enum TextError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("it is damaged, or not what the vault lists")]
    Damaged,
}

impl Receiver for TextReceiver {
    type Job = Version;
    type Output = Vec<u8>;
    type Error = TextError;

    fn request(&self, version: &Version) -> PullRequest {
        version.request()
    }

    async fn receive(&self, version: &mut Version, content: &mut Content<'_>) -> Result<Vec<u8>, TextError> {
        let mut decryptor = self.keys.content_decryptor();
        let mut text = Vec::new();
        while let Some(piece) = content.next_piece().await? {
            if text.len() > MERGED_TEXT {
                return Err(TextError::Damaged);
            }
            decryptor.update(&piece, &mut text).map_err(|_| TextError::Damaged)?;
        }
        decryptor.finish().map_err(|_| TextError::Damaged)?;
        if KnownContent::of(&text) != version.content {
            return Err(TextError::Damaged);
        }
        Ok(text)
    }
}

impl Run<'_> {
    /// Fetches contents that are small enough to be merged, in order. `None` for each that is too large, or
    /// that the vault does not return (any more).
    pub(crate) async fn texts(
        &self,
        versions: Vec<Version>,
        after: u64,
    ) -> Result<Vec<Option<Vec<u8>>>, PullError> {
        let mut texts: Vec<Option<Vec<u8>>> = versions
            .iter()
            .map(|version| (version.content.hash == ContentHash::EMPTY).then(Vec::new))
            .collect();
        for (text, version) in texts.iter_mut().zip(&versions).filter(|(text, _)| text.is_none()) {
            let kept = self.state.text(&version.content.hash).await;
            *text = kept.filter(|text| KnownContent::of(text) == version.content);
        }
        let wanted: Vec<Version> = versions
            .iter()
            .zip(&texts)
            .filter(|(version, text)| text.is_none() && version.content.size <= MERGED_TEXT as u64)
            .map(|(version, _)| *version)
            .collect();
        let receiver = TextReceiver { keys: self.source.keys.clone() };
        for (version, text) in self.fetch(receiver, wanted, after).await? {
            // Without this text both versions are kept.
            let Ok(text) = text.inspect_err(|error| tracing::debug!(%error, "a version cannot be had"))
            else {
                continue;
            };
            let of = versions.iter().position(|other| *other == version);
            if let Some(place) = of.and_then(|at| texts.get_mut(at)) {
                *place = Some(text);
            }
        }
        // Two paths may want the same version.
        for (at, version) in versions.iter().enumerate() {
            if texts[at].is_none()
                && let Some(same) = versions.iter().position(|other| other == version)
            {
                texts[at] = texts[same].clone();
            }
        }
        Ok(texts)
    }
}

struct StagedReceiver {
    destination: Arc<dyn Destination>,
    keys: VaultKeys,
    path: VaultPath,
    meta: FileMeta,
}

#[derive(Debug, Error)]
enum StagedError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("it is damaged, or not what the vault lists")]
    Damaged,
    #[error(transparent)]
    Store(#[from] DestinationError),
}

impl Receiver for StagedReceiver {
    type Job = Version;
    type Output = Staged;
    type Error = StagedError;

    fn request(&self, version: &Version) -> PullRequest {
        version.request()
    }

    fn is_worth_another_try(&self, error: &StagedError) -> bool {
        !matches!(error, StagedError::Store(_))
    }

    async fn receive(&self, version: &mut Version, content: &mut Content<'_>) -> Result<Staged, StagedError> {
        let mut writer = self.destination.begin(&self.path, &self.meta).await?;
        let (mut decryptor, mut hasher) = (self.keys.content_decryptor(), ContentHasher::new());
        let mut received = 0;
        while let Some(piece) = content.next_piece().await? {
            let mut plain = Vec::with_capacity(piece.len());
            decryptor.update(&piece, &mut plain).map_err(|_| StagedError::Damaged)?;
            received += plain.len() as u64;
            if received > version.content.size {
                return Err(StagedError::Damaged);
            }
            hasher.update(&plain);
            content.keep_alive_while(writer.write(plain)).await?;
        }
        decryptor.finish().map_err(|_| StagedError::Damaged)?;
        if hasher.finish() != version.content.hash || received != version.content.size {
            return Err(StagedError::Damaged);
        }
        Ok(content.keep_alive_while(writer.finish()).await?)
    }
}

impl Run<'_> {
    /// Stages a version of any size for a path. `None` if the vault does not return it (any more), or it
    /// cannot be stored here.
    pub(crate) async fn stage_version(
        &self,
        version: Version,
        path: &VaultPath,
        times: (i64, i64),
        after: u64,
    ) -> Result<Option<Staged>, PullError> {
        let KnownContent { hash, size } = version.content;
        let meta = FileMeta { hash, size, mtime: times.0, ctime: times.1, uid: version.uid };
        if hash == ContentHash::EMPTY {
            return self.stage_empty(path, &meta).await;
        }
        let (destination, keys) = (self.destination.clone(), self.source.keys.clone());
        let receiver = StagedReceiver { destination, keys, path: path.clone(), meta };
        match self.fetch(receiver, vec![version], after).await?.pop() {
            Some((_, Ok(staged))) => Ok(Some(staged)),
            Some((
                _,
                Err(FetchFailure::Transport(error) | FetchFailure::Receiver(StagedError::Client(error))),
            )) if is_passing(&error) => Err(error.into()),
            Some((_, Err(FetchFailure::Receiver(StagedError::Store(error))))) if error.is_fatal() => {
                Err(error.into())
            }
            Some((_, Err(error))) => {
                tracing::debug!(%error, uid = version.uid.0, "a version cannot be had");
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// Stages an empty file. `None` if it cannot be stored here.
    async fn stage_empty(&self, path: &VaultPath, meta: &FileMeta) -> Result<Option<Staged>, PullError> {
        let staged = async { self.destination.begin(path, meta).await?.finish().await };
        match staged.await {
            Ok(staged) => Ok(Some(staged)),
            Err(error) if error.is_fatal() => Err(error.into()),
            Err(error) => {
                tracing::debug!(%error, uid = meta.uid.0, "a version cannot be had");
                Ok(None)
            }
        }
    }

    async fn fetch<R: Receiver<Job = Version>>(
        &self,
        receiver: R,
        wanted: Vec<Version>,
        after: u64,
    ) -> Result<Vec<(Version, Result<R::Output, FetchFailure<R::Error>>)>, PullError> {
        let count = wanted.len();
        if count == 0 {
            return Ok(Vec::new());
        }
        let (jobs, job_queue) = mpsc::channel(wanted.len());
        let (results, mut result_queue) = mpsc::channel(wanted.len());
        for version in wanted {
            // The channel has room for all of them.
            let _ = jobs.try_send(version);
        }
        drop(jobs);
        let pool = FetchPool {
            client: self.source.client.clone(),
            target: self.target(),
            version: after,
            options: self.options.fetch.clone(),
            receiver: Arc::new(receiver),
            jobs: job_queue,
            results,
            cancel: self.stop.clone(),
            first_session: None,
        };
        pool.run().await?;
        let mut fetched = Vec::with_capacity(count);
        while let Some(result) = result_queue.recv().await {
            fetched.push((result.job, result.outcome));
        }
        if fetched.len() < count && self.stop.is_cancelled() {
            // A content that was not requested may still exist.
            return Err(DestinationError::Stopped { location: self.source.vault.name.clone() }.into());
        }
        Ok(fetched)
    }
}

/// True if a later run may get a content that this one could not. A damaged content, or one that never
/// arrives, is not waited for.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::Overloaded
        | ClientError::ConnectionLost { .. }
        | ClientError::NoAddress { .. }
        | ClientError::Proxy { .. }
        | ClientError::Http { .. } => error.is_retryable(),
        _ => error.ends_run(),
    }
}
