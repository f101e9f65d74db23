//! Finds the tests of a crate in its sources, as its test programs have them. A test in a comment, in a file
//! that no module includes, or an ignored one does not count.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The names of all tests of the crate in `folder`.
pub(crate) fn tests_of(folder: &Path) -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for root in roots(folder) {
        add_tests(&root, true, &mut tests);
    }
    tests
}

/// The files that Cargo compiles as the roots of libraries, programs and tests.
fn roots(folder: &Path) -> Vec<PathBuf> {
    let mut roots = vec![folder.join("src/lib.rs"), folder.join("src/main.rs")];
    for part in ["tests", "src/bin"] {
        let Ok(entries) = fs::read_dir(folder.join(part)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            roots.push(if path.is_dir() { path.join("main.rs") } else { path });
        }
    }
    roots.retain(|root| root.extension().is_some_and(|extension| extension == "rs") && root.exists());
    roots
}

/// Adds the tests of a file and of the modules that it includes.
fn add_tests(file: &Path, is_root: bool, tests: &mut BTreeSet<String>) {
    let code = code_of(&fs::read_to_string(file).unwrap());
    tests.extend(tests_in(&code));
    let folder = file.parent().unwrap();
    let has_own_folder = !is_root && file.file_name().is_some_and(|name| name != "mod.rs");
    let modules = if has_own_folder { file.with_extension("") } else { folder.to_owned() };
    for Module { name, path } in modules_in(&code) {
        let candidates = match path {
            Some(path) => vec![folder.join(path)],
            None => vec![modules.join(format!("{name}.rs")), modules.join(name).join("mod.rs")],
        };
        if let Some(included) = candidates.into_iter().find(|candidate| candidate.exists()) {
            add_tests(&included, false, tests);
        }
    }
}

/// A module in a file of its own.
struct Module {
    name: String,
    /// The value of `#[path]`.
    path: Option<String>,
}

fn modules_in(code: &str) -> Vec<Module> {
    let modules = items(code, "mod ").filter_map(|(attributes, rest)| {
        let (name, _) = rest.split_once(';')?;
        let is_name = name.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
        let path = attributes.split_once(PATH).and_then(|(_, rest)| rest.split('"').nth(1));
        is_name.then(|| Module { name: name.to_owned(), path: path.map(str::to_owned) })
    });
    modules.collect()
}

fn tests_in(code: &str) -> Vec<String> {
    let tests = items(code, "fn ").filter_map(|(attributes, rest)| {
        let (name, _) = rest.split_once('(')?;
        let has = |attribute: &str| attributes.contains(attribute);
        let is_test = has("#[test]") || has("::test]") || has("::test(");
        (is_test && !has("ignore")).then(|| name.to_owned())
    });
    tests.collect()
}

/// The text between the item before and each of these, and the text after the word.
fn items<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = (&'c str, &'c str)> {
    let is_a_word =
        |at: usize| !code[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_');
    code.match_indices(word).filter(move |(at, _)| is_a_word(*at)).map(move |(at, _)| {
        let begin = code[..at].rfind([';', '{', '}']).map_or(0, |end| end + 1);
        (&code[begin..at], &code[at + word.len()..])
    })
}

/// Beginning of the attribute with a module's path.
const PATH: &str = "#[path = ";

/// A source without its comments and strings, except for the paths of modules.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(next) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            length_of_comment(rest)
        } else if let Some(length) = length_of_text(rest, &code) {
            if code.ends_with(PATH) {
                code.push_str(&rest[..length]);
            }
            length
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[length..];
    }
    code
}

/// Length of a comment between `/*` and `*/`, including nested ones.
fn length_of_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(found) = rest[at..].find(['/', '*']).map(|found| at + found) {
        let (step, change) = match rest.get(found..found + 2) {
            Some("/*") => (2, 1),
            Some("*/") => (2, -1),
            _ => (1, 0),
        };
        at = found + step;
        depth = depth.saturating_add_signed(change);
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Length of a string or character literal that begins here; `None` if there is none. A lifetime has no
/// second quote.
fn length_of_text(rest: &str, before: &str) -> Option<usize> {
    let is_in_word = before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    if let Some(raw) = rest.strip_prefix('r').filter(|_| !is_in_word || before.ends_with('b')) {
        let marks = raw.len() - raw.trim_start_matches('#').len();
        if raw[marks..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(marks));
            let begin = marks + 2;
            return Some(rest[begin..].find(&end).map_or(rest.len(), |at| begin + at + end.len()));
        }
    }
    match rest.chars().next()? {
        '"' => Some(length_to(rest, '"')),
        '\'' if rest[1..].starts_with('\\') => Some(length_to(rest, '\'')),
        '\'' => {
            let letter = rest[1..].chars().next()?.len_utf8();
            rest[1 + letter..].starts_with('\'').then_some(letter + 2)
        }
        _ => None,
    }
}

/// Length up to the next quote, not counting the opening one and escaped ones.
fn length_to(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

#[test]
fn only_tests_that_run_are_found_in_a_source() {
    let source = r##"
        #[test]
        fn runs() { let text = "/* not a comment"; }
        #[tokio::test(flavor = "multi_thread")]
        #[cfg(unix)]
        async fn runs_too() { let (a, b): (&'static str, char) = ("a // b", '"'); }
        proptest! { #[test] fn runs_with_many(value: u8) {} }
        // #[test] fn in_a_comment() {}
        /* #[test] /* deep */ fn in_a_block() {} */
        #[test]
        #[ignore = "slow"]
        fn ignored() {}
        #[cfg_attr(unix, ignore)]
        #[test]
        fn ignored_here() {}
        fn no_test() {}
        const TEXT: &str = r#"#[test] fn in_a_text("a") {}"#;
        const OTHER: &str = "\" #[test] fn in_another() {}";
        #[test]
        fn runs_last() {}
    "##;
    assert_eq!(tests_in(&code_of(source)), ["runs", "runs_too", "runs_with_many", "runs_last"]);
}

#[test]
fn only_files_that_modules_include_have_tests() {
    let crate_folder = tempfile::TempDir::new().unwrap();
    let write = |path: &str, text: &str| {
        let path = crate_folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("src/lib.rs", "mod a;\n// mod commented;\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;");
    write("src/a.rs", "pub mod deep;");
    write("src/a/deep.rs", "#[test] fn deep() {}");
    write("src/a_tests.rs", "#[test] fn by_path() {}");
    write("src/commented.rs", "#[test] fn commented() {}");
    write("tests/all/main.rs", "mod one;\nmod two;");
    write("tests/all/one.rs", "#[test] fn one() {}");
    write("tests/all/two/mod.rs", "mod three;");
    write("tests/all/two/three.rs", "#[test] fn three() {}");
    write("tests/all/left_out.rs", "#[test] fn left_out() {}");
    write("tests/alone.rs", "#[test] fn alone() {}");
    let tests = tests_of(crate_folder.path());
    assert_eq!(Vec::from_iter(tests), ["alone", "by_path", "deep", "one", "three"]);
}
