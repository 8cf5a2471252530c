//! The parser over heads that people and programs send, and over raw bytes, torn anyhow.

use proptest::prelude::*;

use super::*;

/// The request from bytes that arrive in pieces, which end at these places.
fn received(bytes: &[u8], ends: &[usize]) -> Option<Result<Request, Refusal>> {
    let mut head = RequestHead::default();
    let mut start = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        if end > start {
            let result = head.add(&bytes[start..end]);
            assert!(head.0.len() <= LONGEST_HEAD);
            if result.is_some() {
                return result;
            }
            start = end;
        }
    }
    None
}

fn whole(text: &str) -> Option<Result<Request, Refusal>> {
    received(text.as_bytes(), &[])
}

#[test]
fn a_request_is_understood_with_and_without_what_surrounds_it() {
    for (head, path, method) in [
        ("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "/metrics", Method::Get),
        ("GET /metrics HTTP/1.0\r\n\r\n", "/metrics", Method::Get),
        ("HEAD /healthz?verbose HTTP/1.1\nhost:x\n\n", "/healthz", Method::Head),
        ("\r\nGET http://host:9100/readyz?a=/b HTTP/1.1\r\nHost: x\r\n\r\nGET /", "/readyz", Method::Get),
        ("GET http://host HTTP/1.0\r\n\r\n", "/", Method::Get),
        ("GET ?query HTTP/1.0\r\n\r\n", "/", Method::Get),
        ("POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "/metrics", Method::Other),
        ("get /metrics HTTP/1.0\r\n\r\n", "/metrics", Method::Other),
        ("OPTIONS * HTTP/1.0\r\n\r\n", "*", Method::Other),
    ] {
        let request = Request { method, path: path.into(), open_metrics: false };
        assert_eq!(whole(head), Some(Ok(request)), "{head:?}");
    }
}

#[test]
fn what_is_no_request_is_refused_with_its_reason() {
    let fields = "a: b\r\n".repeat(MOST_HEADERS + 1);
    for (head, refusal) in [
        ("\x16\x03\x01\x02\x00\x01", Refusal::Malformed),
        ("GET /\x01 HTTP/1.1\r\n\r\n", Refusal::Malformed),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n", Refusal::Malformed),
        ("GET / HTTP/1.1\r\n\r\n", Refusal::Host),
        ("GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n", Refusal::Host),
        ("GET / HTTP/2.0\r\n\r\n", Refusal::Version),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refusal::Version),
        (&format!("GET / HTTP/1.1\r\n{fields}\r\n"), Refusal::TooLong),
        (&format!("GET /{} HTTP/1.1\r\n", "x".repeat(LONGEST_HEAD)), Refusal::TooLong),
        (&"G".repeat(LONGEST_HEAD), Refusal::TooLong),
    ] {
        assert_eq!(whole(head), Some(Err(refusal)), "{head:.80}");
    }
}

#[test]
fn the_longest_head_is_just_short_enough() {
    let head = |length: usize| {
        let (start, end) = ("GET / HTTP/1.0\r\nx: ", "\r\n\r\n");
        format!("{start}{}{end}", "y".repeat(length - start.len() - end.len()))
    };
    assert!(matches!(whole(&head(LONGEST_HEAD)), Some(Ok(_))));
    assert_eq!(whole(&head(LONGEST_HEAD + 1)), Some(Err(Refusal::TooLong)));
}

#[test]
fn open_metrics_is_for_those_who_ask_for_it() {
    for (accept, expected) in [
        ("*/*", false),
        ("text/plain;version=0.0.4", false),
        ("application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", true),
        ("text/plain, Application/OpenMetrics-Text;version=1.0.0;q=0.8", true),
        ("application/openmetrics-text;q=0,text/plain", false),
        ("application/openmetrics-text;q=0.0", false),
        ("application/openmetrics-textual", false),
        ("\u{e9}", false),
    ] {
        assert_eq!(accepts_open_metrics(accept.as_bytes()), expected, "{accept}");
    }
}

/// Pieces of heads, good and bad, so that random bytes get beyond the first word.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let short =
        ["GET ", "HEAD ", "POST ", "/", "?query", "http://", "*", "\r\n", "\n", "\r", ":", " ", "\t", "\0"];
    let lines = [" HTTP/1.1\r\n", " HTTP/1.0\n", " HTTP/9.9\r\n", "Host: x\r\n", "Host:\r\n", "/metrics"];
    let fields = [
        "Accept: application/openmetrics-text;q=0.3\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\n",
    ];
    let known = proptest::sample::select([&short[..], &lines, &fields].concat());
    prop_oneof![
        6 => known.prop_map(|piece| piece.as_bytes().to_vec()),
        2 => proptest::collection::vec(any::<u8>(), 0..40),
        1 => (any::<u8>(), 0..2 * LONGEST_HEAD).prop_map(|(byte, count)| vec![byte; count]),
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => proptest::collection::vec(piece(), 0..12).prop_map(|pieces| pieces.concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..200),
    ]
}

proptest! {
    /// The parser decides on any bytes without a panic, within the bound, and alike however they are torn.
    #[test]
    fn raw_bytes_mean_the_same_however_they_are_torn(
        mut bytes in bytes(),
        mut ends in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
        singly in proptest::bool::weighted(0.1),
    ) {
        // The end of a line makes the parser look at all bytes so far.
        bytes.push(b'\n');
        let mut ends: Vec<usize> = ends.drain(..).map(|end| end.index(bytes.len())).collect();
        if singly {
            ends = (1..bytes.len()).collect();
        }
        ends.sort_unstable();
        let torn = received(&bytes, &ends);
        prop_assert_eq!(&torn, &received(&bytes, &[]));
        prop_assert!(torn.is_some() || bytes.len() < LONGEST_HEAD);
    }

    /// The parser understands a sound request, whatever surrounds it.
    #[test]
    fn a_sound_request_is_understood(
        path in "/[a-z/._~%-]{0,30}",
        query in proptest::option::of("[a-z=&?/]{0,20}"),
        fields in proptest::collection::vec(("[a-gi-z][a-z-]{0,12}", "[ -~]{0,40}"), 0..20),
        newline in proptest::sample::select(vec!["\r\n", "\n"]),
        open_metrics in any::<bool>(),
        behind in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut head = format!("GET {path}{}", query.map(|query| format!("?{query}")).unwrap_or_default());
        head += &format!(" HTTP/1.1{newline}Host: x{newline}");
        for (name, value) in fields.iter().filter(|(name, _)| name != "accept") {
            head += &format!("{name}: {value}{newline}");
        }
        if open_metrics {
            head += &format!("Accept: text/plain, application/openmetrics-text{newline}");
        }
        let bytes = [head.as_bytes(), newline.as_bytes(), &behind].concat();
        prop_assert_eq!(received(&bytes, &[]), Some(Ok(Request { method: Method::Get, path, open_metrics })));
    }
}
