//! Networks of users: private authorities, flawed certificates, dead addresses, proxies, resolvers that do
//! not work yet. Everything goes over real sockets, with TLS in front of the development server.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use obsync_client::{Client, ClientError, ClientOptions, Session, SessionTarget, Token};
use obsync_net::{Network, Proxies, Resolve, Resolving};
use obsync_testkit::network::{Authority, Blackhole, ConnectProxy, Flaw, ProxyRules, SocksProxy, TlsFront};
use obsync_testkit::{Server, VaultSpec};

use crate::bed::{Bed, EMAIL, PASSWORD, VAULT, limited, options};
use crate::collector::{Fetched, Run};
use crate::fetching::small_files;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A name that the tests' resolver knows.
const NAME: &str = "vault.test";

/// A resolver with the test's addresses, which fails a given number of times first.
#[derive(Debug, Default)]
struct Book {
    names: HashMap<&'static str, Vec<SocketAddr>>,
    fails: usize,
    asked: AtomicUsize,
    reason: &'static str,
}

impl Resolve for Book {
    fn resolve<'a>(&'a self, host: &'a str, _: u16) -> Resolving<'a> {
        let failing = self.asked.fetch_add(1, Ordering::Relaxed) < self.fails;
        let found = self.names.get(host).cloned().filter(|_| !failing);
        let answer = match (found, host.parse::<IpAddr>()) {
            (Some(addresses), _) => Ok(addresses),
            (None, Ok(_)) => Err(io::Error::other("an address needs no resolver")),
            (None, Err(_)) => Err(io::Error::other(self.reason)),
        };
        Box::pin(async move { answer })
    }
}

/// A server behind TLS that shows a certificate for [`NAME`] and 127.0.0.1.
struct Scene {
    bed: Bed,
    authority: Authority,
    front: Arc<TlsFront>,
    ca_file: tempfile::NamedTempFile,
}

impl Scene {
    async fn start(flaw: Flaw) -> Self {
        let bed = Bed::start().await;
        let authority = Authority::new().unwrap();
        let front =
            TlsFront::on(LOCALHOST, authority.server(&[NAME, "127.0.0.1"], flaw).unwrap()).await.unwrap();
        front.lead_to(bed.server.address());
        let ca_file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca_file.path(), authority.pem()).unwrap();
        Self { bed, authority, front: Arc::new(front), ca_file }
    }

    /// A network that trusts the authority.
    fn network(&self) -> Network {
        Network { ca_file: Some(self.ca_file.path().to_owned()), ..Network::default() }
    }

    /// The scene by its name at these addresses.
    fn book(&self, addresses: &[SocketAddr]) -> Book {
        let reason = "failed to lookup address information: Temporary failure in name resolution";
        Book { names: HashMap::from([(NAME, addresses.to_vec())]), reason, ..Book::default() }
    }

    fn client(&self, host: &str, network: Network) -> Client {
        let port = self.front.address().port();
        let options = options(&format!("https://{host}:{port}/"));
        Client::new(ClientOptions { allow_hosts: vec![NAME.to_owned()], network, ..options }).unwrap()
    }

    fn target(&self, host: &str) -> SessionTarget {
        SessionTarget { host: format!("{host}:{}", self.front.address().port()), ..self.bed.target() }
    }

    /// Fetches this many files through `network`, and runs `meanwhile` once a hundred have arrived.
    async fn fetch(&mut self, files: usize, network: Network, meanwhile: impl FnOnce()) -> Fetched {
        small_files(&self.bed, files);
        self.bed.client = self.client(NAME, network);
        self.bed.host = self.target(NAME).host;
        self.bed.fault("service-time=5ms");
        let run = Run::of(&self.bed).await;
        let watching = async {
            self.bed.server.wait_for(|stats| stats.pulls_answered >= 100).await;
            meanwhile();
        };
        limited(async { tokio::join!(run.fetch(&self.bed), watching) }).await.0
    }

    /// One call and one session, each to its end.
    async fn both(&self, host: &str, network: Network) -> Result<(), ClientError> {
        let client = self.client(host, network);
        limited(client.vaults(&self.bed.token)).await?;
        let mut session = limited(Session::open(&client, &self.target(host), 0, true)).await?;
        limited(session.listing(&mut |_| {})).await.map(|_| ())
    }
}

#[tokio::test]
async fn a_private_authority_is_trusted_by_its_file_for_calls_and_for_sessions_on_loopback() {
    let scene = Scene::start(Flaw::None).await;
    scene.both("127.0.0.1", scene.network()).await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_is_named_with_host_reason_and_remedy_and_tried_once() {
    let cases = [
        (Flaw::Expired, "it expired", "renewed"),
        (Flaw::NotYetValid, "not valid yet", "clock"),
        (Flaw::NoNames, "names no host", "subjectAltName"),
        (Flaw::OwnAuthority, "CA:TRUE", "CA:FALSE"),
        (Flaw::Version1, "version 1", "version 3"),
    ];
    for (flaw, reason, remedy) in cases {
        let scene = Scene::start(flaw).await;
        let network = Network { resolver: Arc::new(scene.book(&[scene.front.address()])), ..scene.network() };
        let client = scene.client(NAME, network);
        let of_call = limited(client.vaults(&Token::new("the token"))).await.unwrap_err();
        assert_eq!(scene.front.connections(), 1, "{flaw:?}: {of_call}");
        let of_session = limited(Session::open(&client, &scene.target(NAME), 0, true)).await.unwrap_err();
        assert_eq!(scene.front.connections(), 2, "{flaw:?}: {of_session}");
        for error in [of_call, of_session] {
            let text = error.to_string();
            let parts = [NAME, reason, remedy];
            assert!(parts.iter().all(|part| text.contains(part)), "{flaw:?}: {text}");
            assert!(!error.is_retryable(), "{flaw:?}: {text}");
        }
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_or_for_other_names_says_how_to_go_on() {
    let scene = Scene::start(Flaw::None).await;
    let error = scene.both("127.0.0.1", Network::default()).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1") && error.contains("--ca-file"), "{error}");
    let config = scene.authority.server(&["other.test"], Flaw::None).unwrap();
    let front = TlsFront::on(LOCALHOST, config).await.unwrap();
    front.lead_to(scene.bed.server.address());
    let error = Scene { front: Arc::new(front), ..scene };
    let error = error.both("127.0.0.1", error.network()).await.unwrap_err().to_string();
    assert!(error.contains("it is for other.test"), "{error}");
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_ends_a_session_and_a_call_before_they_begin() {
    let scene = Scene::start(Flaw::None).await;
    let client = scene.client("127.0.0.1", Network::default());
    let of_session = limited(Session::open(&client, &scene.target("127.0.0.1"), 0, true)).await.unwrap_err();
    let of_call = limited(client.vaults(&scene.bed.token)).await.unwrap_err();
    for error in [of_session, of_call] {
        assert!(matches!(error, ClientError::Certificate { .. }) && !error.is_retryable(), "{error:?}");
    }
    assert_eq!(scene.bed.server.stats().websocket_connections, 0);
}

#[tokio::test]
async fn a_file_without_certificates_is_refused_before_anything_is_connected() {
    let network = Network { ca_file: Some("/nowhere/ca.pem".into()), ..Network::default() };
    let options = ClientOptions { network, ..options("https://127.0.0.1:1/") };
    let error = Client::new(options).unwrap_err().to_string();
    assert!(error.contains("--ca-file") && error.contains("/nowhere/ca.pem"), "{error}");
}

#[tokio::test]
async fn a_first_address_that_swallows_packets_costs_a_moment_for_calls_and_for_sessions() {
    let scene = Scene::start(Flaw::None).await;
    let dead = Blackhole::on(LOCALHOST).await.unwrap();
    let book = scene.book(&[dead.address(), scene.front.address()]);
    let begun = Instant::now();
    scene.both(NAME, Network { resolver: Arc::new(book), ..scene.network() }).await.unwrap();
    // The limit of a connection is 20 s here; two of them wait a quarter of a second each.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_resolver_that_does_not_work_yet_is_waited_for() {
    let scene = Scene::start(Flaw::None).await;
    let book = Book { fails: 2, ..scene.book(&[scene.front.address()]) };
    let client = scene.client(NAME, Network { resolver: Arc::new(book), ..scene.network() });
    limited(client.vaults(&scene.bed.token)).await.unwrap();
    let book = Book { fails: 2, ..scene.book(&[scene.front.address()]) };
    let client = scene.client(NAME, Network { resolver: Arc::new(book), ..scene.network() });
    limited(Session::open(&client, &scene.target(NAME), 0, true)).await.unwrap();
}

#[tokio::test]
async fn a_resolver_that_never_works_ends_the_wait_with_its_words() {
    let scene = Scene::start(Flaw::None).await;
    let book = Arc::new(Book { fails: usize::MAX, ..scene.book(&[]) });
    let mut options = options(&format!("https://{NAME}/"));
    options.timeouts.connect = Duration::from_secs(2);
    options.network = Network { resolver: Arc::clone(&book) as Arc<dyn Resolve>, ..scene.network() };
    let client = Client::new(ClientOptions { allow_hosts: vec![NAME.to_owned()], ..options }).unwrap();
    let error = limited(client.vaults(&Token::new("the token"))).await.unwrap_err();
    assert!(error.to_string().contains("Temporary failure"), "{error}");
    assert!(error.is_retryable());
    let error = limited(Session::open(&client, &scene.target(NAME), 0, true)).await.unwrap_err();
    assert!(error.to_string().contains("Temporary failure"), "{error}");
}

/// A proxy before `scene`, and the network that goes through it.
async fn proxied(scene: &Scene, rules: ProxyRules, user: &str, direct: &str) -> (ConnectProxy, Network) {
    let proxy = ConnectProxy::start(rules).await.unwrap();
    let proxies = Proxies::new(&format!("http://{user}{}", proxy.address()), direct).unwrap();
    (proxy, Network { proxies, ..scene.network() })
}

fn rules(scene: &Scene) -> ProxyRules {
    ProxyRules { server: scene.front.address(), password: Some("me:geh:eim".to_owned()), status: None }
}

#[tokio::test]
async fn calls_and_sessions_go_through_a_proxy_with_its_password() {
    let scene = Scene::start(Flaw::None).await;
    let (proxy, network) = proxied(&scene, rules(&scene), "me:geh%3Aeim@", "").await;
    // Nobody but the proxy knows the name.
    scene.both(NAME, network).await.unwrap();
    let target = format!("{NAME}:{}", scene.front.address().port());
    assert_eq!(proxy.asked(), [target.clone(), target]);
}

#[tokio::test]
async fn hosts_of_no_proxy_and_loopback_are_reached_directly() {
    let scene = Scene::start(Flaw::None).await;
    let (proxy, network) = proxied(&scene, rules(&scene), "", "test").await;
    let book = Arc::new(scene.book(&[scene.front.address()]));
    scene.both(NAME, Network { resolver: book, ..network.clone() }).await.unwrap();
    scene.both("127.0.0.1", network).await.unwrap();
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());
}

#[tokio::test]
async fn a_proxy_that_refuses_says_why_and_shows_no_password() {
    let scene = Scene::start(Flaw::None).await;
    let answered = |status| ProxyRules { status: Some(status), ..rules(&scene) };
    let cases = [
        ("", rules(&scene), "wants a user and a password", 1),
        ("me:wrong-word@", rules(&scene), "does not accept the user and password", 1),
        ("me:wrong-word@", answered(403), "NO_PROXY", 1),
        ("me:wrong-word@", answered(502), "HTTP status 502", 3),
    ];
    for (user, rules, reason, attempts) in cases {
        let (proxy, network) = proxied(&scene, rules, user, "").await;
        let error = scene.both(NAME, network.clone()).await.unwrap_err();
        let text = format!("{error} {error:?} {network:?}");
        assert!(text.contains(reason) && text.contains(&proxy.address().to_string()), "{text}");
        assert!(!text.contains("wrong-word"), "{text}");
        assert_eq!(proxy.asked().len(), attempts, "{text}");
    }
}

#[tokio::test]
async fn a_proxy_that_hangs_up_is_a_failure_that_may_pass() {
    let scene = Scene::start(Flaw::None).await;
    let nobody = ProxyRules { server: SocketAddr::from(([127, 0, 0, 1], 1)), ..rules(&scene) };
    let (_proxy, network) = proxied(&scene, nobody, "me:geh%3Aeim@", "").await;
    let error = scene.both(NAME, network).await.unwrap_err();
    assert!(matches!(&error, ClientError::Proxy { temporary: true, .. }), "{error:?}");
}

#[tokio::test]
async fn a_proxy_that_cuts_its_tunnels_in_the_middle_of_a_run_costs_reconnects_and_no_file() {
    let mut scene = Scene::start(Flaw::None).await;
    let (proxy, network) = proxied(&scene, rules(&scene), "me:geh%3Aeim@", "").await;
    let fetched = scene.fetch(1000, network, || proxy.cut()).await;
    assert_eq!((fetched.files.len(), fetched.failures.len()), (1000, 0), "{:?}", fetched.failures);
    assert!(fetched.summary().reconnects > 0, "{:?}", fetched.summary());
}

#[tokio::test]
async fn a_proxy_that_dies_in_the_middle_of_a_run_ends_it_with_its_name_and_what_came_is_reported() {
    let mut scene = Scene::start(Flaw::None).await;
    let (proxy, network) = proxied(&scene, rules(&scene), "me:geh%3Aeim@", "").await;
    let address = proxy.address().to_string();
    let fetched = scene.fetch(1000, network, || drop(proxy)).await;
    let error = fetched.run.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains(&address), "{error:?}");
    assert!(!error.to_string().contains("eim"), "{error}");
    // Some of the answers were in the tunnels.
    assert!((50..1000).contains(&fetched.files.len()), "{}", fetched.files.len());
}

#[tokio::test]
async fn a_certificate_that_ends_in_the_middle_of_a_run_costs_no_file_that_comes_over_open_connections() {
    let mut scene = Scene::start(Flaw::None).await;
    let ended = scene.authority.server(&[NAME], Flaw::Expired).unwrap();
    let (_proxy, network) = proxied(&scene, rules(&scene), "me:geh%3Aeim@", "").await;
    let front = Arc::clone(&scene.front);
    let fetched = scene.fetch(1000, network, || front.show(ended)).await;
    assert_eq!((fetched.files.len(), fetched.failures.len()), (1000, 0), "{:?}", fetched.run);
}

#[tokio::test]
async fn a_certificate_that_ends_before_a_reconnect_ends_the_run_with_its_reason_and_what_came_is_reported() {
    let mut scene = Scene::start(Flaw::None).await;
    let ended = scene.authority.server(&[NAME], Flaw::Expired).unwrap();
    let (proxy, network) = proxied(&scene, rules(&scene), "me:geh%3Aeim@", "").await;
    let front = Arc::clone(&scene.front);
    let fetched = scene
        .fetch(1000, network, || {
            front.show(ended);
            proxy.cut();
        })
        .await;
    let error = fetched.run.unwrap_err();
    assert!(matches!(error, ClientError::Certificate { .. }) && !error.is_retryable(), "{error:?}");
    let text = error.to_string();
    assert!([NAME, "it expired", "renewed"].iter().all(|part| text.contains(part)), "{text}");
    assert!((50..1000).contains(&fetched.files.len()), "{}", fetched.files.len());
}

#[tokio::test]
async fn calls_and_sessions_go_through_a_socks_proxy_with_and_without_a_password() {
    let scene = Scene::start(Flaw::None).await;
    let target = format!("{NAME}:{}", scene.front.address().port());
    for (scheme, user, login) in
        [("socks5h", "", None), ("socks5", "", None), ("socks5h", "me:geh%3Aeim@", Some(("me", "geh:eim")))]
    {
        let proxy = SocksProxy::start(scene.front.address(), login).await.unwrap();
        let proxies = Proxies::new(&format!("{scheme}://{user}{}", proxy.address()), "").unwrap();
        // Nobody but the proxy knows the name.
        scene.both(NAME, Network { proxies, ..scene.network() }).await.unwrap();
        assert_eq!(proxy.asked(), [target.clone(), target.clone()], "{scheme}");
    }
}

#[tokio::test]
async fn a_socks_proxy_that_refuses_is_named_without_the_password() {
    let scene = Scene::start(Flaw::None).await;
    for user in ["", "me:wrong-word@"] {
        let proxy = SocksProxy::start(scene.front.address(), Some(("me", "geh:eim"))).await.unwrap();
        let proxies = Proxies::new(&format!("socks5h://{user}{}", proxy.address()), "").unwrap();
        let error = scene.both(NAME, Network { proxies, ..scene.network() }).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(matches!(error, ClientError::Proxy { .. }), "{text}");
        assert!(text.contains(&proxy.address().to_string()) && !text.contains("wrong-word"), "{text}");
        assert!(proxy.asked().is_empty());
    }
}

#[tokio::test]
async fn vaults_of_a_server_behind_tls_are_reached_as_it_names_them() {
    let authority = Authority::new().unwrap();
    let front = TlsFront::on(LOCALHOST, authority.server(&["127.0.0.1"], Flaw::None).unwrap()).await.unwrap();
    let server = Server::builder()
        .public_host(front.address().to_string())
        .user(EMAIL, PASSWORD)
        .vault(VaultSpec::managed(VAULT))
        .start()
        .await
        .unwrap();
    front.lead_to(server.address());
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), authority.pem()).unwrap();
    let network = Network { ca_file: Some(ca_file.path().to_owned()), ..Network::default() };
    let options = ClientOptions { network, ..options(&format!("https://{}/", front.address())) };
    let client = Client::new(options).unwrap();
    let token = limited(client.sign_in(EMAIL, &PASSWORD.into(), None)).await.unwrap().token;
    let vault = limited(client.vaults(&token)).await.unwrap().remove(0);
    assert_eq!(vault.host, front.address().to_string());
}
