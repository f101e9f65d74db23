//! Publishes staged contents, many at a time, each by one atomic request.
//!
//! Objects in the way are examined first. Where obsync expects no object, it writes on the condition that
//! there is none; where it knows a version, on the condition that it is still that version. So a simultaneous
//! write by others is detected, examined again, and kept. Where the service [ignores
//! conditions](super::conditions), a write after the last look goes undetected.
//!
//! An object in the way:
//!
//! - has the new content, or the one to be replaced: it is replaced.
//! - is anything else: it stays, and the engine decides. The engine gets the content where that was read, and
//!   the version where the metadata says that it is one of this vault's.

use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{Attributes, UpdateVersion};
use obsync_core::{
    DestinationError, Expect, FileMeta, KnownContent, LocalFacts, Publication, PublicationContent,
    PublishFailure, Published, Staged,
};
use obsync_protocol::{Uid, VaultId, VaultPath};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::conditions::Conditional;
use super::context::Context;
use super::error::{Kind, RequestError};
use super::error_context::{Action, again};
use super::guard::Guard;
use super::metadata::{self, Facts};
use super::object_cache::Occupant;
use super::queue::{Done, Order, Queue, Rest};
use super::refusal::Next;
use super::staging::{Original, Stage};

/// Attempts at a publication while somebody else keeps changing the object at its path.
const ATTEMPTS: usize = 8;
/// Number of contradictory answers (an object exists, but is not shown) after which no condition is sent.
const CONTRADICTIONS: u32 = 2;

type PutResult = Result<Published, PublishFailure>;

/// Publishes a batch. Answers in order. Once `stop` is cancelled nothing more is begun (or nothing after [a
/// set time](super::BucketOptions::begins_until)), and requests under way have [some
/// time](super::BucketOptions::grace) to end.
///
/// Unpublished contents are not staged any more: they would take memory until the end of the run.
pub(super) async fn publish(
    context: &Context,
    batch: Vec<Publication>,
    stop: &CancellationToken,
) -> Vec<PutResult> {
    if let Err(error) = context.park_originals(batch.iter().map(Publication::path)).await {
        return batch.into_iter().map(|publication| failure(publication, again(&error))).collect();
    }
    let begun = Instant::now();
    let fatal: OnceLock<DestinationError> = OnceLock::new();
    let mut queue = Queue::new(batch);
    let (mut under_way, mut answers, mut parked) = (FuturesUnordered::new(), Vec::new(), Vec::new());
    loop {
        // The allowed number changes meanwhile. Requests already begun are not stopped any more.
        let more = context.traffic.at_a_time().saturating_sub(under_way.len());
        under_way.extend(queue.take(more).map(|order| publish_unless(&fatal, stop, context, order)));
        let Some(done) = under_way.next().await else { break };
        if let Some((handle, stage)) = done.further {
            queue.go_on(context, handle, stage);
        }
        parked.extend(done.parked);
        answers.push((done.index, done.answer));
    }
    context.discard_parked(parked).await;
    context.traffic.note_publishing(begun.elapsed());
    answers.sort_unstable_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn failure(publication: Publication, error: DestinationError) -> PutResult {
    Err(PublishFailure { publication: Box::new(publication), error })
}

/// Publishes one file, unless the run has ended.
async fn publish_unless(
    fatal: &OnceLock<DestinationError>,
    stop: &CancellationToken,
    context: &Context,
    order: Order,
) -> Done {
    let Order { index, mut publication, stage } = order;
    let handle = match &publication.content {
        PublicationContent::CopyOfStaged(staged) => Some(staged.handle.clone()),
        PublicationContent::Staged(_) | PublicationContent::InPlace { .. } => None,
    };
    let mut rest = Rest::default();
    let outcome = match fatal.get() {
        Some(error) => Err(again(error)),
        None => publish_until(stop, context, &mut publication, stage, &mut rest).await,
    };
    if let Err(error) = &outcome
        && error.is_fatal()
    {
        fatal.get_or_init(|| again(error));
    }
    let answer = outcome.or_else(|error| failure(publication, error));
    Done { index, answer, further: handle.map(|handle| (handle, rest.further)), parked: rest.parked }
}

async fn publish_until(
    stop: &CancellationToken,
    context: &Context,
    publication: &mut Publication,
    stage: Option<Stage>,
    rest: &mut Rest,
) -> Result<Published, DestinationError> {
    let begins_until = context.options.begins_until;
    if stop.is_cancelled() && begins_until.is_none_or(|until| until <= Instant::now()) {
        return Err(context.errors.stopped());
    }
    let too_late = async {
        stop.cancelled().await;
        match begins_until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => tokio::time::sleep(context.options.grace).await,
        }
    };
    tokio::select! {
        biased;
        outcome = publish_one(context, publication, stage, rest) => outcome,
        () = too_late => Err(context.errors.stopped()),
    }
}

async fn publish_one(
    context: &Context,
    publication: &mut Publication,
    stage: Option<Stage>,
    rest: &mut Rest,
) -> Result<Published, DestinationError> {
    let (staged, stays) = match &mut publication.content {
        PublicationContent::InPlace { path, meta } => {
            let facts = touch(context, path, meta).await?;
            return Ok(Published { facts });
        }
        PublicationContent::Staged(staged) => (staged, false),
        PublicationContent::CopyOfStaged(staged) => (staged, true),
    };
    let stage = stage.or_else(|| context.stages.take(&staged.handle)).ok_or_else(|| {
        context.errors.io(Action::Write, staged.path.as_str(), "nothing is staged for it any more")
    })?;
    let key = context.keys.of(&staged.path)?;
    let is_new = stage.is_new();
    let mut place = Place { context, staged, key, stage };
    let outcome = place.take(&publication.expect).await;
    if is_new && outcome.is_ok() {
        context.traffic.count_published();
    }
    let Place { key, stage, .. } = place;
    if stays {
        rest.further = match &outcome {
            Ok(published) => Some(original(context, staged, key, published)),
            Err(_) => stage.share(),
        };
    }
    match &outcome {
        // The engine may try again.
        Err(DestinationError::Changed { .. }) => {
            let again = Staged { handle: context.stages.put(stage), ..staged.clone() };
            publication.content = PublicationContent::Staged(again);
        }
        _ => rest.parked = stage.into_parked(),
    }
    outcome
}

/// A published file, as an original for copies.
fn original(context: &Context, staged: &Staged, key: Path, published: &Published) -> Stage {
    let e_tag = match &published.facts {
        Some(LocalFacts::Object { entity_tag, .. }) => Some(entity_tag.clone()),
        _ => None,
    };
    let Staged { path, meta, .. } = staged.clone();
    let facts = Facts::of_written(UpdateVersion { e_tag, version: None }, &meta, context.vault());
    Stage::Original(Box::new(Original { key, facts, path, meta }))
}

/// Updates the metadata of an object that has the content already. Returns its facts.
async fn touch(
    context: &Context,
    path: &VaultPath,
    meta: &FileMeta,
) -> Result<Option<LocalFacts>, DestinationError> {
    let key = context.keys.of(path)?;
    let attributes = context.attributes(path, meta);
    for _ in 0..ATTEMPTS {
        let Occupant::Object(facts) = context.recall(path, &key).await? else {
            break;
        };
        if facts.is_exactly(meta, context.vault()) {
            return Ok(local_facts(&facts.version, facts.size));
        }
        if !context.has(path, &key, &facts, KnownContent::from(meta)).await? {
            break;
        }
        let guard = Guard::Version(facts.version.clone());
        context.cache.forget(path);
        match context.objects.copy(&key, &facts.version, &key, Some(&attributes), &guard).await {
            Ok(version) => return Ok(context.wrote(path, &key, version, meta)),
            // It may have been this very request, whose first answer was lost: looking again shows that.
            Err(error) if error.is_conflict() || error.is_missing_object() => {}
            // The content is right already, and cannot be read here to write it once more.
            Err(error) if error.next() == Some(Next::AnotherWay) => {
                context.objects.warn(format!(
                    "objects that the service neither copies nor gives out keep the times that they had ({})",
                    error.said()
                ));
                return Ok(local_facts(&facts.version, facts.size));
            }
            Err(error) => return Err(context.write_failed(path, &error).await),
        }
    }
    // With the content from the vault, the present object is examined, and kept beside if it is a user's.
    let changed = RequestError::without_answer(Kind::Other, "it was changed or removed meanwhile");
    Err(context.content_needed(path, &changed).await)
}

/// The decision about the object at the path of a publication.
enum Verdict {
    /// There is nothing.
    Free,
    /// It is exactly the published object already.
    Done,
    /// It may be replaced: it is the expected one, or has the content already.
    Replace(UpdateVersion),
    /// It is not the expected one. Its content, if known, and the version of this vault that its metadata
    /// names.
    Unexpected { found: Option<KnownContent>, version: Option<Uid> },
}

/// A staged content being published. (It is `Send` but not `Sync`, because an upload is not: so its methods
/// all take it mutably.)
struct Place<'a> {
    context: &'a Context,
    staged: &'a Staged,
    key: Path,
    stage: Stage,
}

impl Place<'_> {
    async fn take(&mut self, expect: &Expect) -> Result<Published, DestinationError> {
        let Staged { path, meta, .. } = self.staged;
        let mut remembered = self.remembered(expect).await?;
        // Refusals of the condition that there is no object, right after none was found.
        let mut contradictions = 0;
        let mut last = None;
        for _ in 0..ATTEMPTS {
            let was_remembered = remembered.is_some();
            let found = match remembered.take() {
                Some(found) => found,
                None => self.context.look(path, &self.key).await?,
            };
            let guard = match self.judge(&found, expect).await? {
                // The condition of a write detects a stale cache; nothing else does.
                Some(Verdict::Done | Verdict::Unexpected { .. }) if was_remembered => continue,
                Some(Verdict::Done) => {
                    let facts = found.facts().and_then(|facts| local_facts(&facts.version, facts.size));
                    return Ok(Published { facts });
                }
                None => continue,
                // versitygw takes a delete marker for an object, which S3 does not: the look has to do.
                Some(Verdict::Free) if contradictions >= CONTRADICTIONS => Guard::Anything,
                Some(Verdict::Free) => Guard::Nothing,
                Some(Verdict::Replace(version)) => Guard::Version(version),
                Some(Verdict::Unexpected { found, version }) => {
                    return Err(self.context.errors.changed(path, found, version));
                }
            };
            self.context.cache.forget(path);
            match self.write(&guard).await {
                Ok(version) => {
                    let facts = self.context.wrote(path, &self.key, version, meta);
                    return Ok(Published { facts });
                }
                Err(error) if self.needs_content(&error) => {
                    return Err(self.context.content_needed(path, &error).await);
                }
                Err(error) if error.is_conflict() || error.is_missing_object() => {
                    contradictions += u32::from(matches!(guard, Guard::Nothing) && !was_remembered);
                    self.check_original(&error).await?;
                    last = Some(error);
                }
                Err(error) => return Err(self.context.write_failed(path, &error).await),
            }
        }
        Err(match last {
            Some(error) => self.context.failed(Action::Write, path, &error.into_hopeless()),
            None => self.context.errors.io(Action::Write, path.as_str(), "another program keeps changing it"),
        })
    }

    /// The occupant to start with, without looking: the cached one, or an assumption that the condition of
    /// the write verifies.
    async fn remembered(&mut self, expect: &Expect) -> Result<Option<Occupant>, DestinationError> {
        let context = self.context;
        let supposed_free = (*expect == Expect::Absent).then_some(Occupant::Nothing);
        let path = &self.staged.path;
        let recorded = context.recorded.take(path);
        let supposed = context.cache.get(path).or(recorded).or(supposed_free);
        let is_free = matches!(supposed, Some(Occupant::Nothing));
        let kind = match &self.stage {
            Stage::Content { .. } if is_free => Conditional::Create,
            Stage::Content { .. } => Conditional::Replace,
            Stage::Original(_) | Stage::Parked(..) if is_free => Conditional::CopyNew,
            Stage::Original(_) | Stage::Parked(..) => Conditional::CopyOver,
            Stage::Upload { .. } if is_free => Conditional::CompleteNew,
            Stage::Upload { .. } => Conditional::CompleteOver,
            Stage::Lost(_) => return Ok(None),
        };
        let fresh = context.fresh.load(Ordering::Relaxed);
        if !fresh {
            let found_out = self.find_out_about(kind).await;
            found_out.map_err(|error| context.failed(Action::Write, &self.staged.path, &error))?;
        }
        // Without conditions a change since would go undetected. A look costs little beside an upload.
        if matches!(self.stage, Stage::Upload { .. }) || !fresh && !context.objects.keeps(kind) {
            return Ok(None);
        }
        Ok(supposed)
    }

    /// Probes whether the service honours conditions of such a write, unless that is known.
    #[cfg(feature = "s3")]
    async fn find_out_about(&mut self, kind: Conditional) -> Result<(), RequestError> {
        let (objects, probe) = (&self.context.objects, self.context.keys.of_probe());
        if matches!(self.stage, Stage::Upload { .. }) {
            return objects.find_out_about_uploads(kind, &probe).await;
        }
        let from = copied_from(&self.stage).map(|(from, _)| from);
        objects.find_out_about(kind, from, &probe).await
    }

    #[cfg(not(feature = "s3"))]
    async fn find_out_about(&mut self, _kind: Conditional) -> Result<(), RequestError> {
        Ok(())
    }

    /// True if the staged content is unusable, so that it must come from the vault: it cannot be copied here,
    /// or its parts are gone.
    fn needs_content(&self, error: &RequestError) -> bool {
        let is_gone = matches!(self.stage, Stage::Upload { .. }) && error.kind == Kind::Missing;
        is_gone || matches!(self.stage, Stage::Lost(_)) || error.next() == Some(Next::AnotherWay)
    }

    /// `None`: the object has changed meanwhile.
    async fn judge(
        &mut self,
        occupant: &Occupant,
        expect: &Expect,
    ) -> Result<Option<Verdict>, DestinationError> {
        let Some(facts) = occupant.facts() else {
            return Ok(Some(Verdict::Free));
        };
        let meta = &self.staged.meta;
        if facts.is_exactly(meta, self.context.vault()) {
            return Ok(Some(Verdict::Done));
        }
        if matches!(expect, Expect::Version(kept) if facts.version.e_tag.as_ref() == Some(kept)) {
            return Ok(Some(Verdict::Replace(facts.version.clone())));
        }
        let known: Vec<KnownContent> =
            [Some(KnownContent::from(meta)), expect.content()].into_iter().flatten().collect();
        let is = |facts: &Facts, answer| known.iter().any(|known| facts.is_content(*known) == answer);
        let mut facts = facts.clone();
        // Reading is worthwhile only if it can be the new content or obsync's last one.
        let may_be_ours = facts.metadata.is_some() || is(&facts, None);
        if facts.content().is_none() && !is(&facts, Some(true)) && may_be_ours {
            let content = self.context.content_of(&self.staged.path, &self.key, &facts).await?;
            let Some(content) = content else { return Ok(None) };
            facts = facts.with_content(content);
        }
        if is(&facts, Some(true)) {
            return Ok(Some(Verdict::Replace(facts.version)));
        }
        let found = facts.content().map(|hash| KnownContent { hash, size: facts.size });
        let ours = facts.proven_metadata().filter(|metadata| metadata.vault.as_ref() == self.context.vault());
        Ok(Some(Verdict::Unexpected { found, version: ours.map(|metadata| metadata.uid) }))
    }

    async fn write(&mut self, guard: &Guard) -> Result<UpdateVersion, RequestError> {
        let Staged { path, meta, .. } = self.staged;
        let objects = &self.context.objects;
        let attributes = self.context.attributes(path, meta);
        match &mut self.stage {
            Stage::Content { payload, .. } => {
                objects.put(&self.key, payload.clone(), Some(meta.hash), attributes, guard).await
            }
            Stage::Upload { key, .. } if *key != self.key => {
                Err(RequestError::without_answer(Kind::Missing, "it was uploaded for another path"))
            }
            Stage::Upload { upload, .. } => match objects.complete(upload, guard).await {
                Ok(version) => Ok(version),
                // The answer may be lost although the upload is complete.
                Err(error) => match objects.head(&self.key).await {
                    Ok(Some(facts)) if facts.is_exactly(meta, self.context.vault()) => Ok(facts.version),
                    _ => Err(error),
                },
            },
            stage @ (Stage::Original(_) | Stage::Parked(..)) => match copied_from(stage) {
                Some((from, facts)) => {
                    objects.copy(from, &facts.version, &self.key, Some(&attributes), guard).await
                }
                None => Err(RequestError::without_answer(Kind::Missing, "there is nothing to copy")),
            },
            Stage::Lost(error) => Err(error.clone()),
        }
    }

    /// After a conflict: an error if the original of a copy changed, and not the object at the copy's place.
    async fn check_original(&mut self, error: &RequestError) -> Result<(), DestinationError> {
        let Some((from, facts)) = copied_from(&self.stage) else { return Ok(()) };
        let found = match self.context.objects.head(from).await {
            Ok(found) => found,
            Err(error) => return Err(self.context.look_failed(&self.staged.path, &error).await),
        };
        if found.is_some_and(|found| found.version.e_tag == facts.version.e_tag) && error.is_conflict() {
            return Ok(());
        }
        let reason = "the file that it was to be a copy of was changed meanwhile";
        let error = RequestError::without_answer(Kind::Other, reason);
        Err(self.context.content_needed(&self.staged.path, &error).await)
    }
}

/// The original that a content is copied from.
fn copied_from(stage: &Stage) -> Option<(&Path, &Facts)> {
    match stage {
        Stage::Original(original) => Some((&original.key, &original.facts)),
        Stage::Parked(key, facts) => Some((key, facts)),
        Stage::Content { .. } | Stage::Upload { .. } | Stage::Lost(_) => None,
    }
}

impl Context {
    /// The attributes of a file's object.
    pub(super) fn attributes(&self, path: &VaultPath, meta: &FileMeta) -> Attributes {
        metadata::attributes(path, meta, self.vault(), self.options.storage_class.as_deref())
    }

    /// The vault whose files are written, if known.
    pub(super) fn vault(&self) -> Option<&VaultId> {
        self.options.vault.as_ref()
    }

    /// Records the object written at a path. Returns its facts.
    fn wrote(
        &self,
        path: &VaultPath,
        key: &Path,
        version: UpdateVersion,
        meta: &FileMeta,
    ) -> Option<LocalFacts> {
        let facts = local_facts(&version, meta.size);
        self.errors.wrote();
        self.listing.wrote(key, meta.size);
        // Without a version no request can be conditional on it.
        match version.e_tag {
            Some(_) => self
                .cache
                .put(path, Occupant::Object(Box::new(Facts::of_written(version, meta, self.vault())))),
            None => self.cache.forget(path),
        }
        facts
    }
}

/// The facts that the engine records of an object; none without an entity tag.
fn local_facts(version: &UpdateVersion, size: u64) -> Option<LocalFacts> {
    let entity_tag = version.e_tag.clone()?;
    Some(LocalFacts::Object { size, entity_tag })
}
