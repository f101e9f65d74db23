//! Keeps an object that somebody else wrote where obsync is about to write: copies it to a free name beside
//! it.

use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use obsync_core::{DestinationError, Expect, KeptBeside};
use obsync_protocol::VaultPath;

use super::context::Context;
use super::error::RequestError;
use super::error_context::Action;
use super::guard::Guard;
use super::metadata::Facts;
use super::object_cache::Occupant;
use super::objects::Listed;
use obsync_core::conflicted_copy;

/// Most conflicted copies of one file within one minute.
const COPIES: u32 = 1000;

/// Most copies of an object's size that are compared with it, to find one with its content.
const COMPARED: usize = 8;
/// Most copies listed for that.
const LISTED: usize = 1000;

/// Copies the object at a path to a free name beside it. The original stays until it is overwritten.
pub(super) async fn keep_in_place(
    context: &Context,
    path: &VaultPath,
) -> Result<KeptBeside, DestinationError> {
    let key = context.keys.of(path)?;
    let changed = || context.errors.changed(path, None, None);
    let Occupant::Object(facts) = context.recall(path, &key).await? else { return Err(changed()) };
    let Some(version) = facts.version.e_tag.clone() else {
        return Err(context.errors.io(Action::Copy, path.as_str(), "the service names no version of it"));
    };
    let Some(kept_as) = keep_beside(context, path, &key, &facts).await? else {
        context.cache.forget(path);
        return Err(changed());
    };
    Ok(KeptBeside { kept_as, expect: Expect::Version(version) })
}

/// Copies an object to a free name beside it and returns that name, or the name of an existing copy. `None`:
/// the object has changed meanwhile.
pub(super) async fn keep_beside(
    context: &Context,
    path: &VaultPath,
    key: &Path,
    facts: &Facts,
) -> Result<Option<VaultPath>, DestinationError> {
    if let Some(kept_as) = equal_copy(context, path, key, facts).await? {
        return Ok(Some(kept_as));
    }
    let ends_with_mark = conflicted_copy::is_configuration(path);
    let label = conflicted_copy::label(context.options.device);
    let limit = context.keys.room_beside(path);
    // `tried`: a copy to this name was attempted already.
    let (mut copy, mut tried) = (1, false);
    for _ in 0..COPIES {
        let name = conflicted_copy::name(path.file_name(), ends_with_mark, &label, copy, limit);
        let kept_as = beside(path, &name).ok_or_else(|| DestinationError::NameTooLong {
            path: path.as_str().to_owned(),
            location: context.errors.location(),
            said: None,
        })?;
        let kept_key = context.keys.of(&kept_as)?;
        if let Occupant::Object(there) = context.look(&kept_as, &kept_key).await? {
            // If the answer to the copy was lost, the retry meets the copy itself.
            if tried && is_copy(context, (path, key, facts), (&kept_as, &kept_key, &there)).await? {
                context.listing.wrote(&kept_key, facts.size);
                return Ok(Some(kept_as));
            }
            (copy, tried) = (copy + 1, false);
            continue;
        }
        tried = true;
        context.cache.forget(&kept_as);
        match context.objects.copy(key, &facts.version, &kept_key, None, &Guard::Nothing).await {
            Ok(_) => {
                context.errors.succeeded(Action::Copy);
                context.listing.wrote(&kept_key, facts.size);
                return Ok(Some(kept_as));
            }
            // Either the name is taken by now, or the object to keep has changed.
            Err(error) if error.is_conflict() || error.is_missing_object() => {
                let now = match context.objects.head(key).await {
                    Ok(now) => now,
                    Err(error) => return Err(context.look_failed(path, &error).await),
                };
                if now.is_none_or(|now| now.version.e_tag != facts.version.e_tag) {
                    return Ok(None);
                }
            }
            Err(error) => return Err(context.failed(Action::Copy, path, &error)),
        }
    }
    Err(context.errors.io(Action::Copy, path.as_str(), "there are too many conflicted copies of it"))
}

/// A conflicted copy with an object's content, if there is one: a program that writes the same content again
/// and again would otherwise leave one more copy in each run.
async fn equal_copy(
    context: &Context,
    path: &VaultPath,
    key: &Path,
    facts: &Facts,
) -> Result<Option<VaultPath>, DestinationError> {
    let ends_with_mark = conflicted_copy::is_configuration(path);
    let own_name = path.file_name();
    let folder = key.as_ref().strip_suffix(own_name).unwrap_or_default();
    let limit = context.keys.room_beside(path);
    let beginning = format!("{folder}{}", conflicted_copy::beginning(own_name, ends_with_mark, limit));
    let name_of = |listed: &Listed| {
        let name = listed.key.strip_prefix(folder)?;
        let is_copy =
            listed.size == facts.size && conflicted_copy::is_copy_of(name, own_name, ends_with_mark, limit);
        is_copy.then(|| name.to_owned())
    };
    let listed: Result<Vec<Listed>, RequestError> =
        context.objects.list(&beginning, LISTED).take(LISTED).try_collect().await;
    let mut copies = listed.map_err(|error| context.failed(Action::List, path, &error))?;
    context.errors.succeeded(Action::List);
    // The most likely ones come first.
    copies.sort_by_key(|copy| copy.e_tag != facts.version.e_tag);
    let mut original = facts.clone();
    for name in copies.iter().filter_map(name_of).take(COMPARED) {
        let Some(copy) = beside(path, &name) else { continue };
        let copy_key = context.keys.of(&copy)?;
        let Occupant::Object(there) = context.look(&copy, &copy_key).await? else { continue };
        if there.version.e_tag != facts.version.e_tag
            && let Some(content) = context.content_of(path, key, &original).await?
        {
            original = original.with_content(content);
        }
        if is_copy(context, (path, key, &original), (&copy, &copy_key, &there)).await? {
            return Ok(Some(copy));
        }
    }
    Ok(None)
}

/// An object, its key and its facts.
type Found<'a> = (&'a VaultPath, &'a Path, &'a Facts);

/// True if an object has the content of another. A copy also has its ETag, unless it was uploaded in parts or
/// is encrypted.
async fn is_copy(context: &Context, original: Found<'_>, copy: Found<'_>) -> Result<bool, DestinationError> {
    if original.2.size != copy.2.size {
        return Ok(false);
    }
    if copy.2.version.e_tag.is_some() && original.2.version.e_tag == copy.2.version.e_tag {
        return Ok(true);
    }
    let wanted = context.content_of(original.0, original.1, original.2).await?;
    Ok(wanted.is_some() && context.content_of(copy.0, copy.1, copy.2).await? == wanted)
}

fn beside(path: &VaultPath, name: &str) -> Option<VaultPath> {
    match path.parent() {
        Some(folder) => folder.join(name).ok(),
        None => VaultPath::parse(name).ok(),
    }
}
