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
    if error.is::<rustls::Error>() {
        return true;
    }
    // io::Error leaves out the error that it wraps when it is asked for its source.
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match wrapped {
        Some(wrapped) => is_certificate_trouble(wrapped),
        None => error.source().is_some_and(is_certificate_trouble),
    }
}

// Other systems than Linux have no loopback address besides 127.0.0.1, and that one goes without TLS.
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::SocketAddr;

    use futures_util::{SinkExt, StreamExt};
    use obsync_protocol::{EncryptionVersion, MasterKey, VaultId, VaultKeys};
    use rustls::ServerConfig;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;
    use tokio_tungstenite::tungstenite::Message;

    use super::*;
    use crate::{Client, ClientOptions, Session, SessionTarget, Token};

    // A certificate for 127.0.0.2, made for these tests; nobody trusts it.
    const CERTIFICATE: &[u8] = include_bytes!("../tests/data/loopback.cert.der");
    const KEY: &[u8] = include_bytes!("../tests/data/loopback.key.der");

    /// A server that lets everybody in by TLS, with an empty listing.
    async fn server() -> SocketAddr {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(KEY));
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![CertificateDer::from(CERTIFICATE)], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(tls) = acceptor.accept(tcp).await else { continue };
                let Ok(mut websocket) = tokio_tungstenite::accept_async(tls).await else { continue };
                websocket.next().await;
                for text in [r#"{"res":"ok"}"#, r#"{"op":"ready","version":7}"#] {
                    websocket.send(Message::text(text)).await.unwrap();
                }
            }
        });
        address
    }

    fn target(address: SocketAddr) -> SessionTarget {
        let keys = VaultKeys::new(&MasterKey::from_hex(&"00".repeat(32)).unwrap(), EncryptionVersion::V3, "");
        let vault_id = VaultId::try_new("vault").unwrap();
        SessionTarget { token: Token::new("token"), vault_id, host: address.to_string(), keys }
    }

    fn client(api_url: &str) -> Client {
        let allow_hosts = vec!["127.0.0.2".to_owned()];
        Client::new(ClientOptions { api_url: api_url.to_owned(), allow_hosts, ..ClientOptions::default() })
            .unwrap()
    }

    #[tokio::test]
    async fn a_session_by_tls_works_with_a_certificate_that_is_trusted() {
        let address = server().await;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from(CERTIFICATE)).unwrap();
        let trusting = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = client("http://127.0.0.1:1/");
        client.trust(Arc::new(trusting));
        let mut session = Session::open(&client, &target(address), 0, true).await.unwrap();
        session.listing(&mut |_| {}).await.unwrap();
        assert_eq!(session.server_version(), Some(7));
    }

    #[tokio::test]
    async fn a_certificate_that_is_not_trusted_ends_a_session_and_a_call_before_they_begin() {
        let address = server().await;
        let client = client(&format!("https://{address}/"));
        let error = Session::open(&client, &target(address), 0, true).await.unwrap_err();
        assert!(matches!(error, ClientError::Tls { .. }), "{error:?}");
        let error = client.vaults(&Token::new("token")).await.unwrap_err();
        assert!(matches!(error, ClientError::Tls { .. }), "{error:?}");
        assert!(!error.is_retryable());
    }
}
