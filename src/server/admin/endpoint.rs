//! The admin endpoint: its listeners, how many scrapers it takes in, and when they are cut off.

use std::time::Duration;

use super::request::LONGEST_HEAD;
use super::scraper::Scraper;
use super::status::Status;
use crate::net::{Accept, Endpoint, Limits, Listener, ListenerOptions, Next, Workspace};
use crate::reactor::Moment;
use crate::server::binding::{self, Bound, BoundSocket};
use crate::server::error::Error;
use crate::server::options::ServerOptions;
use crate::system::describe;

/// Connections at a time; those beyond are closed. One monitor needs one, and whoever looks by hand another.
const MOST_SCRAPERS: usize = 16;
/// From being accepted to being closed. A scraper that has not asked, listened and ended by then is cut off.
const EXCHANGE: Duration = Duration::from_secs(10);
/// The bounds of these connections. A response is staged whole and is far smaller than the limit for what is unsent.
const LIMITS: Limits = Limits { read_size: LONGEST_HEAD, write_limit: 64 * 1024, turn_budget: 64 * 1024 };
/// Those who connect to the admin endpoint are few: a handful may wait.
const BACKLOG: i32 = 64;
/// When descriptors have run out, those of the endpoint wait as well; try again in this time.
const RETRY: Duration = Duration::from_millis(100);

/// The connections of the admin endpoint.
pub(in crate::server) struct AdminEndpoint {
    /// Of its own, so that neither the settings nor the figures of the echo have to do with it.
    workspace: Workspace,
    open: usize,
}

/// What a listener of the admin endpoint offers.
pub(in crate::server) enum Admission {
    Scraper(Scraper),
    /// It was closed, since there are as many as there may be.
    Refused,
    /// Nothing waits.
    Nothing,
    /// Accepting failed: try again at this moment.
    NothingBefore(Moment),
}

impl AdminEndpoint {
    pub(in crate::server) fn new() -> AdminEndpoint {
        AdminEndpoint { workspace: Workspace::new(LIMITS), open: 0 }
    }

    /// Accepts one scraper.
    pub(in crate::server) fn accept(&mut self, listener: &mut Listener, now: Moment) -> Admission {
        let (socket, peer) = match listener.accept() {
            Accept::Connection(socket, peer) => (socket, peer),
            Accept::Drained => return Admission::Nothing,
            Accept::Failed(_, error) => {
                log::debug!("admin: cannot accept: {}", describe(&error));
                return Admission::NothingBefore(now + RETRY);
            }
        };
        if self.open == MOST_SCRAPERS {
            log::debug!("admin {peer}: refused, since {MOST_SCRAPERS} others are connected");
            return Admission::Refused;
        }
        Admission::Scraper(Scraper::new(socket, peer, now))
    }

    /// A scraper was taken into the loop; returns when it is cut off.
    pub(in crate::server) fn took_in(&mut self, now: Moment) -> Moment {
        self.open += 1;
        now + EXCHANGE
    }

    /// Lets a scraper do what it can.
    pub(in crate::server) fn pump(
        &mut self,
        scraper: &mut Scraper,
        status: &mut dyn FnMut() -> Status,
        now: Moment,
    ) -> Next {
        scraper.pump(status, &mut self.workspace, now)
    }

    /// A scraper is about to be removed.
    pub(in crate::server) fn close(&mut self, scraper: &mut Scraper, reason: &str) {
        log::debug!("admin {}: {reason}", scraper.peer());
        scraper.abandon(&mut self.workspace);
        self.open -= 1;
    }
}

/// Listens on the admin endpoint, if there is to be one.
pub(in crate::server) fn bind(options: &ServerOptions) -> Result<Vec<(Listener, String)>, Error> {
    let Some(endpoint) = &options.admin else { return Ok(Vec::new()) };
    if let Endpoint::Udp { .. } = endpoint {
        let reason = "the admin endpoint speaks HTTP, over TCP or a Unix socket".into();
        return Err(Error::Listen { endpoint: endpoint.to_string(), reason });
    }
    // Shared by several processes, each scrape would reach any one of them.
    let options = ListenerOptions {
        backlog: BACKLOG,
        reuse_port: false,
        keepalive: None,
        unix_mode: options.unix_mode,
    };
    let bound = binding::bind(std::slice::from_ref(endpoint), &options)?;
    let listener = |bound: Bound| match bound.socket {
        BoundSocket::Listener(listener) => Some((listener, bound.endpoint.replacen("tcp://", "http://", 1))),
        BoundSocket::Datagrams(_) => None,
    };
    Ok(bound.into_iter().filter_map(listener).collect())
}

/// Descriptors that the admin endpoint may need and connections can't have.
pub(in crate::server) fn descriptors(listeners: &[(Listener, String)]) -> usize {
    if listeners.is_empty() { 0 } else { listeners.len() + MOST_SCRAPERS }
}

/// Warns if strangers may reach a listener.
pub(in crate::server) fn warn_of_strangers(listener: &Listener, endpoint: &str) -> Result<(), Error> {
    let local = listener.local_address().map_err(|error| binding::nowhere(&endpoint, &error))?;
    if local.is_some_and(|address| !address.ip().is_loopback()) {
        log::warn!("whoever can reach {endpoint} is told the server's figures: keep it behind a firewall");
    }
    Ok(())
}
