//! Lower bounds of a pull of given files: they have to be written, decrypted and hashed.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use obsync_protocol::{ContentDecryptor, ContentHasher, NONCE_LENGTH, VaultKeys};

use super::row::FloorKind;

/// The size of the pieces in which content is decrypted, as on the wire, in bytes.
const PIECE: usize = 2 << 20;

/// Measures the parts for the files of a folder: copying (to a folder that must not exist) without and with
/// making the copy durable, and decrypting and hashing.
pub(super) fn of(keys: &VaultKeys, folder: &Path, copy: &Path) -> Result<[(FloorKind, Duration); 3]> {
    // Earlier unflushed writes (access times of the pulled files included) must not count for the copy.
    flush(folder)?;
    let begun = Instant::now();
    copy_tree(folder, copy).context("cannot copy the pulled folder")?;
    let copied = begun.elapsed();
    // One flush for all of it: the lower bound of durability.
    flush(copy)?;
    let flushed = begun.elapsed();
    let mut crypto = Duration::ZERO;
    open_tree(keys, folder, &mut crypto)?;
    Ok([(FloorKind::Copy, copied), (FloorKind::DurableCopy, flushed), (FloorKind::Crypto, crypto)])
}

/// Flushes the file system that a folder is on.
#[cfg(target_os = "linux")]
fn flush(folder: &Path) -> Result<()> {
    let flush = || Ok::<(), io::Error>(nix::unistd::syncfs(File::open(folder)?)?);
    flush().with_context(|| format!("cannot flush {}", folder.display()))
}

/// Flushes all file systems, where a single one cannot be flushed.
#[cfg(not(target_os = "linux"))]
fn flush(_: &Path) -> Result<()> {
    nix::unistd::sync();
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

fn open_tree(keys: &VaultKeys, folder: &Path, took: &mut Duration) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_tree(keys, &entry.path(), took)?;
        } else {
            *took += open_file(keys, File::open(entry.path())?)?;
        }
    }
    Ok(())
}

/// Encrypts a file piece by piece, and returns the time of decrypting and hashing the pieces.
fn open_file(keys: &VaultKeys, mut file: File) -> Result<Duration> {
    let mut encryptor = keys.content_encryptor([0; NONCE_LENGTH]);
    let mut opening =
        Opening { decryptor: keys.content_decryptor(), hasher: ContentHasher::new(), plain: Vec::new() };
    let (mut read, mut sealed, mut took) = (vec![0; PIECE], Vec::new(), Duration::ZERO);
    loop {
        let count = file.read(&mut read)?;
        if count == 0 {
            break;
        }
        sealed.clear();
        encryptor.update(&read[..count], &mut sealed)?;
        took += opening.take(&sealed)?;
    }
    sealed.clear();
    encryptor.finish(&mut sealed);
    took += opening.take(&sealed)?;
    opening.decryptor.finish()?;
    Ok(took)
}

struct Opening {
    decryptor: ContentDecryptor,
    hasher: ContentHasher,
    plain: Vec<u8>,
}

impl Opening {
    fn take(&mut self, sealed: &[u8]) -> Result<Duration> {
        let begun = Instant::now();
        self.plain.clear();
        self.decryptor.update(sealed, &mut self.plain)?;
        self.hasher.update(&self.plain);
        Ok(begun.elapsed())
    }
}
