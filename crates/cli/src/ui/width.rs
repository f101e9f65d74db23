//! The width of a terminal.

use std::io;

use rustix::termios::tcgetwinsize;

/// How wide a terminal is taken to be that does not say; help and tables fit it.
pub(crate) const USUAL: usize = 80;

/// The columns of a terminal on standard output that is narrower than tables and help are made for.
pub(crate) fn narrow() -> Option<usize> {
    let columns = tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col))?;
    (1..USUAL).contains(&columns).then_some(columns)
}

/// The columns of standard error, one at least.
pub(crate) fn of_stderr() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { USUAL } else { columns }
}
