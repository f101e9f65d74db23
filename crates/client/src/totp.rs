//! Two-factor codes (RFC 6238) from the user's secret, for unattended sign-in.

use std::time::{SystemTime, UNIX_EPOCH};

use obsync_protocol::{ExposeSecret, SecretString};
use thiserror::Error;
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

/// Validity of a code in seconds.
pub(crate) const PERIOD: u64 = 30;

/// Computes the codes of one account.
pub struct Generator {
    totp: Totp,
}

/// A code and how long it is valid.
pub struct Code {
    /// Six digits.
    pub digits: String,
    /// Seconds until the next code, 1 to 30.
    pub seconds_left: u64,
}

/// A text that is no two-factor secret. The error does not repeat it: it may be a secret with a typing error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is not a base32 secret: the text shown beside the QR code has letters and the digits 2 to 7 only")]
pub struct NotBase32;

impl Generator {
    /// Parses the secret as services show it: base32, in any case, with or without spaces, hyphens and
    /// padding.
    ///
    /// # Errors
    /// When it is no base32 text, or empty.
    pub fn new(secret: &SecretString) -> Result<Self, NotBase32> {
        let plain: Zeroizing<String> = Zeroizing::new(
            secret
                .expose_secret()
                .chars()
                .filter(|character| !character.is_whitespace() && !matches!(character, '-' | '='))
                .map(|character| character.to_ascii_uppercase())
                .collect(),
        );
        let secret = Secret::try_from_base32(plain.as_str()).map_err(|_| NotBase32)?;
        if secret.as_bytes().is_empty() {
            return Err(NotBase32);
        }
        // RFC 4226 demands 128 bits, but users of a service that hands out fewer still have to sign in.
        Ok(Generator { totp: Builder::new().with_secret(secret).build_noncompliant() })
    }

    /// The code of this moment.
    #[must_use]
    pub fn current(&self) -> Code {
        self.at(seconds(SystemTime::now()))
    }

    /// The code at `now`, in seconds since the epoch.
    #[must_use]
    pub fn at(&self, now: u64) -> Code {
        Code { digits: self.totp.generate(now).to_string(), seconds_left: PERIOD - now % PERIOD }
    }
}

/// A time of day in seconds since the epoch.
pub(crate) fn seconds(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seed of RFC 6238, appendix B, in base32.
    const SEED: &str = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";

    fn generator(secret: &str) -> Result<Generator, NotBase32> {
        Generator::new(&SecretString::from(secret))
    }

    #[test]
    fn codes_are_those_of_rfc_6238() {
        let generator = generator(SEED).unwrap();
        // Appendix B has eight digits; six digits are the last six of them.
        for (moment, digits) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(generator.at(moment).digits, digits);
        }
        assert_eq!(generator.at(59).seconds_left, 1);
        assert_eq!(generator.at(60).seconds_left, 30);
    }

    #[test]
    fn a_secret_may_be_written_as_services_show_it() {
        for way in [
            "gezd gnbv gy3t qojq gezd gnbv gy3t qojq",
            "GEZDGNBV-GY3TQOJQ-GEZDGNBV-GY3TQOJQ\n",
            &format!("{SEED}===="),
        ] {
            assert_eq!(generator(way).unwrap().at(59).digits, "287082");
        }
    }

    #[test]
    fn a_secret_that_is_none_is_refused_without_repeating_it() {
        for wrong in ["", "   ", "0189!", "geheim1"] {
            let refused = generator(wrong).err().unwrap();
            assert!(!refused.to_string().contains("geheim"));
        }
    }
}
