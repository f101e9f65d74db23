//! The destination of a pull, as given on the command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use obsync_bucket::{BucketLocation, Service};
use obsync_protocol::escaped;
use obsync_sqlite::canonical_destination;

use crate::exit::Failed;

/// Supported locations besides a folder.
const BUCKETS: &str = "s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX";

/// A place for a vault. Messages show it as the user wrote it; its state is filed under the
/// [canonical](Self::canonical) form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// A folder, which need not exist.
    Folder(PathBuf),
    /// A bucket and a prefix in it.
    Bucket(BucketLocation),
}

impl Destination {
    /// Parses a path or the location of a bucket.
    fn parse(text: OsString) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty; give a folder, such as ./notes".to_owned());
        }
        let shown = text.to_string_lossy();
        if shown == "~" || shown.starts_with("~/") {
            return Err(format!(
                "no shell has put your home folder in the place of ~; write the whole path, or ./{shown} for a folder of that name"
            ));
        }
        let Some(scheme) = scheme(&shown) else {
            return match ["s3:", "gs:", "az:"].into_iter().find(|start| shown.starts_with(start)) {
                Some(start) => {
                    Err(format!("write {start}//BUCKET/PREFIX, or ./{shown} for a folder of that name"))
                }
                None => Ok(Destination::Folder(PathBuf::from(text))),
            };
        };
        if text.to_str().is_none() {
            return Err("it is not UTF-8 text".to_owned());
        }
        match BucketLocation::is_one(&shown).then(|| BucketLocation::parse(&shown)) {
            // A bucket in memory would end with the process.
            Some(Ok(bucket)) if bucket.service() != Service::Memory => Ok(Destination::Bucket(bucket)),
            Some(Err(error)) => Err(error.to_string()),
            _ if scheme == "file" => Err("give the folder's path without file://".to_owned()),
            _ => Err(format!(
                "destinations with {scheme}:// are not supported; give a folder, such as ./notes, or {BUCKETS}"
            )),
        }
    }

    /// The place as the user wrote it, for scripts and commands.
    pub(crate) fn text(&self) -> String {
        match self {
            Destination::Folder(path) => path.display().to_string(),
            Destination::Bucket(bucket) => bucket.to_string(),
        }
    }

    /// True for a folder that does not exist.
    pub(crate) fn is_missing_folder(&self) -> bool {
        matches!(self, Destination::Folder(path) if !path.exists())
    }

    /// The unique text of the place, whatever path leads to it.
    ///
    /// # Errors
    /// When the path of a folder cannot be resolved.
    pub(crate) fn canonical(&self) -> Result<String, Failed> {
        match self {
            Destination::Folder(path) => canonical_destination(path)
                .map_err(|error| Failed::cannot(format_args!("use {self}"), &error)),
            Destination::Bucket(bucket) => Ok(bucket.to_string()),
        }
    }

    /// Why it is unsuitable for a vault: a sync would send everything else in it.
    ///
    /// # Errors
    /// When its path cannot be resolved.
    pub(crate) fn unfit(&self) -> Result<Option<String>, Failed> {
        let Destination::Folder(_) = self else { return Ok(None) };
        let folder = self.canonical()?;
        if folder == "/" {
            return Ok(Some(format!(
                "{self} is the root of all folders of this computer; give a folder for the vault alone, such as /backup/notes"
            )));
        }
        let home = etcetera::home_dir().ok().filter(|home| home.is_absolute());
        let home = home.and_then(|home| canonical_destination(&home).ok());
        Ok(home.filter(|home| *home == folder).map(|home| {
            format!(
                "{self} is your home folder itself, with everything else in it; give a folder for the vault alone, such as \
                 {home}/notes"
            )
        }))
    }

    /// Its kind, in a word.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Destination::Folder(_) => "folder",
            Destination::Bucket(_) => "bucket or prefix",
        }
    }
}

/// The text before `://`, if it could be the name of a protocol.
fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)).then_some(scheme)
}

/// For people: a line break in it cannot begin a line of its own.
impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&escaped(&self.text()))
    }
}

impl ValueParserFactory for Destination {
    type Parser = clap::builder::ValueParser;

    fn value_parser() -> Self::Parser {
        clap::builder::ValueParser::new(OsStringValueParser::new().try_map(Destination::parse))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    fn parse(text: &str) -> Result<Destination, String> {
        Destination::parse(text.into())
    }

    #[test]
    fn buckets_and_folders_are_told_apart() {
        for bucket in ["s3://bucket/my notes", "gs://bucket", "az://container/a/b"] {
            let destination = parse(bucket).unwrap();
            assert!(matches!(destination, Destination::Bucket(_)), "{bucket}");
            assert_eq!(destination.canonical().unwrap(), bucket);
        }
        assert_eq!(parse("s3://bucket/notes/").unwrap().canonical().unwrap(), "s3://bucket/notes");
        for folder in ["notes", "./s3:", "./odd ://name", "/a/s3://b", "./~", "~old"] {
            assert!(matches!(parse(folder), Ok(Destination::Folder(_))), "{folder}");
        }
    }

    #[test]
    fn what_is_neither_is_told_with_what_to_write() {
        for (text, told) in [
            ("", "give a folder"),
            ("ftp://host/notes", "ftp:// are not supported"),
            ("S3://bucket", "S3:// are not supported"),
            ("memory://", "memory:// are not supported"),
            ("file:///notes", "without file://"),
            ("~", "write the whole path, or ./~ for"),
            ("~/notes", "write the whole path, or ./~/notes for"),
            ("s3:bucket/notes", "write s3://BUCKET/PREFIX"),
            ("az:/container", "write az://BUCKET/PREFIX"),
            ("s3://", "names no bucket"),
            ("s3://a b/notes", "names no bucket"),
            ("gs://bucket/a//b", "the prefix"),
            ("s3://bucket/../x", "the prefix"),
        ] {
            let refused = parse(text).unwrap_err();
            assert!(refused.contains(told), "{text}: {refused}");
        }
        let odd = OsString::from_vec(b"s3://bucket/\xff".to_vec());
        assert!(Destination::parse(odd).unwrap_err().contains("UTF-8"));
    }
}
