//! S3 in memory: the API over HTTP by `s3s`, and direct access for tests.
//!
//! Supported: buckets with their settings (versioning is recorded, but versions are not kept), objects with
//! user metadata, storage class and encryption as given, conditional reads and writes, copies with metadata
//! replaced or kept, multipart uploads, paged listings, bulk deletion. Buckets are named by path or by host
//! (`bucket.localhost`), and signatures are checked. [`S3Manners`] make it another vendor's service.
//! Everything else answers `NotImplemented`.

mod buckets;
mod conditions;
mod content;
mod listing;
mod manners;
mod objects;
mod properties;
mod server;
mod service;
mod store;
mod uploads;
mod view;

use std::sync::Arc;

use tokio::net::TcpListener;

use super::gate::Gate;
use super::http::Tasks;
pub(super) use manners::Asked;
pub use manners::{ListedKeys, Refusal, RefusedWhen, S3Manners};
use store::{State, Store};
pub use view::{BucketSettings, S3, StoredObject, UploadInProgress};

/// Carries out the operations.
#[derive(Debug, Clone)]
struct Backend {
    store: Arc<Store>,
    gate: Gate,
}

impl Backend {
    /// The condition in this header of a request of this operation, unless it is ignored.
    fn heeded<C>(&self, operation: &str, header: &str, condition: Option<C>) -> Option<C> {
        condition.filter(|_| !self.gate.faults.ignores_conditions(operation, header))
    }

    /// Counts a written object, for the fault that makes its bucket vanish.
    fn written(&self, state: &mut State, bucket: &str) {
        if self.gate.faults.bucket_vanishes() {
            state.vanish(bucket);
        }
    }
}

/// Serves an S3 on this listener.
pub(super) fn start(listener: TcpListener, tasks: &Tasks, gate: Gate) -> S3 {
    let store = Arc::new(Store::default());
    server::serve(listener, tasks, Backend { store: Arc::clone(&store), gate });
    S3::new(store)
}
