//! The stores, used as the engine uses them, on real folders and files.

#![expect(clippy::unwrap_used, reason = "in tests, helper functions included, a failure is told by a panic")]

mod confined;
mod conformance;
mod database;
mod destination;
mod folder;
mod folder_held;
mod folder_limits;
mod folder_links;
mod folder_model;
mod folder_others;
mod folder_staging;
mod sqlite;
mod sqlite_catalog;
mod sqlite_damage;
mod sqlite_model;
