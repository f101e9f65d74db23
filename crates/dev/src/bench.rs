//! `obsync-dev bench`: what pulls take on this machine, beside what is the least that they could take.
//!
//! [`catalog`] has the scenarios, [`vaults`] makes their vaults, [`stage`] starts what they need and pulls, [`measuring`]
//! goes through their steps, [`floor`] and [`bare_puts`] measure the least, [`aims`] has what is wanted, [`row`] and
//! [`table`] show it all, [`machine`] says where it was.

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

/// What was measured, and where.
#[derive(Debug, Serialize)]
struct Results {
    machine: Machine,
    /// How often each figure was measured; the medians are given.
    runs: u32,
    rows: Vec<Row>,
}

/// Measures, and prints the table or JSON.
///
/// # Errors
/// When there is no such scenario, a pull fails, or what it brought is not what the vault holds.
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

/// The file of a program, from wherever it is run.
fn program(given: &Option<PathBuf>) -> Result<Option<PathBuf>> {
    let found = |path: &PathBuf| {
        path.canonicalize().with_context(|| format!("cannot measure the program {}", path.display()))
    };
    given.as_ref().map(found).transpose()
}

/// A folder on the file system that is to be pulled to.
fn folder(options: &BenchOptions) -> Result<TempDir> {
    let folder = match &options.dir {
        Some(folder) => tempfile::tempdir_in(folder),
        None => tempfile::tempdir(),
    };
    folder.context("cannot make a folder to pull to")
}
