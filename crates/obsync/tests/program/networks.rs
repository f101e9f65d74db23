//! Networks of users, with the whole program.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use obsync_testkit::VaultSpec;
use obsync_testkit::network::{Authority, ConnectProxy, Flaw, ProxyRules, TlsFront};
use tokio::runtime::Runtime;

use crate::world::{World, ran};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A world whose server is behind TLS with a certificate of a private authority.
struct Secured {
    world: World,
    front: TlsFront,
    ca_file: PathBuf,
    // Dropped last: the front runs on it.
    _runtime: Runtime,
}

impl Secured {
    fn new(flaw: Flaw) -> Self {
        let runtime = Runtime::new().unwrap();
        let authority = Authority::new().unwrap();
        let config = authority.server(&["127.0.0.1"], flaw).unwrap();
        let front = runtime.block_on(TlsFront::on(LOCALHOST, config)).unwrap();
        let host = front.address().to_string();
        let world = World::with(|builder| builder.public_host(host).vault(VaultSpec::managed("Notes")));
        front.lead_to(world.server.address());
        let ca_file = world.path("ca.pem");
        fs::write(&ca_file, authority.pem()).unwrap();
        Secured { world, front, ca_file, _runtime: runtime }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = self.world.command(args);
        command.env("OBSYNC_API_URL", format!("https://{}/", self.front.address()));
        command
    }
}

#[test]
fn a_pull_from_a_service_of_a_private_authority_needs_its_certificate_by_option_or_variable() {
    let secured = Secured::new(Flaw::None);
    secured.world.vault("Notes").write("a.md", b"text", 1_700_000_000_000).unwrap();
    let ca_file = secured.ca_file.to_str().unwrap();
    ran(&mut secured.command(&["pull", "Notes", "one", "--ca-file", ca_file])).expect(0);
    ran(secured.command(&["pull", "Notes", "two"]).env("OBSYNC_CA_FILE", ca_file)).expect(0);
    ran(secured.command(&["pull", "Notes", "three"]).env("SSL_CERT_FILE", ca_file)).expect(0);
    for destination in ["one", "two", "three"] {
        assert!(secured.world.differences("Notes", destination).is_empty());
    }
    let refused = ran(&mut secured.command(&["vaults"])).expect(8);
    assert!(
        refused.stderr.contains("127.0.0.1") && refused.stderr.contains("--ca-file"),
        "{}",
        refused.stderr
    );
}

#[test]
fn a_certificate_that_is_not_accepted_is_told_at_once() {
    let secured = Secured::new(Flaw::OwnAuthority);
    let begun = Instant::now();
    let refused = ran(&mut secured.command(&["vaults"])).expect(8);
    assert!(refused.stderr.contains("CA:TRUE"), "{}", refused.stderr);
    assert_eq!(secured.front.connections(), 1);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn a_file_without_certificates_is_a_mistake_of_the_command_line() {
    let world = World::new();
    let refused =
        ran(world.command(&["pull", "Notes", "s3://bucket/x"]).env("AWS_CA_BUNDLE", "/nowhere.pem"));
    assert!(refused.stderr.contains("AWS_CA_BUNDLE") && refused.code == 2, "{refused:?}");
}

#[test]
fn a_proxy_of_the_environment_is_used_and_loopback_is_not_sent_through_it() {
    let secured = Secured::new(Flaw::None);
    let rules =
        ProxyRules { server: secured.front.address(), password: Some("me:pr0xy".into()), status: None };
    let proxy = secured.world.runtime.block_on(ConnectProxy::start(rules)).unwrap();
    let url = format!("http://me:pr0xy@{}", proxy.address());
    let ca_file = secured.ca_file.to_str().unwrap();
    ran(secured.command(&["vaults", "--ca-file", ca_file]).env("HTTPS_PROXY", &url)).expect(0);
    assert!(proxy.asked().is_empty());
    // The proxy connects to the server whatever the name; its certificate is for another one.
    let mut command = secured.command(&["vaults", "--ca-file", ca_file, "-vv"]);
    let ran = ran(command.env("ALL_PROXY", &url).env("OBSYNC_API_URL", "https://service.test/")).expect(8);
    assert_eq!(proxy.asked(), ["service.test:443"]);
    assert!(ran.stderr.contains("service.test") && ran.stderr.contains("127.0.0.1"), "{}", ran.stderr);
    assert!(!ran.stderr.contains("pr0xy"), "{}", ran.stderr);
}

#[test]
fn an_unusable_proxy_is_named_by_its_variable_without_its_password() {
    let world = World::new();
    let refused = ran(world.command(&["vaults"]).env("ALL_PROXY", "ftp://me:pr0xy@host")).expect(2);
    assert!(refused.stderr.contains("ALL_PROXY") && !refused.stderr.contains("pr0xy"), "{}", refused.stderr);
}
