//! The echo server: listeners, connections and the signal to stop, in one slab on one reactor.
//!
//! [`Server::bind`] opens the sockets, [`Server::run`] serves. The reactor calls the router with each event, and the
//! router calls the part that owns the source of the event:
//!
//! ```text
//!   reactor ──► router ──┬─► acceptor ──► proxy_header ──► connections ──► echo, greeting
//!                        ├─► datagrams                         │
//!                        ├─► admin                             ├─► counters
//!                        └─► shutdown                          └─► trace
//! ```
//!
//! | file | its part |
//! |---|---|
//! | `options.rs` | the settings and their defaults |
//! | `endpoints.rs` | endpoints → listening sockets |
//! | `inherited.rs` | sockets that the service manager has opened |
//! | `router.rs` | hands each event to its part |
//! | `source.rs` | the kinds of sources in the reactor |
//! | `acceptor.rs` | accepts; pauses at the limit or for lack of descriptors, and resumes |
//! | `proxy_header.rs` | connections whose PROXY header is not complete |
//! | `connections.rs` | connections under service: begin, pump, time out, close |
//! | `first_read.rs` | whether to read from a connection as soon as it is accepted |
//! | `echo.rs` | the answers: plain echo, prefix, timestamp |
//! | `greeting.rs` | the first bytes to each client |
//! | `datagrams.rs` | UDP sockets, and the datagrams that the server never answers |
//! | `shutdown.rs` | the progress and the outcome of a stop |
//! | `counters.rs` | all counters, and the summary |
//! | `vitals.rs` | figures and health, gathered from the parts |
//! | `histogram.rs` | durations of turns, in a few counters |
//! | `admin/` | figures and health over HTTP |
//! | `trace.rs` | the recording of `--trace` |
//! | `trace_file.rs` | a file of trace events, of bounded size |
//! | `error.rs` | why the server can't start, or can't go on |

mod acceptor;
mod admin;
mod connections;
mod counters;
mod datagrams;
mod echo;
mod endpoints;
mod error;
mod first_read;
mod greeting;
mod histogram;
mod inherited;
mod options;
mod proxy_header;
mod router;
mod shutdown;
mod source;
mod trace;
mod trace_file;
mod vitals;

use crate::net::{BoundSocket, Endpoint, Listener, backlog_in_force, backlog_remedy, tcp_buffer_in_force};
use crate::reactor::{Context, Interest, Reactor, Stage};
use crate::system::{DescriptorLimit, ReportSignal, StopSignal, open_descriptors};

use self::acceptor::Acceptor;
use self::admin::{AdminEndpoint, Process};
use self::connections::Connections;
use self::datagrams::Datagrams;
use self::endpoints::Bound;
use self::router::Router;
use self::shutdown::Shutdown;
use self::source::Source;
use self::trace::Trace;

pub use self::counters::Summary;
pub use self::datagrams::DatagramCounts;
pub use self::echo::Protocol;
pub use self::error::Error;
pub use self::greeting::{Greeting, GreetingError};
pub use self::inherited::InheritedSocket;
pub use self::options::{ProxyProtocol, ServerOptions, Splice, WhenFull};
pub use self::trace::TraceOptions;

/// Descriptors that are open for a moment: a connection that the server refuses, a table of the kernel, a message to
/// systemd.
const MOMENTARY: usize = 2;

/// A server that listens. [`Server::run`] serves.
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
///
/// use echoloop::{Server, ServerOptions, StopSignal};
///
/// // One connection, then the server ends by itself.
/// let options = ServerOptions { max_accepts: Some(1), ..ServerOptions::default() };
/// let server = Server::bind(&["127.0.0.1:0".parse()?], options, StopSignal::new()?)?;
/// let address = server.endpoints()[0].strip_prefix("tcp://").expect("TCP").to_owned();
///
/// let client = std::thread::spawn(move || -> std::io::Result<String> {
///     let mut stream = TcpStream::connect(address)?;
///     stream.write_all(b"This is the message. It will be repeated.")?;
///     stream.shutdown(std::net::Shutdown::Write)?;
///     let mut reply = String::new();
///     stream.read_to_string(&mut reply)?;
///     Ok(reply)
/// });
/// let summary = server.run()?;
/// assert_eq!(client.join().expect("no panic")?, "This is the message. It will be repeated.");
/// assert_eq!((summary.served, summary.bytes_in, summary.bytes_out), (1, 41, 41));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Server {
    reactor: Reactor<Source>,
    router: Router,
    endpoints: Vec<String>,
    admin_endpoints: Vec<String>,
}

impl Server {
    /// Listens on all of the endpoints. The first request from `stop` ends the server in order, a second one at once.
    ///
    /// # Errors
    /// When the server can't listen on an endpoint, when an endpoint is listed twice, or when `options` ask for more
    /// connections than there are descriptors.
    pub fn bind(endpoints: &[Endpoint], options: ServerOptions, stop: StopSignal) -> Result<Server, Error> {
        Server::with_inherited(Vec::new(), endpoints, options, stop)
    }

    /// Serves sockets that are open already, and listens on the endpoints beside them.
    ///
    /// # Errors
    /// As [`Server::bind`], and when the server can't serve a socket of that kind.
    pub fn with_inherited(
        inherited: Vec<InheritedSocket>,
        endpoints: &[Endpoint],
        options: ServerOptions,
        stop: StopSignal,
    ) -> Result<Server, Error> {
        let bound = inherited::bind(inherited, endpoints, &options.listener)?;
        let admin_bound = admin::bind(&options)?;
        let has_backlog = endpoints.iter().any(|endpoint| !matches!(endpoint, Endpoint::Udp { .. }));
        let mut reactor = Reactor::new()?;
        reactor.set_busy_poll(options.busy_poll);
        let trace = options.trace.clone().map(Trace::create).transpose()?;
        // Only the trace and the admin endpoint look at the times.
        reactor.set_timed(trace.is_some() || !admin_bound.is_empty());
        let places = Places::new(&options, bound.len(), &admin_bound)?;
        log_limits(&options, places.connections, has_backlog);
        let context = reactor.context();
        context.insert(Source::Stop(Box::new(stop)), Interest::READABLE, Stage::Signals)?;
        let endpoints = bound.iter().map(|bound| bound.endpoint.clone()).collect();
        let mut acceptor = Acceptor::new(&options, places.connections);
        let mut datagrams = Datagrams::new(options.udp_any_source, options.receive_buffer);
        listen(context, bound, &mut acceptor, &mut datagrams)?;
        if options.proxy_protocol == ProxyProtocol::Require && !datagrams.is_empty() {
            log::warn!(
                "--proxy-protocol is about connections: the server answers datagrams without a header"
            );
        }
        if options.receive_buffer.is_some() && datagrams.is_empty() {
            log::warn!("--receive-buffer is about UDP, and there is no UDP endpoint");
        }
        let admin_endpoints = listen_for_scrapers(context, admin_bound)?;
        let router = Router {
            acceptor,
            header_timeout: options.header_timeout(),
            datagrams,
            admin: AdminEndpoint::new(places.scrapers),
            process: Process::new(context.len()),
            shutdown: Shutdown::new(options.drain),
            connections: Connections::new(options, places.pipes, trace),
        };
        Ok(Server { reactor, router, endpoints, admin_endpoints })
    }

    /// The addresses that the server listens on, as endpoints: `tcp://127.0.0.1:10000` with the port that the kernel
    /// really bound.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// The admin endpoint, if there is one: `http://127.0.0.1:9100` with the port that the kernel really bound.
    pub fn admin_endpoints(&self) -> &[String] {
        &self.admin_endpoints
    }

    /// Logs the counters in a few lines each time that the signal comes.
    ///
    /// # Errors
    /// When the loop can't poll the signal.
    pub fn report_on(&mut self, signal: ReportSignal) -> Result<(), Error> {
        let context = self.reactor.context();
        context.insert(Source::Report(Box::new(signal)), Interest::READABLE, Stage::Signals)?;
        self.router.process.count_descriptors(context.len());
        Ok(())
    }

    /// Makes this call at the first request to stop, before connections end. The call must not block.
    pub fn on_stop(&mut self, call: impl FnOnce() + Send + 'static) {
        self.router.shutdown.on_begin(call);
    }

    /// Serves until a request to stop, or until `max_accepts` connections have come and ended.
    ///
    /// # Errors
    /// When the last listener or the loop itself breaks, and when a second request to stop cuts connections off.
    pub fn run(mut self) -> Result<Summary, Error> {
        log::debug!("waiting for a connection");
        let result = self.reactor.run(&mut self.router);
        let outcome = self.router.outcome();
        result?;
        outcome
    }
}

/// Takes the sockets into the loop.
fn listen(
    context: &mut Context<Source>,
    bound: Vec<Bound>,
    acceptor: &mut Acceptor,
    datagrams: &mut Datagrams,
) -> Result<(), Error> {
    for Bound { socket, endpoint } in bound {
        match socket {
            BoundSocket::Listener(listener) => {
                let source = Source::Listener(Box::new(listener));
                acceptor.add(context.insert(source, Interest::READABLE, Stage::Listeners)?);
            }
            BoundSocket::Datagrams(socket) => {
                datagrams.prepare(&socket);
                let source = Source::Datagrams(Box::new(socket));
                datagrams.add(context.insert(source, Interest::READABLE, Stage::Connections)?);
            }
        }
        log::info!("listening on {endpoint}");
    }
    Ok(())
}

/// Takes the listeners of the admin endpoint into the loop; returns their endpoints.
fn listen_for_scrapers(
    context: &mut Context<Source>,
    bound: Vec<(Listener, String)>,
) -> Result<Vec<String>, Error> {
    let mut endpoints = Vec::new();
    for (listener, endpoint) in bound {
        admin::warn_of_strangers(&listener, &endpoint)?;
        context.insert(Source::AdminListener(Box::new(listener)), Interest::READABLE, Stage::Listeners)?;
        log::info!("admin on {endpoint}");
        endpoints.push(endpoint);
    }
    Ok(endpoints)
}

/// Pipes for bulk data: as many as the run queue serves connections in a turn, and 16 MiB of the kernel's memory.
const MOST_PIPES: usize = 16;

/// The division of the descriptors that are left once the server has opened its own.
struct Places {
    connections: usize,
    scrapers: usize,
    pipes: usize,
}

impl Places {
    fn new(options: &ServerOptions, sockets: usize, admin: &[(Listener, String)]) -> Result<Places, Error> {
        let limit = DescriptorLimit::current();
        // `limit` keeps a reserve. Where the limit is very low, the reserve may be more than is free.
        let free = open_descriptors().map_or(usize::MAX, |open| limit.left(open)).saturating_sub(MOMENTARY);
        let scrapers = admin::places(admin, free);
        // Few, since a connection holds a pipe only while its peer is slower than we are. None where descriptors are
        // scarce.
        let pipes =
            if options.splice == Splice::Auto { MOST_PIPES.min(limit.soft as usize / 256) } else { 0 };
        let others = sockets + admin.len() + scrapers + 2 * pipes;
        let available = limit.connections(others).min(free.saturating_sub(scrapers + 2 * pipes)).max(1);
        match options.max_connections {
            Some(asked) if asked > available => Err(Error::TooManyConnections {
                asked,
                limit: limit.soft,
                available,
                remedy: limit.remedy(asked, others),
            }),
            asked => Ok(Places { connections: asked.unwrap_or(available), scrapers, pipes }),
        }
    }
}

/// `has_backlog`: whether the server opens a listener itself. An inherited listener has the backlog of its maker.
fn log_limits(options: &ServerOptions, max_connections: usize, has_backlog: bool) {
    let (limits, buffer_limit) = (options.limits(), options.buffer_limit());
    log::info!(
        "at most {max_connections} connections; chunks of {} bytes, reads of {}, write limit {}, all buffers {buffer_limit}",
        options.protocol.chunk,
        limits.read_size,
        limits.write_limit
    );
    if let Some(asked) = options.listener.tcp_buffer
        && let Ok(granted) = tcp_buffer_in_force(asked)
        && granted < asked
    {
        log::warn!(
            "the system grants TCP buffers of {granted} bytes instead of {asked}: `sysctl -w net.core.rmem_max={asked} \
             net.core.wmem_max={asked}` raises them"
        );
    }
    if !has_backlog {
        return;
    }
    let backlog = i32::from(options.listener.backlog);
    match backlog_in_force(backlog) {
        Ok(granted) if granted < backlog => {
            log::warn!(
                "the system grants a backlog of {granted} instead of {backlog}: {}",
                backlog_remedy(backlog)
            );
        }
        Ok(granted) => log::info!("backlog {granted}"),
        Err(_) => log::info!("backlog {backlog} asked for; this system doesn't tell what it grants"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::acceptor::ACCEPTS_PER_TURN;
    use super::*;

    #[test]
    fn a_listener_that_waits_in_the_run_queue_has_one_share_of_a_turn_though_an_event_comes() {
        let endpoint = "127.0.0.1:0".parse().expect("an endpoint");
        let stop = StopSignal::new().expect("a socket pair");
        let mut server = Server::bind(&[endpoint], ServerOptions::default(), stop).expect("a free port");
        let address = server.endpoints()[0].trim_start_matches("tcp://").to_owned();
        let connect = |count| -> Vec<TcpStream> {
            (0..count).map(|_| TcpStream::connect(&address).expect("there is room in the backlog")).collect()
        };
        let mut accepted_after_a_turn = || {
            server.reactor.turn(&mut server.router).expect("polling works");
            server.router.connections.counters.accepted
        };
        let share = ACCEPTS_PER_TURN as u64;
        let _first = connect(ACCEPTS_PER_TURN + 2);
        assert_eq!(accepted_after_a_turn(), share);
        // The event of these connections comes while the listener waits for its next share.
        let _more = connect(ACCEPTS_PER_TURN);
        assert_eq!(accepted_after_a_turn(), 2 * share, "one share, and not a second one for the event");
        assert_eq!(accepted_after_a_turn(), 2 * share + 2);
    }
}
