//! How wide a terminal is.

use std::io;
use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// How wide a terminal is taken to be that does not say, and what is no terminal.
const USUAL: usize = 80;

/// The columns of standard error, one at least.
pub(crate) fn of_stderr() -> usize {
    of(io::stderr())
}

/// The columns of standard output, one at least.
pub(crate) fn of_stdout() -> usize {
    of(io::stdout())
}

fn of(stream: impl AsFd) -> usize {
    let columns = tcgetwinsize(stream).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { USUAL } else { columns }
}
