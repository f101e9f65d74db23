//! Destinations and their states, in files and tables.

pub(crate) mod aws;
pub(crate) mod destination;
pub(crate) mod disks;
pub(crate) mod followed;
pub(crate) mod known;
pub(crate) mod objects;
pub(crate) mod state_place;
pub(crate) mod state_row;
pub(crate) mod states;
