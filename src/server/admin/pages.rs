//! The pages: figures, health, readiness, and the refusals of everything else.

use super::figures::Figures;
use super::http::{LONGEST_HEAD, MOST_HEADERS, Method, Refusal, Request, Response};
use super::metrics::{Format, metrics};

/// The list of pages, for people who look around.
const PAGES: &str = "/metrics  the figures, for Prometheus\n/healthz  whether the process lives\n/readyz   whether connections are accepted\n";

/// The response to a request, or to bytes that are no request.
pub(super) fn respond(request: &Result<Request, Refusal>, figures: &Figures) -> Response {
    match request {
        Ok(request) => Response { head_only: request.method == Method::Head, ..page(request, figures) },
        Err(refusal) => refuse(*refusal),
    }
}

fn page(request: &Request, figures: &Figures) -> Response {
    let known = matches!(request.path.as_str(), "/" | "/metrics" | "/healthz" | "/readyz");
    if known && request.method == Method::Other {
        let body = "only GET and HEAD are understood here\n";
        return Response { allow: Some("GET, HEAD"), ..Response::text("405 Method Not Allowed", body) };
    }
    match request.path.as_str() {
        "/" => Response::text("200 OK", PAGES),
        "/metrics" => {
            let format = if request.open_metrics { Format::OpenMetrics } else { Format::Prometheus };
            let body = metrics(figures, format);
            Response { media_type: format.media_type(), body, ..Response::text("200 OK", "") }
        }
        // An answer proves that the loop turns.
        "/healthz" => Response::text("200 OK", "alive\n"),
        "/readyz" => match figures.not_accepting {
            None => Response::text("200 OK", "accepting\n"),
            Some(reason) => Response::text("503 Service Unavailable", &format!("{reason}\n")),
        },
        _ => Response::text("404 Not Found", &format!("there is no such page; these are:\n{PAGES}")),
    }
}

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Malformed => Response::text("400 Bad Request", "this is no HTTP request\n"),
        Refusal::Host => Response::text("400 Bad Request", "an HTTP/1.1 request has one Host header\n"),
        Refusal::TooLong => {
            let kibibytes = LONGEST_HEAD / 1024;
            let body = format!(
                "the head of the request is longer than {kibibytes} KiB or has more than {MOST_HEADERS} fields\n"
            );
            Response::text("431 Request Header Fields Too Large", &body)
        }
        Refusal::Version => {
            Response::text("505 HTTP Version Not Supported", "HTTP/1.0 and HTTP/1.1 are understood here\n")
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::server::admin::figures::NotAccepting;
    use crate::server::admin::figures::tests::figures;

    /// The status and the body of a response. This checks everything else first.
    fn sound(request: &Result<Request, Refusal>, not_accepting: Option<NotAccepting>) -> (u16, String) {
        let mut bytes = b"staged before".to_vec();
        respond(request, &Figures { not_accepting, ..figures() }).write(&mut bytes, DateTime::UNIX_EPOCH);
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let bytes = bytes.strip_prefix(b"staged before").expect("it is appended");
        let httparse::Status::Complete(head) = response.parse(bytes).expect("a response") else {
            panic!("without an end: {}", bytes.escape_ascii());
        };
        let header = |name: &str| {
            let value = response.headers.iter().find(|header| header.name == name)?.value;
            Some(std::str::from_utf8(value).expect("text").to_owned())
        };
        let body = String::from_utf8(bytes[head..].to_vec()).expect("text");
        let is_head = matches!(request, Ok(request) if request.method == Method::Head);
        if !is_head {
            assert_eq!(header("Content-Length"), Some(body.len().to_string()));
        }
        assert_eq!(header("Date").as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(header("Connection").as_deref(), Some("close"));
        let code = response.code.expect("a status");
        assert_eq!(header("Allow").as_deref(), (code == 405).then_some("GET, HEAD"));
        (code, body)
    }

    #[test]
    fn every_response_is_sound() {
        for method in [Method::Get, Method::Head, Method::Other] {
            for (path, code) in
                [("/", 200), ("/metrics", 200), ("/healthz", 200), ("/readyz", 200), ("/x", 404), ("*", 404)]
            {
                for open_metrics in [false, true] {
                    let request = Request { method, path: path.into(), open_metrics };
                    let (status, body) = sound(&Ok(request), None);
                    let expected = if method == Method::Other && code == 200 { 405 } else { code };
                    assert_eq!(status, expected, "{method:?} {path}");
                    assert_eq!(body.is_empty(), method == Method::Head, "{method:?} {path}: {body}");
                }
            }
        }
        for (refusal, code) in [
            (Refusal::Malformed, 400),
            (Refusal::Host, 400),
            (Refusal::TooLong, 431),
            (Refusal::Version, 505),
        ] {
            assert_eq!(sound(&Err(refusal), None).0, code);
        }
    }

    #[test]
    fn whoever_is_not_ready_says_why_and_is_well_all_the_same() {
        let get = |path: &str| Ok(Request { method: Method::Get, path: path.into(), open_metrics: false });
        for (reason, text) in [
            (NotAccepting::Stopping, "stopping\n"),
            (NotAccepting::Enough, "as many connections as were asked for were accepted\n"),
            (NotAccepting::Exhausted, "the server pauses accepting: out of descriptors or memory\n"),
            (NotAccepting::Full { limit: 7 }, "the limit of 7 connections is reached\n"),
        ] {
            assert_eq!(sound(&get("/readyz"), Some(reason)), (503, text.into()));
            assert_eq!(sound(&get("/healthz"), Some(reason)).0, 200);
            assert_eq!(sound(&get("/metrics"), Some(reason)).0, 200);
        }
    }
}
