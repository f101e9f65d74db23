//! A row of the table of docs/SERVICES.md.

use std::fmt;

/// The results of one service, cell by cell.
#[derive(Clone, Debug)]
pub(super) struct InteropRow {
    cells: Vec<String>,
}

impl InteropRow {
    pub(super) fn new(service: &str) -> Self {
        Self { cells: vec![service.to_owned()] }
    }

    /// Adds the next cell.
    pub(super) fn add(&mut self, cell: &str) {
        self.cells.push(cell.replace('|', "/"));
    }
}

impl fmt::Display for InteropRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "| {} |", self.cells.join(" | "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_line_of_a_table() {
        let mut row = InteropRow::new("a server 1.0");
        row.add("kept");
        row.add("one|two");
        assert_eq!(row.to_string(), "| a server 1.0 | kept | one/two |");
    }
}
