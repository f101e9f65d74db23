//! Where a vault is pulled to, as given on the command line.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParserFactory};
use obsync_stores::canonical_destination;

use crate::exit::Failed;

/// A folder as the user wrote it. Messages show it so; its state is filed under the
/// [canonical](Self::canonical) form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination(PathBuf);

impl Destination {
    /// Takes a path; refuses what is meant for an object store.
    fn parse(text: OsString) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it is empty; give a folder, such as ./notes".to_owned());
        }
        match text.to_string_lossy().split_once("://") {
            Some((scheme, _))
                if scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte)) =>
            {
                Err(format!(
                    "destinations with {scheme}:// are not supported yet; give a folder, such as ./notes"
                ))
            }
            _ => Ok(Destination(PathBuf::from(text))),
        }
    }

    /// The folder, which need not exist.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The one text for the folder, whatever way leads to it.
    ///
    /// # Errors
    /// When the system does not let the path be followed.
    pub(crate) fn canonical(&self) -> Result<String, Failed> {
        canonical_destination(&self.0).map_err(|error| Failed::cannot(format_args!("use {self}"), &error))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(formatter)
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
    use super::*;

    fn parse(text: &str) -> Result<Destination, String> {
        Destination::parse(text.into())
    }

    #[test]
    fn object_stores_are_refused_by_name() {
        for url in ["s3://bucket/notes", "gs://bucket", "az://container", "file:///notes"] {
            let scheme = url.split(':').next().unwrap();
            assert!(parse(url).unwrap_err().contains(&format!("{scheme}:// are not supported yet")), "{url}");
        }
        assert!(parse("").is_err());
        assert!(parse("./odd ://name").is_ok());
    }
}
