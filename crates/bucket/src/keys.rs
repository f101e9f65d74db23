//! Maps vault paths to object keys and back: a key is the prefix and the path, exactly.

use object_store::path::Path;
use obsync_core::DestinationError;
use obsync_protocol::VaultPath;

use super::location::BucketLocation;

/// The longest key in bytes (S3 user guide, "Naming Amazon S3 objects"; Google and Azure have the same limit).
const KEY_MAX: usize = 1024;
/// The folder below the prefix for obsync's own objects: the marker, and temporary ones while files are
/// moved.
const OWN_FOLDER: &str = ".obsync";

/// The keys below one prefix.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    location: String,
    /// Empty, or with a slash at the end.
    prefix: String,
}

impl Keys {
    pub(super) fn new(location: &BucketLocation) -> Self {
        let prefix = match location.prefix() {
            "" => String::new(),
            prefix => format!("{prefix}/"),
        };
        Keys { location: location.to_string(), prefix }
    }

    /// The start of all keys: empty, or with a slash at the end.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The start of the keys of obsync's own objects.
    pub(super) fn own_prefix(&self) -> String {
        format!("{}{OWN_FOLDER}/", self.prefix)
    }

    /// The key of a file.
    pub(super) fn of(&self, path: &VaultPath) -> Result<Path, DestinationError> {
        let location = || self.location.clone();
        if path.segments().next() == Some(OWN_FOLDER) {
            return Err(DestinationError::NameRefused {
                path: path.as_str().to_owned(),
                location: location(),
                reason: "obsync keeps its own objects in a folder of this name".to_owned(),
            });
        }
        let key = format!("{}{path}", self.prefix);
        if key.len() > KEY_MAX {
            return Err(DestinationError::NameTooLong {
                path: path.as_str().to_owned(),
                location: location(),
                said: None,
            });
        }
        Path::parse(&key).map_err(|error| DestinationError::NameRefused {
            path: path.as_str().to_owned(),
            location: location(),
            reason: error.to_string(),
        })
    }

    /// The key of the copy number `number` that a run parks temporarily.
    pub(super) fn of_parked(&self, run: u64, number: u64) -> Path {
        Path::from_iter(
            self.own_prefix().split_terminator('/').chain([format!("{run:016x}-{number}").as_str()]),
        )
    }

    /// The key of the empty object used to probe conditions. It stays, so that probing costs later runs one
    /// request, and leaves no versions in versioned buckets.
    pub(super) fn of_probe(&self) -> Path {
        Path::from_iter(self.own_prefix().split_terminator('/').chain(["probe"]))
    }

    pub(super) fn of_marker(&self) -> Path {
        Path::from_iter(self.own_prefix().split_terminator('/').chain(["id"]))
    }

    /// True if a key is one of obsync's temporary objects.
    pub(super) fn is_own(&self, key: &str) -> bool {
        let name = key.strip_prefix(&self.own_prefix()).and_then(|name| name.split_once('-'));
        // Earlier releases probed conditions at one key per run.
        let is_run = |run: &str| run.len() == 16 && run.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_number = |number: &str| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        name.is_some_and(|(run, rest)| is_run(run) && (rest == "probe" || is_number(rest)))
    }

    /// Most bytes of a file name in the folder of `path`.
    pub(super) fn room_beside(&self, path: &VaultPath) -> usize {
        let folder = path.as_str().len() - path.file_name().len();
        KEY_MAX.saturating_sub(self.prefix.len() + folder)
    }

    /// The vault path of a key; `None` for obsync's own objects, for a console's folder placeholder, and for
    /// keys not below the prefix.
    pub(super) fn path_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        let path = key.strip_prefix(&self.prefix)?;
        let is_own = path.split_once('/').is_some_and(|(first, _)| first == OWN_FOLDER);
        (!is_own && !path.is_empty() && !path.ends_with('/')).then_some(path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use obsync_conformance::at;

    fn keys(location: &str) -> Keys {
        Keys::new(&BucketLocation::parse(location).unwrap())
    }

    #[test]
    fn a_key_is_the_prefix_and_the_path() {
        assert_eq!(
            keys("s3://bucket/my notes").of(&at("a/b ü%20+.md")).unwrap().as_ref(),
            "my notes/a/b ü%20+.md"
        );
        assert_eq!(keys("s3://bucket").of(&at("a.md")).unwrap().as_ref(), "a.md");
        assert_eq!(keys("s3://bucket").of_parked(1, 2).as_ref(), ".obsync/0000000000000001-2");
        assert_eq!(keys("s3://bucket/x y").of_parked(1, 2).as_ref(), "x y/.obsync/0000000000000001-2");
    }

    #[test]
    fn only_what_obsync_names_so_is_its_own() {
        let keys = keys("s3://bucket/my notes");
        assert!(keys.is_own(keys.of_parked(7, 12).as_ref()) && !keys.is_own(keys.of_probe().as_ref()));
        for key in [
            "my notes/.obsync/id",
            "my+notes/.obsync/0000000000000001-2",
            "my notes/.obsync/1-2",
            "my notes/a.md",
        ] {
            assert!(!keys.is_own(key), "{key}");
        }
    }

    #[test]
    fn a_key_of_1024_bytes_is_the_longest() {
        let keys = keys("s3://bucket/prefix");
        let fits = at(&"n".repeat(1024 - "prefix/".len()));
        assert!(keys.of(&fits).is_ok());
        assert_eq!(keys.room_beside(&fits), fits.as_str().len());
        let error = keys.of(&at(&format!("{fits}n"))).unwrap_err();
        assert!(matches!(error, DestinationError::NameTooLong { .. }), "{error}");
    }

    #[test]
    fn what_is_not_the_vaults_has_no_path() {
        let keys = keys("s3://bucket/notes");
        assert_eq!(keys.path_of("notes/a.md"), Some("a.md"));
        for key in ["notes", "notes/", "notes/folder/", "notes/.obsync/x", "notes2/a.md", "other"] {
            assert_eq!(keys.path_of(key), None, "{key}");
        }
        assert_eq!(keys.path_of("notes//strange"), Some("/strange"));
        assert!(matches!(keys.of(&at(".obsync/a")), Err(DestinationError::NameRefused { .. })));
    }

    proptest! {
        #[test]
        fn a_path_comes_back_from_its_key(
            prefix in proptest::sample::select(vec!["s3://bucket", "s3://bucket/a", "s3://bucket/a/b c%41"]),
            path in "[^/\\\\\\p{Cc}.][^/\\\\\\p{Cc}]{0,30}(/[^/\\\\\\p{Cc}.][^/\\\\\\p{Cc}]{0,10}){0,3}",
        ) {
            let keys = keys(prefix);
            let path = at(&path);
            let key = keys.of(&path).unwrap();
            prop_assert_eq!(keys.path_of(key.as_ref()), Some(path.as_str()));
        }
    }
}
