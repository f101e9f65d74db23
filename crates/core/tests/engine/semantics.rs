//! The promises in docs/SEMANTICS.md and SECURITY.md name tests; each must exist.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_test_named_in_the_semantics_exists() {
    every_test_named_exists("docs/SEMANTICS.md", 40);
}

#[test]
fn every_test_named_on_the_page_of_security_exists() {
    every_test_named_exists("SECURITY.md", 30);
}

fn every_test_named_exists(page: &str, least: usize) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = fs::read_to_string(root.join(page)).unwrap();
    let named: Vec<(&str, &str)> =
        text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    assert!(named.len() > least, "only {} tests are named in {page}", named.len());
    for (name, test) in named {
        let mut sources = Vec::new();
        collect(&root.join("crates").join(name), &mut sources);
        let found = sources.iter().any(|source| source.contains(&format!("fn {test}(")));
        assert!(found, "no test {test} in crate {name}");
    }
}

/// The texts of all Rust files below a folder.
fn collect(folder: &PathBuf, sources: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(fs::read_to_string(path).unwrap());
        }
    }
}
