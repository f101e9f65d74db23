//! Checks the hosts that the token may be sent to (docs/PROTOCOL.md section 2).
//!
//! A vault's listing names the host of its session. Whoever can alter that listing could name their own host
//! and receive the token, so a host outside the list is refused before anything is connected.

use url::{Host, Url};

use crate::error::{ClientError, printable};

/// This domain is trusted, with all its subdomains.
const SERVICE_DOMAIN: &str = "obsidian.md";

/// The address of a session's server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyncAddress {
    /// Name or IPv4 address, lower case.
    pub(crate) name: String,
    pub(crate) port: u16,
    /// TLS is used. Only loopback hosts do without it, and not if the service itself is on loopback with TLS.
    pub(crate) tls: bool,
}

impl SyncAddress {
    /// Value of the `Host` header: `name:port`, or the name alone on the scheme's default port.
    pub(crate) fn authority(&self) -> String {
        let own_port = if self.tls { 443 } else { 80 };
        if self.port == own_port { self.name.clone() } else { format!("{}:{}", self.name, self.port) }
    }

    /// The URL of the session.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}/", if self.tls { "wss" } else { "ws" }, self.authority())
    }
}

/// Hosts that a user allowed beyond the built-in ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostRules {
    allowed: Vec<(String, Option<u16>)>,
    /// The service itself is on this machine, so its vaults may be, too.
    loopback: bool,
    /// Sessions with loopback use TLS, because the service on loopback does.
    loopback_has_tls: bool,
}

impl HostRules {
    /// Parses the entries of `allow_hosts`: `name` or `name:port`.
    pub(crate) fn new(allow_hosts: &[String]) -> Result<Self, ClientError> {
        let mut allowed = Vec::with_capacity(allow_hosts.len());
        for entry in allow_hosts {
            let parts = split_host(entry).ok_or_else(|| ClientError::InvalidOption {
                reason: format!(
                    "{entry:?} is not a host to allow; give a name, or a name and a port as name:port"
                ),
            })?;
            allowed.push(parts);
        }
        Ok(Self { allowed, loopback: false, loopback_has_tls: false })
    }

    /// The same rules for the vaults of a service at this address. Only a service on this machine may name
    /// hosts on this machine; with any other, a loopback host would lead to whatever program listens on that
    /// port here. Sessions with loopback use the scheme of a service on loopback.
    pub(crate) fn beside(self, api_url: &Url) -> Self {
        let loopback = match api_url.host() {
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            Some(Host::Domain(name)) => is_loopback(name),
            None => false,
        };
        Self { loopback, loopback_has_tls: loopback && api_url.scheme() == "https", ..self }
    }

    fn allows(&self, name: &str, port: u16) -> bool {
        is_service(name) || (self.loopback && is_loopback(name)) || self.is_listed(name, port)
    }

    /// The address for a `host` of the vault list (`name[:port]`).
    pub(crate) fn sync_address(&self, host: &str) -> Result<SyncAddress, ClientError> {
        let refused = || ClientError::HostNotAllowed { host: printable(host) };
        let (name, port) = split_host(host).ok_or_else(refused)?;
        let tls = self.loopback_has_tls || !is_loopback(&name);
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        if !self.allows(&name, port) {
            return Err(refused());
        }
        Ok(SyncAddress { name, port, tls })
    }

    /// Checks the address of the REST service, which the user chose: any host by `https`. Plain `http` is
    /// refused where passwords would cross a network in the clear.
    pub(crate) fn check_api_url(&self, url: &Url) -> Result<(), ClientError> {
        let invalid =
            |reason: &str| Err(ClientError::InvalidOption { reason: format!("{reason}: {}", shown(url)) });
        let Some(host) = url.host() else {
            return invalid("the service's address names no host; give one such as https://api.obsidian.md/");
        };
        if !url.username().is_empty() || url.password().is_some() {
            return invalid("the service's address must not hold a user name or password; leave them out");
        }
        if url.cannot_be_a_base() {
            return invalid(
                "the service's address cannot be used; give one such as https://api.obsidian.md/",
            );
        }
        match url.scheme() {
            "https" => Ok(()),
            "http" if self.allows_plain(&host, url.port_or_known_default().unwrap_or(80)) => Ok(()),
            "http" => invalid(
                "the service's address is not encrypted; use https, or allow the host if you trust the way to it",
            ),
            _ => invalid("the service's address must begin with https://"),
        }
    }

    fn allows_plain(&self, host: &Host<&str>, port: u16) -> bool {
        match host {
            Host::Ipv6(address) => address.is_loopback(),
            Host::Ipv4(address) => address.is_loopback() || self.is_listed(&address.to_string(), port),
            Host::Domain(name) => *name == "localhost" || self.is_listed(name, port),
        }
    }

    fn is_listed(&self, name: &str, port: u16) -> bool {
        self.allowed.iter().any(|(allowed, only)| allowed == name && only.is_none_or(|only| only == port))
    }
}

/// The URL without its possibly secret parts.
fn shown(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or("?"))
}

fn is_service(name: &str) -> bool {
    name.strip_suffix(SERVICE_DOMAIN).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn is_loopback(name: &str) -> bool {
    name == "localhost" || name == "127.0.0.1"
}

/// Splits `name[:port]`. `None` for anything that is not plainly a host name or IPv4 address, so that no user
/// part, path or escape can redirect a URL.
fn split_host(host: &str) -> Option<(String, Option<u16>)> {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port.parse::<u16>().ok().filter(|port| *port != 0)?)),
        None => (host, None),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.' || byte == b'_';
    if name.is_empty() || name.len() > 253 || !name.bytes().all(plain) {
        return None;
    }
    if name.split('.').any(str::is_empty) {
        return None;
    }
    Some((name.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(allow: &[&str]) -> HostRules {
        HostRules::new(&allow.iter().map(|&host| host.to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn hosts_of_the_service_are_allowed_and_loopback_beside_a_service_on_loopback() {
        let rules = rules(&[]).beside(&Url::parse("http://127.0.0.1:4000/").unwrap());
        assert_eq!(rules.sync_address("sync-7.obsidian.md").unwrap().url(), "wss://sync-7.obsidian.md/");
        assert_eq!(rules.sync_address("Obsidian.MD").unwrap().url(), "wss://obsidian.md/");
        assert_eq!(
            rules.sync_address("sync.obsidian.md:8443").unwrap().url(),
            "wss://sync.obsidian.md:8443/"
        );
        assert_eq!(rules.sync_address("127.0.0.1:4000").unwrap().url(), "ws://127.0.0.1:4000/");
        assert_eq!(rules.sync_address("localhost").unwrap().url(), "ws://localhost/");
    }

    #[test]
    fn a_service_elsewhere_cannot_send_the_token_to_a_port_of_this_machine() {
        for api_url in ["https://api.obsidian.md/", "https://example.com/", "https://localhost.example.com/"]
        {
            let beside = |allow: &[&str]| rules(allow).beside(&Url::parse(api_url).unwrap());
            for host in ["127.0.0.1:4000", "localhost:4000", "LOCALHOST", "127.0.0.1"] {
                assert!(beside(&[]).sync_address(host).is_err(), "{api_url} {host}");
            }
            assert!(beside(&["localhost:4000"]).sync_address("localhost:4000").is_ok());
            assert!(beside(&["localhost:4000"]).sync_address("localhost:4001").is_err());
        }
    }

    #[test]
    fn any_other_host_is_refused() {
        for host in [
            "example.com",
            "evil-obsidian.md",
            "obsidian.md.example.com",
            "obsidian.md@example.com",
            "example.com/.obsidian.md",
            "example.com#.obsidian.md",
            "example.com?.obsidian.md",
            "example.com\\.obsidian.md",
            "127.0.0.1.example.com",
            "127.0.0.2",
            "[::1]:80",
            "",
            ".",
            ".obsidian.md",
            "sync..obsidian.md",
            "sync.obsidian.md:0",
            "sync.obsidian.md:99999",
            "sync.obsidian.md:",
            "sync.obsidian.md:80:90",
            "sync.obsidian.md ",
            "sync.obsidian.md\n",
            "sync%2eobsidian.md",
            "ѕync.obsidian.md",
        ] {
            let refused = rules(&[]).sync_address(host);
            assert!(matches!(refused, Err(ClientError::HostNotAllowed { .. })), "{host:?} gave {refused:?}");
        }
    }

    #[test]
    fn an_allowed_host_is_reached_by_tls_and_only_on_its_port() {
        let rules = rules(&["sync.example.com", "vault.example.org:9000"]);
        assert_eq!(
            rules.sync_address("sync.example.com:1234").unwrap().url(),
            "wss://sync.example.com:1234/"
        );
        assert_eq!(
            rules.sync_address("vault.example.org:9000").unwrap().url(),
            "wss://vault.example.org:9000/"
        );
        assert!(rules.sync_address("vault.example.org").is_err());
        assert!(rules.sync_address("sub.sync.example.com").is_err());
        assert!(HostRules::new(&[String::from("https://example.com")]).is_err());
    }

    #[test]
    fn the_service_is_called_by_https_except_on_loopback_or_an_allowed_host() {
        let check = |rules: &HostRules, url: &str| rules.check_api_url(&Url::parse(url).unwrap());
        let (none, some) = (rules(&[]), rules(&["dev.example.com:8080"]));
        check(&none, "https://api.example.com/").unwrap();
        check(&none, "http://127.0.0.1:4000/").unwrap();
        check(&none, "http://[::1]:4000/").unwrap();
        check(&some, "http://dev.example.com:8080/").unwrap();
        for (rules, url) in [
            (&none, "http://dev.example.com:8080/"),
            (&some, "http://dev.example.com/"),
            (&none, "http://api.obsidian.md/"),
            (&none, "ftp://api.obsidian.md/"),
            (&none, "data:text/plain,hello"),
        ] {
            assert!(check(rules, url).is_err(), "{url}");
        }
        let error = check(&none, "https://me:hunter2@api.obsidian.md/").unwrap_err().to_string();
        assert!(!error.contains("hunter2"), "{error}");
    }
}
