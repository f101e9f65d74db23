//! Runs the fuzz target of this crate on an input, and over a few seeds as a test (docs/FUZZING.md).
//!
//! A panic is a finding; so is a violated property.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use obsync_client::DEFAULT_API_URL;
use obsync_protocol::{EncryptionVersion, ExposeSecret, VaultId};
use url::Url;

use crate::account::credentials::Credentials;
use crate::account::keys::{KeyFile, Subject};
use crate::account::pins::PinFile;
use crate::home::Home;
use crate::private_file::create_private;
use crate::ui::console::Console;

/// The files with tokens, derived keys and pins. The input is used for each, in `directory`, which belongs to
/// the fuzzer.
pub fn private_files(directory: &Path, data: &[u8]) {
    let console = Console::new(true);
    let (Ok(home), Ok(service)) = (Home::find(Some(directory.into())), Url::parse(DEFAULT_API_URL)) else {
        return;
    };
    if put(home.config(), data).is_err() {
        return;
    }
    match Credentials::new(&home).load(&service, &console) {
        Ok(saved) => drop(saved.map(|saved| (saved.token.expose().len(), saved.email))),
        Err(failed) => check_sentence(&failed.message, "credentials.json"),
    }
    let Ok(vault) = VaultId::try_new("vault-1") else { return };
    let subject = Subject::new(&service, &vault, "salt", EncryptionVersion::V3);
    match KeyFile::new(&home).load(&subject, &console) {
        Ok(key) => assert!(key.is_none_or(|key| key.expose_hex().expose_secret().len() == 64)),
        Err(failed) => check_sentence(&failed.message, "keys.json"),
    }
    // An unreadable pin is a refusal: a file that yields no pins must not contain any.
    if let Ok(pins) = PinFile::new(&home).load(&KeyFile::new(&home), &console) {
        assert!(pins.found().len() <= data.len());
    }
}

/// Creates the files, for their owner only.
fn put(directory: &Path, data: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    for name in ["credentials.json", "keys.json", "pins.json"] {
        create_private(&directory.join(name), true)?.write_all(data)?;
    }
    Ok(())
}

/// The sentence names the file and the position of the damage, and contains nothing of the file.
fn check_sentence(message: &str, file: &str) {
    let rest = message.split_once(file).map(|(_, rest)| rest);
    let is_ours = rest.is_some_and(|rest| {
        rest.starts_with(" is damaged at line ") || rest.contains("UTF-8") || rest.contains("larger than")
    });
    assert!(is_ours && message.len() < 1000, "{message}");
}

#[cfg(test)]
#[path = "../../../fuzz/seeds.rs"]
mod seeds;

#[cfg(test)]
mod tests {
    #[test]
    fn private_files() {
        let home = tempfile::tempdir().unwrap();
        super::seeds::run("private_files", 1000, |data| super::private_files(home.path(), data));
    }
}
