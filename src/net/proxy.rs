//! The PROXY protocol: a proxy begins a connection with a header that names the client. See
//! <https://www.haproxy.org/download/2.6/doc/proxy-protocol.txt>.
//!
//! A header may arrive in pieces of any size. This file finds its end, and judges whether the bytes so far can still
//! become a header. The crate `ppp` reads the whole header, so it never sees half a number.

use std::net::SocketAddr;

use ppp::{v1, v2};

use crate::system::Escaped;

/// The longest line of version 1 with its CR LF, by the specification.
const LONGEST_LINE: usize = 107;
/// The beginning of a header of version 1, and of a header that names no client.
const LINE_START: &[u8] = b"PROXY ";
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";
/// The place of the first of the two ports among the words of a line, counted from 0.
const PORTS_BEGIN: usize = 4;
/// The fixed part of version 2: signature, version and command, family, length of the rest.
const FIXED_PART: usize = 16;
/// The longest rest of version 2 that we accept. The format allows 64 KiB. Addresses take at most 216 bytes, and
/// HAProxy adds a few hundred about TLS.
const LONGEST_REST: usize = 4096;
/// The command of a version 2 header in which the proxy speaks for itself, as in a health check.
const LOCAL: u8 = 0x20;
/// The most bytes of a wrong header that the log shows.
const SHOWN: usize = 16;

/// The longest header of either version.
pub(crate) const LONGEST_HEADER: usize = FIXED_PART + LONGEST_REST;

/// The versions of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// A complete header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its length. The bytes behind it are the client's.
    pub(crate) length: usize,
    /// The client. `None`: the proxy speaks for itself (LOCAL), does not know the client (UNKNOWN), or the client has
    /// no IP address. Then the server uses the address of the connection.
    pub(crate) client: Option<SocketAddr>,
}

/// The reason why bytes can't begin a header, whatever follows.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum HeaderError {
    #[error("it began with {}", Escaped(.0))]
    NoHeader(Vec<u8>),
    #[error("its line of version 1 has no end within {LONGEST_LINE} bytes")]
    LongLine,
    #[error("its line of version 1 is wrong: {}", words(.0))]
    Line(v1::BinaryParseError),
    #[error("its line of version 1 has the port {}, which is not written in digits", Escaped(.0))]
    Port(Vec<u8>),
    #[error("its header of version 2 is {0} bytes long; the server accepts at most {LONGEST_REST}")]
    LongRest(usize),
    #[error("its header of version 2 is wrong: {}", words(.0))]
    Block(v2::ParseError),
}

/// The parser's words, made fit for the middle of a log line.
fn words(error: &impl ToString) -> String {
    error.to_string().trim_end_matches('.').replace("\r\n", "CR LF")
}

/// Looks for a header at the beginning of the bytes so far. `None`: the bytes may become a header.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let begins_with = |start: &[u8]| bytes.iter().zip(start).all(|(byte, expected)| byte == expected);
    if begins_with(v2::PROTOCOL_PREFIX) {
        block(bytes)
    } else if begins_with(LINE_START) {
        line(bytes)
    } else {
        Err(HeaderError::NoHeader(bytes[..bytes.len().min(SHOWN)].to_vec()))
    }
}

/// Version 1: a line.
fn line(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let possible = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = possible.iter().position(|&byte| byte == b'\n') else {
        return if possible.len() == LONGEST_LINE { Err(HeaderError::LongLine) } else { Ok(None) };
    };
    let line = &bytes[..=end];
    // The specification says to ignore the rest of the line, even if it makes no sense.
    let is_unknown = line.strip_prefix(UNKNOWN).is_some_and(|rest| rest == b"\r\n" || rest.starts_with(b" "));
    if is_unknown && line.ends_with(b"\r\n") {
        return Ok(Some(Header { length: line.len(), client: None }));
    }
    let header = v1::Header::try_from(line).map_err(HeaderError::Line)?;
    // The parser also accepts `+80`.
    let mut ports = line.trim_ascii_end().split(|&byte| byte == b' ').skip(PORTS_BEGIN);
    if let Some(port) = ports.find(|port| !port.iter().all(u8::is_ascii_digit)) {
        return Err(HeaderError::Port(port.to_vec()));
    }
    let client = match header.addresses {
        v1::Addresses::Tcp4(ends) => Some((ends.source_address, ends.source_port).into()),
        v1::Addresses::Tcp6(ends) => Some((ends.source_address, ends.source_port).into()),
        v1::Addresses::Unknown => None,
    };
    Ok(Some(Header { length: line.len(), client }))
}

/// Version 2: a fixed part that tells the length of the rest.
fn block(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let Some(fixed) = bytes.get(..FIXED_PART) else { return Ok(None) };
    let rest = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if rest > LONGEST_REST {
        return Err(HeaderError::LongRest(rest));
    }
    let Some(block) = bytes.get(..FIXED_PART + rest) else { return Ok(None) };
    let length = block.len();
    if block[v2::PROTOCOL_PREFIX.len()] == LOCAL {
        // The specification says to ignore everything else in it, the family included.
        return Ok(Some(Header { length, client: None }));
    }
    let header = v2::Header::try_from(block).map_err(HeaderError::Block)?;
    // We use only the addresses, but the whole header has to be well formed.
    for extension in header.tlvs() {
        extension.map_err(HeaderError::Block)?;
    }
    let client = match header.addresses {
        v2::Addresses::IPv4(ends) => Some((ends.source_address, ends.source_port).into()),
        v2::Addresses::IPv6(ends) => Some((ends.source_address, ends.source_port).into()),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    };
    Ok(Some(Header { length, client }))
}

/// The header that announces a client, by its address and the address that it connected to. `None`: a header that names
/// no client.
pub(crate) fn header(version: ProxyVersion, ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    match version {
        ProxyVersion::V1 => ends.map_or(v1::Addresses::Unknown, v1::Addresses::from).to_string().into_bytes(),
        ProxyVersion::V2 => {
            let (protocol, addresses) = match ends {
                Some(ends) => (v2::Protocol::Stream, ends.into()),
                None => (v2::Protocol::Unspecified, v2::Addresses::Unspecified),
            };
            let command = v2::Version::Two | v2::Command::Proxy;
            let built = v2::Builder::with_addresses(command, protocol, addresses).build();
            built.expect("two addresses are far shorter than the length can tell")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXTENSIONS: &[u8] = &[0x04, 0, 2, 0xff, 0xff, 0x20, 0, 0, 0xe0, 0, 1, 7];

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// A header of version 2 in pieces.
    fn binary(command: u8, family: u8, rest: &[&[u8]]) -> Vec<u8> {
        let rest = rest.concat();
        let length = u16::try_from(rest.len()).expect("short");
        [v2::PROTOCOL_PREFIX, &[command, family], &length.to_be_bytes(), &rest].concat()
    }

    const ENDS: &[u8] = &[203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 7];

    /// Headers of all kinds with the client that they name.
    fn valid() -> Vec<(Vec<u8>, Option<SocketAddr>)> {
        let four = Some(address("203.0.113.7:4711"));
        let six = Some(address("[2001:db8::7]:4711"));
        let mut headers: Vec<_> = [
            ("PROXY TCP4 203.0.113.7 192.0.2.1 4711 7\r\n", four),
            ("PROXY TCP4 203.0.113.7 192.0.2.1 4711 0\r\n", four),
            ("PROXY TCP6 2001:db8::7 2001:db8::1 4711 7\r\n", six),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN with as many words as one likes to say\r\n", None),
            (
                "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
                None,
            ),
        ]
        .map(|(line, client)| (line.as_bytes().to_vec(), client))
        .into();
        assert_eq!(headers[5].0.len(), LONGEST_LINE);
        let six_ends = [
            [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7].as_slice(),
            &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &ENDS[8..],
        ]
        .concat();
        headers.extend([
            (binary(0x21, 0x11, &[ENDS]), four),
            (binary(0x21, 0x11, &[ENDS, EXTENSIONS]), four),
            (binary(0x21, 0x21, &[&six_ends, EXTENSIONS]), six),
            (binary(0x21, 0x31, &[&[b'/'; 216], EXTENSIONS]), None),
            (binary(0x21, 0x00, &[]), None),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x00, &[EXTENSIONS]), None),
            // Nothing else counts in LOCAL, not even a family that needs more bytes than there are.
            (binary(0x20, 0x21, &[b"short"]), None),
            (binary(0x20, 0x11, &[ENDS]), None),
            (binary(0x21, 0x11, &[ENDS, &[4, 0x0f, 0xf1], &[0; 0xff1]]), four),
        ]);
        assert_eq!(headers[15].0.len(), LONGEST_HEADER);
        headers
    }

    #[test]
    fn a_header_is_found_at_its_last_byte_and_not_before() {
        for (header, client) in valid() {
            let shown = header.escape_ascii();
            for length in 0..header.len() {
                assert_eq!(parse(&header[..length]), Ok(None), "{length} bytes of {shown}");
            }
            let expected = Ok(Some(Header { length: header.len(), client }));
            assert_eq!(parse(&header), expected, "{shown}");
            for behind in [b"\r\n".as_slice(), b"PROXY ", &[0; LONGEST_HEADER]] {
                assert_eq!(parse(&[&header, behind].concat()), expected, "{shown} and more");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told_from_one_that_is_not_complete() {
        let long_rest = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0x10, 0x01]].concat();
        for (bytes, reason) in [
            (b"GET / HTTP/1.1\r\nHost: localhost\r\n".to_vec(), "it began with b'GET / HTTP/1.1\\r\\n'"),
            (b"P!".to_vec(), "it began with b'P!'"),
            (b"proxy TCP4".to_vec(), "it began with b'proxy TCP4'"),
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), "it began with b'\\r\\n\\r\\n\\x00\\r\\nQUIT\\r'"),
            ([b"PROXY ".as_slice(), &[b'x'; 101]].concat(), "no end within 107 bytes"),
            ([UNKNOWN, &[b' '; 94], b"\r\n"].concat(), "no end within 107 bytes"),
            (b"PROXY UNKNOWN\n".to_vec(), "version 1 is wrong"),
            (b"PROXY UNKNOWN what\n".to_vec(), "version 1 is wrong"),
            (b"PROXY UNKNOWNS\r\n".to_vec(), "invalid protocol"),
            (b"PROXY \r\n".to_vec(), "version 1 is wrong"),
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 7\n".to_vec(), "version 1 is wrong"),
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711\r\n".to_vec(), "version 1 is wrong"),
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 7 8\r\n".to_vec(), "must end in 'CR LF'"),
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 7\rx\r\n".to_vec(), "must end in 'CR LF'"),
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 65536 7\r\n".to_vec(), "invalid TCP port for the source"),
            (
                b"PROXY TCP4 203.0.113.7 192.0.2.1 +80 7\r\n".to_vec(),
                "has the port b'+80', which is not written in digits",
            ),
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 80 +7\r\n".to_vec(), "has the port b'+7', which is not"),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 080 7\r\n".to_vec(), "invalid TCP port for the source"),
            (b"PROXY TCP4 203.0.113.07 192.0.2.1 80 7\r\n".to_vec(), "invalid IP address for the source"),
            (b"PROXY TCP4 2001:db8::7 192.0.2.1 1 7\r\n".to_vec(), "invalid IP address for the source"),
            (b"PROXY TCP4 203.0.113.7  192.0.2.1 1 7\r\n".to_vec(), "invalid IP address for the destination"),
            (b"PROXY TCP4 \xff 192.0.2.1 1 7\r\n".to_vec(), "not valid UTF-8"),
            (long_rest, "4097 bytes long; the server accepts at most 4096"),
            (binary(0x11, 0x11, &[ENDS]), "version 10 to be equal to 2"),
            (binary(0x22, 0x11, &[ENDS]), "Invalid command 2"),
            (binary(0x21, 0x41, &[ENDS]), "Invalid Address Family 40"),
            (binary(0x21, 0x13, &[ENDS]), "Invalid protocol 3"),
            (binary(0x21, 0x21, &[ENDS]), "length of 12 bytes cannot store the 36 bytes"),
            (binary(0x21, 0x11, &[ENDS, &[4, 0, 9, 1]]), "not long enough to contain TLV 4 with length 9"),
            (binary(0x21, 0x11, &[ENDS, &[4, 0]]), "leftover 2 bytes"),
        ] {
            let error = parse(&bytes).expect_err(&format!("{}", bytes.escape_ascii())).to_string();
            assert!(error.contains(reason), "{error}, and not {reason}");
            assert!(!error.contains(char::is_control), "{error:?} is to fit in a line");
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let pairs = [("203.0.113.7:4711", "192.0.2.1:7"), ("[2001:db8::7]:4711", "[::1]:7")];
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            for (client, server) in pairs {
                let header = header(version, Some((address(client), address(server))));
                let expected = Header { length: header.len(), client: Some(address(client)) };
                assert_eq!(parse(&header), Ok(Some(expected)), "{version:?}, {client}");
            }
            let header = header(version, None);
            assert_eq!(
                parse(&header),
                Ok(Some(Header { length: header.len(), client: None })),
                "{version:?}"
            );
        }
    }

    /// Bytes at random, most of them close to a header.
    fn nearly_headers() -> impl Strategy<Value = Vec<u8>> {
        let bytes = |most: usize| proptest::collection::vec(any::<u8>(), 0..most);
        let starts = (0..valid().len()).prop_map(|index| valid()[index].0.clone());
        prop_oneof![
            bytes(300),
            ("PROXY (TCP4|TCP6|UNKNOWN|[A-Z]{0,4})( [0-9a-f:.]{0,9}){0,6}(\r|\n|\r\n)?", bytes(9))
                .prop_map(|(text, behind)| [text.as_bytes(), &behind].concat()),
            (any::<[u8; 3]>(), 0_u8..3, bytes(300)).prop_map(|(fields, high, rest)| {
                [v2::PROTOCOL_PREFIX, &fields[..2], &[high, fields[2]], &rest].concat()
            }),
            (starts, any::<prop::sample::Index>(), any::<u8>(), bytes(20)).prop_map(
                |(mut header, place, byte, behind)| {
                    let place = place.index(header.len());
                    header[place] = byte;
                    header.extend(behind);
                    header
                }
            ),
        ]
    }

    proptest! {
        /// Any bytes are judged without a panic. The judgement of a beginning holds for the whole. A header is never
        /// longer than the bytes around it, nor than the bound. Once enough bytes came, the judgement is final.
        #[test]
        fn any_bytes_are_judged_alike_however_they_are_split(bytes in nearly_headers(), cut in any::<prop::sample::Index>()) {
            let whole = parse(&bytes);
            if let Ok(Some(header)) = &whole {
                prop_assert!(header.length <= bytes.len() && header.length <= LONGEST_HEADER);
                prop_assert_eq!(parse(&bytes[..header.length - 1]), Ok(None));
            }
            let cut = cut.index(bytes.len() + 1);
            match parse(&bytes[..cut]) {
                Ok(None) => {}
                Ok(decided) => prop_assert_eq!(&whole, &Ok(decided)),
                Err(_) => prop_assert!(whole.is_err()),
            }
            prop_assert!(bytes.len() < LONGEST_HEADER || whole != Ok(None));
        }
    }
}
