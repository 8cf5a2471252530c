//! The admin endpoint: its listeners, and the places for its scrapers.
//!
//! There are few places, so that scrapers can't take the echo's descriptors or time. A scraper that has asked nothing
//! yet holds its place for nothing, so the oldest such scraper gives way to a newcomer. The endpoint reads a newcomer
//! at once, since under a storm its request arrives while it waits in the backlog. So silent clients, however many,
//! can't keep a probe from its answer.

use std::time::Duration;

use super::http::LONGEST_HEAD;
use super::scraper::Scraper;
use crate::net::{
    Accept, BoundSocket, CONNECTION_INTEREST, Endpoint, Limits, Listener, ListenerOptions, Next, Workspace,
};
use crate::reactor::{Context, Readiness, Stage, Token};
use crate::server::endpoints::{self, Bound};
use crate::server::error::Error;
use crate::server::options::ServerOptions;
use crate::server::source::Source;
use crate::server::vitals::Vitals;
use crate::system::describe;

/// Connections at a time. One monitor needs one, and a person who looks needs another.
const MOST_SCRAPERS: usize = 16;
/// The most scrapers that the endpoint takes in a turn: a storm of them must not keep the echo waiting.
const SCRAPERS_PER_TURN: usize = 16;
/// The time for a whole exchange. The endpoint cuts off a scraper that has not asked, read and ended by then.
const EXCHANGE: Duration = Duration::from_secs(10);
/// The bounds of these connections. The service stages a response whole; it is far smaller than the write limit.
const LIMITS: Limits = Limits { read_size: LONGEST_HEAD, write_limit: 64 * 1024, turn_budget: 64 * 1024 };
/// Room for a storm: a probe behind it has to wait, but not to try again.
const BACKLOG: u16 = 1024;
/// Scrapers have reserved descriptors. If there is none all the same, since somebody lowered the limit, try again after
/// this time.
const RETRY: Duration = Duration::from_millis(100);

/// The connections of the admin endpoint.
pub(crate) struct AdminEndpoint {
    /// A workspace of its own, so that the echo's settings don't bind it and its bytes don't count as the echo's.
    workspace: Workspace,
    /// The most scrapers at a time.
    places: usize,
    /// The scrapers, the oldest first.
    scrapers: Vec<Token>,
    /// Scrapers that closed in this turn. Their descriptors close at its end.
    freed: usize,
}

impl AdminEndpoint {
    pub(crate) fn new(places: usize) -> AdminEndpoint {
        AdminEndpoint { workspace: Workspace::new(LIMITS), places, scrapers: Vec::new(), freed: 0 }
    }

    /// Takes scrapers in. When there is no place left, one scraper gives way in each turn. Its descriptor is free in
    /// the next turn, which goes on.
    pub(crate) fn accept(&mut self, context: &mut Context<Source>, token: Token, vitals: &mut Vitals<'_>) {
        let now = context.now();
        for _ in 0..SCRAPERS_PER_TURN {
            let Some(Source::AdminListener(listener)) = context.get_mut(token) else { return };
            if self.is_full() {
                if listener.has_waiting() {
                    self.make_place(context);
                    context.run_again(token);
                }
                return;
            }
            let scraper = match listener.accept() {
                Accept::Connection(socket, peer) => Scraper::new(socket, peer, now),
                Accept::Drained => return,
                Accept::Failed(_, error) => {
                    log::debug!("admin: cannot accept, and tries again in {RETRY:?}: {}", describe(&error));
                    return context.set_deadline(token, now + RETRY);
                }
            };
            let source = Source::Scraper(Box::new(scraper));
            match context.insert(source, CONNECTION_INTEREST, Stage::Connections) {
                Ok(scraper) => {
                    self.scrapers.push(scraper);
                    context.set_deadline(scraper, now + EXCHANGE);
                    self.serve(context, scraper, vitals);
                }
                Err(error) => {
                    log::debug!("admin: cannot poll a connection, and closes it: {}", describe(&error));
                }
            }
        }
        context.run_again(token);
    }

    /// Whether another scraper could need more descriptors than the reserved ones.
    fn is_full(&self) -> bool {
        self.scrapers.len() + self.freed >= self.places
    }

    /// If no place is free, closes the oldest scraper that has asked nothing yet, or the oldest of all if all have
    /// asked.
    fn make_place(&mut self, context: &mut Context<Source>) {
        if self.scrapers.len() < self.places {
            return;
        }
        let has_asked =
            |token| matches!(context.get(token), Some(Source::Scraper(scraper)) if scraper.has_asked());
        let silent = self.scrapers.iter().find(|scraper| !has_asked(**scraper));
        if let Some(token) = silent.or(self.scrapers.first()).copied() {
            self.close(context, token, "gave its place to another one");
        }
    }

    /// Lets a scraper do what it can.
    pub(crate) fn serve(&mut self, context: &mut Context<Source>, token: Token, vitals: &mut Vitals<'_>) {
        let (now, sources) = (context.now(), context.len());
        let Some(Source::Scraper(scraper)) = context.get_mut(token) else { return };
        match scraper.pump(&mut || vitals.figures(sources), &mut self.workspace, now) {
            Next::Wait => {}
            Next::Again => context.run_again(token),
            Next::Close(end) => self.close(context, token, &format!("{end:?}")),
        }
    }

    /// Closes a scraper whose time is over. First reads once more: its request may have arrived while this process was
    /// stopped.
    pub(crate) fn cut_off(&mut self, context: &mut Context<Source>, token: Token, vitals: &mut Vitals<'_>) {
        let Some(Source::Scraper(scraper)) = context.get_mut(token) else { return };
        scraper.note(Readiness::READABLE);
        self.serve(context, token, vitals);
        self.close(context, token, "cut off: its time is over");
    }

    fn close(&mut self, context: &mut Context<Source>, token: Token, reason: &str) {
        let Some(Source::Scraper(scraper)) = context.get_mut(token) else { return };
        log::debug!("admin {}: {reason}", scraper.peer());
        scraper.abandon(&mut self.workspace);
        self.scrapers.retain(|open| *open != token);
        self.freed += 1;
        context.remove(token);
    }

    /// Notes that the descriptors of closed scrapers are free.
    pub(crate) fn turn_ended(&mut self) {
        self.freed = 0;
    }
}

/// Listens on the admin endpoint, if the options name one.
pub(crate) fn bind(options: &ServerOptions) -> Result<Vec<(Listener, String)>, Error> {
    let Some(endpoint) = &options.admin else { return Ok(Vec::new()) };
    if let Endpoint::Udp { .. } = endpoint {
        let reason = "the admin endpoint speaks HTTP, over TCP or a Unix socket".into();
        return Err(Error::Listen { endpoint: endpoint.to_string(), reason });
    }
    // If several processes shared the port, a scrape would reach any one of them.
    let options =
        ListenerOptions { backlog: BACKLOG, reuse_port: false, tcp_buffer: None, ..options.listener };
    let bound = endpoints::bind(std::slice::from_ref(endpoint), &options)?;
    let listener = |bound: Bound| match bound.socket {
        BoundSocket::Listener(listener) => Some((listener, bound.endpoint.replacen("tcp://", "http://", 1))),
        BoundSocket::Datagrams(_) => None,
    };
    Ok(bound.into_iter().filter_map(listener).collect())
}

/// The number of places for scrapers, given the free descriptors: scrapers get at most half of these. Connections can't
/// have the descriptors of these places.
pub(crate) fn places(listeners: &[(Listener, String)], free: usize) -> usize {
    if listeners.is_empty() { 0 } else { MOST_SCRAPERS.min(free / 2).max(1) }
}

/// Warns if strangers may reach a listener.
pub(crate) fn warn_of_strangers(listener: &Listener, endpoint: &str) -> Result<(), Error> {
    let local = listener.local_address().map_err(|error| endpoints::nowhere(&endpoint, &error))?;
    if local.is_some_and(|address| !address.ip().is_loopback()) {
        log::warn!(
            "{endpoint} tells the server's figures to anybody who can reach it: keep it behind a firewall"
        );
    }
    Ok(())
}
