//! Explains why a certificate was rejected: the host, the reason, the remedy.

use std::error::Error;
use std::fmt;
use std::io;

use obsync_protocol::printable;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;

use crate::ConnectError;

/// A rejected certificate. A retry does not help.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProblem {
    host: String,
    reason: String,
    remedy: &'static str,
    is_about_time: bool,
}

impl fmt::Display for CertificateProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, reason, remedy, .. } = self;
        write!(f, "the certificate of {host} is not accepted: {reason}; {remedy}")
    }
}

impl Error for CertificateProblem {}

impl CertificateProblem {
    /// The problem in an error's source chain, if there is one.
    #[must_use]
    pub fn within(host: &str, error: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(ConnectError::Certificate(problem)) = ConnectError::within(error) {
            return Some(problem.clone());
        }
        let tls = tls_error(error)?;
        let rustls::Error::InvalidCertificate(problem) = tls else { return None };
        let (reason, remedy) = explain(problem);
        Some(Self { host: printable(host), reason, remedy, is_about_time: remedy == RENEW })
    }

    /// True if it is not valid at the time of this computer's clock.
    #[must_use]
    pub fn is_about_time(&self) -> bool {
        self.is_about_time
    }

    /// The host of the certificate.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }
}

/// The TLS library's error in a source chain.
pub(crate) fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    // `io::Error::source` skips the wrapped error.
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => tls_error(wrapped),
        None => error.source().and_then(tls_error),
    }
}

const RENEW: &str = "have it renewed, and check that this computer's clock is right";
const REISSUE: &str = "have one issued for this name (subjectAltName), or use a name that it is for";
const TRUST: &str = "if it is that of a private authority, or of a proxy that looks into traffic, give the authority's \
                     certificate by --ca-file (OBSYNC_CA_FILE) or SSL_CERT_FILE";
const LEAF: &str = "have a certificate issued that is no authority (basicConstraints CA:FALSE) and name its issuer by \
                    --ca-file";
const VERSION: &str = "have one issued as X.509 version 3, with the host's name in subjectAltName";
const OTHER: &str = "have another one issued";

fn explain(problem: &CertificateError) -> (String, &'static str) {
    use CertificateError as E;
    match problem {
        E::Expired => ("it has expired".to_owned(), RENEW),
        E::ExpiredContext { time, not_after } => {
            (format!("it expired {} ago", days(*not_after, *time)), RENEW)
        }
        E::NotValidYet => ("it is not valid yet".to_owned(), RENEW),
        E::NotValidYetContext { time, not_before } => {
            (format!("it is not valid yet, but in {}", days(*time, *not_before)), RENEW)
        }
        E::NotValidForName => ("it is for other names".to_owned(), REISSUE),
        E::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            ("it names no host in subjectAltName (the common name does not count)".to_owned(), REISSUE)
        }
        E::NotValidForNameContext { presented, .. } => {
            let names: Vec<&str> = presented.iter().take(5).map(|name| bare(name)).collect();
            (printable(&format!("it is for {}", names.join(", "))), REISSUE)
        }
        E::UnknownIssuer => ("no authority that is trusted here has issued it".to_owned(), TRUST),
        E::Revoked => ("its issuer has revoked it".to_owned(), OTHER),
        E::InvalidPurpose | E::InvalidPurposeContext { .. } => ("it is not for servers".to_owned(), OTHER),
        E::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => {
                ("it is that of an authority (CA:TRUE), which no server may show".to_owned(), LEAF)
            }
            Some(webpki::Error::UnsupportedCertVersion) => {
                ("it is of X.509 version 1, which names no host".to_owned(), VERSION)
            }
            _ => (printable(&other.to_string()), OTHER),
        },
        other => (printable(&other.to_string()), OTHER),
    }
}

/// `DnsName("a.b")` as a.b.
fn bare(name: &str) -> &str {
    name.split('"').nth(1).unwrap_or(name)
}

fn days(from: UnixTime, to: UnixTime) -> String {
    let seconds = to.as_secs().saturating_sub(from.as_secs());
    match (seconds / 86_400, seconds / 3600) {
        (0, hours) => format!("{hours} hours"),
        (1, _) => "1 day".to_owned(),
        (days, _) => format!("{days} days"),
    }
}
