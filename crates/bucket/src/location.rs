//! The location of a vault in object storage: a service, a bucket, and a prefix of all keys.

use std::fmt;
use std::str::FromStr;

use obsync_protocol::{PathError, VaultPath};

/// The supported services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Service {
    /// Amazon S3, or a service that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage, where a bucket is a container.
    Azure,
    /// The memory of this process, for trying things out.
    Memory,
}

impl Service {
    const ALL: [Service; 4] = [Service::S3, Service::Gcs, Service::Azure, Service::Memory];

    /// The URL scheme of a service.
    fn scheme(self) -> &'static str {
        match self {
            Service::S3 => "s3://",
            Service::Gcs => "gs://",
            Service::Azure => "az://",
            Service::Memory => "memory://",
        }
    }
}

/// A bucket and a prefix, written `s3://bucket/prefix`, `gs://…`, `az://container/…` or `memory://…`.
///
/// The text is used literally: nothing in it is percent-decoded. A vault's file has the key
/// `prefix/path/of/the/file.md`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BucketLocation {
    service: Service,
    bucket: String,
    /// The prefix follows the rules of vault paths, so that whole keys follow them, too.
    prefix: Option<VaultPath>,
}

/// Why a text is not a [`BucketLocation`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// Unknown scheme.
    #[error(
        "{text:?} is not a bucket; write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
    )]
    NotABucket {
        /// The text.
        text: String,
    },
    /// The bucket's name is missing or invalid.
    #[error(
        "{text:?} names no bucket: a bucket's name has 3 to 255 letters, digits, dots, hyphens and underscores"
    )]
    BadName {
        /// The text.
        text: String,
    },
    /// The prefix is invalid.
    #[error("the prefix in {text:?} cannot be used: {source}")]
    BadPrefix {
        /// The text.
        text: String,
        /// The violated rule.
        source: PathError,
    },
}

impl BucketLocation {
    /// True if a text names a bucket at all (however badly), and not a folder.
    pub fn is_one(text: &str) -> bool {
        split(text).is_some()
    }

    /// Parses `s3://bucket/prefix` and its like. A slash at the end is ignored.
    ///
    /// # Errors
    ///
    /// [`LocationError`] for any other text.
    pub fn parse(text: &str) -> Result<Self, LocationError> {
        let wrong = || text.to_owned();
        let (service, rest) = split(text).ok_or_else(|| LocationError::NotABucket { text: wrong() })?;
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        // In memory there is only one bucket, which needs no name.
        let is_good = match service {
            Service::Memory => bucket.is_empty() || is_bucket_name(bucket),
            Service::S3 | Service::Gcs | Service::Azure => is_bucket_name(bucket),
        };
        if !is_good {
            return Err(LocationError::BadName { text: wrong() });
        }
        let prefix = match prefix.strip_suffix('/').unwrap_or(prefix) {
            "" => None,
            prefix => {
                let parsed = VaultPath::parse(prefix);
                Some(parsed.map_err(|source| LocationError::BadPrefix { text: wrong(), source })?)
            }
        };
        Ok(BucketLocation { service, bucket: bucket.to_owned(), prefix })
    }

    /// The location `name` below this one: the same bucket, a longer prefix.
    ///
    /// # Errors
    ///
    /// [`LocationError::BadPrefix`] if the name cannot be part of a key.
    pub fn join(&self, name: &str) -> Result<Self, LocationError> {
        let joined = match &self.prefix {
            Some(prefix) => prefix.join(name),
            None => VaultPath::parse(name),
        };
        let prefix =
            joined.map_err(|source| LocationError::BadPrefix { text: format!("{self}/{name}"), source })?;
        Ok(BucketLocation { prefix: Some(prefix), ..self.clone() })
    }

    /// True if the other location is this one or inside it.
    pub fn holds(&self, other: &Self) -> bool {
        let is_below = |prefix: &VaultPath| match &other.prefix {
            Some(other) => other == prefix || other.is_below(prefix),
            None => false,
        };
        self.service == other.service
            && self.bucket == other.bucket
            && self.prefix.as_ref().is_none_or(is_below)
    }

    /// The service.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// The start of all keys, without a slash at the end; empty when the vault has the bucket to itself.
    pub fn prefix(&self) -> &str {
        self.prefix.as_ref().map_or("", VaultPath::as_str)
    }
}

impl fmt::Display for BucketLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.service.scheme(), self.bucket)?;
        match &self.prefix {
            Some(prefix) => write!(f, "/{prefix}"),
            None => Ok(()),
        }
    }
}

impl FromStr for BucketLocation {
    type Err = LocationError;

    fn from_str(text: &str) -> Result<Self, LocationError> {
        Self::parse(text)
    }
}

fn split(text: &str) -> Option<(Service, &str)> {
    Service::ALL.into_iter().find_map(|service| Some((service, text.strip_prefix(service.scheme())?)))
}

fn is_bucket_name(name: &str) -> bool {
    (3..=255).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_location_has_a_service_a_bucket_and_perhaps_a_prefix() {
        let location = BucketLocation::parse("s3://my-bucket/notes/My Vault/").unwrap();
        assert_eq!(location.service(), Service::S3);
        assert_eq!(location.bucket(), "my-bucket");
        assert_eq!(location.prefix(), "notes/My Vault");
        assert_eq!(location.to_string(), "s3://my-bucket/notes/My Vault");
        assert_eq!(BucketLocation::parse("gs://my-bucket").unwrap().prefix(), "");
        assert_eq!(BucketLocation::parse("az://container/").unwrap().to_string(), "az://container");
        assert_eq!(BucketLocation::parse("memory://").unwrap().service(), Service::Memory);
    }

    #[test]
    fn a_prefix_grows_by_joining() {
        let root = BucketLocation::parse("s3://my-bucket").unwrap();
        let below = root.join("notes").unwrap().join("My Vault").unwrap();
        assert_eq!(below.to_string(), "s3://my-bucket/notes/My Vault");
        assert!(matches!(root.join(".."), Err(LocationError::BadPrefix { .. })));
    }

    #[test]
    fn a_place_holds_itself_and_what_is_below() {
        let holds = |one: &str, other: &str| {
            BucketLocation::parse(one).unwrap().holds(&BucketLocation::parse(other).unwrap())
        };
        for below in ["s3://bucket", "s3://bucket/notes", "s3://bucket/notes/My Vault"] {
            assert!(holds("s3://bucket", below) && holds(below, below), "{below}");
        }
        assert!(holds("s3://bucket/notes", "s3://bucket/notes/My Vault"));
        for beside in ["s3://bucket", "s3://bucket/notes 2", "s3://other/notes/a", "gs://bucket/notes"] {
            assert!(!holds("s3://bucket/notes", beside), "{beside}");
        }
    }

    #[test]
    fn what_is_no_bucket_is_refused_with_a_reason() {
        assert!(matches!(BucketLocation::parse("/home/me"), Err(LocationError::NotABucket { .. })));
        assert!(matches!(BucketLocation::parse("S3://bucket"), Err(LocationError::NotABucket { .. })));
        for text in ["s3://", "s3:///prefix", "s3://a", "s3://a b c/x", "s3://bücket"] {
            assert!(matches!(BucketLocation::parse(text), Err(LocationError::BadName { .. })), "{text}");
        }
        for text in ["s3://bucket//x", "s3://bucket/a/../b", "s3://bucket/./x", "s3://bucket/a\nb"] {
            assert!(matches!(BucketLocation::parse(text), Err(LocationError::BadPrefix { .. })), "{text}");
        }
        assert!(BucketLocation::is_one("s3://") && !BucketLocation::is_one("notes/s3"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            service in proptest::sample::select(Service::ALL.to_vec()),
            bucket in "[a-z0-9.-]{3,63}",
            prefix in proptest::option::of("[a-zA-Z0-9 äß%+]{1,20}(/[a-z?#&=]{1,10}){0,3}"),
        ) {
            let text = match prefix {
                Some(prefix) => format!("{}{bucket}/{prefix}", service.scheme()),
                None => format!("{}{bucket}", service.scheme()),
            };
            let location = BucketLocation::parse(&text).unwrap();
            prop_assert_eq!(location.to_string(), text);
        }

        #[test]
        fn no_text_is_too_strange_to_be_judged(text in ".{0,60}") {
            let _ = BucketLocation::parse(&format!("s3://{text}"));
            let _ = BucketLocation::parse(&text);
        }
    }
}
