//! Heads of requests and responses, rewritten in place.
//!
//! [`canonical`] brings a request into one form, whatever it came as: origin-form target, exactly one `Host`, no
//! hop-by-hop fields, forwarding fields added. [`shape`] turns that into what goes over the wire to the app.

use std::time::Duration;

use http::header::{
    self, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST, HeaderMap, HeaderName, HeaderValue,
    TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use http::{Method, Request, Response, Version};
use http_body::Body;
use hyper::ext::Protocol;

use super::client::Wire;
use super::error::ProxyError;
use super::fault::AppFault;
use super::forwarded::{self, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO};
use super::grpc;
use super::host;
use super::present::{Field, Present};
use super::server::Conn;
use super::upgrade;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Fields that end at this hop whatever `Connection` says (RFC 9110 §7.6.1). `TE: trailers` is handled apart, and
/// `Trailer` stays: it tells which trailers hyper may send on.
const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    KEEP_ALIVE,
    PROXY_CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// The same, and what only HTTP/1.1 may offer.
const HOP_BY_HOP_FIELDS: [Field; 8] = [
    Field::Connection,
    Field::KeepAlive,
    Field::ProxyConnection,
    Field::ProxyAuthenticate,
    Field::ProxyAuthorization,
    Field::TransferEncoding,
    Field::Upgrade,
    Field::Http2Settings,
];

const BAD_GRPC_TIMEOUT: &str = "the grpc-timeout is not 1 to 8 digits and one of the units H M S m u n";

/// What the head says about how to treat the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// It came over HTTP/2.
    pub h2: bool,
    /// It wants another protocol on this connection, or by extended CONNECT on this stream.
    pub upgrade: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// How long a gRPC client waits for the end of its call.
    pub grpc_timeout: Option<Duration>,
}

/// Brings a request into the one form that everything behind expects. `fixed_host` stands in when the request
/// names none (HTTP/1.0 on a service's own port).
pub fn canonical<B>(
    request: &mut Request<B>,
    conn: &Conn,
    fixed_host: &HeaderValue,
) -> Result<Traits, ProxyError> {
    if *request.method() == Method::CONNECT && !upgrade::canonical(request) {
        return Err(ProxyError::BadRequest("CONNECT is not supported"));
    }
    let present = Present::of(request.headers());
    let traits = traits(request, present)?;
    let (named, uri) = (host::named(request.uri(), request.headers())?, request.uri());
    let (host, is_told) = match (named, uri.authority()) {
        // RFC 9112 §3.2: whoever speaks HTTP/1.1 names a host.
        (None, _) if request.version() == Version::HTTP_11 => return Err(ProxyError::NoHost),
        (None, _) => (fixed_host.clone(), false),
        (Some(_), None) => (request.headers()[HOST].clone(), true),
        (Some(host), Some(_)) => {
            let host = HeaderValue::from_str(host);
            (host.map_err(|_| ProxyError::BadRequest("the authority is not a host"))?, false)
        }
    };
    if uri.scheme().is_some() || uri.authority().is_some() {
        let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
    }
    let headers = request.headers_mut();
    let upgrade = if traits.upgrade { headers.get(UPGRADE).cloned() } else { None };
    if strip_hop_by_hop(headers, present) {
        return Err(ProxyError::BadRequest("Connection lists a field that says what the request is"));
    }
    if let Some(upgrade) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, upgrade);
    }
    // We say `100 Continue` ourselves, when the body is first read: after a slot is held.
    if present.has(Field::Expect) {
        headers.remove(EXPECT);
    }
    if traits.h2 && present.has(Field::Cookie) {
        join_cookies(headers);
    }
    forwarded::add(headers, present, &conn.forwarded, &host);
    if !is_told {
        headers.insert(HOST, host);
    }
    Ok(traits)
}

/// Gives a canonical request the form that `wire` wants. May be applied again, to another replica's wire.
pub fn shape<B: Body>(request: &mut Request<B>, wire: Wire) -> Result<(), ProxyError> {
    match wire {
        Wire::H1 => {
            if let Some(authority) = request.uri().authority() {
                let host = HeaderValue::from_str(authority.as_str())
                    .map_err(|_| ProxyError::BadRequest("the authority is not a host"))?;
                let path =
                    request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
                *request.uri_mut() = Uri::from(path);
                request.headers_mut().insert(HOST, host);
            }
            // hyper sends no body of unknown length with these unless it is told to.
            if matches!(*request.method(), Method::GET | Method::HEAD)
                && !request.body().is_end_stream()
                && !request.headers().contains_key(CONTENT_LENGTH)
            {
                request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            *request.version_mut() = Version::HTTP_11;
        }
        Wire::H2 => {
            if let Some(host) = request.headers_mut().remove(HOST) {
                let authority = Authority::try_from(host.as_bytes())
                    .map_err(|_| ProxyError::BadRequest("the Host is not an authority"))?;
                let mut uri = http::uri::Parts::default();
                uri.scheme = Some(Scheme::HTTP);
                uri.authority = Some(authority);
                uri.path_and_query = Some(
                    request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
                );
                *request.uri_mut() = Uri::from_parts(uri)
                    .map_err(|_| ProxyError::BadRequest("the target cannot be sent over HTTP/2"))?;
            }
            upgrade::into_connect(request);
            // Connection-specific fields are errors there (RFC 9113 §8.2.2).
            request.headers_mut().remove(CONNECTION);
            request.headers_mut().remove(UPGRADE);
            request.headers_mut().remove(TRANSFER_ENCODING);
            *request.version_mut() = Version::HTTP_2;
        }
    }
    Ok(())
}

/// A request's head once more: a few reference counts and two small allocations.
pub fn copy<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = request.version();
    *head.headers_mut() = request.headers().clone();
    // Of an extended CONNECT. The rest of the extensions is hyper's own, and told nobody.
    if let Some(protocol) = request.extensions().get::<Protocol>() {
        head.extensions_mut().insert(protocol.clone());
    }
    head
}

/// Makes an app's response head fit for any client. Refuses one whose length two clients may read differently.
pub fn response<B>(response: &mut Response<B>) -> Result<(), AppFault> {
    let headers = response.headers();
    let present = Present::of(headers);
    let length = if present.has(Field::ContentLength) { headers.get(CONTENT_LENGTH) } else { None };
    if present.has(Field::TransferEncoding)
        && let Some(coding) = headers.get(TRANSFER_ENCODING)
    {
        let plain = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if length.is_some() || !plain || headers.get_all(TRANSFER_ENCODING).iter().nth(1).is_some() {
            return Err(AppFault::Framing);
        }
    }
    // hyper also takes the same length twice in one field.
    if length.is_some_and(|length| !length.as_bytes().iter().all(u8::is_ascii_digit)) {
        return Err(AppFault::Framing);
    }
    let upgraded = response.status() == http::StatusCode::SWITCHING_PROTOCOLS;
    let upgrade = if upgraded { response.headers().get(UPGRADE).cloned() } else { None };
    strip_hop_by_hop(response.headers_mut(), present);
    if let Some(upgrade) = upgrade {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, upgrade);
    }
    *response.version_mut() = Version::HTTP_11;
    Ok(())
}

/// Fields that have no place in a trailer: a recipient that takes trailers for more fields of the head would believe
/// them (RFC 9110 §6.5.1).
const NOT_IN_TRAILERS: [HeaderName; 8] =
    [CONTENT_LENGTH, HOST, TE, EXPECT, FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST];

/// Takes out of a message's trailers what would be about this hop, the message's framing, or who sent it.
pub fn trailers(trailers: &mut HeaderMap) {
    for name in HOP_BY_HOP.iter().chain(&NOT_IN_TRAILERS) {
        trailers.remove(name);
    }
}

fn traits<B>(request: &Request<B>, present: Present) -> Result<Traits, ProxyError> {
    let (headers, h2) = (request.headers(), request.version() == Version::HTTP_2);
    let upgrade = (h2 || request.version() == Version::HTTP_11)
        && present.has(Field::Upgrade)
        && tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"))
        // An offer of h2c is declined by not forwarding it (RFC 9113 §3.1 obsoletes it).
        && !tokens(headers, &UPGRADE).any(|token| token.eq_ignore_ascii_case(b"h2c"));
    let expected = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let expects_continue = present.has(Field::Expect) && headers.get_all(EXPECT).iter().any(expected);
    // gRPC is HTTP/2 alone, so HTTP/1.1 does not pay for the look.
    let grpc_timeout = if h2 && grpc::is_call(headers) {
        grpc::timeout(headers).map_err(|_| ProxyError::BadRequest(BAD_GRPC_TIMEOUT))?
    } else {
        None
    };
    Ok(Traits { h2, upgrade, expects_continue, grpc_timeout })
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    // Bytes: what is no text beside a token must not hide it.
    let values = headers.get_all(name).iter().map(HeaderValue::as_bytes);
    let tokens = values.flat_map(|value| value.split(|byte| *byte == b','));
    tokens.map(<[u8]>::trim_ascii).filter(|token| !token.is_empty())
}

/// Says whether `Connection` listed a field that is not the sender's to remove: the target, or the framing.
fn strip_hop_by_hop(headers: &mut HeaderMap, present: Present) -> bool {
    let mut essential = false;
    if present.has(Field::Connection) {
        // Those that go anyway, or are none, need not be listed: what SDKs say with each request.
        let listed: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter(|token| {
                !["close", "keep-alive", "upgrade", "te"]
                    .iter()
                    .any(|word| token.eq_ignore_ascii_case(word.as_bytes()))
            })
            .filter_map(|token| HeaderName::try_from(token).ok())
            .collect();
        for name in listed {
            if name == HOST || name == CONTENT_LENGTH || name == TRANSFER_ENCODING {
                essential = true;
            } else {
                headers.remove(name);
            }
        }
    }
    if present.any(&HOP_BY_HOP_FIELDS) {
        for name in &HOP_BY_HOP {
            headers.remove(name);
        }
        headers.remove(HTTP2_SETTINGS);
    }
    if present.has(Field::Te) {
        let trailers = tokens(headers, &TE).any(|token| token.eq_ignore_ascii_case(b"trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
    essential
}

/// HTTP/2 may split the Cookie field; HTTP/1.1 wants one (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let joined = join(headers, &COOKIE, b"; ", b"");
    headers.insert(COOKIE, joined);
}

/// All values of a field, and one more, as one value.
pub(super) fn join(headers: &HeaderMap, name: &HeaderName, separator: &[u8], last: &[u8]) -> HeaderValue {
    let mut joined = Vec::new();
    for value in headers.get_all(name).iter().map(HeaderValue::as_bytes).chain([last]) {
        if value.is_empty() {
            continue;
        }
        if !joined.is_empty() {
            joined.extend_from_slice(separator);
        }
        joined.extend_from_slice(value);
    }
    HeaderValue::from_bytes(&joined).expect("valid values joined by valid bytes are a valid value")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::request;

    fn canonicalised(request: Request<()>) -> (request::Parts, Traits) {
        let mut request = request;
        let conn = Conn::for_test("10.0.0.9:1234".parse().unwrap());
        let traits = canonical(&mut request, &conn, &HeaderValue::from_static("fixed")).unwrap();
        (request.into_parts().0, traits)
    }

    #[test]
    fn hop_by_hop_fields_go_with_all_that_connection_lists() {
        let request = Request::get("/x")
            .header("host", "a")
            .header("connection", "close, X-One")
            .header("connection", "x-two")
            .header("connection", HeaderValue::from_bytes(b"\xff, x-three").unwrap())
            .header("x-one", "1")
            .header("x-three", "3")
            .header("x-two", "2")
            .header("keep-alive", "timeout=5")
            .header("te", "gzip, trailers")
            .header("transfer-encoding", "chunked")
            .body(())
            .unwrap();
        let (parts, traits) = canonicalised(request);
        for gone in ["connection", "x-one", "x-two", "x-three", "keep-alive", "transfer-encoding"] {
            assert!(!parts.headers.contains_key(gone), "{gone} stayed");
        }
        assert_eq!(parts.headers["te"], "trailers");
        assert_eq!(parts.headers["host"], "a");
        assert!(!traits.upgrade);
    }

    #[test]
    fn an_absolute_target_becomes_a_path_and_its_host() {
        let (parts, _) =
            canonicalised(Request::get("http://real:1/p?q").header("host", "REAL:1").body(()).unwrap());
        assert_eq!(
            (parts.headers["host"].to_str().unwrap(), parts.uri.to_string()),
            ("real:1", "/p?q".into())
        );
    }

    #[test]
    fn what_two_servers_may_read_differently_is_refused() {
        let get = |target: &str| Request::get(target).header("host", "a");
        for request in [
            get("http://b/"),
            get("http://user@a/"),
            get("a:80"),
            get("/").header("host", "a"),
            get("/").header("connection", "x, Host"),
            get("/").header("connection", "content-length"),
            get("/").header("connection", "transfer-encoding"),
            Request::get("/").header("host", "a b"),
            Request::get("/").header("host", "a,b"),
            Request::get("/").header("host", "a/b"),
            Request::get("/").header("host", "a@b"),
            Request::get("/"),
        ] {
            let mut request = request.body(()).unwrap();
            let conn = Conn::for_test("10.0.0.9:1234".parse().unwrap());
            let canonical = canonical(&mut request, &conn, &HeaderValue::from_static("fixed"));
            assert!(canonical.is_err(), "{request:?}");
        }
    }

    #[test]
    fn a_response_tells_its_length_once() {
        let fields = |fields: &[(&'static str, &'static str)]| {
            let mut head = Response::new(());
            for (name, value) in fields {
                head.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            response(&mut head)
        };
        let (length, coding) = ("content-length", "transfer-encoding");
        assert_eq!(fields(&[(length, "5")]), Ok(()));
        assert_eq!(fields(&[(coding, "Chunked")]), Ok(()));
        for bad in [
            &[(length, "5"), (coding, "chunked")][..],
            &[(length, "5, 5")],
            &[(coding, "gzip, chunked")],
            &[(coding, "identity")],
            &[(coding, "chunked"), (coding, "chunked")],
        ] {
            assert_eq!(fields(bad), Err(AppFault::Framing), "{bad:?}");
        }
    }

    #[test]
    fn shapes_can_be_changed_between_replicas() {
        let (parts, _) = canonicalised(Request::get("/p?q").header("host", "h:1").body(()).unwrap());
        let mut request = Request::from_parts(parts, http_body_util::Empty::<bytes::Bytes>::new());
        shape(&mut request, Wire::H2).unwrap();
        assert_eq!(request.uri().to_string(), "http://h:1/p?q");
        assert!(!request.headers().contains_key(HOST));
        shape(&mut request, Wire::H1).unwrap();
        assert_eq!(
            (request.uri().to_string(), &request.headers()[HOST]),
            ("/p?q".into(), &"h:1".parse().unwrap())
        );
    }

    #[test]
    fn cookies_split_by_http2_are_joined() {
        let request = Request::get("http://h/")
            .version(Version::HTTP_2)
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(())
            .unwrap();
        let (parts, traits) = canonicalised(request);
        assert!(traits.h2);
        assert_eq!(parts.headers["cookie"], "a=1; b=2");
    }

    #[test]
    fn an_upgrade_is_kept_and_an_offer_of_h2c_is_not() {
        let upgrade = |to: &str| {
            Request::get("/")
                .header("host", "a")
                .header("connection", "Upgrade, HTTP2-Settings")
                .header("upgrade", to)
                .header("http2-settings", "x")
                .body(())
                .unwrap()
        };
        let (parts, traits) = canonicalised(upgrade("websocket"));
        assert!(traits.upgrade);
        assert_eq!(
            (&parts.headers["connection"], &parts.headers["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        let (parts, traits) = canonicalised(upgrade("h2c"));
        assert!(
            !traits.upgrade
                && !parts.headers.contains_key("upgrade")
                && !parts.headers.contains_key("http2-settings")
        );
    }
}
