//! The promises in docs/SEMANTICS.md and SECURITY.md name tests; each must exist and run, in CI too.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::test_sources::tests_of;

#[test]
fn every_test_named_in_the_semantics_exists() {
    assert_eq!(broken_promises("docs/SEMANTICS.md", 40), [""; 0]);
}

#[test]
fn every_test_named_on_the_page_of_security_exists() {
    assert_eq!(broken_promises("SECURITY.md", 30), [""; 0]);
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Tests that a page names and that do not run, or need not run in CI, each with the reason.
fn broken_promises(page: &str, least: usize) -> Vec<String> {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let named: Vec<(&str, &str)> =
        text.split('`').skip(1).step_by(2).filter_map(|code| code.split_once("::")).collect();
    assert!(named.len() > least, "only {} tests are named in {page}", named.len());
    let need_not_run = need_not_run();
    let mut tests: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut broken = Vec::new();
    for (name, test) in named {
        let tests = tests.entry(name).or_insert_with(|| tests_of(&repository().join("crates").join(name)));
        if !tests.contains(test) {
            broken.push(format!("{name}::{test} is no test that runs"));
        }
        if need_not_run.contains(test) {
            broken.push(format!("{name}::{test} is in .ci/not-tested"));
        }
    }
    broken
}

/// The names of the tests that need not run in CI, without their modules.
fn need_not_run() -> BTreeSet<String> {
    let list = fs::read_to_string(repository().join(".ci/not-tested")).unwrap();
    let named = list.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(": "));
    named.filter_map(|(path, _)| path.rsplit("::").next()).map(str::to_owned).collect()
}
