//! The width of a terminal.

use std::io;

use rustix::termios::tcgetwinsize;

/// How wide a terminal is taken to be that does not say.
const USUAL: usize = 80;

/// The columns of standard error, one at least.
pub(crate) fn of_stderr() -> usize {
    let columns = tcgetwinsize(io::stderr()).map_or(0, |size| usize::from(size.ws_col));
    if columns == 0 { USUAL } else { columns }
}
