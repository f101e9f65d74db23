//! Chooses the connections that go through a proxy, by the same variables as other programs.
//!
//! `HTTPS_PROXY`, else `ALL_PROXY`, in upper or lower case; `NO_PROXY` has names (with all their subdomains),
//! addresses and networks that are reached directly. The URL may contain a user and a password, which no text
//! shows.

use std::fmt;

use http::{HeaderValue, Uri};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};

use crate::NetworkError;

/// Never proxied, whatever the variables say.
const ALWAYS_DIRECT: &str = "localhost,127.0.0.0/8,::1";

/// The rule for all connections. Without a proxy all of them are direct.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// With user and password.
    url: Option<String>,
    /// As `NO_PROXY`.
    direct: String,
}

/// A proxy that a connection goes through.
#[derive(Clone)]
pub struct Proxy(Intercept);

impl Proxies {
    /// The rule of an environment.
    ///
    /// # Errors
    ///
    /// A sentence that names the variable with an invalid value.
    pub(crate) fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, NetworkError> {
        let first = |names: &[&'static str]| {
            let set =
                |name: &&'static str| Some((*name, get(name)?)).filter(|(_, value)| !value.trim().is_empty());
            names.iter().find_map(set)
        };
        let direct = first(&["NO_PROXY", "no_proxy"]).map(|(_, value)| value).unwrap_or_default();
        match first(&["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]) {
            Some((name, url)) => {
                Self::new(url.trim(), &direct).map_err(|error| NetworkError(format!("{name} {error}")))
            }
            None => Ok(Self::default()),
        }
    }

    /// All connections through the proxy `url`, except to hosts that `direct` lists like `NO_PROXY`.
    ///
    /// # Errors
    ///
    /// The fault of the URL, without repeating it: it may contain a password.
    pub fn new(url: &str, direct: &str) -> Result<Self, NetworkError> {
        let scheme = url.split_once("://").map_or("http", |(scheme, _)| scheme).to_lowercase();
        if !matches!(scheme.as_str(), "http" | "https" | "socks5" | "socks5h") {
            return Err(NetworkError(
                "is a proxy of a kind that is not supported; use http://, https:// or socks5h://".to_owned(),
            ));
        }
        let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
        if !names_a_host(&url) {
            return Err(NetworkError(
                "is not the address of a proxy; give one such as http://proxy.example.com:3128, with user and password \
                 percent-encoded"
                    .to_owned(),
            ));
        }
        Ok(Self { url: Some(url), direct: direct.to_owned() })
    }

    /// The proxy's URL with user and password, for clients with the same rule built in.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The hosts that are reached directly, in the form of `NO_PROXY`.
    #[must_use]
    pub fn direct(&self) -> String {
        if self.direct.is_empty() {
            ALWAYS_DIRECT.to_owned()
        } else {
            format!("{},{ALWAYS_DIRECT}", self.direct)
        }
    }

    /// The proxy for an encrypted connection to a host.
    #[must_use]
    pub fn for_host(&self, host: &str, port: u16) -> Option<Proxy> {
        self.url.as_ref()?;
        let uri = format!("https://{}:{port}/", bracketed(host)).parse::<Uri>().ok()?;
        self.matcher().intercept(&uri).map(Proxy)
    }

    fn matcher(&self) -> Matcher {
        Matcher::builder().all(self.url.as_deref().unwrap_or_default()).no(self.direct()).build()
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.matcher().intercept(&Uri::from_static("https://example.com/"));
        f.debug_struct("Proxies").field("proxy", &shown).field("direct", &self.direct).finish()
    }
}

impl Proxy {
    /// Its host, without brackets.
    pub(crate) fn host(&self) -> &str {
        self.0.uri().host().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// Its port, else its kind's default.
    pub(crate) fn port(&self) -> u16 {
        self.0.uri().port_u16().unwrap_or(match self.scheme() {
            "https" => 443,
            "http" => 80,
            _ => 1080,
        })
    }

    pub(crate) fn scheme(&self) -> &str {
        self.0.uri().scheme_str().unwrap_or("http")
    }

    pub(crate) fn uri(&self) -> &Uri {
        self.0.uri()
    }

    /// The value of `Proxy-Authorization`.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.0.basic_auth()
    }

    /// User and password for SOCKS.
    pub(crate) fn user_and_password(&self) -> Option<(&str, &str)> {
        self.0.raw_auth()
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme(), bracketed(self.host()), self.port())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// True if a proxy's URL is valid. Also checks the host that the library extracts, since an unencoded
/// password would become part of it, and so of texts.
fn names_a_host(url: &str) -> bool {
    let proxy = Matcher::builder().all(url).build().intercept(&Uri::from_static("https://example.com/"));
    let authority = proxy.as_ref().and_then(|proxy| proxy.uri().authority());
    authority.is_some_and(|authority| {
        let (host, port) = (authority.host(), authority.as_str().strip_prefix(authority.host()));
        let port_is_right = port.is_some_and(|port| port.is_empty() || authority.port_u16().is_some());
        !host.is_empty() && !authority.as_str().contains('@') && port_is_right
    })
}

/// An IPv6 address in the form of URLs; other hosts unchanged.
pub(crate) fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Proxies, NetworkError> {
        Proxies::read(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn route(variables: &[(&str, &str)], host: &str) -> Option<String> {
        read(variables).unwrap().for_host(host, 443).map(|proxy| proxy.to_string())
    }

    #[test]
    fn the_variables_are_taken_in_their_order_and_empty_ones_are_not_set() {
        let proxy = Some("http://proxy:3128".to_owned());
        assert_eq!(
            route(&[("HTTPS_PROXY", "http://proxy:3128"), ("ALL_PROXY", "http://other")], "a.b"),
            proxy
        );
        assert_eq!(route(&[("HTTPS_PROXY", ""), ("all_proxy", "proxy:3128")], "a.b"), proxy);
        assert_eq!(route(&[("HTTP_PROXY", "http://proxy:3128")], "a.b"), None);
        assert_eq!(
            route(&[("ALL_PROXY", "socks5h://proxy")], "a.b"),
            Some("socks5h://proxy:1080".to_owned())
        );
    }

    #[test]
    fn no_proxy_has_names_and_networks() {
        let variables =
            [("ALL_PROXY", "http://proxy"), ("NO_PROXY", "obsidian.md, .corp.example,10.0.0.0/8")];
        for direct in ["obsidian.md", "api.obsidian.md", "s3.corp.example", "10.1.2.3"] {
            assert_eq!(route(&variables, direct), None, "{direct}");
        }
        for proxied in ["notobsidian.md", "11.1.2.3"] {
            assert!(route(&variables, proxied).is_some(), "{proxied}");
        }
    }

    #[test]
    fn loopback_is_never_proxied() {
        for host in ["localhost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert_eq!(route(&[("ALL_PROXY", "http://proxy")], host), None, "{host}");
        }
    }

    #[test]
    fn a_variable_that_is_no_proxy_is_named_without_its_value() {
        for wrong in ["http://user:geheim@", "ftp://user:geheim@proxy", "http://user:ge@heim@proxy:x"] {
            let error = read(&[("ALL_PROXY", wrong)]).unwrap_err().to_string();
            assert!(error.starts_with("ALL_PROXY ") && !error.contains("heim"), "{error}");
        }
    }

    #[test]
    fn user_and_password_are_sent_and_never_shown() {
        let proxies = read(&[("HTTPS_PROXY", "http://user:geh%40eim@proxy:3128")]).unwrap();
        let proxy = proxies.for_host("a.b", 443).unwrap();
        assert_eq!(proxy.authorization().unwrap(), "Basic dXNlcjpnZWhAZWlt");
        assert!(!format!("{proxies:?} {proxy:?} {proxy}").contains("eim"), "{proxies:?}");
    }
}
