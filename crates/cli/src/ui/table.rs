//! Plain columns for a terminal.

/// Lines of columns two spaces apart; the columns in `right` are aligned to the right. No space ends a line.
///
/// Widths are counted in characters, so what may hold wide ones (names) belongs in the last column.
pub(crate) fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (text, width))| {
            if right.contains(&column) { format!("{text:>width$}") } else { format!("{text:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["ID", "SIZE", "NAME"], ["a1b2", "1.0 kB", "Journal"], ["é", "38.2 MB", "日本"]];
        let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(String::from).to_vec()).collect();
        assert_eq!(columns(&rows, &[1]), "ID       SIZE  NAME\na1b2   1.0 kB  Journal\né     38.2 MB  日本");
    }
}
