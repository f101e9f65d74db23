//! The results as a table for people.

use std::time::Duration;

use super::row::Row;
use crate::human;

const HEADER: [&str; 10] = [
    "scenario",
    "step",
    "wall",
    "processor",
    "peak memory",
    "conn.",
    "requests",
    "received",
    "to the cloud",
    "× floor",
];

/// Number of left-aligned columns; figures are right-aligned, except the last column.
const WORDS: usize = 2;

/// The rows under a header, then the targets, and a line that explains the lower bounds.
pub(super) fn of(rows: &[Row], runs: u32) -> String {
    let mut lines = vec![HEADER.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..HEADER.len())
        .map(|column| lines.iter().map(|line| width(&line[column])).max().unwrap_or(0))
        .collect();
    let mut text: Vec<String> = lines.iter().map(|line| aligned(line, &widths)).collect();
    text.extend(against(rows));
    text.extend(aims(rows));
    let measured = if runs == 1 { "Measured once.".to_owned() } else { format!("Medians of {runs} runs.") };
    text.push(format!(
        "\n{measured} The floors: copying the pulled files with the standard library (copy), and flushing that\n\
         copy once (durable copy); decrypting and hashing them on one processor (crypto); requests × round trip ÷\n\
         (requests in flight of four connections) (latency); requests × service time ÷ 10 connections (service); the round\n\
         trips before anything can be asked for (trips); bare PutObjects of the same bytes (puts)."
    ));
    text.join("\n")
}

fn cells(row: &Row) -> [String; 10] {
    let seconds = |seconds| human::seconds(Duration::from_secs_f64(seconds));
    let floors: Vec<String> = row
        .floors
        .iter()
        .map(|floor| format!("{:.2} ({} {})", floor.ratio, floor.kind.name(), seconds(floor.seconds)))
        .collect();
    [
        row.scenario.to_owned(),
        row.step.name().to_owned(),
        seconds(row.wall_seconds),
        seconds(row.cpu_seconds),
        human::size(row.peak_memory_bytes),
        human::number(row.connections),
        human::number(row.requests),
        human::size(row.bytes_received),
        human::number(row.cloud_requests),
        if floors.is_empty() { "-".to_owned() } else { floors.join(", ") },
    ]
}

fn aligned(cells: &[String; 10], widths: &[usize]) -> String {
    let mut line = String::new();
    for (column, (cell, wide)) in cells.iter().zip(widths).enumerate() {
        let padding = " ".repeat(wide.saturating_sub(width(cell)));
        match column {
            0 => line.extend([cell, padding.as_str()]),
            1..WORDS => line.extend(["  ", cell, padding.as_str()]),
            _ if column == cells.len() - 1 => line.extend(["  ", cell]),
            _ => line.extend(["  ", padding.as_str(), cell]),
        }
    }
    line.trim_end().to_owned()
}

fn width(cell: &str) -> usize {
    cell.chars().count()
}

/// Each row compared with the other program, if there was one.
fn against(rows: &[Row]) -> Vec<String> {
    let compared = rows.iter().filter_map(|row| Some((row, row.against?)));
    let lines = compared.map(|(row, other)| {
        let seconds = |seconds| human::seconds(Duration::from_secs_f64(seconds));
        format!(
            "  {}, {}: {:.2} × its time ({}), {:.2} × its processor time ({}), {:.2} × its memory ({})",
            row.scenario,
            row.step.name(),
            other.wall_ratio,
            seconds(other.wall_seconds),
            other.cpu_ratio,
            seconds(other.cpu_seconds),
            other.memory_ratio,
            human::size(other.peak_memory_bytes),
        )
    });
    let mut lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        lines.insert(0, "\nBeside the other program (medians over the pairs):".to_owned());
    }
    lines
}

/// The targets that are met, and those that are not.
fn aims(rows: &[Row]) -> Vec<String> {
    let findings = rows.iter().flat_map(|row| row.aims.iter().map(move |finding| (row, finding)));
    let lines = findings.map(|(row, finding)| {
        let verdict = if finding.holds { "holds " } else { "MISSED" };
        format!("  {verdict}  {}, {}: {}", row.scenario, row.step.name(), finding.what)
    });
    let mut lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        lines.insert(0, "\nWanted:".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::aims::Finding;
    use super::super::row::{Against, Floor, FloorKind, Step};
    use super::*;

    fn row(step: Step, floors: Vec<Floor>, aims: Vec<Finding>) -> Row {
        Row {
            scenario: "small-10k",
            step,
            what: "10,000 small files to a folder".to_owned(),
            round_trip_ms: 0,
            service_time_ms: 0,
            files: 10_000,
            bytes: 50_000_000,
            wall_seconds: 2.0,
            cpu_seconds: 2.5,
            peak_memory_bytes: 48_200_000,
            connections: 4,
            requests: 10_000,
            bytes_received: 50_280_000,
            cloud_requests: 0,
            floors,
            against: None,
            aims,
        }
    }

    #[test]
    fn columns_are_aligned_and_each_floor_stands_with_its_ratio() {
        let floor = Floor { kind: FloorKind::Copy, seconds: 0.8, ratio: 2.5 };
        let aim = Finding { what: "at most 2.00 × copy: 2.50".to_owned(), holds: false };
        let text =
            of(&[row(Step::First, vec![floor], vec![aim]), row(Step::Again, Vec::new(), Vec::new())], 3);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].ends_with("2.50 (copy 0.800 s)"), "{text}");
        assert!(lines[2].ends_with("  -"), "{text}");
        let place =
            |line: &str, what: &str| line.chars().count() - line.split(what).last().unwrap().chars().count();
        assert_eq!(place(lines[0], "to the cloud"), place(lines[2], "  0"), "{text}");
        assert!(text.contains("MISSED  small-10k, first pull: at most 2.00 × copy: 2.50"), "{text}");
        assert!(text.contains("Medians of 3 runs."), "{text}");
    }

    #[test]
    fn the_other_program_stands_with_its_ratios() {
        let against = Against {
            wall_seconds: 2.5,
            cpu_seconds: 2.5,
            peak_memory_bytes: 50_000_000,
            wall_ratio: 0.8,
            cpu_ratio: 1.0,
            memory_ratio: 0.96,
        };
        let text = of(&[Row { against: Some(against), ..row(Step::First, Vec::new(), Vec::new()) }], 3);
        let line = "small-10k, first pull: 0.80 × its time (2.50 s), 1.00 × its processor time (2.50 s)";
        assert!(text.contains(line), "{text}");
    }
}
