//! The kinds of configuration, recognised by a file's place in the configuration folder.

use super::{Choice, Selection};
use crate::git_names::fold;

/// A kind of configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfigCategory {
    /// General settings.
    App,
    /// Look of the application.
    Appearance,
    /// Keyboard shortcuts.
    Hotkey,
    /// List of enabled built-in plugins.
    CorePlugin,
    /// List of enabled installed plugins.
    CommunityPlugin,
    /// Themes and style snippets.
    AppearanceData,
    /// Settings of built-in plugins.
    CorePluginData,
    /// Installed plugins with their settings.
    CommunityPluginData,
}

/// The kinds of configuration that sync.
pub type ConfigCategories = Selection<ConfigCategory>;

impl Choice for ConfigCategory {
    const ALL: &'static [Self] = &[
        Self::App,
        Self::Appearance,
        Self::Hotkey,
        Self::CorePlugin,
        Self::CommunityPlugin,
        Self::AppearanceData,
        Self::CorePluginData,
        Self::CommunityPluginData,
    ];
    const KIND: &'static str = "configuration category";

    fn name(self) -> &'static str {
        match self {
            Self::App => "app",
            Self::Appearance => "appearance",
            Self::Hotkey => "hotkey",
            Self::CorePlugin => "core-plugin",
            Self::CommunityPlugin => "community-plugin",
            Self::AppearanceData => "appearance-data",
            Self::CorePluginData => "core-plugin-data",
            Self::CommunityPluginData => "community-plugin-data",
        }
    }
}

impl ConfigCategory {
    /// The kind of an entry, by its path below the configuration folder; `None` if it never syncs.
    pub(super) fn of(inside: &str, folder: bool) -> Option<Self> {
        let segments: Vec<&str> = inside.split('/').collect();
        if folder || segments.iter().any(|segment| *segment == "node_modules" || segment.starts_with('.')) {
            return None;
        }
        match *segments {
            // Layout of windows and panes, for one device only.
            ["workspace.json" | "workspace-mobile.json"] => None,
            ["app.json" | "types.json"] => Some(Self::App),
            ["appearance.json"] => Some(Self::Appearance),
            ["hotkeys.json"] => Some(Self::Hotkey),
            ["core-plugins.json" | "core-plugins-migration.json"] => Some(Self::CorePlugin),
            ["community-plugins.json"] => Some(Self::CommunityPlugin),
            [name] if name.ends_with(".json") && !is_spelt_otherwise(name) => Some(Self::CorePluginData),
            ["themes", _, "theme.css" | "manifest.json"] => Some(Self::AppearanceData),
            ["snippets", name] if name.ends_with(".css") => Some(Self::AppearanceData),
            ["plugins", _, "manifest.json" | "main.js" | "styles.css" | "data.json"] => {
                Some(Self::CommunityPluginData)
            }
            _ => None,
        }
    }
}

/// True if a folder, by its path below the configuration folder, can have a file of some
/// [category](ConfigCategory::of).
pub(super) fn reaches(inside: &str) -> bool {
    let segments: Vec<&str> = inside.split('/').collect();
    match *segments {
        ["plugins" | "themes" | "snippets"] => true,
        ["plugins" | "themes", name] => name != "node_modules" && !name.starts_with('.'),
        _ => false,
    }
}

/// True if a file, by its path below some folder, shows that the folder is a configuration folder: other
/// programs have no files of these names. (`data.json`, `types.json` and the settings of plugins could be of
/// any program.)
pub(super) fn is_telling(inside: &str) -> bool {
    let segments: Vec<&str> = inside.split('/').collect();
    matches!(
        *segments,
        ["app.json" | "appearance.json" | "hotkeys.json" | "core-plugins.json" | "community-plugins.json"]
            | ["plugins", _, "manifest.json" | "main.js"]
            | ["themes", _, "theme.css"]
    )
}

/// Files at the top of the configuration folder that are not settings of a plugin of that name.
const NAMED: [&str; 9] = [
    "workspace.json",
    "workspace-mobile.json",
    "app.json",
    "types.json",
    "appearance.json",
    "hotkeys.json",
    "core-plugins.json",
    "core-plugins-migration.json",
    "community-plugins.json",
];

/// True if a file system may treat a name as equal to one of [`NAMED`]. Obsidian writes no such name.
fn is_spelt_otherwise(name: &str) -> bool {
    let folded = fold(name);
    folded != name && NAMED.contains(&&*folded)
}

/// True if a file of the configuration, by its path below that folder, is one that Obsidian runs or applies.
/// In any spelling that a file system may treat as equal.
pub(super) fn is_code(inside: &str) -> bool {
    let folded: Vec<_> = inside.split('/').map(fold).collect();
    let segments: Vec<&str> = folded.iter().map(|segment| &**segment).collect();
    match *segments {
        ["community-plugins.json"] | ["plugins", _, "main.js"] => true,
        ["plugins" | "themes", _, name] | ["snippets", name] => name.ends_with(".css"),
        _ => false,
    }
}
