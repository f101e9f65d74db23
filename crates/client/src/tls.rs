//! The one TLS configuration that REST calls and sessions share.
//!
//! The cryptography is ring's and is named here explicitly, so that no process-wide default has to be
//! installed and none can be changed behind our back. Certificates are judged by the platform's verifier.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::crypto::ring;
use rustls_platform_verifier::BuilderVerifierExt;

use crate::error::{ClientError, reasons};

/// A configuration that trusts what the operating system trusts.
pub(crate) fn trusting_the_system() -> Result<Arc<ClientConfig>, ClientError> {
    let unusable = |error: rustls::Error| ClientError::Tls { reason: reasons(&error) };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_platform_verifier()
        .map_err(unusable)?
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// A configuration that trusts nobody: for a REST service without TLS, so that a container without any
/// certificates can talk to a server on loopback.
pub(crate) fn trusting_nobody() -> Result<ClientConfig, ClientError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Tls { reason: reasons(&error) })?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}

/// Whether an error comes from the TLS library, anywhere in its chain of reasons: a certificate that is not
/// trusted will not be trusted in a second attempt either.
pub(crate) fn is_certificate_trouble(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(current) = next {
        if current.is::<rustls::Error>() {
            return true;
        }
        // io::Error hides the error that it wraps from `source`.
        let wrapped = current.downcast_ref::<std::io::Error>().and_then(|error| error.get_ref());
        if wrapped.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = current.source();
    }
    false
}
