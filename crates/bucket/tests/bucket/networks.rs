//! Buckets behind private authorities, bad certificates and proxies.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use obsync_bucket::{BucketOptions, BucketStore};
use obsync_core::{Destination, StoreError};
use obsync_net::{Network, Proxies};
use obsync_testcloud::Service;
use obsync_testkit::network::{Authority, ConnectProxy, Flaw, ProxyRules, TlsFront};

use crate::sites::{S3Bucket, config, location};

/// A bucket of S3 behind TLS, with a certificate for 127.0.0.1 and s3.test.
struct Secured {
    bucket: S3Bucket,
    front: TlsFront,
    ca_file: tempfile::NamedTempFile,
}

impl Secured {
    async fn new(flaw: Flaw) -> Self {
        let bucket = S3Bucket::new().await;
        let authority = Authority::new().unwrap();
        let config = authority.server(&["127.0.0.1", "s3.test"], flaw).unwrap();
        let front = TlsFront::on(IpAddr::V4(Ipv4Addr::LOCALHOST), config).await.unwrap();
        let server = bucket.cloud.endpoint(Service::S3);
        let server: SocketAddr = server.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        front.lead_to(server);
        let ca_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca_file.path(), authority.pem()).unwrap();
        Secured { bucket, front, ca_file }
    }

    fn trusting(&self) -> Network {
        Network { ca_file: Some(self.ca_file.path().to_owned()), ..Network::default() }
    }

    /// Asks the bucket at `host` whether it is empty.
    async fn ask(&self, host: &str, network: Network) -> Result<bool, StoreError> {
        let endpoint = Some(format!("https://{host}:{}", self.front.address().port()));
        let options = BucketOptions { endpoint, network, ..BucketOptions::default() };
        let (key, secret) = self.bucket.cloud.credentials();
        BucketStore::open_s3(&location(), options, &config(key, secret)).await?.is_empty().await
    }
}

#[tokio::test]
async fn a_bucket_of_a_private_authority_is_trusted_by_either_file() {
    let secured = Secured::new(Flaw::None).await;
    assert!(secured.ask("127.0.0.1", secured.trusting()).await.unwrap());
    let bundle = Network { aws_ca_bundle: Some(secured.ca_file.path().to_owned()), ..Network::default() };
    assert!(secured.ask("127.0.0.1", bundle).await.unwrap());
}

#[tokio::test]
async fn a_bucket_whose_certificate_is_not_accepted_is_asked_once() {
    for (flaw, reason) in
        [(Flaw::OwnAuthority, "CA:TRUE"), (Flaw::Version1, "version 1"), (Flaw::Expired, "expired")]
    {
        let secured = Secured::new(flaw).await;
        let error = secured.ask("127.0.0.1", secured.trusting()).await.unwrap_err().to_string();
        assert!(error.contains(reason) && error.contains("127.0.0.1"), "{error}");
        assert_eq!(secured.front.connections(), 1, "{error}");
    }
    let secured = Secured::new(Flaw::None).await;
    let error = secured.ask("127.0.0.1", Network::default()).await.unwrap_err().to_string();
    assert!(error.contains("--ca-file"), "{error}");
}

#[tokio::test]
async fn a_bucket_is_reached_through_a_proxy_with_its_password() {
    let secured = Secured::new(Flaw::None).await;
    let rules =
        ProxyRules { server: secured.front.address(), password: Some("me:pr0xy".to_owned()), status: None };
    let proxy = ConnectProxy::start(rules).await.unwrap();
    let through = |user: &str, direct: &str| {
        let proxies = Proxies::new(&format!("http://{user}{}", proxy.address()), direct).unwrap();
        Network { proxies, ..secured.trusting() }
    };
    assert!(secured.ask("s3.test", through("me:pr0xy@", "")).await.unwrap());
    assert_eq!(proxy.asked(), [format!("s3.test:{}", secured.front.address().port())]);
    // Loopback is reached directly.
    assert!(secured.ask("127.0.0.1", through("me:pr0xy@", "")).await.unwrap());
    assert_eq!(proxy.asked().len(), 1);
    let error = secured.ask("s3.test", through("me:wr0ng@", "")).await.unwrap_err().to_string();
    assert!(error.contains("user and password") && !error.contains("wr0ng"), "{error}");
    assert_eq!(proxy.asked().len(), 2);
}
