//! The objects of one bucket: its few operations, each one request where the service allows.

#[cfg(feature = "s3")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream::{BoxStream, TryStreamExt};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, GetOptions, ObjectStore, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    UpdateVersion,
};
use obsync_protocol::{ContentHash, ContentHasher, limits};
use tokio_util::task::TaskTracker;

use super::conditions::{Conditional, Conditions, Sent, Standing};
use super::error::{Kind, RequestError};
use super::guard::Guard;
use super::http::is_html;
use super::metadata::Facts;
use super::options::BucketOptions;
use super::refusal::{Next, Operation};
use super::retries::Retries;
#[cfg(feature = "s3")]
use super::s3::{self, Maker, Pages, S3};
use super::upload::{Open, Upload};
use obsync_core::blocking::lock;

/// Concurrent removals of single objects.
#[cfg(feature = "s3")]
const SINGLES: usize = 16;

/// Most objects in one removal request (S3 API reference, DeleteObjects).
const DELETE_MAX: usize = 1000;

/// An object to be removed.
#[derive(Clone, Debug)]
pub(super) struct Doomed {
    pub(super) key: Path,
    /// The version to remove; `None`: any.
    #[cfg_attr(not(feature = "s3"), expect(dead_code, reason = "the library has no condition for removals"))]
    pub(super) version: Option<UpdateVersion>,
}

/// One object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) key: String,
    /// Bytes of its content.
    pub(super) size: u64,
    /// The entity tag, if the service lists it.
    pub(super) e_tag: Option<String>,
    /// When it was written, if the service lists it.
    pub(super) modified: Option<Timestamp>,
}

/// An upload that was begun and neither completed nor aborted, by anyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OpenUpload {
    pub(super) key: Path,
    pub(super) id: String,
    pub(super) begun: Timestamp,
}

/// True if a time is at least `age` ago. With an `age` of zero always true, even if the service's clock is
/// ahead of ours.
pub(super) fn is_older(time: Timestamp, age: Duration) -> bool {
    let now = Timestamp::now();
    age.is_zero() || time <= now && time.duration_until(now).unsigned_abs() >= age
}

fn has_html(attributes: &Attributes) -> bool {
    attributes.get(&Attribute::ContentType).is_some_and(|kind| is_html(kind))
}

/// True if an answer has the requested version, or none was requested. Services write an entity tag with or
/// without quotes, and as a weak one where they compress.
fn is_same_version(asked: Option<&str>, answered: Option<&str>) -> bool {
    let bare = |tag: &str| tag.trim_start_matches("W/").trim_matches('"').to_owned();
    asked.is_none_or(|asked| answered.is_some_and(|answered| bare(answered) == bare(asked)))
}

/// The objects of a bucket.
#[derive(Debug)]
pub(super) struct Objects {
    pub(super) store: Arc<dyn ObjectStore>,
    #[cfg(feature = "s3")]
    pub(super) s3: Option<S3>,
    pub(super) conditions: Conditions,
    /// Locked by the task that uses the probe object.
    #[cfg(feature = "s3")]
    pub(super) probing: tokio::sync::Mutex<()>,
    /// The service turned out not to support copies.
    #[cfg(feature = "s3")]
    pub(super) copies_not: AtomicBool,
    /// The service turned out to remove objects only one by one.
    #[cfg(feature = "s3")]
    one_by_one: AtomicBool,
    /// Warnings for users.
    warnings: Mutex<Vec<String>>,
    part_size: usize,
    retries: Retries,
    /// Background tasks that abort uploads.
    background: TaskTracker,
}

impl Objects {
    /// Objects of a service that the library supports completely.
    pub(super) fn new(store: Arc<dyn ObjectStore>, options: &BucketOptions) -> Self {
        let conditions = Conditions::default();
        // Both services document it. The library sends their copies and removals without conditions.
        for kind in [Conditional::Create, Conditional::Replace] {
            conditions.learn(kind, Standing::Kept);
        }
        for kind in [
            Conditional::CompleteNew,
            Conditional::CompleteOver,
            Conditional::CopyNew,
            Conditional::CopyOver,
            Conditional::Delete,
            Conditional::DeleteMany,
        ] {
            conditions.learn(kind, Standing::Unclear);
        }
        Objects {
            store,
            #[cfg(feature = "s3")]
            s3: None,
            conditions,
            #[cfg(feature = "s3")]
            probing: tokio::sync::Mutex::default(),
            #[cfg(feature = "s3")]
            copies_not: AtomicBool::new(false),
            #[cfg(feature = "s3")]
            one_by_one: AtomicBool::new(false),
            warnings: Mutex::default(),
            part_size: options.part_size,
            retries: options.retries,
            background: TaskTracker::new(),
        }
    }

    #[cfg(feature = "s3")]
    pub(super) fn of_s3(s3: S3, options: &BucketOptions) -> Self {
        let store = s3.store();
        let conditions = match s3.address().maker {
            Maker::Amazon => Conditions::all_kept(),
            Maker::Cloudflare | Maker::Other => Conditions::default(),
        };
        Objects { s3: Some(s3), conditions, ..Self::new(store, options) }
    }

    /// Looks at an object; `None` when there is none.
    pub(super) async fn head(&self, key: &Path) -> Result<Option<Facts>, RequestError> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.store.get_opts(key, options).await.map_err(RequestError::from) {
            // The answer to HEAD has no body to identify the service by, but every service names the version
            // of an object.
            Ok(found) if found.meta.e_tag.is_none() && has_html(&found.attributes) => {
                Err(RequestError::web_page(200))
            }
            Ok(found) => {
                let version = UpdateVersion { e_tag: found.meta.e_tag, version: found.meta.version };
                Ok(Some(Facts::new(version, found.meta.size, &found.attributes)))
            }
            Err(error) if error.is_missing_object() => Ok(None),
            Err(error) => Err(error.at(Operation::Look, false, false)),
        }
    }

    /// Attributes and content of this version of an object; the content in chunks.
    pub(super) async fn read(
        &self,
        key: &Path,
        version: &UpdateVersion,
    ) -> Result<(Attributes, BoxStream<'static, Result<bytes::Bytes, RequestError>>), RequestError> {
        let options = GetOptions { if_match: version.e_tag.clone(), ..GetOptions::default() };
        let found = self.store.get_opts(key, options).await;
        let found = found
            .map_err(|error| RequestError::from(error).at(Operation::Read, version.e_tag.is_some(), false))?;
        if self.is_s3() && !is_same_version(version.e_tag.as_deref(), found.meta.e_tag.as_deref()) {
            let reason = "what came is not the version that was asked for; is there a portal, or a proxy that blocks it?";
            return Err(RequestError::without_answer(Kind::Other, reason));
        }
        let (attributes, mut left) = (found.attributes.clone(), found.meta.size);
        let bounded = found.into_stream().map_err(RequestError::from).and_then(move |stretch| {
            let rest = left.checked_sub(stretch.len() as u64);
            left = rest.unwrap_or_default();
            let longer =
                || RequestError::without_answer(Kind::Other, "it has more content than the service says");
            std::future::ready(rest.map(|_| stretch).ok_or_else(longer))
        });
        Ok((attributes, bounded.boxed()))
    }

    /// SHA-256 of this version of an object.
    pub(super) async fn hash(
        &self,
        key: &Path,
        version: &UpdateVersion,
    ) -> Result<ContentHash, RequestError> {
        let (_, mut content) = self.read(key, version).await?;
        let mut hasher = ContentHasher::new();
        while let Some(stretch) = content.try_next().await? {
            hasher.update(&stretch);
        }
        Ok(hasher.finish())
    }

    /// Writes an object by one request and returns its version. `hash` is the SHA-256 of the content, if
    /// known.
    ///
    /// The request is retried if no answer came, although it may have succeeded: then the condition fails,
    /// and the caller looks and finds its own object.
    pub(super) async fn put(
        &self,
        key: &Path,
        content: PutPayload,
        hash: Option<ContentHash>,
        attributes: Attributes,
        guard: &Guard,
    ) -> Result<UpdateVersion, RequestError> {
        let kind = Conditional::of_put(guard);
        let (asked, guard) = (guard, self.sent(kind, guard));
        let sent = Sent::of_guards(asked, guard);
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            let put = s3.put(key, content, hash, &attributes, guard).await;
            return self.learn(kind, sent, put);
        }
        let _ = hash;
        let mode = match guard {
            Guard::Nothing => PutMode::Create,
            Guard::Version(version) => PutMode::Update(version.clone()),
            Guard::Anything => PutMode::Overwrite,
        };
        let options = PutOptions { mode, attributes, ..PutOptions::default() };
        let put = || async {
            self.store.put_opts(key, content.clone(), options.clone()).await.map_err(RequestError::from)
        };
        let put = self.retries.through_silence(put).await;
        let put = put.map_err(|error| error.at(Operation::Put, guard.is_condition(), false));
        self.learn(kind, sent, put.map(UpdateVersion::from))
    }

    /// Begins a multipart upload in parts of this size.
    pub(super) async fn begin_upload(
        &self,
        key: &Path,
        attributes: Attributes,
        part_size: usize,
    ) -> Result<Upload, RequestError> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            let open = Open::S3(Box::new(s3.begin_upload(key, &attributes).await?));
            return Ok(Upload::new(open, part_size, self.background.clone()));
        }
        let options = PutMultipartOptions { attributes, ..PutMultipartOptions::default() };
        let open = Open::Library(self.store.put_multipart_opts(key, options).await?);
        Ok(Upload::new(open, part_size, self.background.clone()))
    }

    /// Makes an upload visible and returns its version.
    pub(super) async fn complete(
        &self,
        upload: &mut Upload,
        guard: &Guard,
    ) -> Result<UpdateVersion, RequestError> {
        let kind = Conditional::of_completion(guard);
        let sent = self.sent(kind, guard);
        let completed = upload.complete(sent).await;
        match self.learn(kind, Sent::of_guards(guard, sent), completed) {
            // The parts are still there.
            Err(error) if error.next() == Some(Next::WithoutCondition) && !self.conditions.are_sent(kind) => {
                let completed = upload.complete(&Guard::Anything).await;
                self.learn(kind, Sent::LeftOut, completed)
            }
            completed => completed,
        }
    }

    /// Removes objects. Answers in order. A missing object counts as removed, one of another version is a
    /// conflict.
    pub(super) async fn delete(&self, doomed: Vec<Doomed>) -> Vec<Result<(), RequestError>> {
        let mut answers = Vec::with_capacity(doomed.len());
        for chunk in doomed.chunks(DELETE_MAX) {
            answers.extend(self.delete_chunk(chunk).await);
        }
        answers
    }

    #[cfg(feature = "s3")]
    async fn delete_chunk(&self, doomed: &[Doomed]) -> Vec<Result<(), RequestError>> {
        let Some(s3) = &self.s3 else { return self.delete_by_library(doomed).await };
        // XML cannot name every key.
        let is_nameable = !doomed.iter().any(|object| object.key.as_ref().contains(char::is_control));
        let conditional = doomed.iter().any(|object| object.version.is_some());
        let singly = self.one_by_one.load(Ordering::Relaxed) || conditional && self.only_single_keep();
        let mut knows_single_ones = false;
        if is_nameable && !singly {
            match self.delete_at_once(s3, doomed).await {
                Ok(answers) => return answers,
                Err(next) => knows_single_ones = next == Next::AnotherWay,
            }
        }
        let rows = self.rows(Conditional::Delete, doomed);
        let removing = stream::iter(rows).map(|(row, sent)| async move {
            self.learn(Conditional::Delete, sent, s3.delete_one(row).await)
        });
        let answers: Vec<Result<(), RequestError>> = removing.buffered(SINGLES).collect().await;
        if knows_single_ones && answers.iter().any(Result::is_ok) {
            self.one_by_one.store(true, Ordering::Relaxed);
        }
        answers
    }

    /// Removes objects by one request. An error is the [next step](Next) if the service refuses such requests,
    /// or their conditions: either way single removals keep theirs.
    #[cfg(feature = "s3")]
    async fn delete_at_once(
        &self,
        s3: &S3,
        doomed: &[Doomed],
    ) -> Result<Vec<Result<(), RequestError>>, Next> {
        let kind = Conditional::DeleteMany;
        let (rows, sent): (Vec<s3::DeleteRow>, Vec<Sent>) = self.rows(kind, doomed).into_iter().unzip();
        let refused = match s3.delete_many(&rows).await {
            Ok(answers) => {
                let answers = sent.into_iter().zip(answers);
                return Ok(answers.map(|(sent, answer)| self.learn(kind, sent, answer)).collect());
            }
            Err(refused) => refused,
        };
        match refused.next() {
            Some(next @ Next::AnotherWay) => Err(next),
            Some(next @ Next::WithoutCondition) => {
                self.note(kind, Standing::Refused);
                Err(next)
            }
            _ => Ok(vec![Err(refused); doomed.len()]),
        }
    }

    /// The objects for removals of this kind, with conditions if those are sent.
    #[cfg(feature = "s3")]
    fn rows(&self, kind: Conditional, doomed: &[Doomed]) -> Vec<(s3::DeleteRow, Sent)> {
        let conditional = self.conditions.are_sent(kind);
        let row = |object: &Doomed| {
            let asked = object.version.as_ref().and_then(|version| version.e_tag.clone());
            let (is_asked, e_tag) = (asked.is_some(), asked.filter(|_| conditional));
            let sent = Sent::of(is_asked, e_tag.is_some());
            (s3::DeleteRow { key: object.key.clone(), e_tag }, sent)
        };
        doomed.iter().map(row).collect()
    }

    /// True if conditions of removals are lost in requests for many objects, and not in those for one, as far
    /// as is known.
    #[cfg(feature = "s3")]
    fn only_single_keep(&self) -> bool {
        let standing = self.conditions.standing(Conditional::Delete);
        !self.conditions.are_sent(Conditional::DeleteMany)
            && matches!(standing, Standing::Kept | Standing::Unknown)
    }

    /// True if the service honours the conditions of removals as they are sent.
    #[cfg(feature = "s3")]
    pub(super) fn keeps_removals(&self) -> bool {
        let singly = self.one_by_one.load(Ordering::Relaxed) || self.only_single_keep();
        self.keeps(if singly { Conditional::Delete } else { Conditional::DeleteMany })
    }

    /// The library removes without conditions.
    #[cfg(not(feature = "s3"))]
    pub(super) fn keeps_removals(&self) -> bool {
        false
    }

    #[cfg(not(feature = "s3"))]
    async fn delete_chunk(&self, doomed: &[Doomed]) -> Vec<Result<(), RequestError>> {
        self.delete_by_library(doomed).await
    }

    async fn delete_by_library(&self, doomed: &[Doomed]) -> Vec<Result<(), RequestError>> {
        let keys: Vec<Path> = doomed.iter().map(|object| object.key.clone()).collect();
        let removed = self.retries.through_silence(|| self.delete_keys(&keys)).await;
        removed.unwrap_or_else(|error| vec![Err(error); keys.len()])
    }

    /// Removes as many objects as one request can. An error concerns the request as a whole.
    async fn delete_keys(&self, keys: &[Path]) -> Result<Vec<Result<(), RequestError>>, RequestError> {
        let stream = stream::iter(keys.to_vec()).map(Ok).boxed();
        let removed: Vec<object_store::Result<Path>> = self.store.delete_stream(stream).collect().await;
        let mut answers: Vec<Result<(), RequestError>> = removed
            .into_iter()
            .map(|removed| match removed.map_err(RequestError::from) {
                Err(error) if !error.is_missing_object() => Err(error),
                _ => Ok(()),
            })
            .collect();
        if answers.len() == keys.len() && (keys.len() > 1 || answers.iter().all(Result::is_ok)) {
            return Ok(answers);
        }
        let silence =
            RequestError::without_answer(Kind::Other, "the service does not say whether it is gone");
        Err(answers.pop().and_then(Result::err).unwrap_or(silence))
    }

    /// The objects whose keys begin with `prefix` (which is empty or ends with a slash). Pages of at most
    /// `page` objects are requested as they are consumed.
    ///
    /// A list of more than [`limits::OBJECTS_LISTED`] objects is an error, and so is one whose pages do not
    /// advance.
    pub(super) fn list(&self, prefix: &str, page: usize) -> BoxStream<'_, Result<Listed, RequestError>> {
        self.list_after(prefix, None, page)
    }

    /// The same for the keys after `after`.
    pub(super) fn list_after(
        &self,
        prefix: &str,
        after: Option<&str>,
        page: usize,
    ) -> BoxStream<'_, Result<Listed, RequestError>> {
        let mut listed = 0;
        let list = self.pages(prefix, after, page);
        let bounded = list.map(move |object| {
            listed += 1;
            if listed > limits::OBJECTS_LISTED {
                return Err(RequestError::without_answer(Kind::Other, &too_many()));
            }
            object
        });
        bounded.boxed()
    }

    fn pages(
        &self,
        prefix: &str,
        after: Option<&str>,
        page: usize,
    ) -> BoxStream<'_, Result<Listed, RequestError>> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            return s3_list(s3, prefix.to_owned(), after.map(str::to_owned), page).boxed();
        }
        let _ = page;
        // The library lists whole folders only. The start of a name becomes a key to list from, and the first
        // key that does not begin with it ends the list.
        let (folder, begun) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        let after = after.or(Some(prefix).filter(|_| !begun.is_empty()));
        let folder = Path::parse(folder).ok().filter(|folder| !folder.is_root());
        let list = match after.and_then(|after| Path::parse(after).ok()) {
            Some(after) => self.store.list_with_offset(folder.as_ref(), &after),
            None => self.store.list(folder.as_ref()),
        };
        let prefix = prefix.to_owned();
        let list = list.try_take_while(move |object| {
            std::future::ready(Ok(object.location.as_ref().starts_with(&prefix)))
        });
        list.map_ok(|object| Listed {
            key: object.location.into(),
            size: object.size,
            e_tag: object.e_tag,
            modified: Timestamp::from_millisecond(object.last_modified.timestamp_millis()).ok(),
        })
        .map_err(RequestError::from)
        .boxed()
    }

    /// Uploads below a prefix that were begun at least `age` ago and never completed, where the service can
    /// list them.
    pub(super) async fn open_uploads(
        &self,
        prefix: &str,
        age: Duration,
    ) -> Result<Vec<OpenUpload>, RequestError> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            return s3.open_uploads(prefix, age).await;
        }
        let _ = (prefix, age);
        Ok(Vec::new())
    }

    /// Why a missing object need not have been deleted by somebody, if so: a rule that expires objects, or a
    /// service whose rules cannot be queried here.
    pub(super) async fn why_absence_says_nothing(
        &self,
        prefix: &str,
    ) -> Result<Option<String>, RequestError> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            let rule = s3.expiring_rule(prefix).await?;
            return Ok(
                rule.map(|rule| format!("the lifecycle rule {rule:?} of the bucket expires objects there"))
            );
        }
        let _ = prefix;
        Ok(Some("the rules by which objects expire can be asked for at s3:// only".to_owned()))
    }

    /// Aborts an upload; `false` if it does not exist any more.
    pub(super) async fn abort_upload(&self, upload: &OpenUpload) -> Result<bool, RequestError> {
        #[cfg(feature = "s3")]
        if let Some(s3) = &self.s3 {
            return s3.abort_upload(upload).await;
        }
        let _ = upload;
        Ok(false)
    }

    /// Waits at most `limit` until the background work is done. Returns true if it is.
    pub(super) async fn drain(&self, limit: Duration) -> bool {
        self.background.close();
        let is_done = tokio::time::timeout(limit, self.background.wait()).await.is_ok();
        self.background.reopen();
        is_done
    }

    /// True if no background work is left.
    pub(super) fn is_quiet(&self) -> bool {
        self.background.is_empty()
    }

    /// Bytes of a part, and of the buffer of a content that passes through here.
    pub(super) fn part_size(&self) -> usize {
        self.part_size
    }

    /// True if a removal can show whether conditions of removals are honoured, which is unknown.
    pub(super) fn are_removals_unknown(&self) -> bool {
        let lost_in_many = || !self.conditions.are_sent(Conditional::DeleteMany);
        self.is_unknown(Conditional::DeleteMany) || lost_in_many() && self.is_unknown(Conditional::Delete)
    }

    /// True if nothing is known about a kind of condition.
    pub(super) fn is_unknown(&self, kind: Conditional) -> bool {
        self.conditions.standing(kind) == Standing::Unknown
    }

    /// True if the service honours conditions of this kind.
    pub(super) fn keeps(&self, kind: Conditional) -> bool {
        self.conditions.are_kept(kind)
    }

    /// Adds a warning for users.
    pub(super) fn warn(&self, warning: String) {
        let mut warnings = lock(&self.warnings);
        if warnings.len() < limits::CLOUD_WARNINGS && !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }

    /// The warnings for users.
    pub(super) fn warnings(&self) -> Vec<String> {
        lock(&self.warnings).clone()
    }

    /// The bucket's URL, for a service whose buckets can be addressed in several ways (S3).
    #[cfg(feature = "s3")]
    pub(super) fn address(&self) -> Option<String> {
        self.s3.as_ref().map(|s3| s3.address().url.clone())
    }

    pub(super) fn is_s3(&self) -> bool {
        #[cfg(feature = "s3")]
        return self.s3.is_some();
        #[cfg(not(feature = "s3"))]
        false
    }

    /// The library's removals have not been tried.
    #[cfg(not(feature = "s3"))]
    pub(super) async fn find_out_about_removals(&self, _doomed: &Doomed) -> bool {
        false
    }

    /// The guard to send: none where the service does not support conditions.
    pub(super) fn sent<'g>(&self, kind: Conditional, guard: &'g Guard) -> &'g Guard {
        if self.conditions.are_sent(kind) { guard } else { &Guard::Anything }
    }

    /// Records how the service handled the condition of a request.
    pub(super) fn note(&self, kind: Conditional, standing: Standing) {
        if !self.conditions.learn(kind, standing) {
            return;
        }
        tracing::debug!(?kind, ?standing, "conditions");
        // Many services reject conditions of the other kinds; that is in SEMANTICS.md. A service that accepts
        // a condition and ignores it needs a warning.
        match (standing, kind) {
            // Single removals may keep theirs.
            (Standing::Ignored, Conditional::DeleteMany) => {}
            (Standing::Ignored, _) => self.warn_of("ignores", kind),
            (Standing::Refused, Conditional::Create | Conditional::Replace) => {
                self.warn_of("does not know", kind);
            }
            _ => {}
        }
    }

    /// Warns if conditions of removals of many objects are ignored, and those of single ones not known to be
    /// kept.
    pub(super) fn warn_of_removals(&self) {
        let is_ignored = self.conditions.standing(Conditional::DeleteMany) == Standing::Ignored;
        if is_ignored && !self.keeps(Conditional::Delete) {
            self.warn_of("ignores", Conditional::DeleteMany);
        }
    }

    fn warn_of(&self, verb: &str, kind: Conditional) {
        self.warn(format!(
            "the service {verb} conditions on {}: obsync looks before it changes an object, and what another program writes \
             there in that moment may be lost; let nothing else write below this prefix while obsync runs",
            kind.text()
        ));
    }

    /// Learns from the answer to a request whether the service rejects conditions of a kind. A rejection
    /// becomes a conflict for each request that had a condition (many are in flight at a time), so that the
    /// caller looks again and repeats it without one. Only if that succeeds, the condition was the reason.
    pub(super) fn learn<T>(
        &self,
        kind: Conditional,
        sent: Sent,
        answer: Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let is_repeat = sent == Sent::LeftOut && self.conditions.standing(kind) == Standing::Doubted;
        match answer {
            // Another header is at fault.
            Err(error) if error.next() == Some(Next::WithoutCondition) && self.keeps(kind) => Err(error),
            Err(error) if error.next() == Some(Next::WithoutCondition) => {
                if self.conditions.are_sent(kind) {
                    self.note(kind, Standing::Doubted);
                }
                Err(error.into_conflict())
            }
            Err(error) if error.kind == Kind::Unsupported && !self.is_s3() && sent == Sent::With => {
                self.note(kind, Standing::Doubted);
                Err(error.into_conflict())
            }
            Err(error) if is_repeat && error.kind == Kind::Unsupported => {
                self.note(kind, Standing::Unclear);
                Err(error)
            }
            Ok(done) if is_repeat => {
                self.note(kind, Standing::Refused);
                Ok(done)
            }
            answer => answer,
        }
    }
}

fn too_many() -> String {
    format!(
        "the list of its objects has more than {} of them; give the vault a prefix of its own",
        limits::OBJECTS_LISTED
    )
}

#[cfg(feature = "s3")]
fn s3_list(
    s3: &S3,
    prefix: String,
    after: Option<String>,
    page: usize,
) -> impl futures_util::Stream<Item = Result<Listed, RequestError>> {
    stream::try_unfold(Some(Pages::default()), move |pages| {
        let (prefix, after) = (prefix.clone(), after.clone());
        async move {
            let Some(pages) = pages else {
                return Ok::<_, RequestError>(None);
            };
            let page = s3.page(&prefix, after.as_deref(), page, pages.next.clone()).await?;
            let more = pages.after(page.objects.len(), page.next)?;
            Ok(Some((stream::iter(page.objects.into_iter().map(Ok)), more)))
        }
    })
    .try_flatten()
}
