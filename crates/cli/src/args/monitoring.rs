//! Arguments for reporting how runs end.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use secrecy::ExposeSecret as _;
use url::Url;

use crate::environment;
use crate::exit::{Exit, Failed};

/// Who is told how runs end.
#[derive(Debug, Args)]
#[command(next_help_heading = "Monitoring")]
pub(crate) struct Monitoring {
    /// Tell a monitor when a run starts and how it ends, by the protocol of healthchecks.io; the end comes with the report,
    /// which can name notes. A ping that fails is no failure of the run
    #[arg(long, value_name = "URL", env = "OBSYNC_PING_URL", hide_env_values = true, value_parser = ping_url)]
    ping: Option<PingUrl>,
    /// Write how the run ended to this file, for Prometheus: give it a name that ends in .prom, in the folder that node
    /// exporter's textfile collector reads
    #[arg(long, value_name = "FILE", value_parser = metrics_file)]
    pub(crate) metrics_file: Option<PathBuf>,
    /// Answer /healthz, /readyz and /metrics at this address (such as 127.0.0.1:9187). Whoever reaches it can read the names
    /// of vault and folder
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
                format!("the address in the file that OBSYNC_PING_URL_FILE names cannot be used: {reason}");
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
        || "it is an address that begins with https://, such as https://hc-ping.com/YOUR-CHECK-ID".to_owned();
    let url = Url::parse(text).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(wrong());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a user's name or password in it would not be sent; leave them out".to_owned());
    }
    Ok(PingUrl(Some(url)))
}

/// A file for node exporter's textfile collector.
fn metrics_file(text: &str) -> Result<PathBuf, String> {
    let file = PathBuf::from(text);
    match file.extension().is_some_and(|extension| extension == "prom") {
        true => Ok(file),
        false => Err("its name has to end in .prom, or node exporter does not read it".to_owned()),
    }
}

/// An address and a port.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give an address and a port, such as 127.0.0.1:9187".to_owned())
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
