//! Unattended sign-in: a password that may end with a line break, and computed two-factor codes.
//!
//! A service accepts each code once. A second sign-in within 30 seconds, or on another machine, sends a
//! correct code that is refused; the next code is accepted. A wrong clock is another reason for a refusal:
//! the `Date` of the service's answers reveals its clock, so the code is computed for that time and the error
//! names the difference.

use std::time::Duration;

use obsync_protocol::{ExposeSecret, SecretString};

use crate::calls::SignedIn;
use crate::client::Client;
use crate::error::ClientError;
use crate::password::Password;
use crate::totp::{self, Generator, PERIOD};

/// Clock difference below which the clock is not blamed: the latency of an answer, and the whole seconds of
/// its `Date`.
const HARMLESS_SKEW: u64 = 5;

/// The sign-in of one account.
#[derive(Debug)]
pub struct SignIn<'a> {
    client: &'a Client,
    email: &'a str,
    password: &'a Password,
    /// The password was refused unchanged, and accepted without its line break.
    without_line_end: bool,
}

impl<'a> SignIn<'a> {
    /// Prepares a sign-in. Sends nothing yet.
    #[must_use]
    pub fn new(client: &'a Client, email: &'a str, password: &'a Password) -> Self {
        if let Some(password) = password.without_line_end() {
            client.redactor().know(password.expose_secret());
        }
        Self { client, email, password, without_line_end: false }
    }

    /// Tries the password unchanged, then without the line break at its end. `code` is a two-factor code.
    ///
    /// # Errors
    /// As for [`Client::sign_in`].
    pub async fn attempt(&mut self, code: Option<&str>) -> Result<SignedIn, ClientError> {
        if !self.without_line_end {
            match (self.send(self.password.as_given(), code).await, self.password.without_line_end()) {
                (Err(ClientError::WrongCredentials), Some(_)) => {}
                (result, _) => return result,
            }
        }
        let password = self.password.without_line_end().unwrap_or(self.password.as_given());
        let result = self.send(password, code).await;
        if !matches!(result, Err(ClientError::WrongCredentials)) && !self.without_line_end {
            self.without_line_end = true;
            self.password.warn_of_line_end();
        }
        result
    }

    async fn send(&self, password: &SecretString, code: Option<&str>) -> Result<SignedIn, ClientError> {
        self.client.sign_in(self.email, password, code).await
    }

    /// Signs in with a computed code. A refused code may have been used already: the next one is tried once,
    /// after a wait of at most 30 seconds plus the clock skew.
    ///
    /// # Errors
    /// [`ClientError::ComputedCodesRefused`] when the second code is refused, too; other errors of
    /// [`Client::sign_in`].
    pub async fn with_codes(&mut self, generator: &Generator) -> Result<SignedIn, ClientError> {
        let clock = self.client.options().clock.clone();
        let now = || totp::seconds(clock.wall());
        match self.attempt(Some(&generator.at(now()).digits)).await {
            Err(ClientError::MfaWrong { .. }) => {}
            result => return result,
        }
        let second = second_attempt(now(), self.client.service_time());
        match second.skew {
            Some(skew) => tracing::warn!(
                "the two-factor code was refused; {}; trying the code of the service's time",
                clocks(skew)
            ),
            None => tracing::warn!(
                "the two-factor code was refused, perhaps because it was used already; waiting {} s for the next one",
                second.wait.as_secs()
            ),
        }
        clock.sleep(second.wait).await;
        match self.attempt(Some(&generator.at(second.code_of).digits)).await {
            Err(ClientError::MfaWrong { .. }) => {
                let skew = skew(now(), self.client.service_time());
                let clock = skew.map_or_else(String::new, |skew| format!("; {}", clocks(skew)));
                Err(ClientError::ComputedCodesRefused { clock })
            }
            result => result,
        }
    }
}

/// The second attempt after a refused code.
#[derive(Debug, PartialEq, Eq)]
struct Second {
    /// Pause before it.
    wait: Duration,
    /// The time whose code is sent, in seconds since the epoch.
    code_of: u64,
    /// Seconds by which the service's clock is ahead, if that is why the first code was refused.
    skew: Option<i64>,
}

/// `service` is the service's time, if known; both in seconds since the epoch.
fn second_attempt(now: u64, service: Option<u64>) -> Second {
    let ahead = service.map_or(0, |service| now.saturating_sub(service));
    match service {
        // The first code was of another period than the service's, whatever else is wrong with it.
        Some(service) if now.abs_diff(service) >= PERIOD => {
            Second { wait: Duration::ZERO, code_of: service, skew: skew(now, Some(service)) }
        }
        _ => {
            let left = PERIOD - now % PERIOD;
            let wait = Duration::from_secs(left + ahead.min(HARMLESS_SKEW));
            Second { wait, code_of: now + left, skew: None }
        }
    }
}

/// Seconds by which the service's clock is ahead of this machine's, if they differ.
fn skew(now: u64, service: Option<u64>) -> Option<i64> {
    let service = service.filter(|service| now.abs_diff(*service) > HARMLESS_SKEW)?;
    Some(service.cast_signed().wrapping_sub(now.cast_signed()))
}

fn clocks(skew: i64) -> String {
    let side = if skew > 0 { "behind" } else { "ahead of" };
    format!("the clock of this machine is {} s {side} the service's, set it right", skew.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn after_a_refusal_the_next_code_is_waited_for() {
        let next = |now, service| second_attempt(now, service);
        assert_eq!(next(600, Some(600)), Second { wait: seconds(30), code_of: 630, skew: None });
        assert_eq!(next(629, None), Second { wait: seconds(1), code_of: 630, skew: None });
        // Our clock is slightly ahead: the service must have reached the next period, too.
        assert_eq!(next(629, Some(626)), Second { wait: seconds(4), code_of: 630, skew: None });
        assert_eq!(next(629, Some(640)), Second { wait: seconds(1), code_of: 630, skew: None });
    }

    #[test]
    fn a_clock_that_is_off_by_a_period_is_not_waited_for() {
        let second = second_attempt(600, Some(690));
        assert_eq!(second, Second { wait: seconds(0), code_of: 690, skew: Some(90) });
        let second = second_attempt(690, Some(600));
        assert_eq!(second, Second { wait: seconds(0), code_of: 600, skew: Some(-90) });
        assert_eq!(second_attempt(0, Some(u64::MAX)).wait, seconds(0));
    }

    #[test]
    fn only_clocks_that_are_apart_are_named() {
        assert_eq!(skew(600, Some(605)), None);
        assert_eq!(skew(600, None), None);
        assert!(clocks(skew(600, Some(690)).unwrap()).contains("90 s behind the service's"));
        assert!(clocks(skew(690, Some(600)).unwrap()).contains("90 s ahead of the service's"));
    }
}
