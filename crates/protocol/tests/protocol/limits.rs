//! The page and the module of limits name the same constants.

use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../../docs/LIMITS.md");
const MODULE: &str = include_str!("../../src/limits.rs");

#[test]
fn every_limit_has_a_row_on_the_page_of_limits() {
    let constants: BTreeSet<&str> = MODULE
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "))
        .filter_map(|line| line.split(':').next())
        .collect();
    let rows: BTreeSet<&str> = PAGE
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split('`').next())
        .collect();
    assert!(!constants.is_empty());
    assert_eq!(rows, constants);
}
