//! Connections of the SDK's clients to AWS: private authorities, bad certificates and proxies.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_config::{Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_dynamodb::Client;
use obsync_bucket::{AwsHttp, load_aws_config};
use obsync_dynamodb::{DynamoOptions, DynamoTable};
use obsync_net::{Network, Proxies, Resolve, Resolving};
use obsync_testcloud::{Cloud, CloudOptions, Service};
use obsync_testkit::network::{Authority, ConnectProxy, Flaw, ProxyRules, SocksProxy, TlsFront};

use crate::scene::quick;

/// A DynamoDB behind TLS, with a certificate for 127.0.0.1 and dynamodb.test.
struct Secured {
    cloud: Cloud,
    front: TlsFront,
    ca_file: tempfile::NamedTempFile,
}

impl Secured {
    async fn new(flaw: Flaw) -> Self {
        let cloud = Cloud::start(CloudOptions::default()).await.unwrap();
        let authority = Authority::new().unwrap();
        let config = authority.server(&["127.0.0.1", "dynamodb.test"], flaw).unwrap();
        let front = TlsFront::on(IpAddr::V4(Ipv4Addr::LOCALHOST), config).await.unwrap();
        let server = cloud.endpoint(Service::DynamoDb);
        let server: SocketAddr = server.trim_start_matches("http://").trim_end_matches('/').parse().unwrap();
        front.lead_to(server);
        let ca_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca_file.path(), authority.pem()).unwrap();
        Secured { cloud, front, ca_file }
    }

    /// Trusts the authority as AWS's tools do.
    fn trusting(&self) -> Network {
        let file = self.ca_file.path().to_str().unwrap();
        Network::read(|name| (name == "AWS_CA_BUNDLE").then(|| file.to_owned())).unwrap()
    }

    async fn client(&self, host: &str, network: &Network) -> Client {
        let (key, secret) = self.cloud.credentials();
        let credentials = Credentials::from_keys(key, secret, None);
        let found: SdkConfig = load_aws_config(AwsHttp::new(network).unwrap()).await;
        let config = found
            .into_builder()
            .region(Region::new("us-east-1"))
            .endpoint_url(format!("https://{host}:{}", self.front.address().port()))
            .credentials_provider(SharedCredentialsProvider::new(credentials));
        Client::new(&config.build())
    }
}

#[tokio::test]
async fn a_table_is_reached_through_a_proxy_and_with_a_private_authority() {
    let secured = Secured::new(Flaw::None).await;
    secured.client("127.0.0.1", &secured.trusting()).await.list_tables().send().await.unwrap();
    let rules =
        ProxyRules { server: secured.front.address(), password: Some("me:pr0xy".to_owned()), status: None };
    let proxy = ConnectProxy::start(rules).await.unwrap();
    let proxies = Proxies::new(&format!("http://me:pr0xy@{}", proxy.address()), "").unwrap();
    let network = Network { proxies, ..secured.trusting() };
    secured.client("dynamodb.test", &network).await.list_tables().send().await.unwrap();
    assert_eq!(proxy.asked().len(), 1);
    secured.client("127.0.0.1", &network).await.list_tables().send().await.unwrap();
    assert_eq!(proxy.asked().len(), 1);
}

#[tokio::test]
async fn a_table_whose_certificate_is_not_accepted_is_given_up_at_once() {
    let secured = Secured::new(Flaw::OwnAuthority).await;
    let client = secured.client("127.0.0.1", &secured.trusting()).await;
    let table = DynamoTable::new(&client, "obsync-state".parse().unwrap(), quick());
    let error = table.states().await.unwrap_err().to_string();
    assert!(error.contains("CA:TRUE"), "{error}");
    // The SDK itself tries three times, within a second or so.
    assert!(secured.front.connections() <= 3, "{error}");
}

#[tokio::test]
async fn a_table_is_reached_through_a_socks_proxy() {
    let secured = Secured::new(Flaw::None).await;
    let proxy = SocksProxy::start(secured.front.address(), None).await.unwrap();
    let proxies = Proxies::new(&format!("socks5h://{}", proxy.address()), "").unwrap();
    let network = Network { proxies, ..secured.trusting() };
    secured.client("dynamodb.test", &network).await.list_tables().send().await.unwrap();
    assert_eq!(proxy.asked().len(), 1);
}

/// A resolver whose first two lookups of the table's host fail.
#[derive(Debug)]
struct AfterBoot(AtomicUsize);

impl Resolve for AfterBoot {
    fn resolve<'a>(&'a self, host: &'a str, port: u16) -> Resolving<'a> {
        let is_early = host == "dynamodb.test" && self.0.fetch_add(1, Ordering::Relaxed) < 2;
        Box::pin(async move {
            match is_early {
                true => Err(io::Error::other("failed to lookup address information: Try again")),
                false => Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, port))]),
            }
        })
    }
}

#[tokio::test]
async fn a_table_is_waited_for_while_the_resolver_does_not_work_yet() {
    let secured = Secured::new(Flaw::None).await;
    secured.cloud.dynamodb().create_table("obsync-state").unwrap();
    let resolver = Arc::new(AfterBoot(AtomicUsize::new(0)));
    let network = Network { resolver: resolver.clone(), ..secured.trusting() };
    let client = secured.client("dynamodb.test", &network).await;
    // One attempt at a request: failures of the resolver do not count as the table's.
    let options = DynamoOptions { attempts: 1, ..quick() };
    let table = DynamoTable::new(&client, "obsync-state".parse().unwrap(), options);
    assert!(table.states().await.unwrap().is_empty());
    assert!(resolver.0.load(Ordering::Relaxed) >= 3);
}

#[test]
fn bad_certificates_are_refused_with_their_setting() {
    let network = Network { aws_ca_bundle: Some("/nowhere.pem".into()), ..Network::default() };
    let error = AwsHttp::new(&network).unwrap_err().to_string();
    assert!(error.contains("AWS_CA_BUNDLE"), "{error}");
}
