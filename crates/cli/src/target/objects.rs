//! Storage class, encryption and tags of new objects, from the command line.

use obsync_bucket::{BucketOptions, Service};

use crate::args::Objects;
use crate::exit::{Exit, Failed};
use crate::target::destination::Destination;

impl Objects {
    /// The options of a bucket for this destination.
    ///
    /// # Errors
    /// When there are some that such a destination does not support.
    pub(crate) fn for_destination(&self, destination: &Destination) -> Result<BucketOptions, Failed> {
        let Destination::Bucket(bucket) = destination else {
            let given = [
                (self.sse_kms_key.is_some(), "--sse-kms-key"),
                (self.storage_class.is_some(), "--storage-class"),
            ];
            return match given.into_iter().find(|(is_given, _)| *is_given) {
                Some((_, option)) => Err(only_for(option, "buckets", destination)),
                None => Ok(BucketOptions::default()),
            };
        };
        if self.sse_kms_key.is_some() && bucket.service() != Service::S3 {
            return Err(only_for("--sse-kms-key", "buckets of S3", destination));
        }
        Ok(BucketOptions {
            sse_kms_key: self.sse_kms_key.clone(),
            storage_class: self.storage_class.clone(),
            ..BucketOptions::default()
        })
    }
}

/// Refuses an option that such a destination does not support.
pub(crate) fn only_for(option: &str, places: &str, destination: &Destination) -> Failed {
    Failed::new(
        Exit::Usage,
        format!("{option} is for {places} only, and {destination} is none; leave it out"),
    )
}
