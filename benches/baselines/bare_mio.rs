//! A bare mio loop: what ours would be without limits, deadlines, fairness, logs and an orderly end.

use std::io::{self, ErrorKind, Read, Write};
use std::net;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

pub(crate) const NAME: &str = "bare mio";
const LISTENER: Token = Token(usize::MAX - 1);

struct Client {
    stream: TcpStream,
    /// Bytes that the kernel did not take. Without them the loop would lose bytes, and a wrong server is not fast.
    unsent: Vec<u8>,
}

pub(crate) fn serve(listener: net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut clients: Slab<Client> = Slab::new();
    let mut buffer = vec![0; 64 * 1024];
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let entry = clients.vacant_entry();
                    let interest = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut stream, Token(entry.key()), interest)?;
                    entry.insert(Client { stream, unsent: Vec::new() });
                }
                continue;
            }
            let key = event.token().0;
            let Some(client) = clients.get_mut(key) else { continue };
            let to_the_end = event.is_read_closed() || event.is_error();
            if !client.echo(&mut buffer, to_the_end) {
                clients.remove(key);
            }
        }
    }
}

impl Client {
    /// False when it is over.
    fn echo(&mut self, buffer: &mut [u8], to_the_end: bool) -> bool {
        loop {
            while !self.unsent.is_empty() {
                match self.stream.write(&self.unsent) {
                    Ok(taken) => drop(self.unsent.drain(..taken)),
                    Err(error) => return error.kind() == ErrorKind::WouldBlock,
                }
            }
            match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => {
                    match self.stream.write(&buffer[..count]) {
                        Ok(taken) => self.unsent.extend_from_slice(&buffer[taken..count]),
                        Err(error) if error.kind() == ErrorKind::WouldBlock => {
                            self.unsent.extend_from_slice(&buffer[..count]);
                        }
                        Err(_) => return false,
                    }
                    if count < buffer.len() && !to_the_end && self.unsent.is_empty() {
                        return true;
                    }
                }
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            }
        }
    }
}
