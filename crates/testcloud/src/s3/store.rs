//! The objects of the buckets, in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use s3s::crypto::{Checksum as _, Md5};
use s3s::dto::{
    BucketLifecycleConfiguration, Checksum, OwnershipControls, PublicAccessBlockConfiguration,
    ServerSideEncryptionConfiguration, Tagging, VersioningConfiguration,
};
use s3s::{S3Result, s3_error};

/// The bytes of an object or a part, in the chunks in which they arrived.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    pub(super) chunks: Vec<Bytes>,
    pub(super) size: u64,
}

impl Content {
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.size += chunk.len() as u64;
        self.chunks.push(chunk);
    }

    pub(super) fn append(&mut self, other: &Self) {
        self.size += other.size;
        self.chunks.extend(other.chunks.iter().cloned());
    }

    /// The bytes of a range, which must lie inside.
    pub(super) fn slice(&self, range: std::ops::Range<u64>) -> Self {
        let mut slice = Self::default();
        let mut offset = 0;
        for chunk in &self.chunks {
            let end = offset + chunk.len() as u64;
            let from = range.start.clamp(offset, end) - offset;
            let to = range.end.clamp(offset, end) - offset;
            if from < to {
                // Both lie inside the chunk, so they fit its length.
                slice.push(chunk.slice(from as usize..to as usize));
            }
            offset = end;
        }
        slice
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        match self.chunks.as_slice() {
            [] => Bytes::new(),
            [whole] => whole.clone(),
            chunks => chunks.concat().into(),
        }
    }

    pub(super) fn md5(&self) -> [u8; 16] {
        let mut hasher = Md5::new();
        self.chunks.iter().for_each(|chunk| hasher.update(chunk));
        hasher.finalize()
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        let mut content = Self::default();
        content.push(bytes);
        content
    }
}

/// The attributes of an object besides its bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) content_type: Option<String>,
    pub(super) content_encoding: Option<String>,
    pub(super) content_disposition: Option<String>,
    pub(super) content_language: Option<String>,
    pub(super) cache_control: Option<String>,
    pub(super) storage_class: Option<String>,
    pub(super) encryption: Option<String>,
    pub(super) kms_key: Option<String>,
    pub(super) bucket_key: Option<bool>,
}

#[derive(Debug)]
pub(super) struct Object {
    pub(super) content: Content,
    pub(super) attributes: Attributes,
    /// Without quotes: the MD5, or the MD5 of the parts' MD5s with the number of parts (as in S3).
    pub(super) etag: String,
    pub(super) modified: SystemTime,
    /// The parts of its multipart upload; empty when it was put whole.
    pub(super) parts: Option<usize>,
    /// The checksums that were given and verified when it was put whole.
    pub(super) checksum: Checksum,
}

impl Object {
    pub(super) fn whole(content: Content, attributes: Attributes) -> Self {
        let etag = HEXLOWER.encode(&content.md5());
        Self {
            content,
            attributes,
            etag,
            modified: SystemTime::now(),
            parts: None,
            checksum: Checksum::default(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) content: Content,
    pub(super) md5: [u8; 16],
    pub(super) modified: SystemTime,
}

impl Part {
    pub(super) fn new(content: Content) -> Self {
        let md5 = content.md5();
        Self { content, md5, modified: SystemTime::now() }
    }

    pub(super) fn etag(&self) -> String {
        HEXLOWER.encode(&self.md5)
    }
}

/// A multipart upload that is neither completed nor aborted.
#[derive(Debug)]
pub(super) struct Upload {
    pub(super) key: String,
    pub(super) attributes: Attributes,
    pub(super) started: SystemTime,
    pub(super) parts: BTreeMap<i32, Part>,
}

/// The settings of a bucket.
#[derive(Debug, Default)]
pub(super) struct Settings {
    pub(super) versioning: Option<VersioningConfiguration>,
    pub(super) encryption: Option<ServerSideEncryptionConfiguration>,
    pub(super) public_access: Option<PublicAccessBlockConfiguration>,
    pub(super) lifecycle: Option<BucketLifecycleConfiguration>,
    pub(super) policy: Option<String>,
    pub(super) ownership: Option<OwnershipControls>,
    pub(super) tagging: Option<Tagging>,
    pub(super) region: Option<String>,
}

#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) created: SystemTime,
    pub(super) settings: Settings,
    pub(super) objects: BTreeMap<String, Arc<Object>>,
    pub(super) uploads: BTreeMap<String, Upload>,
}

impl Bucket {
    pub(super) fn new(region: Option<String>) -> Self {
        let settings = Settings { region, ..Settings::default() };
        Self { created: SystemTime::now(), settings, objects: BTreeMap::new(), uploads: BTreeMap::new() }
    }

    /// The upload with this id, if it is for this key.
    pub(super) fn upload(&mut self, key: &str, id: &str) -> S3Result<&mut Upload> {
        self.uploads
            .get_mut(id)
            .filter(|upload| upload.key == key)
            .ok_or_else(|| s3_error!(NoSuchUpload, "The specified multipart upload does not exist."))
    }
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) buckets: BTreeMap<String, Bucket>,
    /// Buckets removed by a fault.
    pub(super) vanished: BTreeMap<String, Bucket>,
    uploads_started: u64,
}

impl State {
    pub(super) fn bucket(&mut self, name: &str) -> S3Result<&mut Bucket> {
        self.buckets
            .get_mut(name)
            .ok_or_else(|| s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }

    /// The object with this key, in a bucket that must exist.
    pub(super) fn object(&mut self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        let object = self.bucket(bucket)?.objects.get(key);
        object.cloned().ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))
    }

    /// An id for a new upload; ids sort in order of creation, unlike those of S3.
    pub(super) fn next_upload_id(&mut self) -> String {
        self.uploads_started += 1;
        format!("upload-{:08}", self.uploads_started)
    }

    pub(super) fn vanish(&mut self, name: &str) {
        if let Some(bucket) = self.buckets.remove(name) {
            self.vanished.insert(name.to_owned(), bucket);
        }
    }
}

/// The buckets, shared by the API and the tests' direct access.
#[derive(Debug, Default)]
pub(super) struct Store {
    state: Mutex<State>,
}

impl Store {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
