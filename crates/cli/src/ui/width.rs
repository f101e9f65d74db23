//! The width of a terminal.

use std::io;

use rustix::termios::tcgetwinsize;

/// The assumed width of a terminal of unknown width; help and tables fit it.
pub(crate) const USUAL: usize = 80;

/// The columns of a terminal on standard output, if it is narrower than tables and help.
pub(crate) fn narrow() -> Option<usize> {
    let columns = tcgetwinsize(io::stdout()).ok().map(|size| usize::from(size.ws_col))?;
    (1..USUAL).contains(&columns).then_some(columns)
}

/// The columns of standard error, one at least.
pub(crate) fn of_stderr() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { USUAL } else { columns }
}
