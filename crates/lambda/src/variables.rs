//! Reads variables one by one, and records the faults.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use obsync_client::{Password, secret_from_file};
use secrecy::{ExposeSecret, SecretString};

/// An environment, with the faults found in it.
pub(crate) struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<OsString>,
    problems: BTreeMap<&'static str, String>,
}

impl<'a> Variables<'a> {
    /// An environment with `get` for each variable.
    pub(crate) fn new(get: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Variables { get, problems: BTreeMap::new() }
    }

    /// The faults, by variable.
    pub(crate) fn problems(self) -> BTreeMap<&'static str, String> {
        self.problems
    }

    /// Records the fault of a variable. Only the first one of each is reported.
    pub(crate) fn refuse(&mut self, name: &'static str, problem: impl Into<String>) {
        self.problems.entry(name).or_insert_with(|| problem.into());
    }

    /// A text. An empty variable counts as unset: templates set one for an omitted parameter.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        match (self.get)(name)?.into_string() {
            Ok(value) => Some(value.trim().to_owned()).filter(|value| !value.is_empty()),
            Err(_) => {
                self.refuse(name, "is not UTF-8 text");
                None
            }
        }
    }

    /// The password in the variable `name`, or in the file that the variable `file` names, as in Docker,
    /// Kubernetes and extensions of Lambda. The line break at a file's end is not part of it.
    pub(crate) fn password(&mut self, name: &'static str, file: &'static str) -> Option<Password> {
        match (self.exact(name), self.text(file)) {
            (Some(_), Some(_)) => {
                self.refuse(file, format!("is set, and so is {name}; unset one of them"));
                None
            }
            (Some(value), None) => Some(Password::with_origin(value.into(), name)),
            (None, Some(path)) => match secret_from_file(Path::new(&path)) {
                Ok(secret) => Some(Password::exactly(secret)),
                Err(error) => {
                    self.refuse(file, format!("names the file {path}, which cannot be read: {error}"));
                    None
                }
            },
            (None, None) => None,
        }
    }

    /// A secret without the spaces and line breaks around it. From a variable or a file, as a
    /// [password](Self::password).
    pub(crate) fn word(&mut self, name: &'static str, file: &'static str) -> Option<SecretString> {
        let secret = self.password(name, file)?;
        let word = secret.as_given().expose_secret().trim();
        Some(word).filter(|word| !word.is_empty()).map(SecretString::from)
    }

    fn exact(&mut self, name: &'static str) -> Option<String> {
        match (self.get)(name)?.into_string() {
            Ok(value) => Some(value).filter(|value| !value.is_empty()),
            Err(_) => {
                self.refuse(name, "is not UTF-8 text");
                None
            }
        }
    }

    /// `true` or `false`, in usual spellings.
    pub(crate) fn flag(&mut self, name: &'static str, usual: bool) -> bool {
        let Some(value) = self.text(name) else { return usual };
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => true,
            "false" | "0" | "no" | "off" => false,
            _ => {
                self.refuse(name, "is neither true nor false");
                usual
            }
        }
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, name: &'static str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let value = self.text(name)?.parse().ok().filter(|value| bounds.contains(value));
        if value.is_none() {
            self.refuse(name, format!("is not a whole number from {} to {}", bounds.start(), bounds.end()));
        }
        value
    }

    /// Any type that parses itself from a text.
    pub(crate) fn parsed<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.text(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(name, format!("cannot be used: {error}"));
                None
            }
        }
    }
}
