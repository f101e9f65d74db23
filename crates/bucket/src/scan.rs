//! Compares a bucket with its records, by one list, and opens its objects for sending.
//!
//! An object with the entity tag of its record is not read. A missing object proves nothing: rules expire
//! objects, and nobody sees that. So nothing here counts as deleted unless the owner says that missing
//! objects were deleted by somebody
//! ([`BucketOptions::misses_deleted`](super::BucketOptions::misses_deleted)); and there are no folders.

use std::collections::{HashMap, HashSet};
use std::io;

use futures_util::{StreamExt, TryStreamExt, stream};
use object_store::UpdateVersion;
use obsync_core::{
    DestinationError, KnownContent, LocalFacts, LocalFile, LocalTree, OpenFile, Record, ScanInput, Unknown,
    UnknownCause,
};
use obsync_protocol::{ContentHash, ContentHasher, VaultPath, Verdict, normalize_local_name};
use tokio_util::io::StreamReader;

use super::context::Context;
use super::error_context::Action;
use super::listing::PAGE;
use super::object_cache::Occupant;
use super::objects::Listed;

/// An object to read.
struct Unread {
    path: VaultPath,
    listed: Listed,
    /// The recorded content, if there is one.
    recorded: Option<KnownContent>,
    /// There is a record without facts.
    was_never_looked_at: bool,
}

/// The result of reading an object.
enum Outcome {
    Changed(LocalFile),
    Renewed(VaultPath, LocalFacts),
    Unknown(Unknown),
}

/// Digest of a list of objects. Any other key, size or entity tag changes it.
struct ListDigest {
    hasher: ContentHasher,
    /// True if every object has an entity tag.
    is_whole: bool,
}

impl ListDigest {
    /// Starts a digest for scans with the options of this context.
    fn new(context: &Context) -> Self {
        let mut hasher = ContentHasher::new();
        hasher.update(&[u8::from(context.options.misses_deleted)]);
        ListDigest { hasher, is_whole: true }
    }

    fn add(&mut self, path: &str, listed: &Listed) {
        let tag = listed.e_tag.as_deref().unwrap_or_default();
        self.is_whole &= !tag.is_empty();
        self.hasher.update(&listed.size.to_le_bytes());
        for text in [path, tag] {
            self.hasher.update(&(text.len() as u64).to_le_bytes());
            self.hasher.update(text.as_bytes());
        }
    }

    fn finish(self) -> Option<ContentHash> {
        self.is_whole.then(|| self.hasher.finish())
    }
}

/// Returns the digest of the list that a scan would read.
pub(super) async fn digest(context: &Context) -> Result<Option<ContentHash>, DestinationError> {
    let mut digest = ListDigest::new(context);
    let mut objects = context.objects.list(context.keys.prefix(), PAGE);
    while let Some(listed) =
        objects.try_next().await.map_err(|error| context.errors.bucket_error(Action::List, &error))?
    {
        if let Some(path) = context.keys.path_of(&listed.key) {
            digest.add(path, &listed);
        }
    }
    Ok(digest.finish())
}

pub(super) async fn scan(context: &Context, input: &ScanInput) -> Result<LocalTree, DestinationError> {
    let records: HashMap<&str, &Record> =
        input.records.iter().map(|record| (record.path.as_str(), record)).collect();
    let misses_deleted = context.options.misses_deleted && absence_tells(context).await;
    let mut seen: HashSet<&VaultPath> = HashSet::with_capacity(records.len());
    let mut folded: Option<HashSet<String>> = None;
    let (mut tree, mut unread) = (LocalTree::default(), Vec::new());
    let mut digest = ListDigest::new(context);
    let mut objects = context.objects.list(context.keys.prefix(), PAGE);
    while let Some(listed) =
        objects.try_next().await.map_err(|error| context.errors.bucket_error(Action::List, &error))?
    {
        let Some(path) = context.keys.path_of(&listed.key) else { continue };
        digest.add(path, &listed);
        let record = records.get(path).copied();
        let path = match (record, path_of(path)) {
            (Some(record), _) => {
                seen.insert(&record.path);
                record.path.clone()
            }
            (None, Ok(path)) => path,
            (None, Err(reason)) => {
                if !path.starts_with('.') && !path.contains("/.") {
                    let why = UnknownCause::Name { reason, inode: None };
                    tree.unknown.push(Unknown { path: path.to_owned(), why });
                }
                continue;
            }
        };
        if input.filter.verdict(&path, false) != Verdict::Sync {
            continue;
        }
        tree.found += 1;
        if record.is_none() {
            let folded =
                folded.get_or_insert_with(|| records.values().map(|record| record.path.fold_key()).collect());
            if let Some(of) = twin(&path, folded, &records) {
                tree.unknown.push(Unknown { path: path.to_string(), why: UnknownCause::Twin { of } });
                continue;
            }
        }
        let facts = facts(&listed);
        if facts.is_none() || record.and_then(|record| record.facts.as_ref()) != facts.as_ref() {
            let recorded = record.and_then(Record::file).map(KnownContent::from);
            let was_never_looked_at = record.is_some_and(|record| record.facts.is_none());
            unread.push(Unread { path, listed, recorded, was_never_looked_at });
        }
    }
    // No digest if a lifecycle rule may expire objects: every run has to warn of that.
    let tells_all = misses_deleted || !context.options.misses_deleted;
    tree.digest = digest.finish().filter(|_| tells_all);
    tree.read = unread.len() as u64;
    let mut outcomes = stream::iter(unread)
        .map(|unread| read(context, unread))
        .buffer_unordered(context.options.concurrency);
    while let Some(outcome) = outcomes.try_next().await? {
        match outcome {
            Outcome::Changed(file) => tree.files.push(file),
            Outcome::Renewed(path, facts) => tree.renewed.push((path, facts)),
            Outcome::Unknown(unknown) => tree.unknown.push(unknown),
        }
    }
    drop(outcomes);
    let gone = input.records.iter().filter(|record| {
        let is_wanted = input.filter.verdict(&record.path, false) == Verdict::Sync;
        record.file().is_some() && is_wanted && !seen.contains(&record.path) && !tree.is_unknown(&record.path)
    });
    let gone: Vec<VaultPath> = gone.map(|record| record.path.clone()).collect();
    match misses_deleted {
        true => tree.absent = gone,
        false => tree.missing = gone,
    }
    tree.sort();
    Ok(tree)
}

/// True if missing objects count as deleted by somebody. Determined once in a run: all its scans use the same
/// answer.
async fn absence_tells(context: &Context) -> bool {
    let mut known = context.absence_tells.lock().await;
    match *known {
        Some(tells) => tells,
        None => *known.insert(ask_whether_absence_tells(context).await),
    }
}

/// Queries the rules of the bucket. If a missing object may have expired, a warning says so, and its record
/// loses its witness: it does not count as a deletion either once the rule is gone.
async fn ask_whether_absence_tells(context: &Context) -> bool {
    let said = context.objects.why_absence_says_nothing(context.keys.prefix()).await;
    let why = match said {
        Ok(None) => return true,
        Ok(Some(why)) => why,
        Err(error) => format!(
            "whether objects expire there cannot be found out ({}; it needs s3:GetLifecycleConfiguration)",
            error.said()
        ),
    };
    context.objects.warn(format!(
        "no deletion in the bucket is sent to the vault: {why}. Remove the rule, or leave OBSYNC_BUCKET_DELETES unset"
    ));
    false
}

/// The path of a name, which must be valid already: objects cannot be renamed on the way.
fn path_of(name: &str) -> Result<VaultPath, String> {
    let path = VaultPath::parse(name).map_err(|error| error.to_string())?;
    path.check_to_write().map_err(|error| error.to_string())?;
    match normalize_local_name(name) == name {
        true => Ok(path),
        false => {
            Err("a vault has this name with other spaces or accents (NFC); rename the object".to_owned())
        }
    }
}

/// The recorded path that differs only in case or normalisation.
fn twin(path: &VaultPath, folded: &HashSet<String>, records: &HashMap<&str, &Record>) -> Option<VaultPath> {
    let key = path.fold_key();
    let is_twin = folded.contains(&key);
    is_twin
        .then(|| records.values().find(|record| record.path.fold_key() == key))?
        .map(|record| record.path.clone())
}

fn facts(listed: &Listed) -> Option<LocalFacts> {
    let entity_tag = listed.e_tag.clone()?;
    Some(LocalFacts::Object { size: listed.size, entity_tag })
}

/// Reads an object. Does not trust its metadata if the entity tag shows that somebody wrote it since.
async fn read(context: &Context, unread: Unread) -> Result<Outcome, DestinationError> {
    let Unread { path, listed, recorded, was_never_looked_at } = unread;
    let changing =
        |path: &VaultPath| Outcome::Unknown(Unknown { path: path.to_string(), why: UnknownCause::Changing });
    let key = context.keys.of(&path)?;
    let Occupant::Object(found) = context.look(&path, &key).await? else { return Ok(changing(&path)) };
    let Some(entity_tag) = found.version.e_tag.clone() else {
        let reason = "the service gives it no entity tag".to_owned();
        let why = UnknownCause::Unreadable { reason };
        return Ok(Outcome::Unknown(Unknown { path: path.to_string(), why }));
    };
    let facts = LocalFacts::Object { size: found.size, entity_tag };
    // A record without facts, for an object whose metadata names the recorded content.
    if let Some(content) = recorded.filter(|_| was_never_looked_at)
        && found.is_content(content) == Some(true)
    {
        return Ok(Outcome::Renewed(path, facts));
    }
    let hash = match context.objects.hash(&key, &found.version).await {
        Ok(hash) => {
            context.errors.succeeded(Action::Read);
            hash
        }
        Err(error) if error.is_conflict() || error.is_missing_object() => return Ok(changing(&path)),
        Err(error) => match context.failed(Action::Read, &path, &error) {
            fatal if fatal.is_fatal() => return Err(fatal),
            error => {
                let why = UnknownCause::Unreadable { reason: error.to_string() };
                return Ok(Outcome::Unknown(Unknown { path: path.to_string(), why }));
            }
        },
    };
    let content = KnownContent { hash, size: found.size };
    if recorded == Some(content) {
        return Ok(Outcome::Renewed(path, facts));
    }
    let written = listed.modified.map_or(0, |modified| modified.as_millisecond());
    Ok(Outcome::Changed(LocalFile { path, content, mtime: written, ctime: written, facts }))
}

/// Opens an object for sending, in its present version: if it is replaced meanwhile, reading fails.
pub(super) async fn open(context: &Context, path: &VaultPath) -> Result<OpenFile, DestinationError> {
    let key = context.keys.of(path)?;
    let changed = || context.errors.changed(path, None, None);
    let Occupant::Object(found) = context.look(path, &key).await? else { return Err(changed()) };
    let version = UpdateVersion { e_tag: found.version.e_tag.clone(), version: None };
    let (_, content) = match context.objects.read(&key, &version).await {
        Ok(read) => read,
        Err(error) if error.is_conflict() || error.is_missing_object() => return Err(changed()),
        Err(error) => return Err(context.failed(Action::Read, path, &error)),
    };
    let facts = LocalFacts::Object { size: found.size, entity_tag: version.e_tag.unwrap_or_default() };
    let content = content.map_err(|error| io::Error::other(error.said()));
    Ok(OpenFile { content: Box::new(StreamReader::new(content)), facts })
}
