//! The scenarios of the benchmark by name, each a vault, a destination and a round trip.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::args::BenchOptions;
use crate::human;

/// The contents of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// This many notes: half of them shorter than 2 KiB, none longer than 64 KiB.
    Small(usize),
    /// This many files of this many MB (10^6 bytes) each.
    Large(usize, u64),
    /// This many notes with pictures and recordings among them.
    Mix(usize),
}

/// The destination of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// A folder of this machine.
    Folder,
    /// A bucket of the loopback cloud.
    Bucket,
    /// The same, with the state in a table of DynamoDB.
    BucketAndTable,
}

/// A vault that is pulled for the first time, again without changes, and after changes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) content: Content,
    pub(super) destination: Destination,
    /// Delay from a message to its answer at the server (and the cloud, over the same line).
    pub(super) round_trip: Duration,
    /// The server's time for each request; those of one connection are sequential.
    pub(super) service_time: Duration,
    /// Only with `--full`, or when it is requested by name: it takes minutes, or gigabytes.
    is_full: bool,
}

use Content::{Large, Mix, Small};
use Destination::{Bucket, BucketAndTable, Folder};

/// Every scenario, in the order in which they are measured.
const ALL: [Scenario; 15] = [
    usual("small-1k", Small(1_000), Folder, 0),
    usual("small-10k", Small(10_000), Folder, 0),
    full("small-100k", Small(100_000), Folder, 0),
    usual("large-200mb", Large(4, 50), Folder, 0),
    full("large-1gb", Large(20, 50), Folder, 0),
    usual("mix", Mix(1_000), Folder, 0),
    usual("rtt20-10k", Small(10_000), Folder, 20),
    usual("rtt100-1k", Small(1_000), Folder, 100),
    serial("serial20-2k", Small(2_000), 20),
    full("rtt100-10k", Small(10_000), Folder, 100),
    usual("s3-10k", Small(10_000), Bucket, 0),
    usual("s3-200mb", Large(4, 50), Bucket, 0),
    full("s3-1gb", Large(20, 50), Bucket, 0),
    full("s3-rtt20-10k", Small(10_000), Bucket, 20),
    full("dynamodb-rtt20-10k", Small(10_000), BucketAndTable, 20),
];

const fn usual(
    name: &'static str,
    content: Content,
    destination: Destination,
    round_trip_ms: u64,
) -> Scenario {
    Scenario {
        name,
        content,
        destination,
        round_trip: Duration::from_millis(round_trip_ms),
        service_time: Duration::ZERO,
        is_full: false,
    }
}

/// To a folder, from a server that answers the requests of a connection one after another.
const fn serial(name: &'static str, content: Content, service_time_ms: u64) -> Scenario {
    Scenario { service_time: Duration::from_millis(service_time_ms), ..usual(name, content, Folder, 0) }
}

const fn full(
    name: &'static str,
    content: Content,
    destination: Destination,
    round_trip_ms: u64,
) -> Scenario {
    Scenario { is_full: true, ..usual(name, content, destination, round_trip_ms) }
}

/// The requested scenarios, their vaults scaled.
///
/// # Errors
/// When a name is unknown.
pub(super) fn chosen(options: &BenchOptions) -> Result<Vec<Scenario>> {
    for name in &options.only {
        ensure!(
            ALL.iter().any(|scenario| scenario.name == name),
            "there is no scenario {name:?}; `obsync-dev bench --list` lists those that there are"
        );
    }
    let is_chosen = |scenario: &&Scenario| match options.only.is_empty() {
        true => options.full || !scenario.is_full,
        false => options.only.iter().any(|name| name == scenario.name),
    };
    Ok(ALL.iter().filter(is_chosen).map(|scenario| scenario.scaled(options.scale)).collect())
}

/// All scenarios with a description, a line each.
pub(super) fn list() -> String {
    let lines = ALL.map(|scenario| {
        let full = if scenario.is_full { " (--full)" } else { "" };
        format!("{:<18}  {scenario}{full}", scenario.name)
    });
    lines.join("\n")
}

impl Scenario {
    fn scaled(self, factor: f64) -> Self {
        let files = |count: usize| ((count as f64 * factor) as usize).max(1);
        let content = match self.content {
            Small(count) => Small(files(count)),
            Mix(count) => Mix(files(count)),
            Large(count, megabytes) => Large(count, ((megabytes as f64 * factor) as u64).max(1)),
        };
        Self { content, ..self }
    }

    /// True if neither line nor server cause waits.
    pub(super) fn is_near(&self) -> bool {
        self.round_trip.is_zero() && self.service_time.is_zero()
    }

    /// True if the number of entries dominates, not the number of bytes.
    pub(super) fn is_of_small_files(&self) -> bool {
        matches!(self.content, Small(_))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Small(files) => write!(formatter, "{} small files", human::number(files as u64)),
            Large(files, megabytes) => write!(formatter, "{files} files of {megabytes} MB"),
            Mix(files) => write!(formatter, "{} notes, pictures and recordings", human::number(files as u64)),
        }?;
        formatter.write_str(match self.destination {
            Folder => " to a folder",
            Bucket => " to S3",
            BucketAndTable => " to S3, state in DynamoDB",
        })?;
        match self.round_trip.as_millis() {
            0 => {}
            milliseconds => write!(formatter, ", round trip {milliseconds} ms")?,
        }
        match self.service_time.as_millis() {
            0 => Ok(()),
            milliseconds => write!(formatter, ", {milliseconds} ms for each request of a connection"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn options(only: &[&str], full: bool) -> BenchOptions {
        let only = only.iter().map(|name| (*name).to_owned()).collect();
        BenchOptions {
            only,
            list: false,
            full,
            scale: 0.5,
            runs: 1,
            obsync: None,
            against: None,
            dir: None,
            json: false,
        }
    }

    #[test]
    fn scenarios_have_names_of_their_own_and_are_chosen_by_them() {
        let names: BTreeSet<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), ALL.len());
        let one = chosen(&options(&["large-1gb"], false)).unwrap();
        assert_eq!(one.iter().map(|scenario| scenario.content).collect::<Vec<_>>(), [Large(20, 25)]);
        assert!(chosen(&options(&["nonsense"], false)).is_err());
    }

    #[test]
    fn what_takes_long_is_left_out_unless_asked_for() {
        let count = |full| chosen(&options(&[], full)).unwrap().len();
        assert!(count(false) < ALL.len());
        assert_eq!(count(true), ALL.len());
    }
}
