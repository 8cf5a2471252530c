//! Rows E3 and E4: the example that fetches a URL.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::purpose::{Purpose, read_to_end, server};
use crate::support::{Process, installed, skip};

#[path = "../../examples/http_get.rs"]
#[allow(dead_code)]
mod http_get;

use http_get::{HttpError, Method, fetch};

fn get(url: impl Display) -> Result<String, HttpError> {
    let mut body = Vec::new();
    fetch(Method::Get, &url.to_string(), &mut body)?;
    Ok(String::from_utf8(body).expect("text"))
}

/// Answers any request, once its sender has ended its side.
fn answering(response: &'static [u8]) -> Purpose {
    server(move |mut stream| {
        read_to_end(&mut stream);
        stream.write_all(response).expect("it takes them");
    })
}

#[test]
fn e3_the_request_is_followed_by_a_half_close() {
    let server = server(|mut stream| {
        let request = String::from_utf8(read_to_end(&mut stream)).expect("text");
        let host = stream.local_addr().expect("it is bound");
        assert_eq!(request, format!("GET /a%20b?c=d HTTP/1.0\r\nHost: {host}\r\n\r\n"));
        stream.write_all(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nthe\0body\n").expect("it takes them");
    });
    assert_eq!(get(format!("http://{}/a b?c=d#e", server.endpoint())).expect("a body"), "the\0body\n");
}

#[test]
fn e3_the_document_is_the_root_if_none_is_named_and_head_asks_for_headers() {
    let server = server(|mut stream| {
        let request = read_to_end(&mut stream);
        assert!(request.starts_with(b"HEAD / HTTP/1.0\r\n"), "{}", request.escape_ascii());
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nServer: test\n\r\n")
            .expect("it takes them");
    });
    let mut headers = Vec::new();
    let url = format!("http://{}", server.endpoint());
    fetch(Method::Head, &url, &mut headers).expect("headers");
    assert_eq!(headers, b"Content-Length: 7\nServer: test\n");
}

#[test]
fn e3_what_is_not_http_is_an_error() {
    for response in [
        b"220 mail ready\r\n" as &[u8],
        b"HTTP/1.0 OK\r\n\r\n",
        b"HTTP/1.0 2x0 OK\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nno colon\r\n\r\n",
    ] {
        let server = answering(response);
        match get(format!("http://{}", server.endpoint())) {
            Err(HttpError::NotHttpResponse(_)) => {}
            other => panic!("{}: {other:?}", response.escape_ascii()),
        }
    }
}

#[test]
fn e3_a_body_that_is_cut_off_is_an_error() {
    let server = answering(b"HTTP/1.0 200 OK\r\nContent-Length: 100\r\n\r\nshort");
    match get(format!("http://{}", server.endpoint())) {
        Err(HttpError::CutOff { received: 5, announced: 100 }) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn e4_any_status_but_200_is_an_error() {
    let server = answering(b"HTTP/1.0 404 Not Found\r\n\r\nsorry");
    let error = get(format!("http://{}/", server.endpoint())).expect_err("it is not there");
    assert_eq!(error.to_string(), "the server answers 404 Not Found");
}

#[test]
fn e4_the_url_has_to_be_one() {
    assert!(matches!(get("no url"), Err(HttpError::NotAUrl(..))));
    assert!(matches!(get("https://localhost/"), Err(HttpError::NotHttp(_))));
    assert!(matches!(get("mailto:me"), Err(HttpError::NotHttp(_))));
}

/// Python's server, which every learner has at hand.
#[test]
fn e4_a_file_from_python_http_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let text = "a line\n".repeat(100_000);
    std::fs::write(directory.path().join("file.txt"), &text).expect("room on the disk");
    // `-u`: without it Python buffers the line with the port, unless it prints to a terminal.
    let Some(python) = installed("python3") else {
        return skip("e4_a_file_from_python_http_server", "python3 is not installed");
    };
    let mut command = Command::new(python);
    command.args(["-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]).current_dir(directory.path());
    let mut server = Process::spawn(command.stdout(Stdio::piped()).stderr(Stdio::null()));
    let mut line = String::new();
    let mut stdout = BufReader::new(server.child.stdout.take().expect("it is piped"));
    stdout.read_line(&mut line).expect("reading from a pipe");
    let url = line.split(['(', ')']).nth(1).unwrap_or("no URL");
    assert!(get(format!("{url}file.txt")).expect("it is there") == text);
    let missing = get(format!("{url}nothing"));
    assert!(matches!(missing, Err(HttpError::Status { code: 404, .. })), "{missing:?}");
}
