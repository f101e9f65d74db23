//! The results as a table for people.

use std::time::Duration;

use super::scenario::Row;
use crate::human;

const HEADER: [&str; 10] =
    ["", "wall", "processor", "peak memory", "conn.", "requests", "received", "copy", "crypto", "× floor"];

/// The rows under a header, with a line that explains the last columns.
pub(super) fn of(rows: &[Row], runs: u32) -> String {
    let mut lines = vec![HEADER.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|column| lines.iter().map(|line| width(&line[column])).max().unwrap_or(0))
        .collect();
    let mut text: Vec<String> = lines.iter().map(|line| aligned(line, &widths)).collect();
    text.extend(rows.iter().filter(|row| row.requests > 0).map(rate));
    let measured = if runs == 1 { "Measured once.".to_owned() } else { format!("Medians of {runs} runs.") };
    text.push(format!(
        "{measured} The floor is copying the pulled files with the standard library (copy), and decrypting and\n\
         hashing them on one processor (crypto), one after the other."
    ));
    text.join("\n")
}

fn cells(row: &Row) -> [String; 10] {
    let seconds = |seconds| human::seconds(Duration::from_secs_f64(seconds));
    let of_floor = |part: Option<String>| part.unwrap_or_else(|| "-".to_owned());
    [
        row.scenario.clone(),
        seconds(row.wall_seconds),
        seconds(row.cpu_seconds),
        human::size(row.peak_memory_bytes),
        human::number(row.connections),
        human::number(row.requests),
        human::size(row.bytes_received),
        of_floor(row.floor.map(|floor| seconds(floor.copy_seconds))),
        of_floor(row.floor.map(|floor| seconds(floor.crypto_seconds))),
        of_floor(row.floor.map(|floor| format!("{:.1}", row.wall_seconds / floor.total()))),
    ]
}

/// The first column to the left, figures to the right.
fn aligned(cells: &[String; 10], widths: &[usize]) -> String {
    let mut line = String::new();
    for (column, (cell, wide)) in cells.iter().zip(widths).enumerate() {
        let padding = " ".repeat(wide.saturating_sub(width(cell)));
        match column {
            0 => line.extend([cell, padding.as_str()]),
            _ => line.extend(["  ", padding.as_str(), cell]),
        }
    }
    line.trim_end().to_owned()
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// How fast a first pull was.
fn rate(row: &Row) -> String {
    let time = Duration::from_secs_f64(row.wall_seconds);
    let bytes = (row.bytes as f64 / row.wall_seconds.max(f64::MIN_POSITIVE)) as u64;
    let files = match row.files {
        1 => String::new(),
        files => format!("{} files/s, ", human::per_second(files, time)),
    };
    format!("{}: {files}{}/s", row.scenario, human::size(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::floor::Floor;
    use super::*;

    fn row(scenario: &str, requests: u64, floor: Option<Floor>) -> Row {
        Row {
            scenario: scenario.to_owned(),
            files: 10_000,
            bytes: 50_000_000,
            wall_seconds: 2.0,
            cpu_seconds: 2.5,
            peak_memory_bytes: 48_200_000,
            connections: 4,
            requests,
            bytes_received: 50_280_000,
            floor,
        }
    }

    #[test]
    fn columns_are_aligned_and_the_ratio_is_of_wall_time_to_both_parts_of_the_floor() {
        let floor = Floor { copy_seconds: 0.6, crypto_seconds: 0.2 };
        let text = of(&[row("first pull", 10_000, Some(floor)), row("again", 0, None)], 3);
        let lines: Vec<&str> = text.lines().collect();
        let widths: Vec<usize> = lines[..3].iter().map(|line| line.chars().count()).collect();
        assert_eq!(widths, [widths[0]; 3], "{text}");
        assert!(lines[1].ends_with("2.5"), "{text}");
        assert!(lines[2].ends_with('-'), "{text}");
        assert!(text.contains("first pull: 5,000 files/s, 25.0 MB/s"), "{text}");
        assert!(text.contains("Medians of 3 runs."), "{text}");
    }
}
