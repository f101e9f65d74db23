//! Arguments for reporting how runs end.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use secrecy::ExposeSecret as _;
use url::Url;

use crate::environment;
use crate::exit::{Exit, Failed};

/// Where to report how runs end.
#[derive(Debug, Args)]
#[command(next_help_heading = "Monitoring")]
pub(crate) struct Monitoring {
    /// Report the start and the end of each run to this URL, by the protocol of healthchecks.io. The end includes the
    /// report, which can contain names of notes. A failed ping does not fail the run
    #[arg(long, value_name = "URL", env = "OBSYNC_PING_URL", hide_env_values = true, value_parser = ping_url)]
    ping: Option<PingUrl>,
    /// Write the result of the run to this file as Prometheus metrics. Its name must end in .prom; put it in the
    /// folder of node exporter's textfile collector
    #[arg(long, value_name = "FILE", value_parser = metrics_file)]
    pub(crate) metrics_file: Option<PathBuf>,
    /// Serve /healthz, /readyz and /metrics at this address (such as 127.0.0.1:9187). Anyone who can connect to it
    /// can read the names of the vault and the folder
    #[arg(long, value_name = "ADDRESS", requires = "follow", value_parser = listen_address)]
    pub(crate) listen: Option<SocketAddr>,
}

impl Monitoring {
    /// The address of pings: from the option, else the variable, else the file that `OBSYNC_PING_URL_FILE`
    /// names.
    ///
    /// # Errors
    /// When variable and file are both set, or the file is unreadable or has no valid address.
    pub(crate) fn ping(&self) -> Result<Option<Url>, Failed> {
        let given = self.ping.as_ref().and_then(|PingUrl(url)| url.clone());
        if given.is_some() && !environment::has_ping_url()? {
            return Ok(given);
        }
        let Some(text) = environment::ping_url()?.filter(|_| given.is_none()) else { return Ok(given) };
        let PingUrl(url) = ping_url(text.expose_secret()).map_err(|reason| {
            let message =
                format!("the URL in the file that OBSYNC_PING_URL_FILE names cannot be used: {reason}");
            Failed::new(Exit::Usage, message)
        })?;
        Ok(url)
    }
}

/// The address of pings, if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct PingUrl(Option<Url>);

/// The address of a check. An empty variable counts as unset.
fn ping_url(text: &str) -> Result<PingUrl, String> {
    if text.is_empty() {
        return Ok(PingUrl(None));
    }
    let wrong =
        || "expected a URL that begins with https://, such as https://hc-ping.com/YOUR-CHECK-ID".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user name or password in the URL would not be sent; leave it out".to_owned());
    }
    Ok(PingUrl(Some(url)))
}

/// A file for node exporter's textfile collector.
fn metrics_file(text: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(text);
    match file.extension().is_some_and(|extension| extension == "prom") {
        true => Ok(file),
        false => Err("the name must end in .prom, or node exporter does not read the file".to_owned()),
    }
}

/// An address and a port.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected an address and a port, such as 127.0.0.1:9187".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_goes_to_an_address_of_the_web() {
        assert_eq!(ping_url(""), Ok(PingUrl(None)));
        assert!(ping_url("https://hc-ping.com/5e1f").is_ok());
        for wrong in ["hc-ping.com/5e1f", "file:///etc/passwd", "https://me:secret@hc-ping.com/x"] {
            assert!(ping_url(wrong).is_err(), "{wrong}");
        }
    }
}
