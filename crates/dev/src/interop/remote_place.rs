//! A place in a real bucket, for the conformance suite.

use std::time::Duration;

use async_trait::async_trait;
use object_store::path::Path;
use object_store::{Attribute, GetOptions, ObjectStore, ObjectStoreExt};
use obsync_bucket::{BucketDestination, BucketLocation, BucketOptions};
use obsync_conformance::DestinationUnderTest;

use super::bucket::RemoteBucket;

/// A prefix of a bucket.
pub(super) struct RemotePlace {
    pub(super) bucket: RemoteBucket,
    pub(super) prefix: String,
}

impl RemotePlace {
    #[expect(clippy::expect_used, reason = "the suite tells a broken promise by a panic")]
    fn key(&self, path: &str) -> Path {
        Path::parse(format!("{}/{path}", self.prefix)).expect("a key")
    }
}

#[async_trait]
#[expect(clippy::expect_used, reason = "the suite tells a broken promise by a panic")]
impl DestinationUnderTest for RemotePlace {
    type Store = BucketDestination;

    async fn open(&self) -> BucketDestination {
        let location = format!("{}/{}", self.bucket.place, self.prefix);
        let location = BucketLocation::parse(&location).expect("a location");
        let options = BucketOptions { abandoned_after: Duration::ZERO, ..BucketOptions::default() };
        BucketDestination::open(&location, options).await.expect("open")
    }

    async fn plant(&self, path: &str, content: &[u8]) {
        self.bucket.destination.put(&self.key(path), content.to_vec().into()).await.expect("put");
    }

    async fn content(&self, path: &str) -> Option<Vec<u8>> {
        let found = match self.bucket.destination.get(&self.key(path)).await {
            Err(object_store::Error::NotFound { .. }) => return None,
            found => found.expect("get"),
        };
        Some(found.bytes().await.expect("bytes").to_vec())
    }

    async fn mtime(&self, path: &str) -> Option<i64> {
        let options = GetOptions { head: true, ..GetOptions::default() };
        let found = match self.bucket.destination.get_opts(&self.key(path), options).await {
            Err(object_store::Error::NotFound { .. }) => return None,
            found => found.expect("head"),
        };
        found.attributes.get(&Attribute::Metadata("mtime".into()))?.parse().ok()
    }

    fn has_folders(&self) -> bool {
        false
    }

    fn says_versions(&self) -> bool {
        true
    }

    fn keeps_staged(&self) -> bool {
        false
    }
}
