//! The project's targets for its figures, as far as a ratio or a size expresses them, and whether they are
//! met.

use serde::Serialize;

use super::catalog::{Content, Destination, Scenario};
use super::row::{FloorKind, Row, Step};
use crate::human;

/// A target, and whether it is met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The target and the actual figure.
    pub(super) what: String,
    pub(super) holds: bool,
}

/// Number of small files from which on their number dominates a pull, not its start.
const MANY: usize = 10_000;

/// The findings on a row. Heavily scaled-down vaults are too small for most.
pub(super) fn of(scenario: &Scenario, row: &Row) -> Vec<Finding> {
    let mut findings = Vec::new();
    let is_local = scenario.destination == Destination::Folder;
    let is_near = scenario.is_near();
    if row.step == Step::First && !scenario.service_time.is_zero() {
        findings.extend(at_most(row, FloorKind::Service, 1.3));
    }
    match (row.step, scenario.content) {
        (Step::First, Content::Small(files)) if files >= MANY => {
            match (is_local, is_near) {
                (true, true) => findings.extend(at_most(row, FloorKind::Copy, 2.5)),
                (true, false) => findings.extend(at_most(row, FloorKind::Latency, 1.0 / 0.7)),
                (false, _) => findings.extend(at_most(row, FloorKind::Puts, 3.0)),
            }
            findings.push(memory(row, 150_000_000));
        }
        (Step::First, Content::Large(..)) if is_local => {
            findings.extend(at_most(row, FloorKind::Crypto, 1.0 / 0.6));
            findings.push(memory(row, 64_000_000));
        }
        (Step::Again, Content::Small(files)) if files >= MANY => findings.push(soon(row)),
        (Step::Renamed, _) => findings.push(Finding {
            what: format!("no content downloaded: {} requests", human::number(row.requests)),
            holds: row.requests == 0,
        }),
        _ => {}
    }
    findings
}

fn at_most(row: &Row, kind: FloorKind, most: f64) -> Option<Finding> {
    let floor = row.floors.iter().find(|floor| floor.kind == kind)?;
    Some(Finding {
        what: format!("at most {most:.2} × {}: {:.2}", kind.name(), floor.ratio),
        holds: floor.ratio <= most,
    })
}

fn memory(row: &Row, most: u64) -> Finding {
    Finding {
        what: format!("under {}: {}", human::size(most), human::size(row.peak_memory_bytes)),
        holds: row.peak_memory_bytes < most,
    }
}

/// A pull without changes is quick, apart from the round trips.
fn soon(row: &Row) -> Finding {
    const MOST: f64 = 0.150;
    let trips = row.floors.iter().find(|floor| floor.kind == FloorKind::Trips);
    let took = row.wall_seconds - trips.map_or(0.0, |floor| floor.seconds);
    Finding { what: format!("under {MOST:.3} s beside the round trips: {took:.3} s"), holds: took < MOST }
}
