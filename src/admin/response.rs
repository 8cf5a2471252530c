//! What is answered: a page, or the status that says why not.

use chrono::{DateTime, Utc};

use super::Status;
use super::exposition::{Format, exposition};
use super::request::{Method, Refusal, Request};

const TEXT: &str = "text/plain; charset=utf-8";

/// The pages, as a client that is lost is told them.
const PAGES: &str = "/metrics  the figures, for Prometheus\n/healthz  whether the process lives\n/readyz   whether connections are accepted\n";

/// A whole response.
pub(super) struct Response {
    /// The code and its words, as on the first line.
    pub(super) status: &'static str,
    media_type: &'static str,
    /// Methods that the path knows, if another one was used.
    allow: Option<&'static str>,
    body: String,
    /// Whether only the head was asked for.
    head_only: bool,
}

/// Answers a request, or refuses what is none.
pub(super) fn to(request: &Result<Request, Refusal>, status: &Status) -> Response {
    match request {
        Ok(request) => Response { head_only: request.method == Method::Head, ..page(request, status) },
        Err(refusal) => refuse(*refusal),
    }
}

fn page(request: &Request, status: &Status) -> Response {
    let known = matches!(request.path.as_str(), "/" | "/metrics" | "/healthz" | "/readyz");
    if known && request.method == Method::Other {
        let body = "only GET and HEAD are understood here\n";
        return Response { allow: Some("GET, HEAD"), ..text("405 Method Not Allowed", body) };
    }
    match request.path.as_str() {
        "/" => text("200 OK", PAGES),
        "/metrics" => {
            let format = if request.open_metrics { Format::OpenMetrics } else { Format::Prometheus };
            let body = exposition(&status.figures, format);
            Response { media_type: format.media_type(), body, ..text("200 OK", "") }
        }
        // That it answers is all there is to say.
        "/healthz" => text("200 OK", "alive\n"),
        "/readyz" => match status.not_accepting {
            None => text("200 OK", "accepting\n"),
            Some(reason) => text("503 Service Unavailable", &format!("{reason}\n")),
        },
        _ => text("404 Not Found", &format!("there is no such page; these are:\n{PAGES}")),
    }
}

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Malformed => text("400 Bad Request", "this is no HTTP request\n"),
        Refusal::Host => text("400 Bad Request", "an HTTP/1.1 request has one Host header\n"),
        Refusal::TooLong => {
            text("431 Request Header Fields Too Large", "the head of the request is longer than 8 KiB\n")
        }
        Refusal::Version => {
            text("505 HTTP Version Not Supported", "HTTP/1.0 and HTTP/1.1 are understood here\n")
        }
    }
}

fn text(status: &'static str, body: &str) -> Response {
    Response { status, media_type: TEXT, allow: None, body: body.to_owned(), head_only: false }
}

impl Response {
    /// Appends it to what is to be sent. `now` is for the `Date` that RFC 9110 (6.6.1) wants from whoever has a clock.
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
