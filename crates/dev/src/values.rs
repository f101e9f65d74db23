//! Values of the command line with parts or rules: addresses, accounts, vaults, buckets, faults.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use obsync_protocol::EncryptionVersion;
use obsync_testkit::{FaultError, Faults, VaultSpec};
use secrecy::{ExposeSecret, SecretString};

/// An address of this machine only: the development server speaks plain HTTP and handles passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Loopback(pub(crate) SocketAddr);

impl FromStr for Loopback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text
            .strip_prefix("localhost:")
            .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        let address: SocketAddr =
            text.parse().map_err(|_| "expected an address with a port, such as 127.0.0.1:8787".to_owned())?;
        if !address.ip().is_loopback() {
            return Err("the server is for this machine alone; give 127.0.0.1:PORT or [::1]:PORT".to_owned());
        }
        Ok(Self(address))
    }
}

/// An account: `EMAIL:PASSWORD`, or `EMAIL:PASSWORD:TOTP_SECRET` with two-factor authentication.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) email: String,
    pub(crate) password: SecretString,
    pub(crate) totp_secret: Option<SecretString>,
}

impl FromStr for Account {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(email), Some(password), totp_secret) if email.contains('@') && !password.is_empty() => {
                Ok(Self {
                    email: email.to_owned(),
                    password: SecretString::from(password),
                    totp_secret: totp_secret.map(SecretString::from),
                })
            }
            _ => {
                Err("it is EMAIL:PASSWORD or EMAIL:PASSWORD:TOTP_SECRET; a password has no colon here"
                    .to_owned())
            }
        }
    }
}

/// An end-to-end encrypted vault: `NAME:PASSWORD`, or `NAME:PASSWORD:VERSION`.
#[derive(Clone, Debug)]
pub(crate) struct EndToEndVault {
    pub(crate) name: String,
    password: SecretString,
    version: EncryptionVersion,
}

impl EndToEndVault {
    /// The vault for the server to create.
    pub(crate) fn spec(&self) -> VaultSpec {
        VaultSpec::end_to_end(&self.name, self.password.expose_secret()).version(self.version)
    }
}

impl FromStr for EndToEndVault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let (name, password, version) = match (parts.next(), parts.next(), parts.next()) {
            (Some(name), Some(password), version) if !name.is_empty() && !password.is_empty() => {
                (name, password, version)
            }
            _ => {
                return Err(
                    "it is NAME:PASSWORD or NAME:PASSWORD:VERSION; neither part has a colon here".to_owned()
                );
            }
        };
        let version = version.unwrap_or("3").parse().ok().and_then(|number: u64| number.try_into().ok());
        Ok(Self {
            name: name.to_owned(),
            password: SecretString::from(password),
            version: version.ok_or("the encryption version is 0, 2 or 3")?,
        })
    }
}

/// The name of a bucket (S3 user guide, bucket naming rules).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bucket(pub(crate) String);

impl FromStr for Bucket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_edge = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit();
        let is_name = (3..=63).contains(&text.len())
            && text.chars().all(|one| is_edge(one) || one == '-' || one == '.')
            && text.starts_with(is_edge)
            && text.ends_with(is_edge);
        match is_name {
            true => Ok(Self(text.to_owned())),
            false => {
                Err("a bucket has a name of 3 to 63 lower-case letters, digits, hyphens and dots".to_owned())
            }
        }
    }
}

/// One fault setting of the server: `NAME=VALUE`, or `NAME` for "always".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault(String);

impl Fault {
    /// All of these settings together.
    pub(crate) fn all(faults: &[Self]) -> anyhow::Result<Faults> {
        let mut all = Faults::default();
        for Self(setting) in faults {
            all.set(setting)?;
        }
        Ok(all)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Faults::default().set(text) {
            Ok(()) => Ok(Self(text.to_owned())),
            Err(FaultError::Name { name }) => Err(format!(
                "there is no fault {name:?}; `obsync-dev server --help` lists those that there are"
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_taken() {
        for text in ["127.0.0.1:80", "[::1]:80", "localhost:80", "127.8.0.1:0"] {
            assert!(text.parse::<Loopback>().is_ok(), "{text} was refused");
        }
        for text in ["0.0.0.0:80", "[::]:80", "192.0.2.1:80", "127.0.0.1", "80", "example.com:80"] {
            assert!(text.parse::<Loopback>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn an_account_has_an_address_a_password_and_perhaps_a_second_factor() {
        let account: Account = "me@example.com:hunter2:JBSWY3DPEHPK3PXP".parse().unwrap();
        assert_eq!(account.email, "me@example.com");
        assert_eq!(account.password.expose_secret(), "hunter2");
        assert_eq!(account.totp_secret.unwrap().expose_secret(), "JBSWY3DPEHPK3PXP");
        assert!("me@example.com:hunter2".parse::<Account>().unwrap().totp_secret.is_none());
        for text in ["me@example.com", "me@example.com:", "me:hunter2", ":hunter2"] {
            assert!(text.parse::<Account>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_vault_has_the_newest_encryption_unless_told_otherwise() {
        let vault: EndToEndVault = "Notes:secret".parse().unwrap();
        assert_eq!((vault.name.as_str(), vault.version), ("Notes", EncryptionVersion::V3));
        assert_eq!("Notes:secret:0".parse::<EndToEndVault>().unwrap().version, EncryptionVersion::V0);
        for text in ["Notes", ":secret", "Notes:", "Notes:secret:1", "Notes:secret:x"] {
            assert!(text.parse::<EndToEndVault>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn a_bucket_has_a_name_that_s3_takes() {
        for text in ["vaults", "my-notes.2", "123"] {
            assert!(text.parse::<Bucket>().is_ok(), "{text} was refused");
        }
        for text in ["", "ab", "Vaults", "-ab", "ab.", "a b c", "a$(b)c"] {
            assert!(text.parse::<Bucket>().is_err(), "{text} was taken");
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let account: Account = "me@example.com:hunter2:JBSWY3DPEHPK3PXP".parse().unwrap();
        let vault: EndToEndVault = "Notes:correct horse".parse().unwrap();
        let shown = format!("{account:?} {vault:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("JBSW") && !shown.contains("horse"), "{shown}");
    }

    #[test]
    fn faults_add_up_and_unknown_ones_are_refused() {
        let faults = ["latency=20ms", "corrupt-content=next:2"].map(|text| text.parse().unwrap());
        let faults = Fault::all(&faults).unwrap();
        assert_eq!(faults.latency, Duration::from_millis(20));
        assert!(!faults.corrupt_content.is_never());
        assert!("no-such-fault".parse::<Fault>().is_err());
        assert!("latency=soon".parse::<Fault>().is_err());
    }
}
