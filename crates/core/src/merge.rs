//! Three-way merge of a file that changed on both sides: text by lines, configuration by keys.
//!
//! Pure functions of contents. A merge either has every change of both sides or fails, and then the caller
//! keeps both versions. For every merge that succeeds:
//!
//! - `merge(base, x, x)`, `merge(base, base, x)` and `merge(base, x, base)` are `x`;
//! - merging its result with either side again changes nothing, so a run that was interrupted after it wrote
//!   the merged file merges it once more without harm;
//! - text does not depend on which side is called local. In configuration the remote value of a key wins, as
//!   in the official client (docs/PROTOCOL.md section 6).

mod keys;
mod lines;
mod no_merge;
#[cfg(test)]
mod tests;

use obsync_protocol::VaultPath;
use obsync_protocol::limits::{MERGED_LINES, MERGED_TEXT};

pub use self::no_merge::NoMerge;

/// Method of merging a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeKind {
    /// Text, by lines.
    Lines,
    /// JSON, by the keys of its objects.
    Keys,
}

/// Structured files, which a merge by lines could break.
const STRUCTURED: [&str; 8] = ["json", "canvas", "excalidraw", "ipynb", "geojson", "xml", "svg", "drawio"];

/// Suffix of drawings stored in a note: compressed JSON, cut into lines.
const DRAWING: &str = ".excalidraw.md";

impl MergeKind {
    /// Method for a file; `None` if both versions are kept. `config_dir` is the configuration folder.
    #[must_use]
    pub fn of(path: &VaultPath, config_dir: &VaultPath) -> Option<Self> {
        let extension = path.extension();
        if path.is_below(config_dir) {
            return (extension == "json").then_some(Self::Keys);
        }
        let is_structured =
            STRUCTURED.contains(&extension.as_str()) || path.file_name().to_lowercase().ends_with(DRAWING);
        (!is_structured).then_some(Self::Lines)
    }
}

/// Merges the changes from `base` to `local` and from `base` to `remote`.
///
/// # Errors
/// [`NoMerge`] when both versions have to be kept.
pub fn merge(kind: MergeKind, base: Option<&[u8]>, local: &[u8], remote: &[u8]) -> Result<Vec<u8>, NoMerge> {
    if local == remote || base == Some(local) {
        return Ok(remote.to_vec());
    }
    let base = base.ok_or(NoMerge::NoBase)?;
    if base == remote {
        return Ok(local.to_vec());
    }
    let [base, local, remote] = [text(base)?, text(local)?, text(remote)?];
    let merged = match kind {
        MergeKind::Lines => merge_lines(base, local, remote)?,
        MergeKind::Keys => keys::merge(base, local, remote)?,
    };
    Ok(merged.into_bytes())
}

/// Merges by lines, then merges the result with both sides again: a result that changes again is refused.
fn merge_lines(base: &str, local: &str, remote: &str) -> Result<String, NoMerge> {
    let merged = lines::merge(base, local, remote)?;
    for [one, other] in [[&merged, remote], [local, &merged]] {
        if one != other && lines::merge(base, one, other)? != merged {
            return Err(NoMerge::Overlap);
        }
    }
    Ok(merged)
}

/// Content as text, if it is small enough and has no NUL, which text does not have.
fn text(content: &[u8]) -> Result<&str, NoMerge> {
    if content.len() > MERGED_TEXT {
        return Err(NoMerge::TooLarge);
    }
    let text = std::str::from_utf8(content).map_err(|_| NoMerge::NotText)?;
    if text.contains('\0') {
        return Err(NoMerge::NotText);
    }
    if text.bytes().filter(|byte| *byte == b'\n').count() >= MERGED_LINES {
        return Err(NoMerge::TooLarge);
    }
    Ok(text)
}
