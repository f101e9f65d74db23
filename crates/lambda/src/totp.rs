//! Two-factor codes (RFC 6238) from the secret that a user keeps for the function.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use secrecy::{ExposeSecret, SecretString};
use totp_rs::{Builder, Secret, Totp};
use zeroize::Zeroizing;

/// How long a code is valid, in seconds.
const PERIOD: u64 = 30;

/// Makes the codes of one account.
pub(crate) struct Generator {
    totp: Totp,
}

/// A text that no codes can be made from. It is not repeated: it may be a secret with a typing error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a base32 secret: the text shown beside the QR code has letters and the digits 2 to 7 only")]
pub(crate) struct NotBase32;

impl Generator {
    /// Takes the secret as services show it: base32, whatever its case, spaces, hyphens and padding.
    pub(crate) fn new(secret: &SecretString) -> Result<Self, NotBase32> {
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
        // RFC 4226 asks for 128 bits, but a service that hands out fewer has still to be signed in to.
        Ok(Generator { totp: Builder::new().with_secret(secret).build_noncompliant() })
    }

    /// The code of this moment, six digits.
    pub(crate) fn code(&self) -> String {
        self.code_at(now())
    }

    fn code_at(&self, now: u64) -> String {
        self.totp.generate(now).to_string()
    }
}

/// How long it is until the next code.
pub(crate) fn until_next_code() -> Duration {
    Duration::from_secs(PERIOD - now() % PERIOD)
}

/// Seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_rfc_6238() {
        // The seed of appendix B in base32; six digits are the last six of its eight.
        let generator = Generator::new(&"gezd gnbv-gy3t qojq gezd gnbv gy3t qojq".into()).ok().unwrap();
        for (moment, digits) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(generator.code_at(moment), digits);
        }
    }

    #[test]
    fn a_secret_that_is_none_is_refused() {
        for wrong in ["", "0189!", "geheim1"] {
            assert!(Generator::new(&wrong.into()).is_err());
        }
    }
}
