//! The options of `echoloop serve`.

use std::path::PathBuf;

use clap::Args;
use echoloop::net::ListenerOptions;
use echoloop::{
    Endpoint, Greeting, InheritedSocket, Protocol, ProxyProtocol, ServerOptions, Splice, Text, TraceOptions,
    WhenFull,
};

use crate::cli::values::{
    Size, Timeout, admin_endpoint, at_least_one, endpoint, greeting, memory_size, mode, positive_duration,
    trace_limit,
};
use crate::cli::verbosity::Verbosity;

pub(crate) const EXAMPLES: &str = "\
Endpoints:
  HOST, HOST:PORT, PORT  every address that the name has; port 10000 if
                         none is given
  :PORT                  every interface, IPv6 and IPv4
  [V6ADDRESS]:PORT       an IPv6 address
  unix:PATH, unix:@NAME  a Unix stream socket; the server removes its
                         file at the end; @NAME is abstract, without a
                         file
  udp://HOST:PORT        datagrams: each comes back whole, from the
                         address that it was sent to

Port 0 lets the system choose. The server prints each bound address on standard output, as
`listening on tcp://127.0.0.1:10000`.

The server never answers broadcasts, multicasts, senders on UDP ports below 1024 (see --udp-any-source) and senders on
a UDP port of its own, whatever their address. The options for answers, buffers and connections do not affect datagrams.

Sizes are written as 16, 64KiB, 1MiB; durations as 50us, 10s, 5min. TEXT may hold \\n, \\r, \\t, \\0, \\\\ and \\xHH.

With --admin the server has /metrics (for Prometheus), /healthz (the process lives) and /readyz (it accepts connections;
503 and the reason if it does not). It prints `admin on http://127.0.0.1:9100` once it listens. SIGUSR1 logs the same
figures, even with --quiet and without --admin.

The first SIGINT, SIGTERM or SIGHUP stops accepting and lets connections end (see --drain); a second one exits at once.
Under systemd with Type=notify the server says when it listens and when it stops. Sockets that a socket unit hands over
(LISTEN_FDS) replace the default endpoint; endpoints on the command line come on top.

Examples:
  echoloop
      echo on localhost:10000
  echoloop -v
      the same, each 16-byte chunk logged
  echoloop :7777 unix:/tmp/echo.sock
      echo on port 7777 of every interface, and on a Unix socket
  echoloop --prefix 'Echo=>' --chunk 1024 :50007
  echoloop --once --max-accepts 1 :8888
      answer one read of one client, then exit
  echoloop :7 udp://:7
      the echo service of RFC 862, over TCP and UDP (ports below 1024
      need root)
  echoloop --reuse-port :7777
      one of several processes that share a port
  echoloop --proxy-protocol require :7777
      behind HAProxy with `send-proxy` or `send-proxy-v2`: the log names
      clients
  echoloop --greeting '{host}\\n' :7777
      say who answers, to see how a balancer spreads connections
  echoloop --admin :9100 :7777
      figures and health on loopback: `curl localhost:9100/metrics`

Exit status:
  0  fine
  1  something failed
  2  wrong usage";

#[derive(Args, Clone, Debug)]
pub(crate) struct ServeArguments {
    /// Listen on these endpoints, any number of them [default: localhost:10000]
    #[arg(value_name = "ENDPOINT", value_parser = endpoint)]
    endpoints: Vec<Endpoint>,

    /// Answer, and log, at most this much at a time
    #[arg(long, value_name = "SIZE", default_value_t = Size(usual().protocol.chunk), help_heading = "Answers")]
    chunk: Size,

    /// Put TEXT in front of each chunk
    #[arg(long, value_name = "TEXT", help_heading = "Answers")]
    prefix: Option<Text>,

    /// Put the local time in front of each chunk, as `[Thu Dec 11 08:47:58 2014] `
    #[arg(long, help_heading = "Answers")]
    timestamp: bool,

    /// Send TEXT to each client first. {host} in it stands for the name of this machine, {local} for the address that
    /// the client connected to, {peer} for the client's own (with --proxy-protocol, the announced one), {{ and }} for
    /// braces
    #[arg(long, value_name = "TEXT", value_parser = greeting, help_heading = "Answers")]
    greeting: Option<Greeting>,

    /// End a connection after its first answer
    #[arg(long, help_heading = "Answers")]
    once: bool,

    /// Ask the kernel for at most this much in one read: whole chunks, at least one. 16 gives literal 16-byte reads
    #[arg(long, value_name = "SIZE", default_value_t = Size(usual().read_size), help_heading = "Buffers")]
    read_size: Size,

    /// Stop reading from a client while this much waits to be sent to it; go on when half of it is gone
    #[arg(long, value_name = "SIZE", default_value_t = Size(usual().write_limit), help_heading = "Buffers")]
    write_limit: Size,

    /// Bound the memory of all buffers together. Above it, the server reads from a client only as fast as that client
    /// takes its answers [default: a quarter of the memory that the process may use]
    #[arg(long, value_name = "SIZE", value_parser = memory_size, help_heading = "Buffers")]
    buffer_limit: Option<usize>,

    /// Let the kernel keep up to N connections that are not accepted yet
    #[arg(long, value_name = "N", default_value_t = usual().listener.backlog, value_parser = clap::value_parser!(u16).range(1..),
          help_heading = "Limits")]
    backlog: u16,

    /// Serve at most N connections at once [default: as many as the descriptor limit allows]
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Limits")]
    max_connections: Option<u64>,

    /// Let a connection beyond --max-connections wait, or refuse it
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = usual().when_full, help_heading = "Limits")]
    when_full: WhenFull,

    /// Accept N connections, and exit when all of them have ended; a connection without its PROXY header counts too
    #[arg(long, value_name = "N", value_parser = at_least_one, help_heading = "Limits")]
    max_accepts: Option<u64>,

    /// Close a connection that has moved no byte in either direction for this time
    #[arg(long, value_name = "DURATION", default_value_t = Timeout(usual().idle_timeout), help_heading = "Limits")]
    idle_timeout: Timeout,

    /// Close a connection whose peer has taken no byte of a waiting answer for this time
    #[arg(long, value_name = "DURATION", default_value_t = Timeout(usual().write_timeout), help_heading = "Limits")]
    write_timeout: Timeout,

    /// Give connections this time to end after a signal to stop, and after --once
    #[arg(long, value_name = "DURATION", default_value_t = usual().drain.into(), help_heading = "Limits")]
    drain: humantime::Duration,

    /// Share the port with other processes that have this option too
    #[arg(long, help_heading = "Sockets")]
    reuse_port: bool,

    /// Ask a TCP peer for a sign of life when it was silent for this time (`none`: never). If the peer does not answer
    /// for as long again, it is dead, and its connection ends
    #[arg(long, value_name = "DURATION", default_value_t = Timeout(usual().listener.keepalive), help_heading = "Sockets")]
    keepalive: Timeout,

    /// Give each TCP connection a receive and a send buffer of this size in the kernel, which uses up to twice as much
    /// memory for each; at most net.core.rmem_max and wmem_max [default: the kernel chooses, up to megabytes]
    #[arg(long, value_name = "SIZE", help_heading = "Sockets")]
    tcp_buffer: Option<Size>,

    /// Give the files of Unix sockets these permissions, such as 0660 [default: the umask decides]
    #[arg(long, value_name = "MODE", value_parser = mode, help_heading = "Sockets")]
    unix_mode: Option<u32>,

    /// Expect a header of the PROXY protocol, version 1 or 2, at the start of each TCP or Unix connection: in it a
    /// balancer names the client. Datagrams have no header
    #[arg(long, value_name = "WHETHER", value_enum, default_value_t = usual().proxy_protocol, help_heading = "Sockets")]
    proxy_protocol: ProxyProtocol,

    /// Close a connection whose PROXY header is not complete after this time
    #[arg(long, value_name = "DURATION", default_value_t = usual().proxy_timeout.into(),
          value_parser = positive_duration, help_heading = "Sockets")]
    proxy_timeout: humantime::Duration,

    /// Pass bulk data through a pipe in the kernel instead of copying it
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = usual().splice, help_heading = "Buffers")]
    splice: Splice,

    /// Answer datagrams from ports below 1024 too. If somebody forges such a datagram, two services may talk to each
    /// other for ever
    #[arg(long, help_heading = "Sockets")]
    udp_any_source: bool,

    /// Ask the kernel for a receive buffer of this size for each UDP socket, at most net.core.rmem_max [default: the
    /// system's]
    #[arg(long, value_name = "SIZE", help_heading = "Sockets")]
    receive_buffer: Option<Size>,

    /// Poll without sleeping for this time after each event: the server answers sooner, and takes a whole core
    #[arg(long, value_name = "DURATION", default_value_t = usual().busy_poll.into(), hide_default_value = true,
          help_heading = "Sockets")]
    busy_poll: humantime::Duration,

    /// Serve figures and health over HTTP on HOST:PORT, PORT, :PORT or unix:PATH; without a host, on loopback only
    #[arg(long, value_name = "ENDPOINT", value_parser = admin_endpoint, help_heading = "Administration")]
    admin: Option<Endpoint>,

    /// Record each turn of the loop, and the work of each connection in it, in FILE, for ui.perfetto.dev. Recording slows
    /// the server down, and a slow disk slows it more. FILE may not be a pipe or a terminal
    #[arg(long, value_name = "FILE", help_heading = "Trace")]
    trace: Option<PathBuf>,

    /// Stop recording when FILE has this size
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = trace_limit, requires = "trace",
          help_heading = "Trace")]
    trace_limit: Size,

    #[command(flatten)]
    pub(super) verbosity: Verbosity,
}

/// The library's defaults.
fn usual() -> ServerOptions {
    ServerOptions::default()
}

impl ServeArguments {
    pub(crate) fn endpoints(&self) -> Vec<Endpoint> {
        if self.endpoints.is_empty() { vec![Endpoint::default()] } else { self.endpoints.clone() }
    }

    /// Inherited sockets replace the default endpoint, but no endpoint that the command line names.
    pub(crate) fn endpoints_beside(&self, inherited: &[InheritedSocket]) -> Vec<Endpoint> {
        if inherited.is_empty() { self.endpoints() } else { self.endpoints.clone() }
    }

    pub(crate) fn options(&self) -> ServerOptions {
        ServerOptions {
            protocol: Protocol {
                chunk: self.chunk.0,
                prefix: self.prefix.clone().unwrap_or_default().0,
                timestamp: self.timestamp,
                greeting: self.greeting.clone().unwrap_or_default(),
                once: self.once,
            },
            read_size: self.read_size.0,
            write_limit: self.write_limit.0,
            splice: self.splice,
            buffer_limit: self.buffer_limit,
            listener: ListenerOptions {
                backlog: self.backlog,
                reuse_port: self.reuse_port,
                keepalive: self.keepalive.0,
                tcp_buffer: self.tcp_buffer.map(|size| size.0),
                unix_mode: self.unix_mode,
            },
            max_connections: self.max_connections.map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
            when_full: self.when_full,
            max_accepts: self.max_accepts,
            idle_timeout: self.idle_timeout.0,
            write_timeout: self.write_timeout.0,
            drain: *self.drain,
            proxy_protocol: self.proxy_protocol,
            proxy_timeout: *self.proxy_timeout,
            udp_any_source: self.udp_any_source,
            receive_buffer: self.receive_buffer.map(|size| size.0),
            busy_poll: *self.busy_poll,
            admin: self.admin.clone(),
            trace: self.trace.clone().map(|path| TraceOptions { path, limit: self.trace_limit.0 as u64 }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use log::LevelFilter;

    use super::*;
    use crate::cli::values::parsed;

    fn serve(arguments: &[&str]) -> Result<ServeArguments, clap::Error> {
        parsed(arguments)
    }

    #[test]
    fn no_option_is_needed() {
        let arguments = serve(&[]).expect("no arguments at all");
        assert_eq!(arguments.options(), ServerOptions::default());
        assert_eq!(arguments.endpoints(), [Endpoint::default()]);
        assert_eq!(arguments.verbosity.level(), LevelFilter::Info);
    }

    #[test]
    fn options_reach_the_server() {
        let options = r"--chunk=1KiB --read-size=1MiB --write-limit=32k --buffer-limit=4GiB --backlog=5 --prefix=Echo=>
            --greeting=hi\x21\n --timestamp --max-connections=9 --when-full=refuse --max-accepts=3 --idle-timeout=30s
            --write-timeout=none --drain=0s --splice=never --reuse-port --keepalive=2h --tcp-buffer=16KiB --unix-mode=0660
            --proxy-protocol=require --proxy-timeout=1s --udp-any-source --receive-buffer=1MiB --busy-poll=50us
            --admin=:9100 --trace=turns.json --trace-limit=1MiB -vv";
        let arguments = serve(&options.split_whitespace().collect::<Vec<_>>()).expect("well formed");
        let expected = ServerOptions {
            protocol: Protocol {
                chunk: 1024,
                prefix: b"Echo=>".to_vec(),
                timestamp: true,
                greeting: Greeting::fixed(b"hi!\n"),
                once: false,
            },
            read_size: 1 << 20,
            write_limit: 32_000,
            splice: Splice::Never,
            buffer_limit: Some(4 << 30),
            listener: ListenerOptions {
                backlog: 5,
                reuse_port: true,
                keepalive: Some(Duration::from_secs(7200)),
                tcp_buffer: Some(16 << 10),
                unix_mode: Some(0o660),
            },
            max_connections: Some(9),
            when_full: WhenFull::Refuse,
            max_accepts: Some(3),
            idle_timeout: Some(Duration::from_secs(30)),
            write_timeout: None,
            drain: Duration::ZERO,
            proxy_protocol: ProxyProtocol::Require,
            proxy_timeout: Duration::from_secs(1),
            udp_any_source: true,
            receive_buffer: Some(1 << 20),
            busy_poll: Duration::from_micros(50),
            admin: Some("localhost:9100".parse().expect("an endpoint")),
            trace: Some(TraceOptions { path: "turns.json".into(), limit: 1 << 20 }),
        };
        assert_eq!(arguments.options(), expected);
        assert_eq!(arguments.verbosity.level(), LevelFilter::Trace);
        assert_eq!(
            serve(&["--keepalive", "none", ":7"]).expect("well formed").options().listener.keepalive,
            None
        );
    }

    #[test]
    fn nonsense_is_refused() {
        for arguments in [
            &["--chunk", "0"] as &[_],
            &["--chunk", "-1"],
            &["--chunk", "many"],
            &["--read-size", "2GiB"],
            &["--write-limit", "0"],
            &["--buffer-limit", "0"],
            &["--buffer-limit", "half"],
            &["--backlog", "0"],
            &["--backlog", "65536"],
            &["--max-connections", "0"],
            &["--max-accepts", "x"],
            &["--idle-timeout", "0s"],
            &["--idle-timeout", "10"],
            &["--drain", "soon"],
            &["--keepalive=0s"],
            &["--unix-mode=0880"],
            &["--unix-mode=10660"],
            &["--when-full", "panic"],
            &["--proxy-protocol", "guess"],
            &["--proxy-timeout", "0s"],
            &["--admin", "udp://:9100"],
            &["--admin", "localhost"],
            &["--trace-limit", "1MiB"],
            &["--trace", "turns.json", "--trace-limit", "1KiB"],
            &["--prefix", "\\q"],
            &["--greeting", "\\q"],
            &["--greeting", "{name}"],
            &["--prefix", "\\x4"],
            &["localhost:http"],
            &["-q", "-v"],
            &["--no-such-option"],
        ] {
            let error = serve(arguments).expect_err(&format!("{arguments:?}"));
            assert_eq!(error.exit_code(), 2, "{arguments:?}");
        }
    }
}
