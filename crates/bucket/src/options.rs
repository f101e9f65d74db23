//! Options of a bucket destination.

use std::time::{Duration, SystemTime};

use obsync_core::conflicted_copy::DeviceName;
use obsync_net::Network;
use obsync_protocol::VaultId;
use tokio::time::Instant;

use super::retries::Retries;

/// The smallest part of a multipart upload, except the last one (S3 user guide, "Multipart upload limits").
pub(super) const PART_MIN: usize = 5 << 20;
/// The largest part here: well below the limit of S3 (5 GiB), so that memory stays bounded.
const PART_MAX: usize = 1 << 30;
/// The most parts that an upload may have (S3 user guide, "Multipart upload limits").
const PARTS_MAX: u64 = 10_000;
/// Parts of one upload in memory at a time: one arriving and one being sent.
pub(super) const PARTS_HELD: usize = 2;

/// Settings of a [`BucketDestination`](super::BucketDestination).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketOptions {
    /// The vault whose files are written. It is part of the objects' metadata, which distinguishes another
    /// vault's files in the same place from earlier versions of this one's. `None` if nothing is written.
    pub vault: Option<VaultId>,
    /// The name of this device, for the names of conflicted copies.
    pub device: DeviceName,
    /// The KMS key for S3 to encrypt objects with; `None`: the bucket's setting.
    pub sse_kms_key: Option<String>,
    /// The storage class of objects, in the service's terms (`STANDARD_IA`, `NEARLINE`, `Cool`); `None`: the
    /// service's default.
    pub storage_class: Option<String>,
    /// Keep objects of files that the vault deleted. Renamed files stay under their old name as well.
    pub keep_deleted: bool,
    /// A recorded object that is missing in a scan counts as deleted by somebody. Refused where rules expire
    /// objects.
    pub misses_deleted: bool,
    /// Bytes of the largest content that waits in memory and is published by one PUT. At least 5 MiB. A
    /// larger one is uploaded in parts of 5 MiB, which take no longer than larger parts and less memory.
    pub part_size: usize,
    /// Most requests in flight at a time. It starts at 16, rises while answers stay as quick, and is halved
    /// when the service throttles.
    pub concurrency: usize,
    /// Most bytes of content waiting in memory at a time. A content begins only when there is room for it;
    /// one that needs more than all of it gets all of it.
    pub memory: usize,
    /// Most files that become visible in one go, while the next are announced to the state. The table
    /// requests for that, a hundred files each, take about as long as the publication.
    pub batch_files: usize,
    /// Age after which an open multipart upload of this vault, or one of obsync's temporary copies, counts as
    /// left by a killed run and is removed. With a lease on the state it may be zero; without one, it must be
    /// longer than another machine may need for one file.
    pub abandoned_after: Duration,
    /// Uploads and copies younger than this belong to another run, which took over this one's lease. Set to
    /// the time when this run will be killed, if that is known.
    pub abandoned_before: Option<SystemTime>,
    /// Time limit for requests under way after the run is cancelled. Later ones are given up; the next run
    /// detects whether they succeeded.
    pub grace: Duration,
    /// Until when staged contents may still be published after the run is cancelled, for runs whose end is
    /// known long before. Contents not begun by then were fetched in vain. `None`: nothing is begun after
    /// cancellation.
    pub begins_until: Option<Instant>,
    /// The address of an S3-compatible service; buckets are named in the path there. `None`: by
    /// `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` or the profile, else Amazon's.
    pub endpoint: Option<String>,
    /// The retry policy of requests.
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
    /// The same with every number within its bounds.
    pub(super) fn in_bounds(self) -> Self {
        BucketOptions {
            part_size: self.part_size.clamp(PART_MIN, PART_MAX),
            concurrency: self.concurrency.clamp(1, 1024),
            memory: self.memory.max(1),
            batch_files: self.batch_files.max(1),
            ..self
        }
    }

    /// The largest content that can be written: the most parts of an upload, each as large as the memory
    /// allows.
    pub(super) fn largest(&self) -> u64 {
        (self.largest_part() as u64).saturating_mul(PARTS_MAX)
    }

    fn largest_part(&self) -> usize {
        (self.memory / PARTS_HELD).clamp(PART_MIN, PART_MAX)
    }

    /// Bytes of one part of a content of `size` bytes; for a single PUT all of it. Larger than usual if there
    /// would be too many parts.
    pub(super) fn part_size_for(&self, size: u64) -> usize {
        let least = usize::try_from(size.div_ceil(PARTS_MAX)).unwrap_or(usize::MAX).min(self.largest_part());
        if size <= self.part_size as u64 { self.part_size } else { PART_MIN.max(least) }
    }

    /// Memory of a content of `size` bytes from its beginning until it is published.
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
