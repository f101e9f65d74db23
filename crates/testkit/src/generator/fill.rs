//! Writes generated files into a vault of the development server, or into a directory.

use std::collections::BTreeSet;
use std::fs::{self, File, FileTimes};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::{GeneratorOptions, generate};
use crate::vault::{Times, VaultHandle, WriteError};

/// The files written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Filled {
    /// Files written.
    pub files: usize,
    /// Folders that contain them.
    pub folders: usize,
    /// Bytes of plaintext.
    pub bytes: u64,
}

/// Writes a generated vault into a vault of the server.
///
/// # Errors
/// When the vault is locked, or has other files at the generated paths.
pub fn fill_vault(vault: &VaultHandle, options: &GeneratorOptions) -> Result<Filled, WriteError> {
    let mut seen = Seen::default();
    for file in generate(options.clone()) {
        let times = Times { ctime: file.ctime, mtime: file.mtime };
        vault.write_with(&file.path, file.content(), times)?;
        seen.add(&file.path, file.size);
    }
    Ok(seen.filled())
}

/// Writes a generated vault into a directory, which is created if it does not exist.
///
/// # Errors
/// When the directory is not writable.
pub fn fill_directory(dir: &Path, options: &GeneratorOptions) -> io::Result<Filled> {
    let mut seen = Seen::default();
    for generated in generate(options.clone()) {
        let path = dir.join(&generated.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::create(&path)?;
        file.write_all(&generated.content())?;
        let modified = UNIX_EPOCH + Duration::from_millis(generated.mtime.unsigned_abs());
        file.set_times(FileTimes::new().set_modified(modified))?;
        seen.add(&generated.path, generated.size);
    }
    Ok(seen.filled())
}

#[derive(Default)]
struct Seen {
    filled: Filled,
    folders: BTreeSet<String>,
}

impl Seen {
    fn add(&mut self, path: &str, size: u64) {
        self.filled.files += 1;
        self.filled.bytes += size;
        for (end, _) in path.match_indices('/') {
            if !self.folders.contains(&path[..end]) {
                self.folders.insert(path[..end].to_owned());
            }
        }
    }

    fn filled(self) -> Filled {
        Filled { folders: self.folders.len(), ..self.filled }
    }
}
