//! A TLS configuration that may be built late.

use std::fmt;
use std::sync::{Arc, OnceLock};

use rustls::ClientConfig;

use crate::NetworkError;

type Make = dyn Fn() -> Result<ClientConfig, NetworkError> + Send + Sync;

/// A TLS configuration. Cloning is cheap, and clones share it.
#[derive(Clone)]
pub struct Tls {
    made: Arc<OnceLock<Result<Arc<ClientConfig>, NetworkError>>>,
    make: Arc<Make>,
}

impl Tls {
    /// Built by `make` when the first connection needs it: reading certificates takes most of the time, and a
    /// short-lived program has none to spare.
    pub fn when_needed(
        make: impl Fn() -> Result<ClientConfig, NetworkError> + Send + Sync + 'static,
    ) -> Self {
        Self { made: Arc::default(), make: Arc::new(make) }
    }

    /// The configuration, built now if it was not built yet.
    ///
    /// # Errors
    ///
    /// The fault of the certificates.
    pub fn config(&self) -> Result<Arc<ClientConfig>, NetworkError> {
        self.made.get_or_init(|| (self.make)().map(Arc::new)).clone()
    }
}

impl From<Arc<ClientConfig>> for Tls {
    fn from(config: Arc<ClientConfig>) -> Self {
        let tls = Self::when_needed(|| Err(NetworkError::new("there is no TLS")));
        let _ = tls.made.set(Ok(config));
        tls
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("is_made", &self.made.get().is_some()).finish()
    }
}
