//! Tests of merges.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use obsync_protocol::limits::COMPARED_LINES;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn lines(base: &str, local: &str, remote: &str) -> Result<String, NoMerge> {
    merged(MergeKind::Lines, base, local, remote)
}

fn keys(base: &str, local: &str, remote: &str) -> Result<String, NoMerge> {
    merged(MergeKind::Keys, base, local, remote)
}

fn merged(kind: MergeKind, base: &str, local: &str, remote: &str) -> Result<String, NoMerge> {
    let merged = merge(kind, Some(base.as_bytes()), local.as_bytes(), remote.as_bytes())?;
    Ok(String::from_utf8(merged).unwrap())
}

#[test]
fn changes_of_different_lines_are_merged() {
    assert_eq!(lines("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n").unwrap(), "A\nb\nC\n");
    // Neighbours, too.
    assert_eq!(lines("a\nb\nc\n", "A\nb\nc\n", "a\nB\nc\n").unwrap(), "A\nB\nc\n");
    assert_eq!(lines("a\nb\nc\n", "a\nB\nc\n", "A\nb\nc\n").unwrap(), "A\nB\nc\n");
    assert_eq!(lines("a\nb\nc\n", "a\nc\n", "a\nb\nc\nd\n").unwrap(), "a\nc\nd\n");
    assert_eq!(
        lines("a\nb\nc\nd\n", "new\na\nb\nc\nd\n", "a\nb\nc\nd\nend\n").unwrap(),
        "new\na\nb\nc\nd\nend\n"
    );
}

#[test]
fn a_change_that_both_sides_made_is_made_once() {
    assert_eq!(lines("a\nb\nc\n", "A\nb\nc\n+\n", "A\nb\nc\n+\n").unwrap(), "A\nb\nc\n+\n");
    assert_eq!(lines("a\nb\nc\nd\n", "A\nb\nc\n", "A\nb\nc\nd\ne\n"), Err(NoMerge::Overlap));
    assert_eq!(lines("a\nb\nc\nd\n", "A\nb\nc\nd\n", "A\nb\nC\nd\n").unwrap(), "A\nb\nC\nd\n");
}

#[test]
fn changes_of_the_same_line_are_not_merged() {
    for (local, remote) in [
        ("a\nB\nc\n", "a\nß\nc\n"),
        ("a\nc\n", "a\nB\nc\n"),
        // The order of two additions is unknown.
        ("a\nb\nc\nx\n", "a\nb\nc\ny\n"),
        ("a\nb\nx\nc\n", "a\nB\nc\n"),
        ("", "a\nB\nc\n"),
    ] {
        assert_eq!(lines("a\nb\nc\n", local, remote), Err(NoMerge::Overlap), "{local:?} {remote:?}");
        assert_eq!(lines("a\nb\nc\n", remote, local), Err(NoMerge::Overlap), "{remote:?} {local:?}");
    }
}

#[test]
fn line_ends_the_last_newline_and_the_byte_order_mark_stay() {
    assert_eq!(lines("a\r\nb\r\nc", "A\r\nb\r\nc", "a\r\nb\r\nC").unwrap(), "A\r\nb\r\nC");
    assert_eq!(
        lines("\u{feff}a\nb\nc\n", "\u{feff}A\nb\nc\n", "\u{feff}a\nb\nC\n").unwrap(),
        "\u{feff}A\nb\nC\n"
    );
    // An editor changed them on one side.
    assert_eq!(lines("a\nb\nc\n", "a\r\nb\r\nc\r\n", "a\nb\nC\n").unwrap(), "a\r\nb\r\nC\r\n");
    assert_eq!(lines("a\nb\nc", "a\nb\nc\n", "A\nb\nc").unwrap(), "A\nb\nc\n");
    assert_eq!(lines("\u{feff}a\nb\nc\n", "a\nb\nc\n", "\u{feff}A\nb\nc\n").unwrap(), "A\nb\nc\n");
    // Both kinds of line ends in one file.
    assert_eq!(lines("a\r\nb\nc\r\n", "A\r\nb\nc\r\n", "a\r\nb\nC\r\n").unwrap(), "A\r\nb\nC\r\n");
    assert_eq!(lines("a\r\nb\nc", "a\r\nb\nc\nd", "A\r\nb\nc").unwrap(), "A\r\nb\nc\nd");
}

#[test]
fn without_a_base_or_without_text_nothing_is_merged() {
    let merge = |base, local, remote| merge(MergeKind::Lines, base, local, remote);
    assert_eq!(merge(None, b"a", b"b"), Err(NoMerge::NoBase));
    assert_eq!(merge(None, b"a", b"a").unwrap(), b"a");
    for binary in [b"\x89PNG\r\n\x1a\n".as_slice(), b"a\0b", b"\xff\xfea\0"] {
        assert_eq!(merge(Some(b"a\n"), binary, b"b\n"), Err(NoMerge::NotText));
        assert_eq!(merge(Some(b"a\n"), b"b\n", binary), Err(NoMerge::NotText));
        assert_eq!(merge(Some(binary), b"a\n", b"b\n"), Err(NoMerge::NotText));
        // But a change of one side only is no merge.
        assert_eq!(merge(Some(b"a\n"), b"a\n", binary).unwrap(), binary);
        assert_eq!(merge(Some(b"a\n"), binary, b"a\n").unwrap(), binary);
    }
}

#[test]
fn texts_that_are_too_large_are_not_merged() {
    let base = "x\n".repeat(MERGED_LINES);
    assert_eq!(lines(&base, "a\n", "b\n"), Err(NoMerge::TooLarge));
    let wide = "x".repeat(MERGED_TEXT + 1);
    assert_eq!(lines("a\n", &wide, "b\n"), Err(NoMerge::TooLarge));
}

#[test]
fn texts_as_large_as_the_limits_are_merged() {
    let filler = "x".repeat(MERGED_TEXT - "a\n\nb\n".len());
    let [base, local, remote] =
        [("a", "b"), ("A", "b"), ("a", "B")].map(|(a, b)| format!("{a}\n{filler}\n{b}\n"));
    assert_eq!(base.len(), MERGED_TEXT);
    assert_eq!(lines(&base, &local, &remote), Ok(format!("A\n{filler}\nB\n")));
    // A rewrite is compared as long as the product of its lines before and after is within the limit.
    let compared = |lines_of_each: usize| {
        let text = |name: &str| (0..lines_of_each).map(|n| format!("{name} {n}\n")).collect::<String>();
        let (base, rewritten) = (text("before"), text("after"));
        lines(&base, &rewritten, &base.replacen("before 0", "edited", 1))
    };
    let side = COMPARED_LINES.isqrt();
    assert_eq!(side * side, COMPARED_LINES);
    assert_eq!(compared(side), Err(NoMerge::Overlap));
    assert_eq!(compared(side + 1), Err(NoMerge::TooLarge));
}

/// A text of this many lines, of this many kinds, in random order.
fn noise(seed: u64, lines: usize, kinds: u64) -> String {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % kinds
    };
    (0..lines).map(|_| format!("{}\n", next())).collect()
}

/// The largest texts that are compared at all: with few different lines, many, none in common.
#[test]
fn the_worst_texts_are_merged_or_refused_within_seconds() {
    for kinds in [2, 60, 1000, 30_000, 100_000_000] {
        let [base, local, remote] = [1, 2, 3].map(|seed| noise(seed, 32_700, kinds));
        let started = Instant::now();
        let outcome = lines(&base, &local, &remote);
        println!("{kinds} kinds of lines: {:?} after {:?}", outcome.map(drop), started.elapsed());
        assert!(started.elapsed() < Duration::from_secs(20), "{kinds} kinds took {:?}", started.elapsed());
    }
    let [base, local, remote] = [1, 2, 3].map(|seed| noise(seed, MERGED_LINES - 1, 2));
    assert_eq!(lines(&base, &local, &remote), Err(NoMerge::TooLarge));
}

#[test]
fn the_largest_note_is_merged_where_edits_are_few() {
    let base = noise(1, MERGED_LINES - 2, 1 << 30);
    let local = format!("edited {base}");
    let (before, after) = base.split_at(base.match_indices('\n').nth(9).unwrap().0);
    let remote = format!("{before}\nnew{after}");
    let started = Instant::now();
    let merged = lines(&base, &local, &remote).unwrap();
    assert_eq!(merged, format!("edited {remote}"));
    // Common lines at the end or at the beginning do not count for the running time.
    let (local, remote) = (format!("{base}local\n"), format!("{base}remote\n"));
    assert_eq!(lines(&base, &local, &remote), Err(NoMerge::Overlap));
    println!("merged in {:?}", started.elapsed());
}

#[test]
fn a_key_that_one_side_changed_is_taken_from_it() {
    let base = r#"{"a":1,"b":{"x":true,"y":null},"gone":"?"}"#;
    let local = r#"{"a":2,"b":{"x":true,"y":null},"new":[1,{}],"gone":"?"}"#;
    let remote = r#"{"b":{"x":false,"y":null},"a":1}"#;
    assert_eq!(keys(base, local, remote).unwrap(), r#"{"b":{"x":false,"y":null},"a":2,"new":[1,{}]}"#);
}

#[test]
fn of_a_key_that_both_sides_changed_the_remote_value_wins() {
    assert_eq!(keys(r#"{"a":1,"b":1}"#, r#"{"a":2,"b":2}"#, r#"{"a":3,"b":1}"#).unwrap(), r#"{"a":3,"b":2}"#);
    assert_eq!(keys(r#"{"a":1,"b":1}"#, r#"{"a":2,"b":1}"#, r#"{"b":1}"#).unwrap(), r#"{"b":1}"#);
    assert_eq!(keys(r#"{"a":1}"#, r#"{}"#, r#"{"a":{}}"#).unwrap(), r#"{"a":{}}"#);
    // Objects are merged even if both are new.
    assert_eq!(keys("{}", r#"{"a":{"b":1,"c":1}}"#, r#"{"a":{"c":2}}"#).unwrap(), r#"{"a":{"c":2,"b":1}}"#);
}

#[test]
fn a_list_of_names_has_what_either_side_added_and_not_what_either_removed() {
    assert_eq!(keys(r#"["a","b","c"]"#, r#"["a","x","c"]"#, r#"["b","c","y"]"#).unwrap(), r#"["c","y","x"]"#);
    // Other lists are one value, also at the top level.
    assert_eq!(keys(r#"["a"]"#, r#"["a","b"]"#, r#"["a","a"]"#).unwrap(), r#"["a","a"]"#);
    assert_eq!(
        keys(r#"{"l":[1]}"#, r#"{"l":[1,2],"k":1}"#, r#"{"l":[3,1]}"#).unwrap(),
        r#"{"l":[3,1],"k":1}"#
    );
}

#[test]
fn json_is_written_as_the_remote_side_wrote_it() {
    let merged = keys("{\"a\":1}\n", "{\"a\":1,\"b\":[\"ß\"]}", "{\n\t\"a\": 2\n}\n").unwrap();
    assert_eq!(merged, "{\n\t\"a\": 2,\n\t\"b\": [\n\t\t\"ß\"\n\t]\n}\n");
    let merged = keys("{\"a\":1}", "{\"a\":1,\"b\":3}", "{\n    \"a\": 2\n}").unwrap();
    assert_eq!(merged, "{\n    \"a\": 2,\n    \"b\": 3\n}");
}

#[test]
fn a_side_that_has_the_result_already_stays_as_it_is_written() {
    let odd = "{ \"a\":3 ,\n\"b\":1}";
    assert_eq!(keys(r#"{"a":1,"b":1}"#, r#"{"a":2,"b":1}"#, odd).unwrap(), odd);
    assert_eq!(keys(r#"{"a":3}"#, odd, r#"{"a": 3}"#).unwrap(), odd);
}

#[test]
fn what_is_no_sound_json_is_not_merged() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for other in ["", "{", "1", "[]", r#"{"a":1,"a":2}"#, "{\"a\":1e999}", deep.as_str()] {
        assert_eq!(keys(r#"{"a":0}"#, r#"{"a":5}"#, other), Err(NoMerge::NotJson), "{other:.20}");
        assert_eq!(keys(r#"{"a":0}"#, other, r#"{"a":5}"#), Err(NoMerge::NotJson), "{other:.20}");
    }
}

#[test]
fn the_kind_of_a_merge_follows_from_the_name() {
    let kind =
        |path: &str| MergeKind::of(&VaultPath::parse(path).unwrap(), &VaultPath::parse(".obsidian").unwrap());
    for path in ["a.md", "b/c.TXT", "README", "t.base", "x.csv"] {
        assert_eq!(kind(path), Some(MergeKind::Lines), "{path}");
    }
    assert_eq!(kind(".obsidian/app.json"), Some(MergeKind::Keys));
    for path in ["a.canvas", "data.JSON", "d.excalidraw.md", "i.svg", ".obsidian/themes/T/theme.css"] {
        assert_eq!(kind(path), None, "{path}");
    }
}

/// Texts of few lines of few kinds with any line ends, so that most of them have lines in common.
fn any_text() -> impl Strategy<Value = String> {
    let line = prop_oneof!["[a-e]?", "[a-e]\r?"];
    let end = prop_oneof![4 => Just("\n"), 2 => Just("\r\n")];
    let lines = (proptest::collection::vec(line, 0..12), end, "(\u{feff})?", any::<bool>());
    lines.prop_map(|(lines, end, mark, ended)| {
        format!("{mark}{}{}", lines.join(end), if ended { end } else { "" })
    })
}

/// A text, and two that were made from it by edits of some lines.
fn edited_text() -> impl Strategy<Value = [String; 3]> {
    let edit = (0_usize..12, 0_usize..4, "[A-Z]");
    let edits = || proptest::collection::vec(edit.clone(), 0..4);
    (proptest::collection::vec("[a-e]{1,2}", 0..14), edits(), edits()).prop_map(|(lines, ours, theirs)| {
        let apply = |edits: Vec<(usize, usize, String)>| {
            let mut lines = lines.clone();
            for (at, what, text) in edits {
                let at = at.min(lines.len());
                match what {
                    0 => lines.insert(at, text),
                    1 if at < lines.len() => drop(lines.remove(at)),
                    _ if at < lines.len() => lines[at] = text,
                    _ => {}
                }
            }
            lines.join("\n") + "\n"
        };
        [lines.join("\n") + "\n", apply(ours), apply(theirs)]
    })
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        "[a-c]".prop_map(Value::from),
        Just(Value::Null),
        proptest::collection::vec("[a-d]", 0..4).prop_map(Value::from),
    ];
    let inner = leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-c]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    });
    proptest::collection::btree_map("[a-d]", inner, 0..5)
        .prop_map(|map: BTreeMap<String, Value>| serde_json::to_string_pretty(&map).unwrap())
}

fn one_sided(kind: MergeKind, base: &str, text: &str) -> Result<(), TestCaseError> {
    prop_assert_eq!(merged(kind, base, text, text).unwrap(), text);
    prop_assert_eq!(merged(kind, base, base, text).unwrap(), text);
    prop_assert_eq!(merged(kind, base, text, base).unwrap(), text);
    Ok(())
}

fn again(kind: MergeKind, base: &str, local: &str, remote: &str) -> Result<(), TestCaseError> {
    if let Ok(once) = merged(kind, base, local, remote) {
        prop_assert_eq!(merged(kind, base, &once, remote), Ok(once.clone()));
        prop_assert_eq!(merged(kind, base, local, &once), Ok(once.clone()));
    }
    Ok(())
}

/// Number of times that each line occurs, without line ends.
fn counted(text: &str) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for line in text.trim_start_matches('\u{feff}').lines() {
        *counts.entry(line.trim_end_matches('\r')).or_default() += 1;
    }
    counts
}

fn symmetric_and_complete(base: &str, local: &str, remote: &str) -> Result<(), TestCaseError> {
    let result = lines(base, local, remote);
    prop_assert_eq!(&result, &lines(base, remote, local));
    let Ok(result) = result else { return Ok(()) };
    let [base, local, remote, result] = [base, local, remote, &result].map(counted);
    let count = |text: &BTreeMap<&str, usize>, line: &str| text.get(line).copied().unwrap_or_default();
    for line in local.keys().chain(remote.keys()).chain(base.keys()).chain(result.keys()) {
        let [before, ours, theirs, after] = [&base, &local, &remote, &result].map(|text| count(text, line));
        // Lines that a side added are there, and lines that both kept; no others.
        prop_assert!(after >= ours.max(theirs).saturating_sub(before), "{line:?}");
        let removed = before.saturating_sub(ours) + before.saturating_sub(theirs);
        prop_assert!(after >= before.saturating_sub(removed), "{line:?}");
        prop_assert!(after <= ours + theirs, "{line:?}");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_one_side_alone_changed_is_the_result(base in any_text(), text in any_text()) {
        one_sided(MergeKind::Lines, &base, &text)?;
    }

    #[test]
    fn merging_lines_again_changes_nothing(base in any_text(), local in any_text(), remote in any_text()) {
        again(MergeKind::Lines, &base, &local, &remote)?;
    }

    #[test]
    fn merging_edits_again_changes_nothing([base, local, remote] in edited_text()) {
        again(MergeKind::Lines, &base, &local, &remote)?;
    }

    #[test]
    fn lines_do_not_depend_on_the_side_and_none_is_lost([base, local, remote] in edited_text()) {
        symmetric_and_complete(&base, &local, &remote)?;
    }

    #[test]
    fn texts_do_not_depend_on_the_side(base in any_text(), local in any_text(), remote in any_text()) {
        prop_assert_eq!(lines(&base, &local, &remote), lines(&base, &remote, &local));
    }

    #[test]
    fn configuration_that_one_side_alone_changed_is_the_result(base in any_json(), text in any_json()) {
        one_sided(MergeKind::Keys, &base, &text)?;
    }

    #[test]
    fn merging_keys_again_changes_nothing(base in any_json(), local in any_json(), remote in any_json()) {
        prop_assert!(keys(&base, &local, &remote).is_ok());
        again(MergeKind::Keys, &base, &local, &remote)?;
    }
}

#[test]
fn most_edits_of_different_places_are_merged() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut merged, mut tried) = (0, 0);
    for _ in 0..2000 {
        let [base, local, remote] = edited_text().new_tree(&mut runner).unwrap().current();
        if local != base && remote != base && local != remote {
            tried += 1;
            merged += u32::from(lines(&base, &local, &remote).is_ok());
        }
    }
    println!("{merged} of {tried} merged");
    assert!(merged * 4 > tried, "{merged} of {tried} merged");
}
