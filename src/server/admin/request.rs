//! The head of an HTTP request, collected however it is torn, and no longer than it may be.
//!
//! `httparse` reads it. What is refused is refused with the status that RFC 9110 has for it; a body is not waited for,
//! since nothing here takes one.

use httparse::{EMPTY_HEADER, Error as ParseError, Header, Status as Parsed};

/// The request line and all headers. Prometheus sends a few hundred bytes, a browser with cookies a few thousand.
pub(super) const LONGEST_HEAD: usize = 8 * 1024;
/// Header fields; `httparse` needs to know how many there may be.
pub(super) const MOST_HEADERS: usize = 64;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// Without the query, and without the host that a proxy would put in front.
    pub(super) path: String,
    /// Whether the client says that it understands OpenMetrics.
    pub(super) open_metrics: bool,
}

/// How it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no HTTP request.
    Malformed,
    /// HTTP/1.1 names the host, exactly once.
    Host,
    /// Its head is too long, or has too many fields.
    TooLong,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    Version,
}

/// What was received of a head so far: nothing on the heap until the first byte came, at most [`LONGEST_HEAD`] then.
#[derive(Debug, Default)]
pub(super) struct RequestHead(Vec<u8>);

impl RequestHead {
    /// Adds what was received. `None`: there is more to come.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Option<Result<Request, Refusal>> {
        let taken = &bytes[..bytes.len().min(LONGEST_HEAD - self.0.len())];
        // Looked at when a line has ended, not at each byte, or a client that sends them one by one would have the
        // whole of it looked at for each. At the first bytes too: what is no HTTP at all may never end a line.
        let worth_a_look = self.0.is_empty() || taken.contains(&b'\n');
        self.0.extend_from_slice(taken);
        let is_full = self.0.len() == LONGEST_HEAD;
        if !worth_a_look && !is_full {
            return None;
        }
        match parse(&self.0) {
            None if is_full => Some(Err(Refusal::TooLong)),
            result => result,
        }
    }
}

/// `None`: the head has no end yet.
fn parse(head: &[u8]) -> Option<Result<Request, Refusal>> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(Parsed::Partial) => return None,
        Ok(Parsed::Complete(_)) => {}
        Err(ParseError::TooManyHeaders) => return Some(Err(Refusal::TooLong)),
        Err(ParseError::Version) => return Some(Err(Refusal::Version)),
        Err(_) => return Some(Err(Refusal::Malformed)),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Some(Err(Refusal::Malformed));
    };
    let hosts = values(request.headers, "host").count();
    if hosts > 1 || (hosts == 0 && version == 1) {
        return Some(Err(Refusal::Host));
    }
    let method = match method {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        _ => Method::Other,
    };
    let open_metrics = values(request.headers, "accept").any(accepts_open_metrics);
    Some(Ok(Request { method, path: path(target).to_owned(), open_metrics }))
}

fn values<'a>(headers: &'a [Header<'_>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// A media range names it, and does not rule it out with `q=0`.
fn accepts_open_metrics(accept: &[u8]) -> bool {
    let accept = String::from_utf8_lossy(accept).to_ascii_lowercase();
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        parts.next() == Some("application/openmetrics-text")
            && !parts.any(|part| {
                let weight = part.strip_prefix("q=").and_then(|weight| weight.parse::<f32>().ok());
                weight == Some(0.0)
            })
    })
}

/// `/metrics` of `/metrics?query` and of `http://host/metrics?query`.
fn path(target: &str) -> &str {
    let target = match target.split_once("://") {
        Some(("http" | "https", rest)) => rest.find(['/', '?']).map_or("/", |start| &rest[start..]),
        _ => target,
    };
    match target.split('?').next() {
        Some("") | None => "/",
        Some(path) => path,
    }
}

#[cfg(test)]
mod tests;
