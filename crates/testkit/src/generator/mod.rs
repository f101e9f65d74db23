//! Generated vaults: any number of files with realistic names, sizes and times, reproducible by a seed.
//!
//! Sizes follow those of real vaults: half of the notes are shorter than 2 KiB, a few are long, and the
//! attachments weigh more than all notes together. Everything is a function of the options, on every machine;
//! contents are generated on demand.

mod content;
mod fill;
mod names;
mod scripts;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

pub use fill::{Filled, fill_directory, fill_vault};

use names::Names;

/// The time of the first change in a generated vault: 2020-01-01, in milliseconds since the epoch.
const FIRST_CHANGE: i64 = 1_577_836_800_000;

/// The period of the changes of a generated vault: five years, in milliseconds.
const SPAN: i64 = 5 * 365 * 24 * 3600 * 1000;

/// Options of a generated vault. The default is 1,000 files with a few attachments and English names.
#[derive(Debug, Clone, PartialEq)]
pub struct GeneratorOptions {
    /// Number of files.
    pub files: usize,
    /// Seed of the vault.
    pub seed: u64,
    /// Names in more than sixty scripts, some of exactly 255 bytes a segment, instead of English ones.
    pub many_scripts: bool,
    /// The share of files that are images, recordings and the like, 0 to 1.
    pub attachments: f64,
    /// No file has more bytes than this.
    pub max_size: u64,
    /// Every size is multiplied by this before `max_size` is applied.
    pub scale: f64,
    /// With the files of a configuration folder, `.obsidian`, as part of the number of files.
    pub configuration: bool,
}

impl Default for GeneratorOptions {
    fn default() -> Self {
        Self {
            files: 1000,
            seed: 0,
            many_scripts: false,
            attachments: 0.03,
            max_size: 16 * 1024 * 1024,
            scale: 1.0,
            configuration: true,
        }
    }
}

/// A file of a generated vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedFile {
    /// Relative path, `/`-separated, in NFC.
    pub path: String,
    /// Bytes of the content.
    pub size: u64,
    /// When it was created, in milliseconds since the epoch.
    pub ctime: i64,
    /// When it was last changed, in milliseconds since the epoch.
    pub mtime: i64,
    seed: u64,
    text: bool,
}

impl GeneratedFile {
    /// The content: exactly [`size`](Self::size) bytes, Markdown for notes, noise for attachments.
    pub fn content(&self) -> Vec<u8> {
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        let size = usize::try_from(self.size).unwrap_or(usize::MAX);
        if self.text { content::text(&self.path, size, &mut rng) } else { content::noise(size, &mut rng) }
    }
}

/// The files of a configuration folder.
const CONFIGURATION: &[&str] = &[
    ".obsidian/app.json",
    ".obsidian/appearance.json",
    ".obsidian/hotkeys.json",
    ".obsidian/core-plugins.json",
    ".obsidian/community-plugins.json",
    ".obsidian/snippets/wide.css",
    ".obsidian/themes/Plain/manifest.json",
    ".obsidian/themes/Plain/theme.css",
    ".obsidian/plugins/tables/manifest.json",
    ".obsidian/plugins/tables/main.js",
    ".obsidian/plugins/tables/data.json",
];

/// The files of a generated vault, in no particular order of paths.
pub fn generate(options: GeneratorOptions) -> impl Iterator<Item = GeneratedFile> {
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let names = Names::new(options.files, options.many_scripts, &mut rng);
    (0..options.files).map(move |number| file(number, &options, &names, &mut rng))
}

fn file(number: usize, options: &GeneratorOptions, names: &Names, rng: &mut ChaCha8Rng) -> GeneratedFile {
    let configuration = options.configuration.then(|| CONFIGURATION.get(number)).flatten();
    let attachment = rng.random_bool(options.attachments.clamp(0.0, 1.0));
    let extension = content::extension(attachment, rng);
    let path = match configuration {
        Some(path) => (*path).to_owned(),
        None => names.file(number, extension, rng),
    };
    let text = configuration.is_some() || !attachment;
    let size = scaled(content::size(text, rng), options);
    let ctime = FIRST_CHANGE + rng.random_range(0..SPAN);
    let mtime = ctime + rng.random_range(0..SPAN / 5);
    GeneratedFile { path, size, ctime, mtime, seed: rng.random(), text }
}

fn scaled(size: u64, options: &GeneratorOptions) -> u64 {
    ((size as f64 * options.scale.max(0.0)) as u64).min(options.max_size)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use obsync_protocol::{VaultPath, normalize_local_name};

    use super::*;

    fn files(options: GeneratorOptions) -> Vec<GeneratedFile> {
        generate(options).collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_vault_and_another_seed_another() {
        let options = GeneratorOptions { files: 200, seed: 5, ..GeneratorOptions::default() };
        let one = files(options.clone());
        assert_eq!(one, files(options.clone()));
        assert_eq!(one[20].content(), files(options.clone())[20].content());
        assert_ne!(one, files(GeneratorOptions { seed: 6, ..options }));
    }

    #[test]
    fn half_of_the_notes_are_shorter_than_about_two_kilobytes() {
        let mut sizes: Vec<u64> =
            files(GeneratorOptions { files: 5000, attachments: 0.0, ..GeneratorOptions::default() })
                .iter()
                .map(|file| file.size)
                .collect();
        sizes.sort_unstable();
        assert!((1500..2600).contains(&sizes[2500]), "the median is {}", sizes[2500]);
        assert!(sizes[4990] > 40_000, "the tail is short");
        assert!(sizes[0] == 0, "there is no empty note");
    }

    #[test]
    fn names_in_many_scripts_are_unique_sound_paths_and_some_are_of_255_bytes() {
        let options = GeneratorOptions { files: 11_000, many_scripts: true, ..GeneratorOptions::default() };
        let files = files(options);
        let mut paths = HashSet::new();
        let mut longest = 0;
        for file in &files {
            let path = VaultPath::parse(&file.path).unwrap();
            assert!(path.segments().all(|segment| segment.len() <= 255), "{path}");
            assert_eq!(normalize_local_name(path.as_str()), path.as_str());
            longest += path.segments().filter(|segment| segment.len() == 255).count();
            assert!(paths.insert(path.fold_key()), "{path} is there twice");
        }
        assert!(longest > 100, "only {longest} segments have 255 bytes");
    }

    #[test]
    fn contents_have_the_size_that_was_announced() {
        let options =
            GeneratorOptions { files: 300, max_size: 50_000, scale: 0.5, ..GeneratorOptions::default() };
        for file in generate(options) {
            assert_eq!(file.content().len() as u64, file.size, "{}", file.path);
        }
    }
}
