//! Options of a bucket destination.

use std::time::{Duration, SystemTime};

use obsync_core::conflicted_copy::DeviceName;
use obsync_net::Network;
use obsync_protocol::VaultId;
use tokio::time::Instant;

use super::retries::Retries;

/// The least that a part of a multipart upload may hold, unless it is the last one (S3 user guide, "Multipart upload
/// limits").
pub(super) const PART_MIN: usize = 5 << 20;
/// The most that a part may hold here: well below what S3 takes (5 GiB), so that memory stays bounded.
const PART_MAX: usize = 1 << 30;
/// The most parts that an upload may have (S3 user guide, "Multipart upload limits").
const PARTS_MAX: u64 = 10_000;
/// How many parts of one upload are held at a time: one that arrives and one that is on its way.
pub(super) const PARTS_HELD: usize = 2;

/// How a [`BucketDestination`](super::BucketDestination) works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketOptions {
    /// The vault whose files are written. Objects carry it, so that those of another vault in the same place are told from
    /// earlier versions of this one's. `None` where nothing is written.
    pub vault: Option<VaultId>,
    /// The name of this device, for the names of conflicted copies.
    pub device: DeviceName,
    /// The KMS key that S3 is to encrypt objects with; `None`: what the bucket is set to.
    pub sse_kms_key: Option<String>,
    /// The storage class of objects, as the service calls it (`STANDARD_IA`, `NEARLINE`, `Cool`); `None`: the service's
    /// default.
    pub storage_class: Option<String>,
    /// Whether objects stay that the vault deleted. Renamed files stay under their old name as well.
    pub keep_deleted: bool,
    /// Whether a recorded object that is missing in a scan counts as deleted by somebody. Refused where objects expire by rules.
    pub misses_deleted: bool,
    /// Bytes of the largest content that waits in memory and becomes visible by one PUT. At least 5 MiB. A larger one goes up
    /// in parts of 5 MiB, which take no longer than larger ones and less memory.
    pub part_size: usize,
    /// How many requests are in flight at a time at most. There are 16 at first, more while they are answered as quickly, and
    /// half as many when the service throttles.
    pub concurrency: usize,
    /// How many bytes of content may wait in memory at a time. Contents are begun only when there is room for them; one that
    /// needs more than all of it gets all of it.
    pub memory: usize,
    /// How many files become visible in one go at most, while the next are announced to the state. The requests to a table
    /// that they take, a hundred files each, are about as long under way as their own.
    pub batch_files: usize,
    /// For how long a multipart upload of this vault must have been open, or a copy of obsync's own been there, before it
    /// counts as left by a run that was killed, and is removed. A lease on the state lets this be zero; without one, it must
    /// be longer than another machine may take for one file.
    pub abandoned_after: Duration,
    /// Uploads and copies that are younger than this are another run's: that of a run which took this one's lease over. When
    /// this run is killed, if that is known.
    pub abandoned_before: Option<SystemTime>,
    /// How long what is under way may take to end once the run is told to stop. What takes longer is given up; whether it
    /// happened is seen by the next run.
    pub grace: Duration,
    /// Until when what is staged may still be begun after the run is told to stop, for runs whose end is known long before.
    /// What is not begun then was fetched for nothing. `None`: nothing is begun once the run is told to stop.
    pub begins_until: Option<Instant>,
    /// The service's address, for S3-compatible services; buckets are named in the path there. `None`: as
    /// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or the profile say, else Amazon's.
    pub endpoint: Option<String>,
    /// How persistent requests are.
    pub retries: Retries,
    /// Proxies and certificates.
    pub network: Network,
}

impl Default for BucketOptions {
    fn default() -> Self {
        BucketOptions {
            vault: None,
            device: DeviceName::default(),
            sse_kms_key: None,
            storage_class: None,
            keep_deleted: false,
            misses_deleted: false,
            part_size: 8 << 20,
            concurrency: 64,
            memory: 128 << 20,
            batch_files: 256,
            abandoned_after: Duration::from_secs(3600),
            abandoned_before: None,
            grace: Duration::from_secs(10),
            begins_until: None,
            endpoint: None,
            retries: Retries::default(),
            network: Network::default(),
        }
    }
}

impl BucketOptions {
    /// The same with every number in its bounds.
    pub(super) fn in_bounds(self) -> Self {
        BucketOptions {
            part_size: self.part_size.clamp(PART_MIN, PART_MAX),
            concurrency: self.concurrency.clamp(1, 1024),
            memory: self.memory.max(1),
            batch_files: self.batch_files.max(1),
            ..self
        }
    }

    /// The largest content that can be written: all parts that an upload may have, each as large as the memory allows.
    pub(super) fn largest(&self) -> u64 {
        (self.largest_part() as u64).saturating_mul(PARTS_MAX)
    }

    fn largest_part(&self) -> usize {
        (self.memory / PARTS_HELD).clamp(PART_MIN, PART_MAX)
    }

    /// Bytes of one part of a content of `size` bytes, which is all of it if it goes up by one PUT: more than usual if there
    /// were too many parts else.
    pub(super) fn part_size_for(&self, size: u64) -> usize {
        let least = usize::try_from(size.div_ceil(PARTS_MAX)).unwrap_or(usize::MAX).min(self.largest_part());
        if size <= self.part_size as u64 { self.part_size } else { PART_MIN.max(least) }
    }

    /// Bytes of memory that a content of `size` bytes takes from its beginning until it is published.
    pub fn memory_for(&self, size: u64) -> u64 {
        let part_size = self.part_size_for(size) as u64;
        if size <= part_size { size } else { part_size * PARTS_HELD as u64 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_kept_in_their_bounds() {
        let options = BucketOptions { part_size: 1, concurrency: 0, memory: 0, ..BucketOptions::default() };
        let options = options.in_bounds();
        assert_eq!((options.part_size, options.concurrency, options.memory), (PART_MIN, 1, 1));
    }

    proptest! {
        #[test]
        fn no_upload_has_too_many_parts_and_memory_stays_bounded(size in 0_u64..1 << 39) {
            let options = BucketOptions::default();
            let part = options.part_size_for(size) as u64;
            prop_assert!(size.div_ceil(part) <= PARTS_MAX);
            prop_assert!(options.memory_for(size) <= (part * 2).max(size.min(part)));
        }

        #[test]
        fn no_size_that_is_listed_takes_more_memory_than_there_is(size in any::<u64>(), memory in 0_usize..1 << 30) {
            let options = BucketOptions { memory, ..BucketOptions::default() }.in_bounds();
            prop_assert!(options.memory_for(size) <= (memory as u64).max(2 * PART_MIN as u64));
            prop_assert!(size > options.largest() || size.div_ceil(options.part_size_for(size) as u64) <= PARTS_MAX);
        }
    }
}
