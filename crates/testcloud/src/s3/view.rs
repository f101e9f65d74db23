//! The buckets for tests, without requests and faults.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use s3s::dto::{
    BucketLifecycleConfiguration, BucketVersioningStatus, ExpirationStatus, LifecycleExpiration,
    LifecycleRule, LifecycleRuleFilter,
};

use super::properties;
use super::store::{Attributes, Bucket, Object, Store};

/// An object in its bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredObject {
    /// The key.
    pub key: String,
    /// The bytes.
    pub content: Bytes,
    /// User metadata by lower-case name, without `x-amz-meta-`.
    pub metadata: BTreeMap<String, String>,
    /// `Content-Type`, if one was given.
    pub content_type: Option<String>,
    /// The storage class, if one was given.
    pub storage_class: Option<String>,
    /// `AES256` or `aws:kms`: as given, else the bucket's.
    pub encryption: Option<String>,
    /// The KMS key, if one was given.
    pub kms_key: Option<String>,
    /// The entity tag without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: SystemTime,
    /// Number of parts of its multipart upload; `None` when it was put or copied.
    pub parts: Option<usize>,
}

impl StoredObject {
    fn new(key: &str, object: &Object) -> Self {
        let Attributes { metadata, content_type, storage_class, encryption, kms_key, .. } =
            object.attributes.clone();
        Self {
            key: key.to_owned(),
            content: object.content.to_bytes(),
            metadata,
            content_type,
            storage_class,
            encryption,
            kms_key,
            etag: object.etag.clone(),
            modified: object.modified,
            parts: object.parts,
        }
    }
}

/// A multipart upload that was neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadInProgress {
    /// Its key.
    pub key: String,
    /// Its id.
    pub id: String,
    /// When it began.
    pub started: SystemTime,
    /// Number of parts uploaded.
    pub parts: usize,
    /// The bytes of those parts.
    pub size: u64,
}

/// The settings of a bucket.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketSettings {
    /// Versions are kept.
    pub versioned: bool,
    /// The default encryption of objects, such as `aws:kms`, if it was set.
    pub encryption: Option<String>,
    /// The KMS key for that.
    pub kms_key: Option<String>,
    /// All four kinds of public access are blocked.
    pub public_access_blocked: bool,
    /// The bucket policy as JSON.
    pub policy: Option<String>,
    /// Number of lifecycle rules.
    pub lifecycle_rules: usize,
    /// The region that it was created in, if one was named.
    pub region: Option<String>,
}

impl BucketSettings {
    fn new(bucket: &Bucket) -> Self {
        let settings = &bucket.settings;
        let versioning = settings.versioning.as_ref().and_then(|versioning| versioning.status.as_ref());
        let by_default = settings
            .encryption
            .as_ref()
            .and_then(|encryption| encryption.rules.first())
            .and_then(|rule| rule.apply_server_side_encryption_by_default.as_ref());
        let blocked = settings.public_access.as_ref().is_some_and(|block| {
            [
                block.block_public_acls,
                block.block_public_policy,
                block.ignore_public_acls,
                block.restrict_public_buckets,
            ]
            .into_iter()
            .all(|setting| setting == Some(true))
        });
        Self {
            versioned: versioning.is_some_and(|status| status.as_str() == BucketVersioningStatus::ENABLED),
            encryption: by_default.map(|default| default.sse_algorithm.as_str().to_owned()),
            kms_key: by_default.and_then(|default| default.kms_master_key_id.clone()),
            public_access_blocked: blocked,
            policy: settings.policy.clone(),
            lifecycle_rules: settings.lifecycle.as_ref().map_or(0, |lifecycle| lifecycle.rules.len()),
            region: settings.region.clone(),
        }
    }
}

/// Direct access to the buckets of a cloud: no request is counted, no fault strikes.
#[derive(Debug, Clone)]
pub struct S3 {
    store: Arc<Store>,
}

impl S3 {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self { store }
    }

    /// Creates an empty bucket, unless it exists.
    pub fn create_bucket(&self, name: &str) {
        self.store.lock().buckets.entry(name.to_owned()).or_insert_with(|| Bucket::new(None));
    }

    /// Replaces the objects of a bucket by those of another, with their entity tags and times, and removes
    /// its uploads; creates the bucket if it does not exist.
    pub fn copy_objects(&self, from: &str, to: &str) {
        let mut state = self.store.lock();
        let objects = state.buckets.get(from).map(|bucket| bucket.objects.clone()).unwrap_or_default();
        let bucket = state.buckets.entry(to.to_owned()).or_insert_with(|| Bucket::new(None));
        bucket.objects = objects;
        bucket.uploads.clear();
    }

    /// Removes a bucket with everything in it; [`Self::restore_bucket`] brings it back.
    pub fn remove_bucket(&self, name: &str) {
        self.store.lock().vanish(name);
    }

    /// Restores a bucket that vanished or was removed. Returns true if there was one.
    pub fn restore_bucket(&self, name: &str) -> bool {
        let mut state = self.store.lock();
        match state.vanished.remove(name) {
            Some(bucket) => {
                state.buckets.insert(name.to_owned(), bucket);
                true
            }
            None => false,
        }
    }

    /// The names of the buckets.
    pub fn buckets(&self) -> Vec<String> {
        self.store.lock().buckets.keys().cloned().collect()
    }

    /// The settings of a bucket, if it exists.
    pub fn settings(&self, bucket: &str) -> Option<BucketSettings> {
        self.store.lock().buckets.get(bucket).map(BucketSettings::new)
    }

    /// The same in terms of CloudFormation's `AWS::S3::Bucket`, without unset ones.
    pub fn properties(&self, bucket: &str) -> Option<serde_json::Value> {
        self.store.lock().buckets.get(bucket).map(|bucket| properties::of(&bucket.settings))
    }

    /// Removes the tags of a bucket, as another program.
    pub fn forget_tags(&self, bucket: &str) {
        if let Some(bucket) = self.store.lock().buckets.get_mut(bucket) {
            bucket.settings.tagging = None;
        }
    }

    /// The objects whose keys begin with `prefix`, by key; none when there is no such bucket.
    ///
    /// Contents are shared, not copied, except those of multipart uploads.
    pub fn objects(&self, bucket: &str, prefix: &str) -> Vec<StoredObject> {
        let listed: Vec<(String, Arc<Object>)> = {
            let state = self.store.lock();
            let objects = state.buckets.get(bucket).map(|bucket| bucket.objects.iter());
            objects
                .into_iter()
                .flatten()
                .filter(|(key, _)| key.starts_with(prefix))
                .map(|(key, object)| (key.clone(), Arc::clone(object)))
                .collect()
        };
        listed.iter().map(|(key, object)| StoredObject::new(key, object)).collect()
    }

    /// The same without obsync's own objects: the marker that identifies a destination (`.obsync/id`), and an
    /// empty object for probing conditions (`.obsync/probe`).
    pub fn files(&self, bucket: &str, prefix: &str) -> Vec<StoredObject> {
        let mut files = self.objects(bucket, prefix);
        let is_own = |key: &str, name: &str| {
            key.strip_suffix(name).is_some_and(|at| at.is_empty() || at.ends_with('/'))
        };
        files.retain(|object| ![".obsync/id", ".obsync/probe"].iter().any(|name| is_own(&object.key, name)));
        files
    }

    /// An object, if it exists.
    pub fn object(&self, bucket: &str, key: &str) -> Option<StoredObject> {
        let state = self.store.lock();
        let object = state.buckets.get(bucket)?.objects.get(key)?;
        Some(StoredObject::new(key, object))
    }

    /// Puts an object, as another program; creates the bucket if it does not exist.
    pub fn put(&self, bucket: &str, key: &str, content: impl Into<Bytes>, metadata: &[(&str, &str)]) {
        let metadata = metadata.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let attributes = Attributes { metadata: metadata.collect(), ..Attributes::default() };
        let object = Arc::new(Object::whole(content.into().into(), attributes));
        let mut state = self.store.lock();
        let bucket = state.buckets.entry(bucket.to_owned()).or_insert_with(|| Bucket::new(None));
        bucket.objects.insert(key.to_owned(), object);
    }

    /// Deletes an object, as another program. Returns true if it existed.
    pub fn delete(&self, bucket: &str, key: &str) -> bool {
        let mut state = self.store.lock();
        state.buckets.get_mut(bucket).is_some_and(|bucket| bucket.objects.remove(key).is_some())
    }

    /// Sets a lifecycle rule, as another program: it would expire the objects below a prefix after this many
    /// days. Here nothing expires.
    pub fn expire_after_days(&self, bucket: &str, prefix: &str, days: i32) {
        let rule = LifecycleRule {
            expiration: Some(LifecycleExpiration { days: Some(days), ..LifecycleExpiration::default() }),
            filter: Some(LifecycleRuleFilter {
                prefix: Some(prefix.to_owned()),
                ..LifecycleRuleFilter::default()
            }),
            id: Some("expire".to_owned()),
            status: ExpirationStatus::from_static(ExpirationStatus::ENABLED),
            abort_incomplete_multipart_upload: None,
            noncurrent_version_expiration: None,
            noncurrent_version_transitions: None,
            prefix: None,
            transitions: None,
        };
        let mut state = self.store.lock();
        if let Some(bucket) = state.buckets.get_mut(bucket) {
            bucket.settings.lifecycle = Some(BucketLifecycleConfiguration { rules: vec![rule] });
        }
    }

    /// Removes all lifecycle rules, as another program.
    pub fn expire_nothing(&self, bucket: &str) {
        let mut state = self.store.lock();
        if let Some(bucket) = state.buckets.get_mut(bucket) {
            bucket.settings.lifecycle = None;
        }
    }

    /// The multipart uploads of a bucket that are in progress, in order of creation.
    pub fn uploads(&self, bucket: &str) -> Vec<UploadInProgress> {
        let state = self.store.lock();
        let uploads = state.buckets.get(bucket).map(|bucket| bucket.uploads.iter());
        let shown = uploads.into_iter().flatten().map(|(id, upload)| UploadInProgress {
            key: upload.key.clone(),
            id: id.clone(),
            started: upload.started,
            parts: upload.parts.len(),
            size: upload.parts.values().map(|part| part.content.size).sum(),
        });
        shown.collect()
    }

    /// Makes the uploads in progress older by this duration.
    pub fn age_uploads(&self, bucket: &str, by: Duration) {
        let mut state = self.store.lock();
        let uploads = state.buckets.get_mut(bucket).map(|bucket| bucket.uploads.values_mut());
        for upload in uploads.into_iter().flatten() {
            upload.started -= by;
        }
    }
}
