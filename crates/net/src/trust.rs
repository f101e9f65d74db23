//! The certificates that are trusted.
//!
//! | setting | what it does |
//! | --- | --- |
//! | nothing | what the operating system trusts |
//! | `SSL_CERT_FILE`, `SSL_CERT_DIR` | these in place of the system's (Linux; as OpenSSL has it) |
//! | `--ca-file`, `OBSYNC_CA_FILE` | these as well: one run talks to the public service and to a private bucket |
//! | `AWS_CA_BUNDLE` | these in place of the system's, for `s3://` and AWS (as AWS's own tools have it) |
//!
//! The cryptography is ring's. It is named here explicitly, so that no process-wide default has to be
//! installed and none can be changed elsewhere.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
#[cfg(not(any(windows, target_vendor = "apple")))]
use std::sync::LazyLock;

use obsync_protocol::limits::CERTIFICATE_FILE;
use obsync_protocol::with_reasons;
use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::NetworkError;

/// The certificates of a PEM file.
#[derive(Clone, Default)]
pub(crate) struct Bundle {
    certificates: Vec<CertificateDer<'static>>,
}

impl Bundle {
    /// Reads a file that `setting` names.
    pub(crate) fn read(setting: &str, path: &Path) -> Result<Self, NetworkError> {
        let failed =
            |reason: String| NetworkError(format!("the certificates of {setting} cannot be used: {reason}"));
        let unreadable = |error: std::io::Error| failed(format!("{}: {error}", path.display()));
        // Checked before opening: opening a pipe would block.
        if !path.metadata().map_err(unreadable)?.is_file() {
            return Err(failed(format!("{} is not a file", path.display())));
        }
        let mut pem = Vec::new();
        File::open(path)
            .and_then(|file| file.take(CERTIFICATE_FILE + 1).read_to_end(&mut pem))
            .map_err(unreadable)?;
        if pem.len() as u64 > CERTIFICATE_FILE {
            return Err(failed(format!("{} has more than {CERTIFICATE_FILE} bytes", path.display())));
        }
        let certificates =
            Self::parse(&pem).map_err(|reason| failed(format!("{}: {reason}", path.display())))?;
        Ok(Self { certificates })
    }

    fn parse(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
        let mut roots = RootCertStore::empty();
        let (mut certificates, mut odd) = (Vec::new(), Vec::new());
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| format!("it is not PEM ({error})"))?;
            match roots.add(certificate.clone()) {
                Ok(()) => certificates.push(certificate),
                Err(error) => odd.push(error),
            }
        }
        match (certificates.is_empty(), odd.first()) {
            (true, Some(error)) => Err(format!("it has a damaged certificate ({error})")),
            (true, None) => Err("it has no certificate in PEM (-----BEGIN CERTIFICATE-----)".to_owned()),
            // Bundles of companies often have an odd one; the system's are read as leniently.
            (false, Some(error)) => {
                tracing::warn!(skipped = odd.len(), %error, "some certificates of a file cannot be used");
                Ok(certificates)
            }
            (false, None) => Ok(certificates),
        }
    }
}

/// Trusts the system's authorities, and more.
#[cfg(not(any(windows, target_vendor = "apple")))]
pub(crate) fn system_and(more: Bundle) -> Result<ClientConfig, NetworkError> {
    let mut roots = system_roots();
    for certificate in more.certificates {
        roots.add(certificate).map_err(unusable)?;
    }
    if roots.is_empty() {
        return Err(unusable(rustls::Error::General("the system has none".to_owned())));
    }
    trusting(roots)
}

/// The authorities that the system trusts. They are read once in a process: there are some 140, and a
/// starting function has no time for reading them three times.
#[cfg(not(any(windows, target_vendor = "apple")))]
fn system_roots() -> RootCertStore {
    static ROOTS: LazyLock<RootCertStore> = LazyLock::new(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::debug!(%error, "some of the system's certificates cannot be read");
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        roots
    });
    ROOTS.clone()
}

/// Trusts the system's authorities, and more.
#[cfg(any(windows, target_vendor = "apple"))]
pub(crate) fn system_and(more: Bundle) -> Result<ClientConfig, NetworkError> {
    let provider = Arc::new(ring::default_provider());
    let verifier =
        rustls_platform_verifier::Verifier::new_with_extra_roots(more.certificates, Arc::clone(&provider))
            .map_err(unusable)?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

/// Trusts these and no others.
pub(crate) fn only(bundles: impl IntoIterator<Item = Bundle>) -> Result<ClientConfig, NetworkError> {
    let mut roots = RootCertStore::empty();
    for certificate in bundles.into_iter().flat_map(|bundle| bundle.certificates) {
        roots.add(certificate).map_err(unusable)?;
    }
    trusting(roots)
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, NetworkError> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn unusable(error: rustls::Error) -> NetworkError {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().find(|name| env::var_os(name).is_some());
    let remedy = match named {
        Some(name) => format!("check the certificates that {name} names"),
        None => "install the system's certificates (the package ca-certificates), or name some by --ca-file"
            .to_owned(),
    };
    NetworkError(format!("no certificates can be trusted: {}; {remedy}", with_reasons(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A self-signed authority.
    const AUTHORITY: &str = "\
        -----BEGIN CERTIFICATE-----\n\
        MIIBlzCCAT2gAwIBAgIUdNK5jmoQ5zz5OBKPn0G4hERwlfEwCgYIKoZIzj0EAwIw\n\
        IDEeMBwGA1UEAwwVb2JzeW5jLXRlc3QtYXV0aG9yaXR5MCAXDTI2MTEyODA5MzY0\n\
        NVoYDzIxMjYxMTA0MDkzNjQ1WjAgMR4wHAYDVQQDDBVvYnN5bmMtdGVzdC1hdXRo\n\
        b3JpdHkwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAS+BWa1Z0Xw33d40w6P/zyH\n\
        1NspuJZCijRrh6eXcefhua27YAl65GM6UlOW7/7UGhle/JTj3CO1meqWQX7xxsQQ\n\
        o1MwUTAdBgNVHQ4EFgQUguiQBciDV5lIYP2uk6FQZmfwt2MwHwYDVR0jBBgwFoAU\n\
        guiQBciDV5lIYP2uk6FQZmfwt2MwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQD\n\
        AgNIADBFAiBhVGyPTpBRnwsDP4Ub/2YcbmmUnSBdbiyBsRHWc5bFAQIhANtBEHul\n\
        vJXBihWfetJnWen43NSlqbe1j4CNbLMDYY08\n\
        -----END CERTIFICATE-----\n\
    ";

    fn refused(content: &[u8]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        Bundle::read("--ca-file", file.path()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_without_certificates_is_named_with_its_setting() {
        assert!(refused(b"").contains("--ca-file"), "{}", refused(b""));
        assert!(refused(b"<html>").contains("no certificate"));
        let damaged = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refused(damaged).contains("damaged"), "{}", refused(damaged));
    }

    #[test]
    fn an_odd_certificate_among_good_ones_is_skipped() {
        let odd = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for pem in [format!("{odd}{AUTHORITY}"), format!("{AUTHORITY}{odd}{odd}")] {
            assert_eq!(Bundle::parse(pem.as_bytes()).unwrap().len(), 1);
        }
    }

    #[test]
    fn what_is_not_a_file_is_not_waited_for() {
        let error = Bundle::read("--ca-file", Path::new("/dev/zero")).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("is not a file"), "{error}");
    }
}
