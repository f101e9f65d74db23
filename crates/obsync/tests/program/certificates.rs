//! Certificates of a trusted authority that are not valid (any more).
//!
//! The authority and its two certificates for `127.0.0.1` were made with OpenSSL: one was valid in January
//! 2020, the other is until 2120. Only these tests trust the authority.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::world::{World, ran};

const ANSWER: &str = r#"{"vaults":[],"shared":[]}"#;

/// A service with this certificate: its address, and the number of requests that it has read.
fn serve(name: &str) -> (SocketAddr, Arc<AtomicUsize>) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let certificate = CertificateDer::from_pem_file(data.join(format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(data.join(format!("{name}.key.pem"))).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let (address, requests) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counter = Arc::clone(&requests);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            answer(ServerConnection::new(Arc::clone(&config)).unwrap(), stream, &counter);
        }
    });
    (address, requests)
}

fn answer(connection: ServerConnection, stream: TcpStream, requests: &AtomicUsize) {
    let mut stream = StreamOwned::new(connection, stream);
    let mut request = [0; 4096];
    // A client that does not trust the certificate sends none.
    if stream.read(&mut request).is_ok_and(|length| length > 0) {
        requests.fetch_add(1, Ordering::Relaxed);
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", ANSWER.len());
        let _ = stream.write_all(format!("{head}{ANSWER}").as_bytes());
        let _ = stream.flush();
    }
}

/// Requests the vaults from the service at this address, trusting the authority.
fn vaults(world: &World, address: SocketAddr) -> crate::world::Ran {
    let authority = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/authority.pem");
    let mut command = world.anonymous(&["vaults", "--timeout", "5"]);
    command.env("OBSYNC_API_URL", format!("https://{address}")).env("SSL_CERT_FILE", authority);
    ran(command.env("OBSIDIAN_AUTH_TOKEN", "a-token-of-nobody"))
}

#[test]
fn a_certificate_that_has_expired_ends_a_call_before_the_token_is_sent() {
    let world = World::new();
    let (address, requests) = serve("valid");
    vaults(&world, address).expect(0);
    assert_eq!(requests.load(Ordering::Relaxed), 1, "the authority is trusted");

    let (address, requests) = serve("expired");
    let refused = vaults(&world, address).expect(8);
    assert!(refused.stderr.contains("certificate") && refused.stderr.contains("xpired"), "{refused:?}");
    assert!(!refused.stderr.contains("a-token-of-nobody"), "{refused:?}");
    assert_eq!(requests.load(Ordering::Relaxed), 0);
}
