//! What the commands do that are more than a call of the library. A file a command.

mod compare;
mod live;
mod load;

use std::io::{self, Write};

pub(crate) use self::compare::compare;
pub(crate) use self::load::load;

/// Results go to standard output. If nobody reads them there is nobody to tell, and that is no failure; a full disk is.
fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
