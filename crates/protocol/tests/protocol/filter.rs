//! The rules of docs/PROTOCOL.md section 5, in their order.

use obsync_protocol::{
    Choice, ConfigCategories, ConfigCategory, FileType, FileTypes, Filter, SkipReason, VaultPath, Verdict,
};
use proptest::prelude::*;

fn path(text: &str) -> VaultPath {
    VaultPath::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// The verdict on a file in short: `yes`, or the reason for excluding it.
fn verdict(filter: &Filter, name: &str, folder: bool) -> String {
    match filter.verdict(&path(name), folder) {
        Verdict::Sync => "yes".to_owned(),
        Verdict::Skip(SkipReason::Excluded) => "excluded".to_owned(),
        Verdict::Skip(SkipReason::NeverConfiguration) => "never".to_owned(),
        Verdict::Skip(SkipReason::Configuration(category)) => category.name().to_owned(),
        Verdict::Skip(reason @ (SkipReason::Hidden | SkipReason::Code)) => reason.name().to_owned(),
        Verdict::Skip(SkipReason::FileType(kind)) => kind.name().to_owned(),
    }
}

fn check(filter: &Filter, cases: &[(&str, &str)]) {
    for (name, expected) in cases {
        let (name, folder) = name.strip_suffix('/').map_or((*name, false), |name| (name, true));
        assert_eq!(verdict(filter, name, folder), *expected, "{name} (folder: {folder})");
    }
}

/// A filter that includes only files that always sync.
fn strict() -> Filter {
    Filter { file_types: FileTypes::none(), configs: ConfigCategories::none(), ..Filter::default() }
}

/// Every place for a configuration file, with its category; `never` if no setting includes it.
const CONFIGURATION: &[(&str, &str)] = &[
    (".obsidian/app.json", "app"),
    (".obsidian/types.json", "app"),
    (".obsidian/appearance.json", "appearance"),
    (".obsidian/hotkeys.json", "hotkey"),
    (".obsidian/core-plugins.json", "core-plugin"),
    (".obsidian/core-plugins-migration.json", "core-plugin"),
    (".obsidian/community-plugins.json", "community-plugin"),
    (".obsidian/themes/Minimal/theme.css", "appearance-data"),
    (".obsidian/themes/Minimal/manifest.json", "appearance-data"),
    (".obsidian/snippets/wide.css", "appearance-data"),
    (".obsidian/daily-notes.json", "core-plugin-data"),
    (".obsidian/workspaces.json", "core-plugin-data"),
    (".obsidian/graph.json", "core-plugin-data"),
    (".obsidian/plugins/dataview/manifest.json", "community-plugin-data"),
    (".obsidian/plugins/dataview/main.js", "community-plugin-data"),
    (".obsidian/plugins/dataview/styles.css", "community-plugin-data"),
    (".obsidian/plugins/dataview/data.json", "community-plugin-data"),
    (".obsidian/workspace.json", "never"),
    (".obsidian/workspace-mobile.json", "never"),
    (".obsidian/plugins/dataview/node_modules/x/manifest.json", "never"),
    (".obsidian/plugins/node_modules/main.js", "never"),
    (".obsidian/plugins/.hidden/main.js", "never"),
    (".obsidian/.app.json", "never"),
    (".obsidian/snippets/.css", "never"),
    (".obsidian/snippets/deep/wide.css", "never"),
    (".obsidian/snippets/wide.txt", "never"),
    (".obsidian/themes/theme.css", "never"),
    (".obsidian/themes/Minimal/other.css", "never"),
    (".obsidian/themes/Minimal/deep/theme.css", "never"),
    (".obsidian/plugins/main.js", "never"),
    (".obsidian/plugins/dataview/readme.md", "never"),
    (".obsidian/plugins/dataview/deep/main.js", "never"),
    (".obsidian/note.md", "never"),
    (".obsidian/picture.png", "never"),
    (".obsidian/deep/app.json", "never"),
    (".obsidian/plugins/", "never"),
    (".obsidian/plugins/dataview/", "never"),
    (".obsidian/app.json/", "never"),
];

/// Files and folders outside the configuration, with the kind that decides about them.
const FILES: &[(&str, &str)] = &[
    ("note.md", "yes"),
    ("Note.MD", "yes"),
    ("board.canvas", "yes"),
    ("table.base", "yes"),
    ("folder/", "yes"),
    ("folder.png/", "yes"),
    ("a.bmp", "image"),
    ("a.png", "image"),
    ("a.JPG", "image"),
    ("a.jpeg", "image"),
    ("a.gif", "image"),
    ("a.svg", "image"),
    ("a.webp", "image"),
    ("a.avif", "image"),
    ("a.mp3", "audio"),
    ("a.wav", "audio"),
    ("a.m4a", "audio"),
    ("a.3gp", "audio"),
    ("a.flac", "audio"),
    ("a.ogg", "audio"),
    ("a.oga", "audio"),
    ("a.opus", "audio"),
    ("a.mp4", "video"),
    ("a.ogv", "video"),
    ("a.mov", "video"),
    ("a.mkv", "video"),
    ("a.pdf", "pdf"),
    ("a.PDF", "pdf"),
    ("a.json", "unsupported"),
    ("a.txt", "unsupported"),
    ("a.csv", "unsupported"),
    ("a.heic", "unsupported"),
    ("a.md.", "unsupported"),
    ("README", "unsupported"),
    ("obsidian/app.json", "unsupported"),
];

/// Paths outside the configuration folder with a segment that begins with a dot.
const HIDDEN: &[(&str, &str)] = &[
    (".hidden.md", "hidden"),
    (".trash/note.md", "hidden"),
    (".git/", "hidden"),
    (".obsidian/", "hidden"),
    (".obsidian", "hidden"),
    (".obsidian2/app.json", "hidden"),
    (".obsidian.json", "hidden"),
    ("a/.b.md", "hidden"),
    ("a/.md", "hidden"),
    ("a/.hidden/", "hidden"),
    ("a/.hidden/b.md", "hidden"),
    ("a/.obsidian/app.json", "hidden"),
    ("Projects/.envrc", "hidden"),
    ("Projects/.vscode/tasks.json", "hidden"),
];

#[test]
fn with_nothing_selected_only_notes_and_folders_sync() {
    for cases in [CONFIGURATION, FILES, HIDDEN] {
        check(&strict(), cases);
    }
}

#[test]
fn by_default_everything_syncs_but_what_never_does() {
    for (name, expected) in CONFIGURATION.iter().chain(FILES).chain(HIDDEN) {
        let expected = if matches!(*expected, "never" | "hidden") { *expected } else { "yes" };
        check(&Filter::default(), &[(*name, expected)]);
    }
}

#[test]
fn one_category_lets_in_its_own_configuration_and_no_other() {
    for category in ConfigCategory::ALL {
        let filter = Filter { configs: ConfigCategories::none().with(*category), ..Filter::default() };
        for (name, expected) in CONFIGURATION {
            let expected = if *expected == category.name() { "yes" } else { *expected };
            check(&filter, &[(*name, expected)]);
        }
    }
}

#[test]
fn one_kind_lets_in_its_own_files_and_no_other() {
    for kind in FileType::ALL {
        let filter = Filter { file_types: FileTypes::none().with(*kind), ..Filter::default() };
        for (name, expected) in FILES {
            let expected = if *expected == kind.name() { "yes" } else { *expected };
            check(&filter, &[(*name, expected)]);
        }
    }
}

#[test]
fn a_webm_is_let_in_as_sound_or_as_moving_pictures() {
    for (types, expected) in [
        ("audio", "yes"),
        ("video", "yes"),
        ("audio,video", "yes"),
        ("image,pdf,unsupported", "audio"),
        ("none", "audio"),
    ] {
        let filter = Filter { file_types: types.parse().expect("a selection"), ..Filter::default() };
        check(&filter, &[("a.webm", expected)]);
    }
}

#[test]
fn an_excluded_folder_comes_before_every_other_rule() {
    let excluded = ["Private", "Work/Old", ".obsidian/plugins"].map(path).to_vec();
    let filter = Filter { excluded, ..Filter::default() };
    check(
        &filter,
        &[
            ("Private/", "excluded"),
            ("Private/note.md", "excluded"),
            ("Private/deep/note.md", "excluded"),
            ("private/note.md", "yes"),
            ("Privateer.md", "yes"),
            ("Work/Old/a.png", "excluded"),
            ("Work/Older/a.png", "yes"),
            ("Work/", "yes"),
            (".obsidian/plugins/x/main.js", "excluded"),
            (".obsidian/plugins/x/.git", "excluded"),
            (".obsidian/app.json", "yes"),
        ],
    );
}

#[test]
fn another_configuration_folder_takes_the_place_of_the_usual_one() {
    let filter = Filter { config_dirs: vec![".config".to_owned()], ..strict() };
    check(
        &filter,
        &[(".config/app.json", "app"), (".config/x.md", "never"), (".obsidian/app.json", "hidden")],
    );
    let filter = Filter { config_dirs: vec!["settings".to_owned()], ..strict() };
    check(&filter, &[("settings/hotkeys.json", "hotkey"), ("settings/", "yes"), ("settings.md", "yes")]);
}

#[test]
fn a_configuration_folder_below_the_root_keeps_its_files_and_only_those() {
    let filter = Filter { config_dirs: vec!["work/.obsidian".to_owned()], ..Filter::default() };
    check(
        &filter,
        &[
            ("work/.obsidian/app.json", "yes"),
            ("work/.obsidian/plugins/x/.env", "never"),
            ("work/.git2/x", "hidden"),
        ],
    );
}

#[test]
fn several_configuration_folders_are_treated_alike() {
    let filter = Filter {
        config_dirs: vec![".obsidian".to_owned(), ".obsidian-mobile".to_owned()],
        code: false,
        ..Filter::default()
    };
    for folder in [".obsidian", ".obsidian-mobile"] {
        check(
            &filter,
            &[
                (&format!("{folder}/app.json"), "yes"),
                (&format!("{folder}/workspace.json"), "never"),
                (&format!("{folder}/plugins/x/main.js"), "code"),
            ],
        );
        assert!(filter.is_code(&path(&format!("{folder}/plugins/x/main.js"))));
    }
    check(&filter, &[(".obsidian-tablet/app.json", "hidden")]);
}

#[test]
fn a_folder_that_looks_like_another_configuration_folder_is_known_by_its_files() {
    let filter = Filter { excluded: vec![path(".private")], ..Filter::default() };
    for file in [
        ".obsidian-mobile/app.json",
        ".obsidian-mobile/appearance.json",
        ".obsidian-mobile/community-plugins.json",
        ".obsidian-mobile/plugins/dataview/main.js",
        ".obsidian-mobile/plugins/dataview/manifest.json",
        ".obsidian-mobile/themes/Minimal/theme.css",
    ] {
        assert_eq!(filter.other_config_dir(&path(file)), Some(".obsidian-mobile"), "{file}");
    }
    for file in [
        ".obsidian/app.json",
        ".obsidian/workspace.json",
        ".private/app.json",
        ".vscode/settings.json",
        ".cache/plugins/x",
        "settings/app.json",
        "work/.obsidian/app.json",
        ".app.json",
        "app.json",
    ] {
        assert_eq!(filter.other_config_dir(&path(file)), None, "{file}");
    }
}

#[test]
fn without_code_plugins_and_styles_stay_out_and_settings_come() {
    let filter = Filter { code: false, ..Filter::default() };
    let code = [
        ".obsidian/community-plugins.json",
        ".obsidian/plugins/dataview/main.js",
        ".obsidian/plugins/dataview/styles.css",
        ".obsidian/themes/Minimal/theme.css",
        ".obsidian/snippets/wide.css",
    ];
    for file in code {
        assert_eq!(filter.verdict(&path(file), false), Verdict::Skip(SkipReason::Code), "{file}");
        assert!(filter.is_code(&path(file)));
    }
    for file in [
        ".obsidian/app.json",
        ".obsidian/plugins/dataview/data.json",
        ".obsidian/plugins/dataview/manifest.json",
        "plugins/x/main.js",
        "snippets/wide.css",
    ] {
        assert_eq!(filter.verdict(&path(file), false), Verdict::Sync, "{file}");
        assert!(!filter.is_code(&path(file)));
    }
}

#[test]
fn another_spelling_of_a_name_of_obsidian_never_takes_its_place() {
    for filter in [Filter::default(), Filter { code: false, ..Filter::default() }] {
        for file in [
            ".obsidian/Community-Plugins.json",
            ".obsidian/community-plugin\u{17f}.json",
            ".obsidian/app\u{200b}.json",
            ".obsidian/Workspace.json",
            ".obsidian/plugins/dataview/MAIN.js",
            ".obsidian/Plugins/dataview/main.js",
            ".obsidian/snippets/wide.CSS",
        ] {
            assert_eq!(
                filter.verdict(&path(file), false),
                Verdict::Skip(SkipReason::NeverConfiguration),
                "{file}"
            );
        }
        for file in [
            ".obsidian/daily-notes.json",
            ".obsidian/My Plugin.json",
            ".obsidian/themes/Minimal/manifest.json",
        ] {
            assert_eq!(filter.verdict(&path(file), false), Verdict::Sync, "{file}");
        }
    }
}

#[test]
fn selections_are_read_as_they_are_written() {
    let types: FileTypes = "image, pdf".parse().expect("two kinds");
    assert_eq!(types, FileTypes::none().with(FileType::Image).with(FileType::Pdf));
    assert_eq!(types.to_string(), "image,pdf");
    assert_eq!("all".parse(), Ok(FileTypes::all()));
    assert_eq!(" none ".parse(), Ok(ConfigCategories::none()));
    assert_eq!(FileTypes::all().without(FileType::Audio).to_string(), "image,video,pdf,unsupported");
    assert_eq!(ConfigCategories::all().iter().count(), 8);
}

#[test]
fn an_unknown_name_in_a_selection_is_answered_with_the_known_ones() {
    let error = "image,vido".parse::<FileTypes>().expect_err("no such kind").to_string();
    assert_eq!(
        error,
        "there is no file type `vido`; choose from image, audio, video, pdf, unsupported, \
         or write `all` or `none`"
    );
    for bad in ["", ",", "image,", "Image", "image;pdf", "all,none"] {
        assert!(bad.parse::<FileTypes>().is_err(), "{bad:?}");
    }
}

#[test]
fn a_fingerprint_tells_filters_apart_and_does_not_depend_on_the_order_of_folders() {
    let base = Filter::default();
    let excluding = |folders: &[&str]| Filter {
        excluded: folders.iter().map(|folder| path(folder)).collect(),
        ..Filter::default()
    };
    let with_folders = |folders: &[&str]| Filter {
        config_dirs: folders.iter().map(ToString::to_string).collect(),
        ..Filter::default()
    };
    let different = [
        base.clone(),
        strict(),
        Filter { file_types: FileTypes::all().without(FileType::Pdf), ..base.clone() },
        Filter { configs: ConfigCategories::none(), ..base.clone() },
        Filter { code: false, ..base.clone() },
        Filter { config_dirs: vec!["x\nexcluded\n".to_owned()], ..base.clone() },
        with_folders(&[]),
        with_folders(&[".a", ".b"]),
        with_folders(&[".a\", \".b"]),
        excluding(&["a"]),
        excluding(&["a", "b"]),
        excluding(&["a/b"]),
    ];
    let prints: std::collections::HashSet<_> = different.iter().map(Filter::fingerprint).collect();
    assert_eq!(prints.len(), different.len());
    for filter in &different {
        let print = filter.fingerprint();
        let is_odd =
            !filter.config_dirs.iter().all(|folder| folder.starts_with('.') && !folder.contains('"'));
        match Filter::of_fingerprint(&print) {
            Some(read) => assert_eq!(read.fingerprint(), print),
            None => assert!(is_odd || filter.config_dirs.is_empty(), "{print}"),
        }
    }
    assert_eq!(Filter::of_fingerprint("rules 1\n"), None);
    assert_eq!(excluding(&["b", "a", "b"]).fingerprint(), excluding(&["a", "b"]).fingerprint());
    assert_eq!(with_folders(&[".b", ".a", ".b"]).fingerprint(), with_folders(&[".a", ".b"]).fingerprint());
    assert_eq!(
        base.fingerprint(),
        "rules 2\nfile types all\nconfiguration all\nconfiguration folder \".obsidian\"\ncode true\nexcluded\n",
        "stored fingerprints are compared with this: change the number of the rules when they change"
    );
}

proptest! {
    #[test]
    fn above_whatever_syncs_are_folders_that_can_have_something_that_does(
        segments in prop::collection::vec(prop::sample::select(SEGMENTS), 1..6),
        excluded in prop::option::of(prop::sample::select(SEGMENTS)),
        folder in any::<bool>(),
    ) {
        let excluded = excluded.into_iter().map(path).collect();
        let config_dirs = [".obsidian", "settings/obsidian"].map(str::to_owned).into();
        let filter = Filter { excluded, config_dirs, ..Filter::default() };
        let entry = path(&segments.join("/"));
        if filter.verdict(&entry, folder) == Verdict::Sync {
            for above in entry.ancestors() {
                prop_assert!(filter.reaches(&above), "{above} of {entry}");
            }
        }
    }

    #[test]
    fn every_selection_comes_back_from_its_text(types in any::<[bool; 5]>(), configs in any::<[bool; 8]>()) {
        let types: FileTypes = chosen(FileType::ALL, &types);
        let configs: ConfigCategories = chosen(ConfigCategory::ALL, &configs);
        prop_assert_eq!(types.to_string().parse(), Ok(types));
        prop_assert_eq!(configs.to_string().parse(), Ok(configs));
    }

    #[test]
    fn a_wider_selection_never_shuts_out_what_a_narrower_one_let_in(
        name in "(\\.obsidian/|a/|\\.)?(plugins/|snippets/|b/)?[a-c]{1,2}\\.(md|png|webm|json|css|txt)",
        types in any::<[bool; 5]>(), kind in 0..5_usize,
    ) {
        let narrow = Filter { file_types: chosen(FileType::ALL, &types), ..Filter::default() };
        let wide = Filter { file_types: narrow.file_types.with(FileType::ALL[kind]), ..narrow.clone() };
        if narrow.verdict(&path(&name), false) == Verdict::Sync {
            prop_assert_eq!(wide.verdict(&path(&name), false), Verdict::Sync);
        }
    }
}

/// Segments that the rules mention.
const SEGMENTS: &[&str] = &[
    ".obsidian",
    "settings",
    "obsidian",
    "plugins",
    "themes",
    "snippets",
    "node_modules",
    ".x",
    "x",
    "a.md",
    "a.css",
    "main.js",
    "data.json",
    "theme.css",
    "app.json",
    "workspace.json",
];

#[test]
fn a_folder_in_which_nothing_can_sync_is_known() {
    let filter = Filter { excluded: vec![path("Archive")], ..Filter::default() };
    for (folder, reaches) in [
        ("a", true),
        ("a/b", true),
        (".obsidian", true),
        (".obsidian/plugins", true),
        (".obsidian/plugins/x", true),
        (".obsidian/plugins/x/src", false),
        (".obsidian/plugins/node_modules", false),
        (".obsidian/other", false),
        (".git", false),
        ("a/.venv", false),
        ("Archive", false),
        ("Archive/a", false),
    ] {
        assert_eq!(filter.reaches(&path(folder)), reaches, "{folder}");
    }
}

fn chosen<C: Choice>(all: &[C], chosen: &[bool]) -> obsync_protocol::Selection<C> {
    all.iter().zip(chosen).filter(|(_, chosen)| **chosen).map(|(value, _)| *value).collect()
}
