//! `obsync-dev generate`: a folder that looks like a vault.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use obsync_testkit::{GeneratorOptions, fill_directory};

use crate::args::GenerateOptions;
use crate::console::say;
use crate::human;

/// Writes the folder and prints its contents.
///
/// # Errors
/// When the folder is not empty, or not writable.
pub(crate) fn run(options: &GenerateOptions) -> Result<()> {
    refuse_occupied(&options.folder)?;
    let begun = Instant::now();
    let filled = fill_directory(&options.folder, &vault(options))
        .with_context(|| format!("cannot write the vault to {}", options.folder.display()))?;
    say(&format!(
        "Wrote {} ({}) in {} to {} in {}.",
        human::files(filled.files as u64),
        human::size(filled.bytes),
        human::counted(filled.folders as u64, "folder", "folders"),
        options.folder.display(),
        human::seconds(begun.elapsed())
    ));
    Ok(())
}

/// Refuses a folder that is not empty: generated files would mix with existing ones.
pub(crate) fn refuse_occupied(folder: &Path) -> Result<()> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => bail!("{} is not empty; give a new or empty folder", folder.display()),
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot use {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn vault(options: &GenerateOptions) -> GeneratorOptions {
    GeneratorOptions {
        files: options.files,
        seed: options.seed,
        many_scripts: options.many_scripts,
        attachments: options.attachments,
        max_size: options.max_size,
        scale: options.scale,
        configuration: !options.no_configuration,
    }
}
