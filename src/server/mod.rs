//! The echo server: listeners, connections and the signal to stop, in one slab on one reactor.
//!
//! | file | what it holds |
//! |---|---|
//! | `options.rs` | the settings and their defaults |
//! | `echo.rs` | what is answered: plain echo, prefix, timestamp |
//! | `greeting.rs` | what is said first, and to whom |
//! | `error.rs` | why the server can't do what it was asked to do |
//! | `binding.rs` | endpoints → listening sockets |
//! | `inherited.rs` | sockets that the service manager has opened |
//! | `accepting.rs` | listeners: accept, pause at the limit, resume |
//! | `announced.rs` | connections whose PROXY header has not come yet |
//! | `datagrams.rs` | UDP sockets: what is answered, and what never is |
//! | `serving.rs` | connections: pump, time out, close; the orderly stop |
//! | `administering.rs` | the admin endpoint, and the report in the log |
//! | `admin/` | what is told about a running server over HTTP: figures, health |
//! | `trace.rs` | what `--trace` records of it |
//! | `trace_file.rs` | a file of trace events, of bounded size |

mod accepting;
mod admin;
mod administering;
mod announced;
mod binding;
mod datagrams;
mod echo;
mod error;
mod greeting;
mod inherited;
mod options;
mod serving;
mod trace;
mod trace_file;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use crate::net::Endpoint;
use crate::net::{
    Connection, DatagramSocket, Listener, Peer, Socket, Timeouts, Workspace, backlog_in_force, backlog_remedy,
};
use crate::reactor::{Context, Interest, Moment, Reactor, Stage, Token};
use crate::system::DescriptorLimit;
use crate::system::{ReportSignal, StopSignal};

use self::accepting::{FirstRead, Pause};
use self::administering::{AdminSource, Administration, Watch};
use self::announced::Announced;
use self::binding::{Bound, BoundSocket};
use self::datagrams::Datagrams;
use self::echo::Echo;
use self::options::TURN_BUDGET;
use self::trace::Trace;

pub use self::datagrams::DatagramCounts;
pub use self::echo::Protocol;
pub use self::error::Error;
pub use self::greeting::{Greeting, GreetingError};
pub use self::inherited::InheritedSocket;
pub use self::options::{ProxyProtocol, ServerOptions, WhenFull};
pub use self::trace::TraceOptions;

/// A server that is listening, and serves once it is [run](Server::run).
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
    state: State,
    endpoints: Vec<String>,
    admin_endpoints: Vec<String>,
}

/// What a server did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Connections that were served.
    pub served: u64,
    /// Connections that were closed at once, because there were too many.
    pub refused: u64,
    /// Connections that were closed because their PROXY header was missing or wrong.
    pub unannounced: u64,
    /// The most connections at once.
    pub most_at_once: usize,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Connections that ended before everything was answered and taken.
    pub cut_off: u64,
    /// Bytes that were received and not answered, or answered and not taken, when their connection ended.
    pub bytes_cut_off: u64,
    /// Datagrams, whose bytes are not among those above.
    pub datagrams: DatagramCounts,
}

/// What the server keeps in a slot of the reactor.
enum Source {
    Connection(Client),
    /// Nobody knows yet for whom it is.
    Announced(Announced),
    /// Boxed: there are few listeners and many connections, whose slots should be no larger than they need.
    Listener(Box<Listener>),
    Datagrams(Box<DatagramSocket>),
    Stop(Box<StopSignal>),
    /// What watches the server, and is no part of the echo.
    Admin(Box<AdminSource>),
}

struct Client {
    connection: Connection<Socket>,
    peer: Peer,
    opened: Moment,
}

/// Everything of the server but the reactor that drives it.
struct State {
    options: ServerOptions,
    echo: Echo,
    workspace: Workspace,
    timeouts: Timeouts,
    max_connections: usize,
    listeners: Vec<Token>,
    datagrams: Datagrams,
    accepted: u64,
    open: usize,
    pause: Pause,
    first_read: FirstRead,
    administration: Option<Box<Administration>>,
    watch: Watch,
    stopping: bool,
    on_stop: Option<Box<dyn FnOnce() + Send>>,
    failure: Option<Error>,
    summary: Summary,
    trace: Option<Trace>,
}

impl Server {
    /// Listens on all of the endpoints. A request from `stop` ends the server in an orderly way, a second one at once.
    ///
    /// # Errors
    /// When one of the endpoints can't be listened on, is listed twice, or when more connections are asked for than
    /// there are descriptors.
    pub fn bind(endpoints: &[Endpoint], options: ServerOptions, stop: StopSignal) -> Result<Server, Error> {
        Server::with_inherited(Vec::new(), endpoints, options, stop)
    }

    /// Serves sockets that are open already, and listens on the endpoints beside them.
    ///
    /// # Errors
    /// As [`Server::bind`], and when a socket is of a kind that can't be served.
    pub fn with_inherited(
        inherited: Vec<InheritedSocket>,
        endpoints: &[Endpoint],
        options: ServerOptions,
        stop: StopSignal,
    ) -> Result<Server, Error> {
        let bound = inherited::bind(inherited, endpoints, &options.listener())?;
        let admin = administering::bind(&options)?;
        let max_connections = max_connections(&options, bound.len() + administering::descriptors(&admin))?;
        let has_backlog = endpoints.iter().any(|endpoint| !matches!(endpoint, Endpoint::Udp { .. }));
        log_limits(&options, max_connections, has_backlog);

        let mut reactor = Reactor::new()?;
        reactor.set_busy_poll(options.busy_poll);
        let trace = options.trace.clone().map(Trace::create).transpose()?;
        // Only these two look at the times.
        reactor.set_timed(trace.is_some() || !admin.is_empty());
        let context = reactor.context();
        context.insert(Source::Stop(Box::new(stop)), Interest::READABLE, Stage::Signals)?;
        let endpoints = bound.iter().map(|bound| bound.endpoint.clone()).collect();
        let mut datagrams = Datagrams::new(options.udp_any_source, options.receive_buffer);
        let listeners = listen(context, bound, &mut datagrams)?;
        if options.proxy_protocol == ProxyProtocol::Require && !datagrams.is_empty() {
            log::warn!(
                "--proxy-protocol is about connections: whoever sends datagrams is answered without a header"
            );
        }
        if options.receive_buffer.is_some() && datagrams.is_empty() {
            log::warn!("--receive-buffer is about UDP, and there is no UDP endpoint");
        }
        let administration = (!admin.is_empty()).then(|| Box::new(Administration::new()));
        let admin_endpoints = administering::listen(context, admin)?;
        let mut workspace = Workspace::new(options.limits());
        workspace.keep_journal(trace.is_some());
        let state = State {
            echo: Echo::new(options.protocol.clone()),
            workspace,
            timeouts: options.timeouts(),
            options,
            max_connections,
            listeners,
            datagrams,
            accepted: 0,
            open: 0,
            pause: Pause::default(),
            first_read: FirstRead::default(),
            administration,
            watch: Watch::new(context.len()),
            stopping: false,
            on_stop: None,
            failure: None,
            summary: Summary::default(),
            trace,
        };
        Ok(Server { reactor, state, endpoints, admin_endpoints })
    }

    /// What is listened on, one for each address: `tcp://127.0.0.1:10000` with the port that is really bound.
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// Where the admin endpoint is, if there is one: `http://127.0.0.1:9100` with the port that is really bound.
    pub fn admin_endpoints(&self) -> &[String] {
        &self.admin_endpoints
    }

    /// Logs what was counted so far, in a few lines, each time that the signal is given.
    ///
    /// # Errors
    /// When the signal can't be polled.
    pub fn report_on(&mut self, signal: ReportSignal) -> Result<(), Error> {
        let source = Source::Admin(Box::new(AdminSource::Report(signal)));
        let context = self.reactor.context();
        context.insert(source, Interest::READABLE, Stage::Signals)?;
        self.state.watch.count_descriptors(context.len());
        Ok(())
    }

    /// Calls something when it is first asked to stop, before connections have ended. It must not block.
    pub fn on_stop(&mut self, call: impl FnOnce() + Send + 'static) {
        self.state.on_stop = Some(Box::new(call));
    }

    /// Serves until it is asked to stop, or until `max_accepts` connections were accepted and have ended.
    ///
    /// # Errors
    /// When a listener or the loop itself breaks, and when a second request to stop cut connections off.
    pub fn run(mut self) -> Result<Summary, Error> {
        log::debug!("waiting for a connection");
        let result = self.reactor.run(&mut self.state);
        if let Some(trace) = self.state.trace.take() {
            trace.finish();
        }
        result?;
        match self.state.failure {
            Some(error) => Err(error),
            None => {
                let traffic = self.state.workspace.traffic();
                Ok(Summary {
                    bytes_in: traffic.received,
                    bytes_out: traffic.sent,
                    datagrams: self.state.datagrams.final_counts(),
                    ..self.state.summary
                })
            }
        }
    }
}

/// Takes the sockets into the loop; returns the listeners among them.
fn listen(
    context: &mut Context<Source>,
    bound: Vec<Bound>,
    datagrams: &mut Datagrams,
) -> Result<Vec<Token>, Error> {
    let mut listeners = Vec::new();
    for bound in bound {
        match bound.socket {
            BoundSocket::Listener(listener) => {
                let source = Source::Listener(Box::new(listener));
                listeners.push(context.insert(source, Interest::READABLE, Stage::Listeners)?);
            }
            BoundSocket::Datagrams(socket) => {
                datagrams.prepare(&socket);
                let source = Source::Datagrams(Box::new(socket));
                datagrams.add(context.insert(source, Interest::READABLE, Stage::Connections)?);
            }
        }
        log::info!("listening on {}", bound.endpoint);
    }
    Ok(listeners)
}

/// `others`: descriptors of the loop that are not connections.
fn max_connections(options: &ServerOptions, others: usize) -> Result<usize, Error> {
    let limit = DescriptorLimit::current();
    let available = limit.connections(others);
    match options.max_connections {
        Some(asked) if asked > available => Err(Error::TooManyConnections {
            asked,
            limit: limit.soft,
            available,
            remedy: limit.remedy(asked, others),
        }),
        asked => Ok(asked.unwrap_or(available)),
    }
}

/// `has_backlog`: whether a listener is opened here. Those that are inherited have the backlog that they were given.
fn log_limits(options: &ServerOptions, max_connections: usize, has_backlog: bool) {
    let limits = options.limits();
    log::info!(
        "at most {max_connections} connections; chunks of {} bytes, reads of {}, write limit {}",
        options.protocol.chunk,
        limits.read_size,
        limits.write_limit
    );
    if !has_backlog {
        return;
    }
    let backlog = i32::from(options.backlog);
    match backlog_in_force(backlog) {
        Ok(granted) if granted < backlog => {
            log::warn!("backlog {granted} instead of {backlog}: {}", backlog_remedy(backlog));
        }
        Ok(granted) => log::info!("backlog {granted}"),
        Err(_) => log::info!("backlog {backlog} asked for; this system doesn't tell what it grants"),
    }
}

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Connection(client) => client.connection.transport().as_fd(),
            Source::Announced(announced) => announced.as_fd(),
            Source::Listener(listener) => listener.as_fd(),
            Source::Datagrams(socket) => socket.as_fd(),
            Source::Stop(stop) => stop.as_fd(),
            Source::Admin(source) => source.as_fd(),
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { served, refused, unannounced, most_at_once, bytes_in, bytes_out, .. } = self;
        let Summary { cut_off, bytes_cut_off, datagrams, .. } = self;
        write!(f, "{served} connections served, {most_at_once} at once at most, ")?;
        write!(f, "{bytes_in} bytes in, {bytes_out} bytes out, ")?;
        write!(f, "{cut_off} connections cut off with {bytes_cut_off} bytes")?;
        if *refused > 0 {
            write!(f, ", {refused} refused")?;
        }
        if *unannounced > 0 {
            write!(f, ", {unannounced} without a PROXY header")?;
        }
        let DatagramCounts { received, answered, ignored, dropped, overflowed } = datagrams;
        if *received > 0 || overflowed.is_some_and(|count| count > 0) {
            write!(f, "; {received} datagrams, {answered} answered, {ignored} ignored, {dropped} dropped")?;
            if let Some(overflowed) = overflowed {
                write!(f, ", {overflowed} overflowed")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_at_most_128_bytes() {
        let bytes = Context::<Source>::BYTES_PER_SOURCE;
        assert!(bytes <= 128, "{bytes} bytes");
    }
}
