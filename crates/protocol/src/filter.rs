//! Filters the entries of a vault: by kind of file, by kind of configuration, by folder.
//!
//! The rules and their order are those of the official client (docs/PROTOCOL.md section 5), so that both see
//! the same vault. There are two differences: everything is on by default, and a path with a dot segment
//! below the root is excluded. The official client accepts such a path from the server, but no scan of it
//! finds one, so no honest device lists it, while programs act on many of them (`.envrc`, `.vscode`).

mod choice;
mod config_dir;
mod configuration;
mod file_type;

pub use choice::{Choice, Selection, SelectionError};
pub use config_dir::{ConfigDirError, parse_config_dir};
pub use configuration::{ConfigCategories, ConfigCategory};
pub use file_type::{FileType, FileTypes};

use crate::VaultPath;

/// The configuration folder unless Obsidian was configured to use another.
pub const DEFAULT_CONFIG_DIR: &str = ".obsidian";

/// Selects the entries that sync.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The kinds of attachments that sync. Notes, canvases and bases always do.
    pub file_types: FileTypes,
    /// The kinds of configuration that sync.
    pub configs: ConfigCategories,
    /// Folders that do not sync, with all their contents.
    pub excluded: Vec<VaultPath>,
    /// The configuration folders, paths in the vault. Obsidian uses one on each device; devices may name different ones.
    pub config_dirs: Vec<String>,
    /// Sync files that Obsidian runs or applies by itself: see [`Filter::is_code`].
    pub code: bool,
}

impl Default for Filter {
    /// Everything, with the configuration in `.obsidian`.
    fn default() -> Self {
        Self {
            file_types: FileTypes::all(),
            configs: ConfigCategories::all(),
            excluded: Vec::new(),
            config_dirs: vec![DEFAULT_CONFIG_DIR.to_owned()],
            code: true,
        }
    }
}

/// Decision whether an entry syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It syncs.
    Sync,
    /// It does not sync.
    Skip(SkipReason),
}

/// The reason why an entry does not sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SkipReason {
    /// It is an excluded folder or in one.
    Excluded,
    /// It is in the configuration folder and of no kind that ever syncs.
    NeverConfiguration,
    /// It is of a kind of configuration that is not selected.
    Configuration(ConfigCategory),
    /// A segment of its path begins with a dot.
    Hidden,
    /// It is code, and that is not selected.
    Code,
    /// It is of a kind of attachment that is not selected.
    FileType(FileType),
}

impl SkipReason {
    /// One word for reports. All kinds of configuration have one, and so have all file types.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Excluded => "excluded",
            Self::NeverConfiguration => "never_synced",
            Self::Configuration(_) => "configuration",
            Self::Hidden => "hidden",
            Self::Code => "code",
            Self::FileType(_) => "file_type",
        }
    }

    /// True if another filter would include it. Files that the protocol never syncs are excluded by every
    /// filter.
    #[must_use]
    pub fn is_chosen(self) -> bool {
        match self {
            Self::Excluded | Self::Configuration(_) | Self::Code | Self::FileType(_) => true,
            Self::NeverConfiguration | Self::Hidden => false,
        }
    }
}

impl Filter {
    /// Decides whether an entry syncs. `folder` is true for a folder.
    #[must_use]
    pub fn verdict(&self, path: &VaultPath, folder: bool) -> Verdict {
        match self.reason_to_skip(path, folder) {
            None => Verdict::Sync,
            Some(reason) => Verdict::Skip(reason),
        }
    }

    fn reason_to_skip(&self, path: &VaultPath, folder: bool) -> Option<SkipReason> {
        if self.is_excluded(path) {
            return Some(SkipReason::Excluded);
        }
        if let Some(inside) = self.inside_config_dir(path) {
            return match ConfigCategory::of(inside, folder) {
                None => Some(SkipReason::NeverConfiguration),
                Some(_) if !self.code && configuration::is_code(inside) => Some(SkipReason::Code),
                Some(category) if self.configs.contains(category) => None,
                Some(category) => Some(SkipReason::Configuration(category)),
            };
        }
        if path.as_str().starts_with('.') || path.as_str().contains("/.") {
            return Some(SkipReason::Hidden);
        }
        if folder {
            return None;
        }
        // A webm contains audio or video, and its name does not show which: either kind includes it.
        let types = FileType::of_extension(&path.lower_case_extension());
        match types.first() {
            Some(first) if !types.iter().any(|kind| self.file_types.contains(*kind)) => {
                Some(SkipReason::FileType(*first))
            }
            _ => None,
        }
    }

    /// True if anything in a folder can sync, so that it is worth scanning. All entries below any other
    /// folder have a [verdict](Self::verdict) of [`Verdict::Skip`].
    #[must_use]
    pub fn reaches(&self, folder: &VaultPath) -> bool {
        if self.config_dirs.iter().any(|dir| dir == folder.as_str()) {
            return !self.is_excluded(folder);
        }
        match self.inside_config_dir(folder) {
            Some(inside) => !self.is_excluded(folder) && configuration::reaches(inside),
            None => self.verdict(folder, true) == Verdict::Sync,
        }
    }

    fn is_excluded(&self, path: &VaultPath) -> bool {
        self.excluded.iter().any(|excluded| path == excluded || path.is_below(excluded))
    }

    /// True if Obsidian runs a file of the configuration by itself or applies it to its window: program and
    /// styles of a plugin, the list of enabled plugins, themes and style snippets.
    #[must_use]
    pub fn is_code(&self, path: &VaultPath) -> bool {
        self.inside_config_dir(path).is_some_and(configuration::is_code)
    }

    /// The name of the folder that this file shows to be a configuration folder, though this filter treats it
    /// as hidden: a device of the vault uses it (Obsidian's "Override config folder").
    #[must_use]
    pub fn other_config_dir<'p>(&self, path: &'p VaultPath) -> Option<&'p str> {
        let (folder, inside) = path.as_str().split_once('/')?;
        let shows = folder.starts_with('.') && configuration::is_telling(inside);
        (shows && self.reason_to_skip(path, false) == Some(SkipReason::Hidden)).then_some(folder)
    }

    /// The part of a path below a configuration folder; `None` if it is in none of them.
    fn inside_config_dir<'p>(&self, path: &'p VaultPath) -> Option<&'p str> {
        self.config_dirs
            .iter()
            .find_map(|folder| path.as_str().strip_prefix(folder.as_str())?.strip_prefix('/'))
    }

    /// A text that is equal for filters with the same verdicts, and stable between runs: a stored one shows
    /// whether the filter changed since.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut excluded: Vec<&str> = self.excluded.iter().map(VaultPath::as_str).collect();
        excluded.sort_unstable();
        excluded.dedup();
        let mut config_dirs: Vec<String> =
            self.config_dirs.iter().map(|folder| format!("{folder:?}")).collect();
        config_dirs.sort_unstable();
        config_dirs.dedup();
        // Paths have no control characters, so a line break unambiguously ends one.
        format!(
            "rules 2\nfile types {}\nconfiguration {}\nconfiguration folder {}\ncode {}\nexcluded\n{}",
            self.file_types,
            self.configs,
            config_dirs.join(", "),
            self.code,
            excluded.join("\n")
        )
    }

    /// The filter with this [fingerprint](Self::fingerprint); `None` if an older release wrote it, or a name
    /// in it cannot be parsed.
    #[must_use]
    pub fn of_fingerprint(text: &str) -> Option<Filter> {
        let mut lines = text.lines();
        let mut value = |name: &str| lines.next()?.strip_prefix(name);
        value("rules 2")?;
        let file_types = value("file types ")?.parse().ok()?;
        let configs = value("configuration ")?.parse().ok()?;
        let folders = value("configuration folder ")?;
        let code = value("code ")?.parse().ok()?;
        value("excluded")?;
        let folders = folders.strip_prefix('"')?.strip_suffix('"')?.split("\", \"");
        let filter = Filter {
            file_types,
            configs,
            excluded: lines.map(VaultPath::parse).collect::<Result<_, _>>().ok()?,
            config_dirs: folders.map(str::to_owned).collect(),
            code,
        };
        (filter.fingerprint() == text).then_some(filter)
    }
}
