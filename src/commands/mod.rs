//! What the commands do with what they were told. A file a command.

mod compare;
mod doctor;
mod generated;
mod live;
mod load;
mod send;
mod serve;
mod service_manager;

use std::io::{self, Write};

pub(crate) use self::compare::compare;
pub(crate) use self::doctor::doctor;
pub(crate) use self::generated::{completions, man};
pub(crate) use self::load::load;
pub(crate) use self::send::send;
pub(crate) use self::serve::serve;

/// Results go to standard output. If nobody reads them there is nobody to tell, and that is no failure; a full disk is.
fn print(text: &str) -> io::Result<()> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}
