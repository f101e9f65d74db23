//! The pulled vaults, and the changes that their other devices make in between.

use anyhow::{Context, Result};
use obsync_testkit::{GeneratorOptions, VaultHandle, fill_vault, generate};

use super::catalog::Content;

/// No generated small file is larger than this, in bytes.
const SMALL_FILE: u64 = 64 * 1024;

/// The largest attachment of a mix, in bytes.
const ATTACHMENT: u64 = 4_000_000;

/// Number of renames, in vaults with at least twice as many files.
const RENAMES: usize = 1_000;

/// Fills an empty vault.
pub(super) fn fill(vault: &VaultHandle, content: Content) -> Result<()> {
    let usual = GeneratorOptions::default();
    match content {
        Content::Small(files) => {
            fill_vault(vault, &GeneratorOptions { files, attachments: 0.0, max_size: SMALL_FILE, ..usual })?;
        }
        Content::Mix(files) => {
            fill_vault(vault, &GeneratorOptions { files, attachments: 0.1, max_size: ATTACHMENT, ..usual })?;
        }
        Content::Large(files, megabytes) => fill_with_large_files(vault, files, megabytes * 1_000_000)?,
    }
    Ok(())
}

fn fill_with_large_files(vault: &VaultHandle, files: usize, bytes: u64) -> Result<()> {
    // A scaled picture or sound beyond the limit has the largest size.
    let options = GeneratorOptions {
        files,
        attachments: 1.0,
        configuration: false,
        scale: 1e12,
        max_size: bytes,
        ..GeneratorOptions::default()
    };
    for (number, file) in generate(options).enumerate() {
        vault.write(&format!("Recordings/{number}.mp4"), file.content(), file.mtime)?;
    }
    Ok(())
}

/// Gives new content to every hundredth file, to one at least, a little longer than it was; `round` makes it differ.
pub(super) fn change_one_percent(vault: &VaultHandle, round: u32) -> Result<()> {
    let expected = vault.expected()?;
    for file in expected.files.iter().step_by(100) {
        let size = usize::try_from(file.size).context("the file is too large for this machine")?;
        let mut content = vec![b'.'; size];
        content.extend(format!("changed in round {round}, {}\n", file.path).into_bytes());
        vault.write(&file.path, content, file.mtime_ms + 1)?;
    }
    Ok(())
}

/// Renames a thousand files, or half of them if there are fewer than two thousand.
pub(super) fn rename(vault: &VaultHandle, round: u32) -> Result<()> {
    let expected = vault.expected()?;
    let count = RENAMES.min(expected.files.len() / 2);
    let notes = expected.files.iter().filter(|file| !file.path.starts_with('.'));
    for (number, file) in notes.take(count).enumerate() {
        vault.rename(&file.path, &format!("Renamed {round}/{}/{number}.md", number % 20))?;
    }
    Ok(())
}
