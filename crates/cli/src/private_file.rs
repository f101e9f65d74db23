//! Small JSON files that nobody else may read: tokens and derived keys.
//!
//! They are written to a temporary file (mode 0600 from its first byte) that then takes the old one's name,
//! so a crash leaves the old or the new one. Their directory has mode 0700.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::console::Console;
use crate::exit::{Exit, Failed};

/// Far more than any number of accounts and vaults takes, in bytes.
const MAX_SIZE: u64 = 4 << 20;

/// How long to wait for another process that is writing the same file.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// One such file, which holds a `T` and stands for `T::default()` while it does not exist.
#[derive(Debug)]
pub(crate) struct PrivateFile {
    path: PathBuf,
    /// What to do when it is damaged, as the end of a sentence.
    remedy: &'static str,
}

impl PrivateFile {
    /// The file `name` in `directory`.
    pub(crate) fn new(directory: &Path, name: &str, remedy: &'static str) -> Self {
        PrivateFile { path: directory.join(name), remedy }
    }

    /// Reads the file. One that others can read is closed to them first, with a warning.
    ///
    /// # Errors
    /// When it is there but cannot be read or understood.
    pub(crate) fn read<T: DeserializeOwned + Default>(&self, console: &Console) -> Result<T, Failed> {
        match self.text(console).map_err(|error| self.cannot("read", &error))? {
            None => Ok(T::default()),
            Some(text) => serde_json::from_str(&text).map_err(|error| self.damaged(&error)),
        }
    }

    /// Changes the file: reads it, applies `change`, and writes the result unless `change` says that nothing
    /// changed.
    ///
    /// # Errors
    /// As for [`read`](Self::read), and when it cannot be written.
    pub(crate) fn update<T>(
        &self,
        console: &Console,
        change: impl FnOnce(&mut T) -> bool,
    ) -> Result<(), Failed>
    where
        T: DeserializeOwned + Serialize + Default,
    {
        self.make_directory().map_err(|error| self.cannot("make the directory of", &error))?;
        let _lock = self.lock()?;
        let mut content: T = self.read(console)?;
        if !change(&mut content) {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&content).map(Zeroizing::new);
        let text =
            text.map_err(|error| Failed::cannot(format_args!("write {}", self.path.display()), &error))?;
        self.write(text.as_bytes()).map_err(|error| self.cannot("write", &error))
    }

    fn text(&self, console: &Console) -> io::Result<Option<Zeroizing<String>>> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if close_to_others(&file, 0o600)? {
            console.warn(&format!(
                "{} could be read by other users of this computer; it cannot any more, but whoever did has your token \
                 or keys: `obsync logout` makes the token worthless",
                self.path.display()
            ));
        }
        let mut text = Zeroizing::new(String::new());
        file.take(MAX_SIZE + 1).read_to_string(&mut text)?;
        if text.len() as u64 > MAX_SIZE {
            return Err(io::Error::new(ErrorKind::FileTooLarge, "it is too large to be obsync's"));
        }
        Ok(Some(text))
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    fn make_directory(&self) -> io::Result<()> {
        let directory = self.directory();
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(directory)?;
        close_to_others(&File::open(directory)?, 0o700).map(drop)
    }

    /// Keeps two processes from writing over each other's change. The lock ends with its holder.
    fn lock(&self) -> Result<File, Failed> {
        let path = self.directory().join(".lock");
        let cannot = |error: &io::Error| Failed::cannot(format_args!("lock {}", path.display()), error);
        let file =
            private_options().create(true).truncate(false).open(&path).map_err(|error| cannot(&error))?;
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(cannot(&error)),
                Err(TryLockError::WouldBlock) if since.elapsed() > LOCK_WAIT => {
                    return Err(Failed::new(
                        Exit::AlreadyRunning,
                        format!(
                            "another obsync has been writing {} for too long; try again",
                            self.path.display()
                        ),
                    ));
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn write(&self, content: &[u8]) -> io::Result<()> {
        // The lock is held, so a leftover of this name is nobody's.
        let temporary = self.path.with_extension("new");
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = private_options().create_new(true).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &self.path)?;
        File::open(self.directory())?.sync_all()
    }

    fn cannot(&self, action: &str, error: &io::Error) -> Failed {
        Failed::cannot(format_args!("{action} {}", self.path.display()), error)
    }

    /// The position, but not the parser's text, which could quote what is in the file.
    fn damaged(&self, error: &serde_json::Error) -> Failed {
        let message = format!("{} is damaged at line {}; {}", self.path.display(), error.line(), self.remedy);
        Failed::new(Exit::Error, message)
    }
}

/// Makes a file that only its owner may read, at a place that the user named. One that is there is replaced only
/// if the user said so.
pub(crate) fn create_private(path: &Path, replace: bool) -> io::Result<File> {
    if replace {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    private_options().create_new(true).open(path)
}

fn private_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Takes all rights from group and others; `true` when there were any.
fn close_to_others(file: &File, mode: u32) -> io::Result<bool> {
    if file.metadata()?.permissions().mode() & 0o077 == 0 {
        return Ok(false);
    }
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    type Table = BTreeMap<String, u32>;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn put(file: &PrivateFile, key: &str, value: u32) {
        file.update(&Console::new(true), |table: &mut Table| {
            table.insert(key.to_owned(), value);
            true
        })
        .unwrap();
    }

    #[test]
    fn what_is_written_is_read_and_nobody_else_can() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("config");
        let file = PrivateFile::new(&directory, "table.json", "");
        assert_eq!(file.read::<Table>(&Console::new(true)).unwrap(), Table::new());
        put(&file, "a", 1);
        put(&file, "b", 2);
        assert_eq!(file.read::<Table>(&Console::new(true)).unwrap()["a"], 1);
        assert_eq!(mode(&directory), 0o700);
        assert_eq!(mode(&directory.join("table.json")), 0o600);
    }

    #[test]
    fn a_file_that_others_can_read_is_closed_to_them() {
        let home = tempfile::tempdir().unwrap();
        let file = PrivateFile::new(home.path(), "table.json", "");
        put(&file, "a", 1);
        let path = home.path().join("table.json");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        file.read::<Table>(&Console::new(true)).unwrap();
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_damaged_file_is_said_to_be_damaged_but_not_quoted() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("table.json"), "{\n\"secret-token\": \"hush\"").unwrap();
        let failed = PrivateFile::new(home.path(), "table.json", "remove it")
            .read::<Table>(&Console::new(true))
            .unwrap_err();
        assert!(failed.message.contains("table.json is damaged at line 2; remove it"), "{failed}");
        assert!(!failed.message.contains("hush") && !failed.message.contains("secret-token"));
    }

    #[test]
    fn changes_from_several_threads_all_arrive() {
        let home = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let path = home.path();
                scope.spawn(move || {
                    for turn in 0..5 {
                        put(&PrivateFile::new(path, "table.json", ""), &format!("{thread}-{turn}"), turn);
                    }
                });
            }
        });
        let table =
            PrivateFile::new(home.path(), "table.json", "").read::<Table>(&Console::new(true)).unwrap();
        assert_eq!(table.len(), 20);
    }
}
