//! An authority that issues certificates: valid ones, and ones that no client may accept.

use std::io;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A private authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// The flaw of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// None.
    None,
    /// It expired in 2021.
    Expired,
    /// It is not valid before 2090.
    NotYetValid,
    /// It names no host.
    NoNames,
    /// It is self-signed, and an authority (CA:TRUE), as many guides recommend.
    OwnAuthority,
    /// It is of X.509 version 1, as created by `openssl x509 -req`.
    Version1,
}

const VERSION_1: &[u8] = include_bytes!("../../fixtures/tls/version1.cert.der");
const VERSION_1_KEY: &[u8] = include_bytes!("../../fixtures/tls/version1.key.der");

impl Authority {
    /// A new one, which nobody trusts yet.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn new() -> io::Result<Self> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "A private authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).map_err(io::Error::other)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Its own certificate, for clients that are to trust it.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The TLS configuration of a server with these `names` (names or addresses).
    ///
    /// # Errors
    /// When `names` contains something else.
    pub fn server(&self, names: &[&str], flaw: Flaw) -> io::Result<Arc<ServerConfig>> {
        let (certificate, key) = match flaw {
            Flaw::Version1 => (CertificateDer::from(VERSION_1), VERSION_1_KEY.to_vec()),
            _ => self.issue(names, flaw).map_err(io::Error::other)?,
        };
        let provider = ring::default_provider();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key));
        let key = provider.key_provider.load_private_key(key).map_err(io::Error::other)?;
        let shown = Arc::new(Shown(Arc::new(CertifiedKey::new(vec![certificate], key))));
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_cert_resolver(shown);
        Ok(Arc::new(config))
    }

    fn issue(&self, names: &[&str], flaw: Flaw) -> Result<(CertificateDer<'static>, Vec<u8>), rcgen::Error> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(if flaw == Flaw::NoNames { Vec::new() } else { names })?;
        match flaw {
            Flaw::Expired => params.not_after = date_time_ymd(2021, 1, 1),
            Flaw::NotYetValid => params.not_before = date_time_ymd(2090, 1, 1),
            Flaw::OwnAuthority => params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            _ => params.is_ca = IsCa::ExplicitNoCa,
        }
        let certificate = match flaw {
            Flaw::OwnAuthority => params.self_signed(&key)?,
            _ => params.signed_by(&key, &self.issuer)?,
        };
        Ok((certificate.der().clone(), key.serialize_der()))
    }
}

/// Presents a certificate without checking it: rustls would not let a server use a bad one.
#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
