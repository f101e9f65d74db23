//! Small JSON files that nobody else may read: tokens and derived keys.
//!
//! They are written to a temporary file (mode 0600 from its first byte) that then replaces the old one, so a
//! crash leaves the old or the new one. Their directory has mode 0700. A file too large to be read again is
//! never written, and one that an earlier release made too large is repaired when it is read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use obsync_private::{Access, Folder, LockError, try_lock};
use obsync_protocol::limits;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::exit::{Exit, Failed};
use crate::home::require_somewhere;
use crate::ui::console::Console;

/// Longest wait for another process that is writing the same file.
const LOCK_WAIT: Duration = Duration::from_secs(10);

/// The lock on the files of a directory.
const LOCK: &str = ".lock";

/// The content of such a file.
pub(crate) trait Content: DeserializeOwned + Serialize + Default {
    /// Removes implausibly large entries. Today limits on received data keep them out.
    fn drop_oversized(&mut self);
}

/// One such file, which contains a `T`, or stands for `T::default()` if it does not exist.
#[derive(Debug)]
pub(crate) struct PrivateFile {
    path: PathBuf,
    name: String,
    /// The remedy when it is damaged, as the end of a sentence.
    remedy: &'static str,
    /// Its content can be recreated. An irreplaceable file is never set aside.
    is_replaceable: bool,
}

impl PrivateFile {
    /// The file `name` in `directory`.
    pub(crate) fn new(directory: &Path, name: &str, remedy: &'static str) -> Self {
        PrivateFile { path: directory.join(name), name: name.to_owned(), remedy, is_replaceable: true }
    }

    /// The same for an irreplaceable one.
    pub(crate) fn irreplaceable(self) -> Self {
        PrivateFile { is_replaceable: false, ..self }
    }

    /// Reads the file. If others can read it, first removes their permission, with a warning.
    ///
    /// # Errors
    /// When it exists but is unreadable or invalid, or when another user can change it.
    pub(crate) fn read<T: Content>(&self, console: &Console) -> Result<T, Failed> {
        let file = match self.open(console) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(T::default()),
            // Nothing was ever stored where no folder can be.
            Err(error) if self.is_replaceable && error.kind() == ErrorKind::NotADirectory => {
                return Ok(T::default());
            }
            Err(error) => return Err(self.cannot("read", &error)),
        };
        let size = file.metadata().map_err(|error| self.cannot("read", &error))?.len();
        if size > limits::PRIVATE_FILE_MENDED {
            return if self.is_replaceable { self.set_aside(console) } else { Err(self.too_large()) };
        }
        let mut text = Zeroizing::new(String::new());
        file.take(limits::PRIVATE_FILE_MENDED)
            .read_to_string(&mut text)
            .map_err(|error| self.cannot("read", &error))?;
        let mut content: T = serde_json::from_str(&text).map_err(|error| self.damaged(&error))?;
        if text.len() as u64 > limits::PRIVATE_FILE {
            content.drop_oversized();
            console.warn(&format!(
                "{} is too large; entries that are too large are ignored now, and removed when the file is next \
                 written. If obsync asks for a password that it knew before, enter it again",
                self.path.display()
            ));
        }
        Ok(content)
    }

    /// Changes the file: reads it, applies `change`, and writes the result unless `change` reports no change.
    ///
    /// # Errors
    /// As for [`read`](Self::read), and when it is not writable or would be too large to be read again.
    pub(crate) fn update<T: Content>(
        &self,
        console: &Console,
        change: impl FnOnce(&mut T) -> bool,
    ) -> Result<(), Failed> {
        require_somewhere(self.directory())?;
        let folder =
            Folder::make(self.directory()).map_err(|error| self.cannot("make the directory of", &error))?;
        folder.close_to_others();
        let _lock = self.lock(&folder)?;
        let mut content: T = self.read(console)?;
        if !change(&mut content) {
            return Ok(());
        }
        let text = serde_json::to_string_pretty(&content).map(Zeroizing::new);
        let text =
            text.map_err(|error| Failed::cannot(format_args!("write {}", self.path.display()), &error))?;
        if text.len() as u64 > limits::PRIVATE_FILE {
            return Err(self.too_large());
        }
        folder.replace(&self.name, text.as_bytes()).map_err(|error| self.cannot("write", &error))
    }

    fn open(&self, console: &Console) -> io::Result<Option<File>> {
        let Some(folder) = Folder::open_to_read(self.directory())? else { return Ok(None) };
        let Some(opened) = folder.file(&self.name, Access::Read)? else { return Ok(None) };
        if opened.was_open {
            console.warn(&format!(
                "{} was readable by other users of this computer. It is no longer, but anyone who read it has your \
                 token or keys: `obsync logout` revokes the token",
                self.path.display()
            ));
        }
        Ok(Some(opened.file))
    }

    /// Renames a file that is too large to be repaired.
    fn set_aside<T: Content>(&self, console: &Console) -> Result<T, Failed> {
        let new_name = format!("{}.too-large", self.name);
        let moved = Folder::open(self.directory())
            .and_then(|folder| folder.map_or(Ok(()), |folder| folder.rename(&self.name, &new_name)));
        moved.map_err(|error| self.cannot("set aside", &error))?;
        console.warn(&format!(
            "{} was far too large, so it was renamed to {new_name}; remove that file. obsync asks again for the \
             passwords and codes that it needs",
            self.path.display()
        ));
        Ok(T::default())
    }

    fn too_large(&self) -> Failed {
        let message = format!(
            "{} would be larger than {} MiB, more than obsync reads, so it is left as it was; {}",
            self.path.display(),
            limits::PRIVATE_FILE >> 20,
            self.remedy
        );
        Failed::new(Exit::Error, message)
    }

    fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("."))
    }

    /// Prevents two processes from overwriting each other's change. The lock ends with its holder.
    fn lock(&self, folder: &Folder) -> Result<File, Failed> {
        let path = self.directory().join(LOCK);
        let cannot = |error: &io::Error| Failed::cannot(format_args!("lock {}", path.display()), error);
        let opened = folder.file(LOCK, Access::Write).map_err(|error| cannot(&error))?;
        let file = opened.ok_or_else(|| cannot(&ErrorKind::NotFound.into()))?.file;
        let since = Instant::now();
        let mut answer = try_lock(&file).map_err(|error| error.judged_in(folder));
        loop {
            match answer {
                Ok(()) => return Ok(file),
                Err(LockError::Other(error)) => return Err(cannot(&error)),
                Err(error @ LockError::NoLocks(_)) => {
                    let message = format!(
                        "cannot lock {}: {error}; set OBSYNC_HOME or XDG_CONFIG_HOME to a folder on a local disk",
                        path.display()
                    );
                    return Err(Failed::new(Exit::Error, message));
                }
                Err(LockError::Held) if since.elapsed() > LOCK_WAIT => {
                    return Err(Failed::new(
                        Exit::AlreadyRunning,
                        format!(
                            "another obsync has been writing {} for too long; try again",
                            self.path.display()
                        ),
                    ));
                }
                Err(LockError::Held) => std::thread::sleep(Duration::from_millis(20)),
            }
            answer = try_lock(&file);
        }
    }

    fn cannot(&self, action: &str, error: &io::Error) -> Failed {
        Failed::cannot(format_args!("{action} {}", self.path.display()), error)
    }

    /// The position, but not the parser's text, which could quote the file.
    fn damaged(&self, error: &serde_json::Error) -> Failed {
        let message = format!("{} is damaged at line {}; {}", self.path.display(), error.line(), self.remedy);
        Failed::new(Exit::Error, message)
    }
}

/// Creates a file that only its owner can read, at a path that the user named. An existing one is replaced
/// only on request.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt, symlink};

    type Table = BTreeMap<String, u32>;

    /// Keys of more than 100 bytes are oversized.
    impl Content for Table {
        fn drop_oversized(&mut self) {
            self.retain(|key, _| key.len() <= 100);
        }
    }

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

    #[test]
    fn nothing_is_written_that_would_be_too_large_to_be_read_again() {
        let home = tempfile::tempdir().unwrap();
        let file = PrivateFile::new(home.path(), "table.json", "forget something");
        put(&file, "a", 1);
        let large = "x".repeat(5 << 20);
        let failed = file.update(&Console::new(true), |table: &mut Table| table.insert(large, 2).is_none());
        let message = failed.unwrap_err().message;
        assert!(message.ends_with("left as it was; forget something"), "{message}");
        assert_eq!(file.read::<Table>(&Console::new(true)).unwrap().len(), 1);
    }

    #[test]
    fn a_file_that_is_too_large_already_loses_what_makes_it_so() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("table.json");
        fs::write(&path, format!("{{\"{}\": 1, \"mine\": 2}}", "x".repeat(5 << 20))).unwrap();
        let file = PrivateFile::new(home.path(), "table.json", "");
        assert_eq!(file.read::<Table>(&Console::new(true)).unwrap(), Table::from([("mine".to_owned(), 2)]));
        put(&file, "more", 3);
        assert!(fs::metadata(&path).unwrap().len() < 100);
    }

    #[test]
    fn a_file_that_is_far_too_large_is_set_aside() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("table.json");
        File::create(&path).unwrap().set_len(limits::PRIVATE_FILE_MENDED + 1).unwrap();
        let file = PrivateFile::new(home.path(), "table.json", "");
        assert_eq!(file.read::<Table>(&Console::new(true)).unwrap(), Table::new());
        assert!(!path.exists() && home.path().join("table.json.too-large").exists());
        put(&file, "a", 1);
    }

    #[test]
    fn a_pipe_in_its_place_is_refused_without_waiting() {
        let home = tempfile::tempdir().unwrap();
        for name in ["table.json", ".lock"] {
            let made = std::process::Command::new("mkfifo").arg(home.path().join(name)).status().unwrap();
            assert!(made.success());
        }
        let file = PrivateFile::new(home.path(), "table.json", "");
        let failed = file.read::<Table>(&Console::new(true)).unwrap_err();
        assert!(failed.message.contains("table.json is not a regular file; move it elsewhere"), "{failed}");
        let failed = file.update(&Console::new(true), |_: &mut Table| true).unwrap_err();
        assert!(failed.message.contains(".lock is not a regular file"), "{failed}");
    }

    #[test]
    fn a_file_that_is_a_link_of_the_user_is_read() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("dotfiles")).unwrap();
        fs::write(home.path().join("dotfiles/table.json"), "{\"a\": 1}").unwrap();
        symlink("dotfiles/table.json", home.path().join("table.json")).unwrap();
        let file = PrivateFile::new(home.path(), "table.json", "");
        assert_eq!(file.read::<Table>(&Console::new(true)).unwrap()["a"], 1);
    }
}
