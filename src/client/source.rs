//! The sources that a client has in the reactor: its socket, and standard input.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::Errno;

use super::input::{Input, Taken};
use super::outcome::ClientError;
use crate::net::{ConnectedDatagramSocket, Connection, Socket};
use crate::reactor::{Context, Interest, Stage, Token};

/// Steps of a conversation between two polls: enough to make the poll cheap in comparison.
pub(super) const STEPS_PER_TURN: usize = 16;

/// A slot of the reactor.
pub(super) enum Source {
    Socket(Connection<Socket>),
    Datagrams(ConnectedDatagramSocket),
    Input(Input),
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Socket(connection) => connection.transport().as_fd(),
            Source::Datagrams(socket) => socket.as_fd(),
            Source::Input(input) => input.as_fd(),
        }
    }
}

/// The connection that a token names.
pub(super) fn socket(context: &mut Context<Source>, token: Token) -> Option<&mut Connection<Socket>> {
    match context.get_mut(token) {
        Some(Source::Socket(connection)) => Some(connection),
        _ => None,
    }
}

/// Takes standard input into the loop.
pub(super) fn insert_input(context: &mut Context<Source>) -> Result<Token, ClientError> {
    match context.insert(Source::Input(Input::open(true)?), Interest::READABLE, Stage::Connections) {
        // A regular file.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::PERM) => {
            let input = Source::Input(Input::open(false)?);
            context.insert_unpolled(input, Stage::Connections).map_err(ClientError::Input)
        }
        inserted => inserted.map_err(ClientError::Input),
    }
}

/// Reads standard input, if anything is there.
pub(super) fn take_input(context: &mut Context<Source>, token: Token) -> Result<Taken, ClientError> {
    let Some(Source::Input(input)) = context.get_mut(token) else { return Ok(Taken::End) };
    let (taken, again) = input.read()?;
    if again {
        context.reregister(token, Interest::READABLE).map_err(ClientError::Input)?;
    }
    Ok(taken)
}
