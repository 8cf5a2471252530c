//! Endpoints as people write them: `localhost:7`, `:10000`, `[::1]:7`, `unix:/run/echo.sock`.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use socket2::SockAddr;

/// The port of an endpoint that names none.
pub const DEFAULT_PORT: u16 = 10000;
/// The longest path that fits a socket address: `sun_path` less its final NUL (`unix(7)`; 104 bytes on the BSDs).
const LONGEST_PATH: usize = if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

/// Where to listen, or where to connect to.
///
/// ```
/// use echoloop::Endpoint;
///
/// for (text, meaning) in [
///     ("localhost", "tcp://localhost:10000"),
///     ("7", "tcp://localhost:7"),
///     (":7", "tcp://*:7"),
///     ("tcp://127.0.0.1:7", "tcp://127.0.0.1:7"),
///     ("[::1]:7", "tcp://[::1]:7"),
///     ("::1", "tcp://[::1]:10000"),
///     ("udp://:7", "udp://*:7"),
///     ("unix:/run/echo.sock", "unix:/run/echo.sock"),
/// ] {
///     assert_eq!(text.parse::<Endpoint>()?.to_string(), meaning);
/// }
/// # Ok::<(), echoloop::EndpointError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A host and a port.
    Tcp {
        /// The machine, or the address of this machine.
        host: Host,
        /// 0 lets the system choose, when listening.
        port: u16,
    },
    /// A host and a port for datagrams.
    Udp {
        /// The address of this machine.
        host: Host,
        /// 0 lets the system choose.
        port: u16,
    },
    /// The path of a Unix stream socket. On Linux a path that begins with `@` is an abstract name, without a file
    /// (`unix(7)`).
    Unix(PathBuf),
}

/// The host part of an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// Every interface, IPv6 and IPv4. As a client's target: this machine.
    Any,
    /// An address.
    Address(IpAddr),
    /// A name. It stands for all of its addresses.
    Name(String),
}

/// The reason why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The part behind the colon is no port.
    #[error("`{0}` is not a port: write a number from 0 to 65535")]
    Port(String),
    /// The part in brackets is no IPv6 address, or a closing bracket is missing.
    #[error("`{0}` is not an IPv6 endpoint: write `[ADDRESS]:PORT`")]
    Bracket(String),
    /// The text has several colons, and is no IPv6 address.
    #[error("`{0}` has too many colons: write an IPv6 address with a port as `[ADDRESS]:PORT`")]
    Colons(String),
    /// Characters that no host name has.
    #[error("`{0}` is not a host name: it holds white space or a slash (a Unix socket is `unix:PATH`)")]
    Host(String),
    /// A path that no Unix socket can have.
    #[error(
        "`{path}` is {length} bytes long: the path of a Unix socket has 1 to {LONGEST_PATH} bytes, and no NUL"
    )]
    Path {
        /// The path.
        path: String,
        /// Its length in bytes.
        length: usize,
    },
    /// An abstract name, elsewhere than on Linux.
    #[error("`unix:{0}` is an abstract name, which only Linux has (a file of that name is `unix:./{0}`)")]
    Abstract(String),
    /// A kind of endpoint that this program doesn't know.
    #[error("`{0}://` endpoints are not supported: use `tcp://HOST:PORT`, `udp://HOST:PORT` or `unix:PATH`")]
    Scheme(String),
}

impl Default for Endpoint {
    /// `localhost`, port 10000.
    fn default() -> Endpoint {
        Endpoint::Tcp { host: Host::Name("localhost".into()), port: DEFAULT_PORT }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Endpoint, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path.strip_prefix("//").unwrap_or(path));
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let parts = || host_and_port(rest);
        match scheme {
            "tcp" => parts().map(|(host, port)| Endpoint::Tcp { host, port }),
            "udp" => parts().map(|(host, port)| Endpoint::Udp { host, port }),
            _ => Err(EndpointError::Scheme(scheme.into())),
        }
    }
}

fn unix(path: &str) -> Result<Endpoint, EndpointError> {
    if path.is_empty() || path.len() > LONGEST_PATH || path.contains('\0') {
        return Err(EndpointError::Path { path: path.into(), length: path.len() });
    }
    if path == "@" {
        return Err(EndpointError::Path { path: path.into(), length: 0 });
    }
    if path.starts_with('@') && !cfg!(any(target_os = "linux", target_os = "android")) {
        return Err(EndpointError::Abstract(path.into()));
    }
    Ok(Endpoint::Unix(path.into()))
}

/// Whether the path of a Unix socket is an abstract name, without a file.
pub(super) fn is_abstract(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(b"@")
}

/// The address of a Unix socket. Where people write an `@` before an abstract name, the kernel wants a NUL.
pub(super) fn unix_address(path: &Path) -> io::Result<SockAddr> {
    if !is_abstract(path) {
        return SockAddr::unix(path);
    }
    let mut name = path.as_os_str().as_bytes().to_vec();
    name[0] = 0;
    SockAddr::unix(OsStr::from_bytes(&name))
}

fn host_and_port(text: &str) -> Result<(Host, u16), EndpointError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok((Host::Name("localhost".into()), port(text)?));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let error = || EndpointError::Bracket(text.into());
        let (inside, behind) = rest.split_once(']').ok_or_else(error)?;
        let host = match inside.parse::<Ipv6Addr>() {
            Ok(address) => Host::Address(address.into()),
            // The resolver knows the interfaces, so it reads the zone (`fe80::1%eth0`).
            Err(_) => match inside.split_once('%') {
                Some((address, zone)) if address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() => {
                    host(inside)?
                }
                _ => return Err(error()),
            },
        };
        let port = match behind.strip_prefix(':') {
            Some(digits) => port(digits)?,
            None if behind.is_empty() => DEFAULT_PORT,
            None => return Err(error()),
        };
        return Ok((host, port));
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok((Host::Address(address.into()), DEFAULT_PORT));
    }
    match text.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Err(EndpointError::Colons(text.into())),
        Some((name, digits)) => Ok((host(name)?, port(digits)?)),
        None => Ok((host(text)?, DEFAULT_PORT)),
    }
}

fn host(name: &str) -> Result<Host, EndpointError> {
    if name.is_empty() || name == "*" {
        return Ok(Host::Any);
    }
    if name.contains(|character: char| {
        character.is_whitespace() || character.is_control() || "/\\@?#".contains(character)
    }) {
        return Err(EndpointError::Host(name.into()));
    }
    Ok(name.parse().map_or_else(|_| Host::Name(name.into()), Host::Address))
}

fn port(digits: &str) -> Result<u16, EndpointError> {
    let error = || EndpointError::Port(digits.into());
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error());
    }
    digits.parse().map_err(|_| error())
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Endpoint::Tcp { host, port } => ("tcp", host, *port),
            Endpoint::Udp { host, port } => ("udp", host, *port),
            Endpoint::Unix(path) => return write!(f, "unix:{}", path.display()),
        };
        match host {
            Host::Any => write!(f, "{scheme}://*:{port}"),
            Host::Address(address) => write!(f, "{scheme}://{}", SocketAddr::new(*address, port)),
            Host::Name(name) if name.contains(':') => write!(f, "{scheme}://[{name}]:{port}"),
            Host::Name(name) => write!(f, "{scheme}://{name}:{port}"),
        }
    }
}

impl Host {
    /// Every address of the host, each once, in the order of the resolver. This blocks as long as the resolver does
    /// (`getaddrinfo(3)`), so call it before a loop runs and never in one.
    ///
    /// # Errors
    /// When the name does not resolve.
    pub fn addresses(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<SocketAddr> = match self {
            Host::Address(address) => vec![SocketAddr::new(*address, port)],
            Host::Name(name) => (name.as_str(), port).to_socket_addrs()?.collect(),
            Host::Any => ("localhost", port).to_socket_addrs()?.collect(),
        };
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<String, EndpointError> {
        text.parse::<Endpoint>().map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn every_form_is_understood() {
        for (text, meaning) in [
            ("", "tcp://*:10000"),
            (":0", "tcp://*:0"),
            ("*:7", "tcp://*:7"),
            ("tcp://", "tcp://*:10000"),
            ("65535", "tcp://localhost:65535"),
            ("localhost:0", "tcp://localhost:0"),
            ("0.0.0.0", "tcp://0.0.0.0:10000"),
            ("0.0.0.0:7", "tcp://0.0.0.0:7"),
            ("[::]:7", "tcp://[::]:7"),
            ("[::1]", "tcp://[::1]:10000"),
            ("[fe80::1%eth0]:7", "tcp://[fe80::1%eth0]:7"),
            ("udp://:7", "udp://*:7"),
            ("udp://[::1]", "udp://[::1]:10000"),
            ("udp://localhost:0", "udp://localhost:0"),
            ("unix:relative.sock", "unix:relative.sock"),
            ("unix:///run/echo.sock", "unix:/run/echo.sock"),
            ("unix:./@echo", "unix:./@echo"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(meaning), "{text}");
        }
    }

    #[test]
    fn an_abstract_name_is_one_where_there_are_such() {
        let expected = if cfg!(any(target_os = "linux", target_os = "android")) {
            Ok("unix:@echo".into())
        } else {
            Err(EndpointError::Abstract("@echo".into()))
        };
        assert_eq!(parse("unix:@echo"), expected);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, error) in [
            (":", EndpointError::Port(String::new())),
            ("localhost:65536", EndpointError::Port("65536".into())),
            ("99999", EndpointError::Port("99999".into())),
            ("localhost:http", EndpointError::Port("http".into())),
            ("localhost:+7", EndpointError::Port("+7".into())),
            ("[::1", EndpointError::Bracket("[::1".into())),
            ("[::1]7", EndpointError::Bracket("[::1]7".into())),
            ("[fe80::1%]:7", EndpointError::Bracket("[fe80::1%]:7".into())),
            ("[x%eth0]:7", EndpointError::Bracket("[x%eth0]:7".into())),
            ("[fe80::1%/]", EndpointError::Host("fe80::1%/".into())),
            ("[localhost]:7", EndpointError::Bracket("[localhost]:7".into())),
            ("::1:70000:x", EndpointError::Colons("::1:70000:x".into())),
            ("/run/echo.sock", EndpointError::Host("/run/echo.sock".into())),
            ("two words", EndpointError::Host("two words".into())),
            ("http://localhost", EndpointError::Scheme("http".into())),
            ("sctp://localhost", EndpointError::Scheme("sctp".into())),
            ("unix:", EndpointError::Path { path: String::new(), length: 0 }),
            ("unix:@", EndpointError::Path { path: "@".into(), length: 0 }),
        ] {
            assert_eq!(parse(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_socket_path_has_a_longest_length() {
        let longest = "p".repeat(LONGEST_PATH);
        assert!(parse(&format!("unix:{longest}")).is_ok());
        let error = parse(&format!("unix:{longest}p")).expect_err("one byte too long");
        assert!(error.to_string().contains(&format!("is {} bytes long", LONGEST_PATH + 1)), "{error}");
    }

    #[test]
    fn an_address_appears_once() {
        let addresses = Host::Name("localhost".into()).addresses(7).expect("localhost resolves");
        let unique: std::collections::HashSet<_> = addresses.iter().collect();
        assert_eq!(unique.len(), addresses.len());
        assert!(addresses.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
    }

    proptest! {
        /// Any text is either understood or refused. An endpoint means the same when it is shown and read again.
        #[test]
        fn shown_and_read_again_it_is_the_same(text in "(?s:.){0,24}|\\PC{0,24}|[a-z0-9:\\[\\]./*%]{0,24}|(tcp://|udp://|unix:)?[a-z0-9.]{1,9}(:[0-9]{1,5})?") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }
    }
}
