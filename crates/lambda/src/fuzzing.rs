//! Runs the fuzz targets of this crate on an input, and over a few seeds as tests (docs/FUZZING.md).
//!
//! A panic is a finding; so is a violated property.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use obsync_protocol::limits::{EVENT_MESSAGES, EVENT_VAULTS};
use secrecy::ExposeSecret;

use crate::config::Config;
use crate::event::{Action, Event, EventError};
use crate::secrets::{Secret, VaultSecret};

/// The payload of an invocation, as JSON.
pub fn lambda_event(data: &[u8]) {
    let Ok(payload) = std::str::from_utf8(data) else { return };
    match Event::parse(payload) {
        Ok(Event::Direct(action)) | Ok(Event::Http(Ok(action))) => an_action_can_be_gone_on_with(&action),
        Ok(Event::Http(Err(error))) | Err(error) => check_sentence(&error),
        Ok(Event::Batch(messages)) => {
            assert!(messages.len() <= EVENT_MESSAGES);
            for message in messages {
                match message.action {
                    Ok(action) => an_action_can_be_gone_on_with(&action),
                    Err(error) => check_sentence(&error),
                }
            }
        }
    }
}

/// The event for the rest of a request can be parsed, and requests the same.
fn an_action_can_be_gone_on_with(action: &Action) {
    let Action::Sync(request) = action else { return };
    assert!(request.vaults.len() <= EVENT_VAULTS);
    let vaults = match request.vaults.is_empty() {
        true => ["vault-1".to_owned()].into(),
        false => request.vaults.clone(),
    };
    let step = request.continuation.saturating_add(1);
    let continued = Event::parse(&request.continued(vaults.iter().cloned(), step).to_string());
    let Ok(Event::Direct(Action::Sync(next))) = continued else { panic!("{continued:?}") };
    assert_eq!(next.vaults, vaults);
    assert_eq!(next.continuation, step);
    assert_eq!((next.mode, &next.bucket, &next.prefix), (request.mode, &request.bucket, &request.prefix));
}

/// An error repeats little of an event.
fn check_sentence(error: &EventError) {
    let sentence = error.to_string();
    assert!(sentence.len() < 4000, "{sentence}");
}

/// The text of the secret. No error repeats anything of it.
pub fn secret(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Secret::parse(text) {
        Ok(secret) => {
            assert!(
                secret
                    .credentials
                    .as_ref()
                    .is_none_or(|(_, password)| !password.as_given().expose_secret().is_empty())
            );
            if let Some(totp) = &secret.totp {
                let code = totp.current().digits;
                assert!(code.len() == 6 && code.bytes().all(|digit| digit.is_ascii_digit()));
            }
            for opening in secret.vaults() {
                match opening {
                    VaultSecret::Password(password) => {
                        assert!(!password.as_given().expose_secret().is_empty())
                    }
                    VaultSecret::Key { key, .. } => assert_eq!(key.expose_hex().expose_secret().len(), 64),
                }
            }
        }
        Err(problem) => {
            // The sentences are fixed except for numbers, so none contains a text of the secret that is not
            // in all of them.
            let sentence = problem.to_string();
            assert!(sentence.len() < 200 && !sentence.contains('\n'), "{sentence}");
        }
    }
}

/// The function's settings: each line of the input is a variable and its value, not always text.
pub fn settings(data: &[u8]) {
    let lines: Vec<(&[u8], &[u8])> =
        data.split(|byte| *byte == b'\n').filter_map(|line| split_once(line, b'=')).collect();
    let read = Config::read(|name| {
        let value = lines.iter().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| *value);
        value.map(|value| OsString::from_vec(value.to_vec()))
    });
    match read {
        Ok(config) => {
            assert!(
                (1..=10_000).contains(&config.checkpoint_files) && (1..=64).contains(&config.concurrency)
            );
            let _ = format!("{config:?}");
        }
        Err(error) => assert!(!error.problems.is_empty()),
    }
}

fn split_once(line: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = line.iter().position(|byte| *byte == at)?;
    Some((&line[..place], &line[place + 1..]))
}

#[cfg(test)]
#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[cfg(test)]
mod tests {
    use super::seeds::run;

    #[test]
    fn lambda_event() {
        run("lambda_event", 1500, super::lambda_event);
    }

    #[test]
    fn secret() {
        run("secret", 1500, super::secret);
    }

    #[test]
    fn settings() {
        // Few, as each begins with reading the certificates of the system.
        run("settings", 40, super::settings);
    }
}
