//! DynamoDB: an engine with its tables in memory, in a separate process, behind a gate that counts, delays
//! and refuses.

mod backups;
mod batch;
mod capacity;
mod engine;
mod proxy;
mod view;

use std::sync::Arc;

use tokio::net::TcpListener;

use super::CloudError;
use super::gate::Gate;
use super::http::Tasks;
use backups::Backups;
pub use capacity::Capacity;
use capacity::Meter;
use engine::Engine;
pub use view::DynamoDb;

/// Serves a DynamoDB on this listener.
pub(super) fn start(listener: TcpListener, tasks: &Tasks, gate: Gate) -> Result<DynamoDb, CloudError> {
    let engine = Arc::new(Engine::start()?);
    // Clients see the proxy; the engine behind it listens on its own port.
    let (meter, backups) = (Meter::default(), Arc::new(Backups::default()));
    proxy::serve(listener, tasks, gate, Arc::clone(&engine), meter.clone(), Arc::clone(&backups));
    Ok(DynamoDb::new(engine, meter, backups))
}
