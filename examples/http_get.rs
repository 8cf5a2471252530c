//! A small HTTP/1.0 client: a URL in, the body out.
//!
//! ```text
//! cargo run --example http_get -- http://localhost:8000/
//! cargo run --example http_get -- --head http://localhost:8000/
//! ```
//!
//! It shows a use of the line client. The request is three lines, after which the client ends its sending side: there is
//! no second request. It reads the head of the response line by line, and the body up to the end of the connection or to
//! its announced length, whichever comes first. Any status but 200 is an error.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use echoloop::Endpoint;
use echoloop::client::{ClientError, LineClient};
use url::Url;

/// For each step: connecting, a line, a piece of the body.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The client passes the body on in pieces of this size.
const PIECE: usize = 64 * 1024;
/// More header lines than any server sends.
const MOST_HEADERS: usize = 128;

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let method = if arguments.first().is_some_and(|first| first == "--head") {
        arguments.remove(0);
        Method::Head
    } else {
        Method::Get
    };
    let [url] = arguments.as_slice() else {
        return fail(2, "usage: http_get [--head] http://HOST[:PORT][/PATH]");
    };
    match fetch(method, url, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(HttpError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(1, error),
    }
}

fn fail(code: u8, reason: impl fmt::Display) -> ExitCode {
    // If nobody can hear it, the exit status still says it.
    let _ = writeln!(io::stderr(), "http_get: {reason}");
    ExitCode::from(code)
}

/// The method of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// The document.
    Get,
    /// Only its headers.
    Head,
}

/// The reasons for not getting a document.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("`{0}` is not a URL: {1}")]
    NotAUrl(String, url::ParseError),
    #[error("`{0}` is not an http:// URL with a host")]
    NotHttp(Url),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("the server does not speak HTTP: {0}")]
    NotHttpResponse(String),
    #[error("the server answers {code} {reason}")]
    Status { code: u16, reason: String },
    #[error("the body ends after {received} of {announced} bytes")]
    CutOff { received: u64, announced: u64 },
    #[error("cannot write the body: {0}")]
    Output(io::Error),
}

/// Writes the document to `output`, or the headers for a HEAD request.
pub(crate) fn fetch(method: Method, url: &str, output: &mut impl Write) -> Result<(), HttpError> {
    let url = Url::parse(url).map_err(|error| HttpError::NotAUrl(url.to_owned(), error))?;
    let mut client = LineClient::connect(&endpoint(&url)?, Some(TIMEOUT))?;
    request(&mut client, method, &url)?;
    let head = Head::read(&mut client)?;
    if head.code != 200 {
        return Err(HttpError::Status { code: head.code, reason: head.reason });
    }
    match method {
        Method::Head => {
            for (name, value) in &head.headers {
                writeln!(output, "{name}: {value}").map_err(HttpError::Output)?;
            }
        }
        Method::Get => copy_body(&mut client, head.content_length(), output)?,
    }
    output.flush().map_err(HttpError::Output)
}

fn endpoint(url: &Url) -> Result<Endpoint, HttpError> {
    let not_http = || HttpError::NotHttp(url.clone());
    let (Some(host), "http") = (url.host_str(), url.scheme()) else { return Err(not_http()) };
    let port = url.port_or_known_default().unwrap_or(80);
    format!("{host}:{port}").parse().map_err(|_| not_http())
}

fn request(client: &mut LineClient, method: Method, url: &Url) -> Result<(), HttpError> {
    let method = match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
    };
    let query = url.query().map(|query| format!("?{query}")).unwrap_or_default();
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    // `url` has percent-encoded everything that could end a line.
    client.write_line(format!("{method} {}{query} HTTP/1.0", url.path()))?;
    client.write_line(format!("Host: {host}{port}"))?;
    client.write_line("")?;
    client.half_close()?;
    Ok(())
}

/// The status line and the headers.
struct Head {
    code: u16,
    reason: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn read(client: &mut LineClient) -> Result<Head, HttpError> {
        let mut bytes = Vec::new();
        for _ in 0..=MOST_HEADERS {
            let line = client.read_line()?;
            bytes.extend_from_slice(&line);
            bytes.extend_from_slice(b"\r\n");
            if line.is_empty() || !bytes.starts_with(b"HTTP/") {
                break;
            }
        }
        Head::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Head, HttpError> {
        let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(bytes) {
            Ok(httparse::Status::Complete(_)) => {}
            Ok(httparse::Status::Partial) => {
                return Err(HttpError::NotHttpResponse("its headers have no end".into()));
            }
            Err(error) => return Err(HttpError::NotHttpResponse(error.to_string())),
        }
        Ok(Head {
            code: response.code.unwrap_or_default(),
            reason: response.reason.unwrap_or_default().to_owned(),
            headers: response
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), String::from_utf8_lossy(header.value).into_owned()))
                .collect(),
        })
    }

    fn content_length(&self) -> Option<u64> {
        let (_, value) = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?;
        value.trim().parse().ok()
    }
}

fn copy_body(
    client: &mut LineClient,
    announced: Option<u64>,
    output: &mut impl Write,
) -> Result<(), HttpError> {
    let mut received = 0;
    loop {
        let left = announced.map_or(u64::MAX, |announced| announced - received);
        let piece = client.read(usize::try_from(left).unwrap_or(usize::MAX).min(PIECE))?;
        output.write_all(&piece).map_err(HttpError::Output)?;
        received += piece.len() as u64;
        match announced {
            Some(announced) if received == announced => return Ok(()),
            Some(announced) if piece.is_empty() => return Err(HttpError::CutOff { received, announced }),
            None if piece.is_empty() => return Ok(()),
            _ => {}
        }
    }
}
