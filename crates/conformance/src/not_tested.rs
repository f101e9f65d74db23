//! Tests that cannot run on a machine: they must not count as passed where all tests have to run.

/// Tests that need not run in CI, with the reason.
const LIST: &str = include_str!("../../../.ci/not-tested");

/// Notes that the test of this thread cannot run on this machine; it has to return then.
///
/// # Panics
///
/// With `OBSYNC_CI` set, unless the test is in `.ci/not-tested`.
pub fn not_tested(reason: &str) {
    let thread = std::thread::current();
    not_tested_in(thread.name().unwrap_or_default(), reason);
}

/// The same for a test named by its path within its program.
///
/// # Panics
///
/// As [`not_tested`].
pub fn not_tested_in(test: &str, reason: &str) {
    let is_to_run = std::env::var_os("OBSYNC_CI").is_some();
    assert!(!is_to_run || is_listed(LIST, test), "{test} cannot run ({reason}) and is not in .ci/not-tested");
    eprintln!("NOT TESTED: {test}: {reason}");
}

/// True if a list has a test and a reason for it.
fn is_listed(list: &str, test: &str) -> bool {
    let named =
        |line: &str| line.split_once(": ").is_some_and(|(name, reason)| name == test && !reason.is_empty());
    !test.is_empty() && list.lines().any(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_listed_by_its_whole_path_and_with_a_reason() {
        let list = "# a comment: of two parts\nroom::one: needs a tool\nroom::two:\nroom::three\n";
        assert!(is_listed(list, "room::one"));
        for test in ["one", "room::two", "room::three", "room::on", ""] {
            assert!(!is_listed(list, test), "{test}");
        }
    }

    #[test]
    fn every_line_of_the_list_has_a_reason() {
        for line in LIST.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let name = line.split_once(": ").map(|(name, _)| name).unwrap_or_default();
            assert!(is_listed(LIST, name), "{line}");
        }
    }
}
