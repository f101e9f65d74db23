//! Output for people and scripts: the console, questions, progress, reports, names and numbers as text.

pub(crate) mod ask;
pub(crate) mod console;
pub mod human;
pub(crate) mod listing;
pub(crate) mod logging;
pub(crate) mod progress;
mod progress_line;
pub(crate) mod pull_report;
mod rate;
pub(crate) mod shell;
pub(crate) mod table;
pub(crate) mod width;
pub(crate) mod wrap;
