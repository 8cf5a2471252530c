//! The values that options take, as people write them: sizes, durations, endpoints, text with escapes.

use std::ffi::OsStr;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use bytesize::ByteSize;
use echoloop::load::{LONGEST_MESSAGE, Sizes};
use echoloop::{DEFAULT_PORT, Endpoint, EndpointError, Greeting, Host, Text, TextError};

/// The largest buffer that makes sense for one connection.
const LARGEST_SIZE: usize = 1 << 30;
/// Every trace begins with some fixed events, which take a part of this size.
const SMALLEST_TRACE: usize = 4096;

/// The size of a buffer, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Size(pub(super) usize);

/// A timeout that may be `none`. (clap would take a plain `Option` for an optional argument.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timeout(pub(super) Option<Duration>);

pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    match meant(text) {
        Some(hint) => Err(hint),
        None => text.parse().map_err(|error: EndpointError| error.to_string()),
    }
}

/// An endpoint to connect to. Nobody can connect to "every interface", so that endpoint stands for this machine.
pub(super) fn target(text: &str) -> Result<Endpoint, String> {
    let localhost = || Host::Name("localhost".into());
    endpoint(text).map(|endpoint| match endpoint {
        Endpoint::Tcp { host: Host::Any, port } => Endpoint::Tcp { host: localhost(), port },
        Endpoint::Udp { host: Host::Any, port } => Endpoint::Udp { host: localhost(), port },
        endpoint => endpoint,
    })
}

/// A hint at text that parses, but as an endpoint that the user hardly meant.
fn meant(text: &str) -> Option<String> {
    for scheme in ["tcp", "udp"] {
        if let Some(rest) = text.strip_prefix(scheme).and_then(|rest| rest.strip_prefix(':'))
            && !rest.starts_with("//")
        {
            let colon = if rest.bytes().all(|byte| byte.is_ascii_digit()) { ":" } else { "" };
            return Some(format!("did you mean `{scheme}://{colon}{rest}`?"));
        }
    }
    let (host, port) = text.rsplit_once(':')?;
    let addresses = text.parse::<Ipv6Addr>().is_ok() && host.parse::<Ipv6Addr>().is_ok();
    (addresses && port.len() > 1 && port.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| format!("for port {port} write `[{host}]:{port}`, for the address `[{text}]`"))
}

/// An endpoint without a host means loopback, since the figures are not for everybody. `*` means every interface.
pub(super) fn admin_endpoint(text: &str) -> Result<Endpoint, String> {
    let host_is_named = text.contains('*');
    match endpoint(text)? {
        Endpoint::Udp { .. } => {
            Err("figures and health are HTTP over TCP or a Unix socket, not over UDP".into())
        }
        Endpoint::Tcp { port: DEFAULT_PORT, .. } if !text.ends_with(&DEFAULT_PORT.to_string()) => {
            Err("name a port, as in `:9100` or `localhost:9100`".into())
        }
        Endpoint::Tcp { host: Host::Any, port } if !host_is_named => {
            Ok(Endpoint::Tcp { host: Host::Name("localhost".into()), port })
        }
        endpoint => Ok(endpoint),
    }
}

/// A double, as a JSON reader may use it, is exact for all whole numbers up to here.
const MOST: u64 = 1 << 53;

/// A number of things, as `500`, `10k` or `1.5M`.
pub(super) fn at_least_one(text: &str) -> Result<u64, String> {
    let (number, unit) = multiplied(text);
    let exact = || number.parse::<u64>().ok()?.checked_mul(unit).filter(|count| *count <= MOST);
    let with_point = || {
        let product = number.parse::<f64>().ok()? * unit as f64;
        (product.fract() == 0.0 && (0.0..=MOST as f64).contains(&product)).then_some(product as u64)
    };
    match exact().or_else(with_point) {
        Some(0) => Err("it must be at least 1".into()),
        Some(count) => Ok(count),
        None if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("it must be at most {MOST}"))
        }
        None => Err("a whole number is expected, such as 500, 10k or 1.5M".into()),
    }
}

/// A number, and the factor that its unit stands for.
fn multiplied(text: &str) -> (&str, u64) {
    match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1000),
        None => text.strip_suffix('M').map_or((text, 1), |number| (number, 1_000_000)),
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Size, String> {
        match memory_size(text)? {
            bytes if bytes > LARGEST_SIZE => Err("it must be at most 1GiB".into()),
            bytes => Ok(Size(bytes)),
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            bytes if bytes % 1024 == 0 => write!(f, "{}KiB", bytes / 1024),
            bytes => write!(f, "{bytes}"),
        }
    }
}

/// An amount of memory for more than one connection.
pub(super) fn memory_size(text: &str) -> Result<usize, String> {
    let size: ByteSize =
        text.parse().map_err(|_| "a size is expected, such as 16, 64KiB or 1MiB".to_owned())?;
    match size.as_u64() {
        0 => Err("it must be at least 1 byte".into()),
        bytes => usize::try_from(bytes).map_err(|_| "it is more than this machine can address".into()),
    }
}

pub(super) fn trace_limit(text: &str) -> Result<Size, String> {
    match text.parse()? {
        Size(..SMALLEST_TRACE) => Err("it must be at least 4KiB".into()),
        size => Ok(size),
    }
}

pub(super) fn sizes(text: &str) -> Result<Sizes, String> {
    let (shortest, longest) = text.split_once('-').unwrap_or((text, text));
    let (Size(shortest), Size(longest)) = (shortest.parse()?, longest.parse()?);
    let sizes = Sizes { shortest, longest };
    match sizes {
        Sizes { longest, .. } if longest > LONGEST_MESSAGE => {
            Err(format!("it must be at most {}", ByteSize(LONGEST_MESSAGE as u64)))
        }
        Sizes { shortest, longest } if shortest > longest => Err("the shorter size comes first".into()),
        sizes => Ok(sizes),
    }
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let (number, unit) = multiplied(text);
    match number.parse::<f64>().map(|number| number * unit as f64) {
        Ok(rate) if rate > 0.0 && rate <= 1e9 => Ok(rate),
        _ => Err("a number above 0 and up to 1e9 is expected, such as 500, 20k or 1.5M".into()),
    }
}

pub(super) fn positive_duration(text: &str) -> Result<humantime::Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it must be longer than 0s".into()),
        Ok(duration) => Ok(duration.into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The last second of the year 9999: RFC 3339 can write no later year.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// A moment that is still to come: RFC 3339, or seconds since 1970.
pub(super) fn time(text: &str) -> Result<SystemTime, String> {
    let seconds = || Some(text.parse::<f64>().ok()?).filter(|seconds| (0.0..=LAST_SECOND).contains(seconds));
    let time = match humantime::parse_rfc3339_weak(text) {
        Ok(time) => time,
        Err(_) => SystemTime::UNIX_EPOCH + seconds().map(Duration::from_secs_f64).ok_or(
            "a time in UTC is expected, such as 2026-01-31T12:00:00Z, or seconds since 1970, before the year 10000",
        )?,
    };
    match SystemTime::now().duration_since(time) {
        Ok(ago) if !ago.is_zero() => Err(format!(
            "it was {} ago: choose a time that leaves all generators time to start",
            humantime::format_duration(Duration::from_secs(ago.as_secs()))
        )),
        _ => Ok(time),
    }
}

/// A share of up to a half, given in percent.
pub(super) fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    match number.parse::<f64>() {
        Ok(percent) if (0.1..=50.0).contains(&percent) => Ok(percent / 100.0),
        _ => Err("a share between 0.1% and 50% is expected".into()),
    }
}

/// A file for a picture. Any name without a suffix will do, but none that promises another format.
pub(super) fn svg_file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match path.extension().and_then(OsStr::to_str) {
        Some(suffix) if !suffix.eq_ignore_ascii_case("svg") => Err(format!(
            "the picture is SVG, not {suffix}: name it `{}`",
            path.with_extension("svg").display()
        )),
        _ => Ok(path),
    }
}

impl FromStr for Timeout {
    type Err = String;

    fn from_str(text: &str) -> Result<Timeout, String> {
        if text == "none" {
            Ok(Timeout(None))
        } else {
            positive_duration(text).map(|time| Timeout(Some(*time)))
        }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => humantime::format_duration(time).fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// Permissions of a file, octal.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("up to four octal digits are expected, as in 0660".into()),
    }
}

/// Text that is not empty.
pub(super) fn message(text: &str) -> Result<Text, String> {
    match text.parse::<Text>() {
        Ok(Text(bytes)) if bytes.is_empty() => Err("at least one byte is expected".into()),
        result => result.map_err(|error| error.to_string()),
    }
}

/// Text with placeholders for the names of both ends.
pub(super) fn greeting(words: &str) -> Result<Greeting, String> {
    let text: Text = words.parse().map_err(|error: TextError| error.to_string())?;
    Greeting::parse(&text.0).map_err(|error| error.to_string())
}

/// The options of one command, parsed apart from the program, as the commands' tests need them.
#[cfg(test)]
pub(super) fn parsed<A: clap::Args>(arguments: &[&str]) -> Result<A, clap::Error> {
    let command = A::augment_args(clap::Command::new("echoloop").no_binary_name(true));
    A::from_arg_matches(&command.try_get_matches_from(arguments)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_humane_and_bounded() {
        for (text, bytes) in [("16", 16), ("64KiB", 65_536), ("1MiB", 1 << 20), ("32k", 32_000)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
            assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }
        for nonsense in ["0", "-1", "2GiB", "many", ""] {
            assert!(nonsense.parse::<Size>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn rates_are_humane() {
        for (text, meaning) in [("500", 500.0), ("20k", 20e3), ("1.5M", 1.5e6), ("1e4", 1e4)] {
            assert_eq!(rate(text), Ok(meaning));
        }
        for nonsense in ["0", "-1", "k", "2G", "1e10", "1001M", "NaN", ""] {
            assert!(rate(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn an_endpoint_that_nobody_means_gets_a_hint() {
        for (text, hint) in [
            ("udp:7777", "`udp://:7777`"),
            ("udp:localhost:7777", "`udp://localhost:7777`"),
            ("tcp::7777", "`tcp://:7777`"),
            ("::1:7777", "`[::1]:7777`"),
            ("fe80::1:7777", "`[fe80::1]:7777`"),
        ] {
            let error = endpoint(text).expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
        for text in
            ["udp://:7777", "tcp.example.org:7", "::1", "2001:db8::10", "[::1]:7777", "[::1:7777]", "udp"]
        {
            assert!(endpoint(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn every_interface_is_nothing_to_connect_to() {
        for (text, meaning) in
            [(":7", "tcp://localhost:7"), ("udp://*:7", "udp://localhost:7"), ("7", "tcp://localhost:7")]
        {
            assert_eq!(target(text).map(|endpoint| endpoint.to_string()).as_deref(), Ok(meaning));
        }
    }

    #[test]
    fn an_admin_endpoint_without_a_host_is_on_loopback() {
        for (text, meaning) in [
            (":9100", "tcp://localhost:9100"),
            ("9100", "tcp://localhost:9100"),
            ("tcp://:0", "tcp://localhost:0"),
            (":10000", "tcp://localhost:10000"),
            ("0.0.0.0:9100", "tcp://0.0.0.0:9100"),
            ("*:9100", "tcp://*:9100"),
            ("[::1]:9100", "tcp://[::1]:9100"),
            ("unix:/run/admin.sock", "unix:/run/admin.sock"),
        ] {
            assert_eq!(admin_endpoint(text).map(|endpoint| endpoint.to_string()).as_deref(), Ok(meaning));
        }
        for nonsense in ["udp://:9100", "localhost", "127.0.0.1", ":http", ""] {
            assert!(admin_endpoint(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_time_to_begin_is_still_to_come() {
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(32_503_680_000);
        for good in ["3000-01-01T00:00:00Z", "3000-01-01 00:00:00", "32503680000", "32503680000.0"] {
            assert_eq!(time(good), Ok(later), "{good}");
        }
        assert!(time("2020-01-01T00:00:00Z").expect_err("it has passed").contains(" ago: "));
        assert!(
            ["", "now", "-1", "12:00", "1e19", "1e300", "inf", "nan"]
                .iter()
                .all(|nonsense| time(nonsense).is_err())
        );
    }

    #[test]
    fn a_share_is_given_in_percent() {
        assert_eq!((percent("2%"), percent("0.5")), (Ok(0.02), Ok(0.005)));
        assert!(["0%", "51%", "two", "", "nan"].iter().all(|nonsense| percent(nonsense).is_err()));
    }

    #[test]
    fn a_picture_is_svg() {
        for good in ["run.svg", "RUN.SVG", "/dev/stdout", "a.b/run"] {
            assert_eq!(svg_file(good), Ok(good.into()));
        }
        let error = svg_file("a/run.png").expect_err("another format");
        assert_eq!(error, "the picture is SVG, not png: name it `a/run.svg`");
    }

    #[test]
    fn a_timeout_may_be_none_but_not_nothing() {
        for (text, time) in [("none", None), ("5min", Some(Duration::from_secs(300)))] {
            assert_eq!(text.parse(), Ok(Timeout(time)));
            assert_eq!(Timeout(time).to_string().parse(), Ok(Timeout(time)));
        }
        assert!(["0s", "10"].iter().all(|nonsense| nonsense.parse::<Timeout>().is_err()));
    }
}
