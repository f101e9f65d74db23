//! Options and environment variables for connections.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::names::{Resolve, System};
use crate::trust::{self, Bundle};
use crate::{NetworkError, Proxies};

/// Settings of connections. By default they are direct, and the system's certificates are trusted.
#[derive(Clone, Debug)]
pub struct Network {
    /// Which connections go through a proxy.
    pub proxies: Proxies,
    /// A PEM file with certificates that are trusted in addition to the system's.
    pub ca_file: Option<PathBuf>,
    /// A PEM file with certificates that are trusted instead of the system's, for AWS and buckets of S3.
    pub aws_ca_bundle: Option<PathBuf>,
    /// Resolves names.
    pub resolver: Arc<dyn Resolve>,
}

impl Default for Network {
    fn default() -> Self {
        Self { proxies: Proxies::default(), ca_file: None, aws_ca_bundle: None, resolver: Arc::new(System) }
    }
}

/// Compares all settings; resolvers are equal if they are the same object.
impl PartialEq for Network {
    fn eq(&self, other: &Self) -> bool {
        let Self { proxies, ca_file, aws_ca_bundle, resolver } = self;
        *proxies == other.proxies
            && *ca_file == other.ca_file
            && *aws_ca_bundle == other.aws_ca_bundle
            && Arc::ptr_eq(resolver, &other.resolver)
    }
}

impl Eq for Network {}

impl Network {
    /// The settings of `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY` and `AWS_CA_BUNDLE`.
    ///
    /// # Errors
    ///
    /// A sentence that names the unusable variable.
    pub fn from_env() -> Result<Self, NetworkError> {
        Self::read(|name| env::var(name).ok())
    }

    /// The same for an environment with `get` for each variable.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env).
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, NetworkError> {
        let bundle = get("AWS_CA_BUNDLE").filter(|path| !path.is_empty());
        Ok(Self { proxies: Proxies::read(get)?, aws_ca_bundle: bundle.map(PathBuf::from), ..Self::default() })
    }

    /// The TLS configuration for the service, and for everything except AWS.
    ///
    /// # Errors
    ///
    /// The fault of the certificates, and their source.
    pub fn tls(&self) -> Result<ClientConfig, NetworkError> {
        trust::system_and(self.more()?.unwrap_or_default())
    }

    /// The TLS configuration for AWS and buckets of S3.
    ///
    /// # Errors
    ///
    /// As [`tls`](Self::tls).
    pub fn tls_for_aws(&self) -> Result<ClientConfig, NetworkError> {
        match self.aws()? {
            Some(bundle) => trust::only([Some(bundle), self.more()?].into_iter().flatten()),
            None => self.tls(),
        }
    }

    /// Reads the configured certificate files, and nothing of the system's, to check that they are usable.
    ///
    /// # Errors
    ///
    /// The fault and its file.
    pub fn check_files(&self) -> Result<(), NetworkError> {
        self.aws()?;
        self.more().map(drop)
    }

    /// A configuration that trusts nobody, for connections without TLS: it needs no certificates, and a
    /// container may have none.
    ///
    /// # Errors
    ///
    /// No known ones; those of the TLS library.
    pub fn tls_for_nobody() -> Result<ClientConfig, NetworkError> {
        trust::only([])
    }

    fn more(&self) -> Result<Option<Bundle>, NetworkError> {
        self.ca_file.as_deref().map(|path| Bundle::read("--ca-file (OBSYNC_CA_FILE)", path)).transpose()
    }

    fn aws(&self) -> Result<Option<Bundle>, NetworkError> {
        self.aws_ca_bundle.as_deref().map(|path| Bundle::read("AWS_CA_BUNDLE", path)).transpose()
    }
}
