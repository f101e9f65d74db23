//! `obsync-dev bench`: measures pulls on this machine, compared with lower bounds of their cost.
//!
//! [`catalog`] has the scenarios, [`vaults`] creates their vaults, [`stage`] starts their services and pulls,
//! [`measuring`] goes through their steps, [`floor`] and [`bare_puts`] measure the lower bounds, [`aims`] has
//! the project's targets, [`row`] and [`table`] format everything, [`machine`] describes the machine.

mod aims;
mod bare_puts;
mod catalog;
mod floor;
mod machine;
mod measuring;
mod row;
mod stage;
mod table;
mod vaults;

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use tempfile::TempDir;

use crate::args::BenchOptions;
use crate::console::{note, say};
use machine::Machine;
use measuring::Programs;
use row::Row;

/// The measurements and their machine.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    /// Number of measurements of each figure; the medians are reported.
    runs: u32,
    rows: Vec<Row>,
}

/// Measures, and prints the table or JSON.
///
/// # Errors
/// When a scenario is unknown, a pull fails, or its result differs from the vault.
pub(crate) async fn run(options: &BenchOptions) -> Result<()> {
    if options.list {
        say(&catalog::list());
        return Ok(());
    }
    let scenarios = catalog::chosen(options)?;
    let machine = Machine::describe(folder(options)?.path());
    note(&machine.to_string());
    let programs = Programs { measured: program(&options.obsync)?, against: program(&options.against)? };
    let mut rows = Vec::new();
    for scenario in &scenarios {
        note(&format!("{}: {scenario} ...", scenario.name));
        let measured = measuring::measure(scenario, folder(options)?, options.runs, programs.clone()).await;
        rows.extend(measured.with_context(|| format!("{} cannot be measured", scenario.name))?);
    }
    let results = Results { machine, runs: options.runs, rows };
    say(&if options.json {
        serde_json::to_string_pretty(&results)?
    } else {
        table::of(&results.rows, results.runs)
    });
    Ok(())
}

/// The file of a program, found from any working directory.
fn program(given: &Option<PathBuf>) -> Result<Option<PathBuf>> {
    let found = |path: &PathBuf| {
        path.canonicalize().with_context(|| format!("cannot measure the program {}", path.display()))
    };
    given.as_ref().map(found).transpose()
}

/// A folder on the file system to pull to.
fn folder(options: &BenchOptions) -> Result<TempDir> {
    let folder = match &options.dir {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    folder.context("cannot make a folder to pull to")
}
