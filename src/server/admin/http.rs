//! The parts of HTTP that the admin endpoint needs: the head of a request, in pieces of any size, and a response.
//!
//! `httparse` reads the head, whose length is bounded. The endpoint waits for no body, since no page takes one.

use chrono::{DateTime, Utc};
use httparse::{EMPTY_HEADER, Error as ParseError, Header, Status as Parsed};

/// The request line and all headers. Prometheus sends a few hundred bytes, a browser with cookies a few thousand.
pub(super) const LONGEST_HEAD: usize = 8 * 1024;
/// The most header fields; `httparse` needs to know how many.
pub(super) const MOST_HEADERS: usize = 64;
const TEXT: &str = "text/plain; charset=utf-8";

/// A request, as far as the pages need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The path without the query, and without the host that clients of a proxy put in front.
    pub(super) path: String,
    /// Whether the client says that it understands OpenMetrics.
    pub(super) open_metrics: bool,
}

/// The method of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
    Other,
}

/// The reason why a request gets no page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is no HTTP request.
    Malformed,
    /// It does not name exactly one host, as HTTP/1.1 requires.
    Host,
    /// Its head is too long, or has too many fields.
    TooLong,
    /// It is neither HTTP/1.0 nor HTTP/1.1.
    Version,
}

/// A whole response.
pub(super) struct Response {
    /// The code and its words, as in the first line.
    pub(super) status: &'static str,
    pub(super) media_type: &'static str,
    /// The methods that the page knows, if the request used another one.
    pub(super) allow: Option<&'static str>,
    pub(super) body: String,
    /// Send the head alone, as HEAD asks for.
    pub(super) head_only: bool,
}

/// The head of a request so far. It takes no heap memory before the first byte, and at most [`LONGEST_HEAD`] then.
#[derive(Debug, Default)]
pub(super) struct RequestHead(Vec<u8>);

impl RequestHead {
    /// Adds received bytes. `None`: the head is not complete.
    pub(super) fn add(&mut self, bytes: &[u8]) -> Option<Result<Request, Refusal>> {
        let taken = &bytes[..bytes.len().min(LONGEST_HEAD - self.0.len())];
        // Parse only when a line has ended: a client that sends single bytes would otherwise make us parse the whole
        // head for each. Parse the first bytes too: a client that doesn't speak HTTP may never end a line.
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

/// Whether a media range names OpenMetrics, and does not rule it out with `q=0`.
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

/// The path of a target: `/metrics` of `/metrics?query` and of `http://host/metrics?query`.
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

impl Response {
    /// A response of plain text.
    pub(super) fn text(status: &'static str, body: &str) -> Response {
        Response { status, media_type: TEXT, allow: None, body: body.to_owned(), head_only: false }
    }

    /// Appends the response to the bytes that will be sent. RFC 9110 (6.6.1) wants its date from a server with a clock.
    pub(super) fn write(&self, out: &mut Vec<u8>, now: DateTime<Utc>) {
        let Response { status, media_type, allow, body, head_only } = self;
        let date = now.format("%a, %d %b %Y %H:%M:%S GMT");
        let allow = allow.map(|methods| format!("Allow: {methods}\r\n")).unwrap_or_default();
        let head = format!(
            "HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\
             {allow}Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            body.len()
        );
        out.extend_from_slice(head.as_bytes());
        if !head_only {
            out.extend_from_slice(body.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
