//! The admin endpoint and the report in the log: who asks, what is counted for them, and when they are cut off.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use super::binding::{self, Bound, BoundSocket};
use super::{ServerOptions, Source, State};
use crate::net::Endpoint;
use crate::net::{Accept, CONNECTION_INTEREST, Listener, ListenerOptions, Next, Workspace};
use crate::reactor::{Context, Interest, Moment, Readiness, Stage, Token};
use crate::server::admin::{
    Closed, ConnectionFigures, EXCHANGE, Figures, LIMITS, LoopFigures, MOST_SCRAPERS, NotAccepting,
    ProcessFigures, Scraper, Status,
};
use crate::server::error::Error;
use crate::system::ReportSignal;
use crate::system::describe;
use crate::system::{DescriptorLimit, open_descriptors};

/// Those who connect to the admin endpoint are few: a handful may wait.
const BACKLOG: i32 = 64;
/// When descriptors have run out, those of the endpoint wait as well; try again in this time.
const RETRY: Duration = Duration::from_millis(100);

/// What the loop holds for it.
pub(super) enum AdminSource {
    Listener(Listener),
    Scraper(Scraper),
    Report(ReportSignal),
}

/// The admin endpoint of a server that has one.
pub(super) struct Administration {
    /// Of its own, so that neither the settings nor the figures of the echo have to do with it.
    workspace: Workspace,
    open: usize,
}

/// What is counted for whoever may ask, beside what the summary has.
pub(super) struct Watch {
    pub(super) turns: LoopFigures,
    pub(super) closed: Closed,
    started: SystemTime,
    /// Descriptors that are open and not in the loop. `None`: the system does not tell.
    other_descriptors: Option<usize>,
}

impl Administration {
    pub(super) fn new() -> Administration {
        Administration { workspace: Workspace::new(LIMITS), open: 0 }
    }
}

impl Watch {
    pub(super) fn new(in_the_loop: usize) -> Watch {
        let mut watch = Watch {
            turns: LoopFigures::default(),
            closed: Closed::default(),
            started: SystemTime::now(),
            other_descriptors: None,
        };
        watch.count_descriptors(in_the_loop);
        watch
    }

    /// Counts the descriptors before anybody connects. From here on it is the loop that opens and closes them: to count
    /// them anew each time would take longer the more connections there are, and would need one itself.
    pub(super) fn count_descriptors(&mut self, in_the_loop: usize) {
        self.other_descriptors = open_descriptors().ok().map(|open| open.saturating_sub(in_the_loop));
    }

    /// One that is not in the loop was closed since.
    pub(super) fn descriptor_closed(&mut self) {
        self.other_descriptors = self.other_descriptors.map(|other| other.saturating_sub(1));
    }
}

/// Listens on the admin endpoint, if there is to be one.
pub(super) fn bind(options: &ServerOptions) -> Result<Vec<(Listener, String)>, Error> {
    let Some(endpoint) = &options.admin else { return Ok(Vec::new()) };
    if let Endpoint::Udp { .. } = endpoint {
        let reason = "the admin endpoint speaks HTTP, over TCP or a Unix socket".into();
        return Err(Error::Listen { endpoint: endpoint.to_string(), reason });
    }
    // Shared by several processes, each scrape would reach any one of them.
    let options = ListenerOptions { backlog: BACKLOG, reuse_port: false, keepalive: None };
    let bound = binding::bind(std::slice::from_ref(endpoint), &options)?;
    let listener = |bound: Bound| match bound.socket {
        BoundSocket::Listener(listener) => Some((listener, bound.endpoint.replacen("tcp://", "http://", 1))),
        BoundSocket::Datagrams(_) => None,
    };
    Ok(bound.into_iter().filter_map(listener).collect())
}

/// Descriptors that the admin endpoint may need and connections can't have.
pub(super) fn descriptors(listeners: &[(Listener, String)]) -> usize {
    if listeners.is_empty() { 0 } else { listeners.len() + MOST_SCRAPERS }
}

/// Takes the listeners into the loop; returns what they listen on.
pub(super) fn listen(
    context: &mut Context<Source>,
    listeners: Vec<(Listener, String)>,
) -> Result<Vec<String>, Error> {
    let mut endpoints = Vec::new();
    for (listener, endpoint) in listeners {
        let local = listener.local_address().map_err(|error| binding::nowhere(&endpoint, &error))?;
        if local.is_some_and(|address| !address.ip().is_loopback()) {
            log::warn!(
                "whoever can reach {endpoint} is told the server's figures: keep it behind a firewall"
            );
        }
        context.insert(
            Source::Admin(Box::new(AdminSource::Listener(listener))),
            Interest::READABLE,
            Stage::Listeners,
        )?;
        log::info!("admin on {endpoint}");
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

impl State {
    pub(super) fn admin_ready(&mut self, context: &mut Context<Source>, token: Token, readiness: Readiness) {
        match admin_source(context, token) {
            Some(AdminSource::Listener(_)) => self.accept_scrapers(context, token),
            Some(AdminSource::Scraper(scraper)) => {
                scraper.note(readiness);
                self.serve_scraper(context, token);
            }
            Some(AdminSource::Report(signal)) => {
                if signal.received() == 0 {
                    return;
                }
                self.report(context);
            }
            None => {}
        }
    }

    pub(super) fn admin_resume(&mut self, context: &mut Context<Source>, token: Token) {
        match admin_source(context, token) {
            Some(AdminSource::Listener(_)) => self.accept_scrapers(context, token),
            Some(AdminSource::Scraper(_)) => self.serve_scraper(context, token),
            Some(AdminSource::Report(_)) | None => {}
        }
    }

    pub(super) fn admin_deadline(&mut self, context: &mut Context<Source>, token: Token) {
        match admin_source(context, token) {
            Some(AdminSource::Listener(_)) => self.accept_scrapers(context, token),
            Some(AdminSource::Scraper(_)) => self.close_scraper(context, token, "cut off: its time is over"),
            Some(AdminSource::Report(_)) | None => {}
        }
    }

    /// Accepts who asks; those for whom there is no place are closed.
    fn accept_scrapers(&mut self, context: &mut Context<Source>, token: Token) {
        for _ in 0..MOST_SCRAPERS {
            let Some(administration) = &mut self.administration else { return };
            let Some(AdminSource::Listener(listener)) = admin_source(context, token) else { return };
            let (socket, peer) = match listener.accept() {
                Accept::Connection(socket, peer) => (socket, peer),
                Accept::Drained => return,
                Accept::Failed(_, error) => {
                    log::debug!("admin: cannot accept: {}", describe(&error));
                    context.set_deadline(token, context.now() + RETRY);
                    return;
                }
            };
            if administration.open == MOST_SCRAPERS {
                log::debug!("admin {peer}: refused, since {MOST_SCRAPERS} others are connected");
                continue;
            }
            let now = context.now();
            let scraper = AdminSource::Scraper(Scraper::new(socket, peer, now));
            match context.insert(Source::Admin(Box::new(scraper)), CONNECTION_INTEREST, Stage::Connections) {
                Ok(token) => {
                    administration.open += 1;
                    context.set_deadline(token, now + EXCHANGE);
                }
                Err(error) => log::debug!("admin {peer}: can't be polled: {}", describe(&error)),
            }
        }
        // There may be more, and no event will say so.
        context.run_again(token);
    }

    fn serve_scraper(&mut self, context: &mut Context<Source>, token: Token) {
        let (now, in_the_loop) = (context.now(), context.len());
        // Taken out for as long as the scraper may ask for the figures of all the rest.
        let Some(mut administration) = self.administration.take() else { return };
        let next = match admin_source(context, token) {
            Some(AdminSource::Scraper(scraper)) => {
                scraper.pump(&mut || self.status(now, in_the_loop), &mut administration.workspace, now)
            }
            _ => Next::Wait,
        };
        self.administration = Some(administration);
        match next {
            Next::Wait => {}
            Next::Again => context.run_again(token),
            Next::Close(end) => self.close_scraper(context, token, &format!("{end:?}")),
        }
    }

    fn close_scraper(&mut self, context: &mut Context<Source>, token: Token, reason: &str) {
        let Some(administration) = &mut self.administration else { return };
        let Some(AdminSource::Scraper(scraper)) = admin_source(context, token) else { return };
        log::debug!("admin {}: {reason}", scraper.peer());
        scraper.abandon(&mut administration.workspace);
        context.remove(token);
        administration.open -= 1;
    }

    /// Logs the figures. As warnings, since whoever asks for them wants to see them with `--quiet` too.
    fn report(&mut self, context: &Context<Source>) {
        for line in self.status(context.now(), context.len()).figures.lines() {
            log::warn!("report: {line}");
        }
        if let Some(reason) = self.not_accepting() {
            log::warn!("report: not accepting: {reason}");
        }
    }

    fn status(&mut self, now: Moment, in_the_loop: usize) -> Status {
        let figures = Figures {
            connections: self.connection_figures(),
            datagrams: self.datagrams.counts(now),
            turns: self.watch.turns,
            process: ProcessFigures {
                started: self.watch.started,
                cpu: processor_time(),
                descriptors_open: self.watch.other_descriptors.map(|other| other + in_the_loop),
                descriptors_allowed: DescriptorLimit::current().soft,
            },
        };
        Status { figures, not_accepting: self.not_accepting() }
    }

    fn connection_figures(&self) -> ConnectionFigures {
        let (pauses_at_limit, pauses_exhausted) = self.accept_pauses();
        ConnectionFigures {
            open: self.open,
            allowed: self.max_connections,
            accepted: self.accepted,
            refused: self.summary.refused,
            closed: self.watch.closed,
            cut_off: self.summary.cut_off,
            bytes_in: self.workspace.traffic().received,
            bytes_out: self.workspace.traffic().sent,
            bytes_cut_off: self.summary.bytes_cut_off,
            pauses_at_limit,
            pauses_exhausted,
            pauses_of_reading: self.workspace.pauses(),
            buffers: self.workspace.buffer_bytes(),
        }
    }

    fn not_accepting(&self) -> Option<NotAccepting> {
        if self.stopping {
            Some(NotAccepting::Stopping)
        } else if self.listeners.is_empty() && self.datagrams.is_empty() {
            Some(NotAccepting::Enough)
        } else if self.is_exhausted() {
            Some(NotAccepting::Exhausted)
        } else if self.is_full() {
            Some(NotAccepting::Full { limit: self.max_connections })
        } else {
            None
        }
    }
}

fn admin_source(context: &mut Context<Source>, token: Token) -> Option<&mut AdminSource> {
    match context.get_mut(token) {
        Some(Source::Admin(source)) => Some(source),
        _ => None,
    }
}

impl AsFd for AdminSource {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            AdminSource::Listener(listener) => listener.as_fd(),
            AdminSource::Scraper(scraper) => scraper.as_fd(),
            AdminSource::Report(signal) => signal.as_fd(),
        }
    }
}

/// What the kernel counts of this process, all of which is in one thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
