//! DynamoDB: `dynoxide` with a database in memory, behind a gate that counts, delays and refuses.

mod backups;
mod batch;
mod proxy;
mod view;

use std::future::Future;

use tokio::net::TcpListener;

use super::CloudError;
use super::gate::Gate;
use super::http::{self, Tasks};
pub use view::DynamoDb;

/// Serves a DynamoDB on this listener.
pub(super) async fn start(listener: TcpListener, tasks: &Tasks, gate: Gate) -> Result<DynamoDb, CloudError> {
    let database = dynoxide::Database::memory().map_err(|error| CloudError::Database(error.to_string()))?;
    // The proxy is what clients see; the engine behind it listens on a port of its own.
    let (engine, address) = http::listen(0).await?;
    tasks.tracker.spawn(run_engine(engine, database.clone(), tasks.shutdown.clone().cancelled_owned()));
    proxy::serve(listener, tasks, gate, address, database.clone());
    Ok(DynamoDb::new(database))
}

async fn run_engine(
    listener: TcpListener,
    database: dynoxide::Database,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    if let Err(error) = dynoxide::server::serve_with_shutdown(listener, database, shutdown).await {
        tracing::error!(error, "the database engine stopped");
    }
}
