//! Lists of paths that do not flood a terminal.

use obsync_protocol::shown_name;

use crate::ui::human;

/// Most paths of one kind listed before "and N more".
const MAX_NAMED: usize = 30;

/// Adds a line for each of `paths` to `lines`, indented and safe to print; beyond the limit only the number
/// of further ones.
pub(crate) fn named(paths: impl ExactSizeIterator<Item = String>, lines: &mut Vec<String>) {
    let all = paths.len() as u64;
    named_of(all, paths, lines);
}

/// The same for the first of `all` paths, if a report does not have every one.
pub(crate) fn named_of(all: u64, paths: impl ExactSizeIterator<Item = String>, lines: &mut Vec<String>) {
    let known = paths.len() as u64;
    let more = all.saturating_sub(known.min(MAX_NAMED as u64));
    lines.extend(paths.take(MAX_NAMED).map(|path| format!("  {}", shown_name(&path))));
    if more > 0 {
        let which = match known < all {
            true => format!("the first {}", human::number(known)),
            false => "them all".to_owned(),
        };
        lines.push(format!("  and {} more (--json names {which})", human::number(more)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_paths_are_summed_up() {
        let mut lines = Vec::new();
        named((0..2).map(|number| format!("{number}.md")), &mut lines);
        assert_eq!(lines, ["  0.md", "  1.md"]);
        lines.clear();
        named((0..2030).map(|number| format!("{number}.md")), &mut lines);
        assert_eq!(lines.len(), 31);
        assert_eq!(lines[30], "  and 2,000 more (--json names them all)");
        lines.clear();
        named_of(2030, (0..1000).map(|number| format!("{number}.md")), &mut lines);
        assert_eq!(lines[30], "  and 2,000 more (--json names the first 1,000)");
    }
}
