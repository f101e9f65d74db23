//! Buckets behind private authorities, bad certificates and proxies.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use obsync_bucket::{BucketDestination, BucketOptions, Retries};
use obsync_conformance::{place, publish_one, stage};
use obsync_core::{DestinationError, Inspect, ProblemCode};
use obsync_net::{Network, Proxies, Resolve, Resolving};
use obsync_testcloud::Service;
use obsync_testkit::network::{Authority, Blackhole, ConnectProxy, Flaw, ProxyRules, SocksProxy, TlsFront};

use crate::buckets::{S3Bucket, config, location, options};

const TIME: i64 = 1_722_222_222_123;

/// A bucket of S3 behind TLS, with a certificate for 127.0.0.1 and s3.test.
struct Secured {
    bucket: S3Bucket,
    front: TlsFront,
    authority: Authority,
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
        Secured { bucket, front, authority, ca_file }
    }

    fn trusting(&self) -> Network {
        Network { ca_file: Some(self.ca_file.path().to_owned()), ..Network::default() }
    }

    /// Checks whether the bucket at `host` is empty.
    async fn ask(&self, host: &str, network: Network) -> Result<bool, DestinationError> {
        let endpoint = Some(format!("https://{host}:{}", self.front.address().port()));
        let options = BucketOptions { endpoint, network, ..BucketOptions::default() };
        let (key, secret) = self.bucket.cloud.credentials();
        BucketDestination::open_s3(&location(), options, &config(key, secret)).await?.is_empty().await
    }
}

#[tokio::test]
async fn a_bucket_of_a_private_authority_is_trusted_by_either_file() {
    let secured = Secured::new(Flaw::None).await;
    assert!(secured.ask("127.0.0.1", secured.trusting()).await.unwrap());
    let file = secured.ca_file.path().to_str().unwrap();
    let bundle = Network::read(|name| (name == "AWS_CA_BUNDLE").then(|| file.to_owned())).unwrap();
    assert!(secured.ask("127.0.0.1", bundle).await.unwrap());
}

#[tokio::test]
async fn a_bucket_whose_certificate_is_not_accepted_is_asked_once() {
    for (flaw, reason) in [
        (Flaw::OwnAuthority, "CA:TRUE"),
        (Flaw::Version1, "version 1"),
        (Flaw::Expired, "expired"),
        (Flaw::NoNames, "names no host"),
    ] {
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
    // So is a host of NO_PROXY.
    let resolver = Arc::new(Knows(vec![secured.front.address()]));
    assert!(secured.ask("s3.test", Network { resolver, ..through("me:pr0xy@", "s3.test") }).await.unwrap());
    assert_eq!(proxy.asked().len(), 1);
    let error = secured.ask("s3.test", through("me:wr0ng@", "")).await.unwrap_err().to_string();
    assert!(error.contains("user and password") && !error.contains("wr0ng"), "{error}");
    assert_eq!(proxy.asked().len(), 2);
}

/// A store behind a proxy with these rules.
async fn through(secured: &Secured, rules: ProxyRules) -> (ConnectProxy, BucketDestination) {
    let proxy = ConnectProxy::start(rules).await.unwrap();
    let proxies = Proxies::new(&format!("http://me:pr0xy@{}", proxy.address()), "").unwrap();
    let network = Network { proxies, ..secured.trusting() };
    let endpoint = Some(format!("https://s3.test:{}", secured.front.address().port()));
    let options = BucketOptions { endpoint, network, ..options() };
    let (key, secret) = secured.bucket.cloud.credentials();
    let store = BucketDestination::open_s3(&location(), options, &config(key, secret)).await.unwrap();
    (proxy, store)
}

#[tokio::test]
async fn a_proxy_that_answers_502_is_asked_again_and_then_named() {
    let secured = Secured::new(Flaw::None).await;
    let rules = ProxyRules { server: secured.front.address(), password: None, status: Some(502) };
    let (proxy, store) = through(&secured, rules).await;
    let error = store.is_empty().await.unwrap_err();
    let text = error.to_string();
    assert!(error.is_fatal() && text.contains(&format!("the proxy http://{}", proxy.address())), "{text}");
    assert!(!text.contains("pr0xy"), "{text}");
    assert_eq!(ProblemCode::from(&error), ProblemCode::Unreachable);
    assert!(proxy.asked().len() > 1, "it passes, as it may");
}

#[tokio::test]
async fn a_proxy_that_does_not_allow_the_host_is_asked_once_and_named() {
    let secured = Secured::new(Flaw::None).await;
    let rules = ProxyRules { server: secured.front.address(), password: None, status: Some(403) };
    let (proxy, store) = through(&secured, rules).await;
    let error = store.is_empty().await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("the proxy http://{}", proxy.address())), "{text}");
    assert!(text.contains("NO_PROXY") && !text.contains("pr0xy"), "{text}");
    assert_eq!(ProblemCode::from(&error), ProblemCode::Proxy);
    assert_eq!(proxy.asked().len(), 1, "{text}");
}

#[tokio::test]
async fn a_bucket_is_reached_through_a_socks_proxy() {
    let secured = Secured::new(Flaw::None).await;
    let proxy = SocksProxy::start(secured.front.address(), Some(("me", "pr0xy"))).await.unwrap();
    let through = |user: &str| {
        let proxies = Proxies::new(&format!("socks5h://{user}{}", proxy.address()), "").unwrap();
        Network { proxies, ..secured.trusting() }
    };
    // Nobody but the proxy knows the name.
    assert!(secured.ask("s3.test", through("me:pr0xy@")).await.unwrap());
    assert_eq!(proxy.asked(), [format!("s3.test:{}", secured.front.address().port())]);
    let error = secured.ask("s3.test", through("me:wr0ng@")).await.unwrap_err();
    assert_eq!(ProblemCode::from(&error), ProblemCode::Proxy, "{error}");
    let text = error.to_string();
    assert!(text.contains(&proxy.address().to_string()) && !text.contains("wr0ng"), "{text}");
}

/// A resolver that knows these addresses for every name.
#[derive(Debug)]
struct Knows(Vec<SocketAddr>);

impl Resolve for Knows {
    fn resolve<'a>(&'a self, _: &'a str, _: u16) -> Resolving<'a> {
        Box::pin(std::future::ready(Ok(self.0.clone())))
    }
}

#[tokio::test]
async fn a_bucket_whose_first_address_swallows_packets_is_reached_by_the_next() {
    let secured = Secured::new(Flaw::None).await;
    let hole = Blackhole::on(IpAddr::V4(Ipv4Addr::LOCALHOST)).await.unwrap();
    let resolver = Arc::new(Knows(vec![hole.address(), secured.front.address()]));
    let network = Network { resolver, ..secured.trusting() };
    let begun = Instant::now();
    assert!(secured.ask("s3.test", network).await.unwrap());
    assert!(begun.elapsed() < Duration::from_secs(9), "before the time for a connection is over");
}

#[tokio::test]
async fn a_proxy_that_cuts_its_tunnels_midway_costs_no_file_and_one_that_dies_is_named() {
    let secured = Secured::new(Flaw::None).await;
    let rules = ProxyRules { server: secured.front.address(), password: None, status: None };
    let (proxy, store) = through(&secured, rules).await;
    place(&store, "1.md", b"text", TIME, None).await;
    proxy.cut();
    place(&store, "2.md", b"text", TIME, None).await;
    assert_eq!(secured.bucket.keys(), ["1.md", "2.md"]);
    let address = proxy.address();
    proxy.cut();
    drop(proxy);
    let staged = stage(&store, "3.md", b"text", TIME).await;
    let error = publish_one(&store, staged, None).await.unwrap_err().error;
    let text = error.to_string();
    assert!(error.is_fatal() && text.contains(&format!("the proxy http://{address}")), "{text}");
    assert!(!text.contains("pr0xy"), "{text}");
    assert_eq!(secured.bucket.keys(), ["1.md", "2.md"]);
}

#[tokio::test]
async fn a_certificate_that_ends_midway_costs_nothing_over_open_connections_and_is_named_once_they_end() {
    let secured = Secured::new(Flaw::None).await;
    let rules = ProxyRules { server: secured.front.address(), password: None, status: None };
    let (proxy, store) = through(&secured, rules).await;
    place(&store, "1.md", b"text", TIME, None).await;
    secured.front.show(secured.authority.server(&["127.0.0.1", "s3.test"], Flaw::Expired).unwrap());
    place(&store, "2.md", b"text", TIME, None).await;
    proxy.cut();
    let staged = stage(&store, "3.md", b"text", TIME).await;
    let error = publish_one(&store, staged, None).await.unwrap_err().error;
    let text = error.to_string();
    assert!(error.is_fatal() && text.contains("s3.test") && text.contains("it expired"), "{text}");
    assert_eq!(ProblemCode::from(&error), ProblemCode::Certificate);
    assert_eq!(secured.bucket.keys(), ["1.md", "2.md"]);
}

/// A resolver whose first lookups fail.
#[derive(Debug)]
struct Booting {
    questions: AtomicUsize,
    fails: usize,
}

impl Resolve for Booting {
    fn resolve<'a>(&'a self, _: &'a str, port: u16) -> Resolving<'a> {
        let works = self.questions.fetch_add(1, Ordering::Relaxed) >= self.fails;
        let unknown =
            || io::Error::other("failed to lookup address information: Temporary failure in name resolution");
        let answer = works.then(|| vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]).ok_or_else(unknown);
        Box::pin(std::future::ready(answer))
    }
}

#[tokio::test]
async fn a_resolver_that_does_not_work_yet_is_waited_for_by_buckets() {
    let secured = Secured::new(Flaw::None).await;
    let resolver = Arc::new(Booting { questions: AtomicUsize::new(0), fails: 2 });
    let network = Network { resolver: Arc::clone(&resolver) as Arc<dyn Resolve>, ..secured.trusting() };
    let endpoint = Some(format!("https://s3.test:{}", secured.front.address().port()));
    // Not by retries, of which there are none here.
    let retries = Retries { most: 0, ..options().retries };
    let options = BucketOptions { endpoint, network, retries, ..options() };
    let (key, secret) = secured.bucket.cloud.credentials();
    let store = BucketDestination::open_s3(&location(), options, &config(key, secret)).await.unwrap();
    place(&store, "a.md", b"text", TIME, None).await;
    assert!(resolver.questions.load(Ordering::Relaxed) >= 3);
}
