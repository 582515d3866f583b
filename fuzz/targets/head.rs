//! Heads of requests: hop-by-hop fields end here with all that `Connection` lists, there is one `Host`, our forwarding
//! fields can be told from the client's, and nothing sound is refused.
#![no_main]

use std::collections::HashSet;

use arbitrary::Arbitrary;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};
use http_body_util::Empty;
use libfuzzer_sys::fuzz_target;
use pilotlight::proxy::client::Wire;
use pilotlight::proxy::{grpc, head};

const NAMES: [&str; 24] = [
    "host",
    "connection",
    "te",
    "transfer-encoding",
    "content-length",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "http2-settings",
    "trailer",
    "cookie",
    "expect",
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "user-agent",
    "content-type",
    "x-one",
    "x-two",
    "sec-websocket-key",
    "grpc-timeout",
];
const WORDS: [&str; 16] = [
    "close",
    "keep-alive",
    "trailers",
    "gzip",
    "chunked",
    "websocket",
    "h2c",
    "100-continue",
    "a.example",
    "a.example:80",
    "[::1]:80",
    "for=1.1.1.1;host=\"b\"",
    "\"",
    "\\",
    "application/grpc",
    "0",
];
const PEER: &str = "10.0.0.9";

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    version: Spoken,
    method: u8,
    target: Target<'a>,
    fields: Vec<(Name<'a>, Vec<Word<'a>>)>,
    status: u16,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Spoken {
    Http10,
    Http11,
    Http2,
}

#[derive(Arbitrary, Debug)]
enum Target<'a> {
    Path(&'a str),
    Url(u8),
    Any(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Known(u8),
    Any(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Word<'a> {
    Known(u8),
    Name(u8),
    Comma,
    Blank,
    Any(&'a [u8]),
}

// === impl Input ===

fn one_of<T: Copy>(all: &[T], n: u8) -> T {
    all[usize::from(n) % all.len()]
}

impl Input<'_> {
    fn request(&self) -> Option<Request<()>> {
        let target = match self.target {
            Target::Path(path) => format!("/{path}"),
            Target::Url(word) => format!("http://{}/p?q", one_of(&WORDS[8..11], word)),
            Target::Any(any) => any.to_owned(),
        };
        let method = one_of(&["GET", "POST", "HEAD", "CONNECT", "OPTIONS", "x"], self.method);
        let mut request = Request::new(());
        *request.uri_mut() = target.parse().ok()?;
        *request.method_mut() = Method::from_bytes(method.as_bytes()).ok()?;
        *request.version_mut() = match self.version {
            Spoken::Http10 => Version::HTTP_10,
            Spoken::Http11 => Version::HTTP_11,
            Spoken::Http2 => Version::HTTP_2,
        };
        *request.headers_mut() = self.headers();
        Some(request)
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, words) in self.fields.iter().take(100) {
            let name = match name {
                Name::Known(n) => one_of(&NAMES, *n),
                Name::Any(any) => any,
            };
            let mut value = Vec::new();
            for word in words {
                match word {
                    Word::Known(n) => value.extend(one_of(&WORDS, *n).bytes()),
                    Word::Name(n) => value.extend(one_of(&NAMES, *n).bytes()),
                    Word::Comma => value.push(b','),
                    Word::Blank => value.push(b' '),
                    Word::Any(any) => value.extend(*any),
                }
            }
            // As hyper has them: without blanks around.
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name), HeaderValue::from_bytes(value.trim_ascii()))
            {
                headers.append(name, value);
            }
        }
        headers
    }
}

/// What `Connection` lists, in lower case.
fn listed(headers: &HeaderMap) -> HashSet<String> {
    let values = headers.get_all("connection").iter();
    let tokens = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let text = |token: &[u8]| String::from_utf8_lossy(token.trim_ascii()).to_ascii_lowercase();
    tokens.map(text).filter(|token| !token.is_empty()).collect()
}

fn is_host(value: &[u8]) -> bool {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_%~".contains(byte);
    let (name, port) = match value {
        [b'[', rest @ ..] => {
            let Some(end) = rest.iter().position(|byte| *byte == b']') else { return false };
            if !rest[..end].iter().all(|byte| *byte == b':' || of_name(byte)) {
                return false;
            }
            (&b""[..], &rest[end + 1..])
        }
        _ => value.split_at(value.iter().position(|byte| *byte == b':').unwrap_or(value.len())),
    };
    let is_port =
        port.first().is_none_or(|colon| *colon == b':') && port.iter().skip(1).all(u8::is_ascii_digit);
    name.iter().all(of_name) && is_port
}

/// Whether there is a reason to refuse.
fn ambiguous(request: &Request<()>) -> bool {
    let hosts: Vec<&[u8]> = request.headers().get_all("host").iter().map(HeaderValue::as_bytes).collect();
    let authority = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let of_http_11 = request.version() == Version::HTTP_11 && hosts.is_empty() && authority.is_none();
    let two = hosts.len() > 1
        || matches!((&hosts[..], authority), ([host], Some(authority)) if !host.eq_ignore_ascii_case(authority));
    let odd = hosts.iter().copied().chain(authority).any(|host| !is_host(host));
    let essential = ["host", "content-length", "transfer-encoding"]
        .iter()
        .any(|name| listed(request.headers()).contains(*name));
    let no_url = authority.is_some() && request.uri().scheme().is_none();
    let patience = request.version() == Version::HTTP_2
        && grpc::is_call(request.headers())
        && grpc::timeout(request.headers()).is_err();
    of_http_11 || two || odd || essential || no_url || patience || request.method() == Method::CONNECT
}

/// Elements of a list, as RFC 7239 has it: commas in quotes are none.
fn elements(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut elements, mut quoted, mut escaped) = (vec![Vec::new()], false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                elements.push(Vec::new());
                continue;
            }
            _ => {}
        }
        elements.last_mut()?.push(*byte);
    }
    (!quoted).then_some(elements)
}

fn only<'a>(headers: &'a HeaderMap, name: &str) -> &'a [u8] {
    let mut values = headers.get_all(name).iter();
    let value = values.next().unwrap_or_else(|| panic!("no {name}"));
    assert!(values.next().is_none(), "two of {name}");
    value.as_bytes()
}

fn check_request(request: Request<()>) {
    let ambiguous = ambiguous(&request);
    let (before, uri) = (request.headers().clone(), request.uri().clone());
    let h2 = request.version() == Version::HTTP_2;
    let mut request = request;
    let conn = pilotlight::fuzz::conn(([10, 0, 0, 9], 1234).into());
    let Ok(traits) = head::canonical(&mut request, &conn, &HeaderValue::from_static("fixed.example")) else {
        assert!(ambiguous, "refused without a reason");
        return;
    };
    assert!(!ambiguous, "taken: {before:?} {uri}");
    let headers = request.headers();
    assert_eq!(traits.h2, h2);
    for gone in [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "transfer-encoding",
        "http2-settings",
        "expect",
    ] {
        assert!(!headers.contains_key(gone), "{gone} stayed");
    }
    let ours = [
        "connection",
        "upgrade",
        "te",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "forwarded",
    ];
    for name in listed(&before).iter().filter(|name| !ours.contains(&name.as_str())) {
        assert!(!headers.contains_key(name.as_str()), "{name} stayed, which Connection listed");
    }
    if traits.upgrade {
        assert_eq!(only(headers, "connection"), b"upgrade");
        assert!(headers.contains_key("upgrade") && listed(&before).contains("upgrade"));
    } else {
        assert!(!headers.contains_key("connection") && !headers.contains_key("upgrade"));
    }
    if headers.contains_key("te") {
        assert_eq!(only(headers, "te"), b"trailers");
    }
    if h2 {
        assert!(headers.get_all("cookie").iter().count() <= 1);
    }
    let host = only(headers, "host").to_vec();
    assert!(is_host(&host));
    // Who was next to us stands last, whatever the client made up.
    let chain = only(headers, "x-forwarded-for");
    assert_eq!(chain.rsplit(|byte| *byte == b',').next().map(<[u8]>::trim_ascii), Some(PEER.as_bytes()));
    let forwarded = elements(only(headers, "forwarded")).expect("quotes are closed");
    let mut last = forwarded.last().expect("never empty").trim_ascii().split(|byte| *byte == b';');
    assert_eq!(last.next(), Some(format!("for={PEER}").as_bytes()));
    assert_eq!(last.next_back(), Some(&b"proto=http"[..]));

    let path = request.uri().clone();
    assert!(path.scheme().is_none() && path.authority().is_none());
    let mut request = request.map(|()| Empty::<Bytes>::new());
    head::shape(&mut request, Wire::H1).expect("canonical is HTTP/1's form");
    assert_eq!((request.uri(), only(request.headers(), "host")), (&path, &host[..]));
    // To another replica, and back.
    if head::shape(&mut request, Wire::H2).is_ok() && !traits.upgrade {
        for gone in ["connection", "upgrade", "transfer-encoding", "host", "keep-alive"] {
            assert!(!request.headers().contains_key(gone), "{gone} over HTTP/2");
        }
        assert_eq!(request.uri().authority().map(|authority| authority.as_str().as_bytes()), Some(&host[..]));
        head::shape(&mut request, Wire::H1).expect("it was so before");
        assert_eq!(only(request.headers(), "host"), host);
        let path_of = |uri: &Uri| uri.path_and_query().map_or("/".to_owned(), ToString::to_string);
        assert_eq!(path_of(request.uri()), path_of(&path));
    }
}

fn check_response(input: &Input<'_>) {
    let Ok(status) = http::StatusCode::from_u16(100 + input.status % 500) else { return };
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.headers_mut() = input.headers();
    let before = response.headers().clone();
    if head::response(&mut response).is_err() {
        let told = before.contains_key("transfer-encoding") || before.contains_key("content-length");
        assert!(told, "refused without a reason");
        return;
    }
    let headers = response.headers();
    for gone in ["keep-alive", "proxy-connection", "transfer-encoding", "http2-settings"] {
        assert!(!headers.contains_key(gone), "{gone} stayed");
    }
    for name in listed(&before).iter().filter(|name| {
        !["connection", "upgrade", "te", "host", "content-length", "transfer-encoding"]
            .contains(&name.as_str())
    }) {
        assert!(!headers.contains_key(name.as_str()), "{name} stayed, which Connection listed");
    }
    let both = before.contains_key("transfer-encoding") && before.contains_key("content-length");
    assert!(!both, "two lengths");
}

fuzz_target!(|input: Input<'_>| {
    if let Some(request) = input.request() {
        check_request(request);
    }
    check_response(&input);
});
