//! Plain columns for a terminal.

use unicode_width::UnicodeWidthStr;

/// Lines of columns two spaces apart; the columns in `right` are aligned to the right. No line ends with a
/// space.
///
/// A first cell wider than `widest_first` has its own line, before the rest of its row.
pub(crate) fn columns(rows: &[Vec<String>], right: &[usize], widest_first: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let widths = rows.iter().filter_map(|row| row.get(column)).map(|text| text.width());
        widths.filter(|width| column > 0 || *width <= widest_first).max()
    };
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let mut lines = Vec::new();
    for row in rows {
        let has_line = row.first().is_some_and(|first| first.width() > widest_first);
        if has_line {
            lines.extend(row.first().cloned());
        }
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (text, width))| {
            let text = if has_line && column == 0 { "" } else { text };
            let space = " ".repeat(width - text.width());
            if right.contains(&column) { format!("{space}{text}") } else { format!("{text}{space}") }
        });
        lines.push(padded.collect::<Vec<_>>().join("  ").trim_end().to_owned());
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows<const N: usize>(rows: &[[&str; N]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.map(String::from).to_vec()).collect()
    }

    #[test]
    fn columns_are_aligned_also_after_wide_characters() {
        let rows = rows(&[["NAME", "SIZE", "ID"], ["日本", "1.0 kB", "a1b2"], ["é", "38.2 MB", "c3"]]);
        assert_eq!(columns(&rows, &[1], 80), "NAME     SIZE  ID\n日本   1.0 kB  a1b2\né     38.2 MB  c3");
    }

    #[test]
    fn a_long_name_has_a_line_for_itself() {
        let rows = rows(&[["NAME", "ID"], ["a long name", "a1b2"], ["short", "c3"]]);
        assert_eq!(columns(&rows, &[], 8), "NAME   ID\na long name\n       a1b2\nshort  c3");
    }
}
