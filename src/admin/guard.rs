//! Keeps pages in a browser of this machine from reading or steering pilotlight.
//!
//! A loopback listener has no password, so who may speak to it is decided by what a browser cannot forge:
//!
//! - `Host`. A page whose name is pointed at 127.0.0.1 after it was loaded (DNS rebinding) is of the same origin as we
//!   are, in the browser's eyes; its `Host` still has the page's name. Addresses cannot be rebound.
//! - `Origin` and `Sec-Fetch-Site`, where something is changed: a page may send a form anywhere without asking.
//! - The type of a body: forms cannot say `application/json`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, TRANSFER_ENCODING, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};

use super::error::AdminError;
use crate::proxy::host;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
/// What probes and scrapers ask for.
const WATCHED: [&str; 3] = ["/healthz", "/readyz", "/metrics"];
/// The longest host name there is; more is not repeated in an error.
const LONGEST_NAME: usize = 253;

/// Knows the names of a listener.
#[derive(Clone, Debug)]
pub struct Guard {
    listener: IpAddr,
    names: Vec<String>,
}

// === impl Guard ===

impl Guard {
    /// For a listener on this address that is also reached under `names`, besides localhost and `*.localhost`.
    pub fn new(listener: SocketAddr, names: impl IntoIterator<Item = String>) -> Self {
        let names = names.into_iter().map(|name| host::without_port(&name).to_ascii_lowercase()).collect();
        Self { listener: listener.ip().to_canonical(), names }
    }

    /// Puts every route of `router`, and its fallbacks, behind this guard.
    pub fn protect<S: Clone + Send + Sync + 'static>(self, router: Router<S>) -> Router<S> {
        seal(router.layer(middleware::from_fn_with_state(Arc::new(self), guard)))
    }

    pub(crate) fn check<B>(&self, request: &Request<B>) -> Result<(), AdminError> {
        let host = host::of(request).map_err(|error| AdminError::BadHost(error.to_string()))?;
        // A probe or a scraper comes by a name of its own, to a listener that was opened to it on purpose.
        let watcher = request.method().is_safe()
            && !self.listener.is_loopback()
            && WATCHED.contains(&request.uri().path());
        if !watcher && !self.is_ours(host) {
            return Err(AdminError::ForeignHost(host.chars().take(LONGEST_NAME).collect()));
        }
        let headers = request.headers();
        if !request.method().is_safe() {
            let origin = format!("http://{host}");
            let same = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(origin.as_bytes());
            let cross = headers.get_all(SEC_FETCH_SITE).iter().any(|value| value == "cross-site");
            if cross || !headers.get_all(ORIGIN).iter().all(same) {
                return Err(AdminError::CrossOrigin);
            }
        }
        if has_body(headers) && !is_json(headers) {
            return Err(AdminError::MediaType);
        }
        Ok(())
    }

    /// The port is not looked at: tunnels change it, and it says nothing about who is asking.
    fn is_ours(&self, host: &str) -> bool {
        let name = host::without_port(host).to_ascii_lowercase();
        if name == "localhost" || name.ends_with(".localhost") || self.names.contains(&name) {
            return true;
        }
        let address = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&name);
        address.parse().is_ok_and(|ip: IpAddr| {
            let ip = ip.to_canonical();
            ip.is_loopback() || ip == self.listener || !self.listener.is_loopback()
        })
    }
}

/// Puts what is true of every answer on those of `router`.
pub(super) fn seal<S: Clone + Send + Sync + 'static>(router: Router<S>) -> Router<S> {
    router.layer(middleware::map_response(sealed))
}

async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    match guard.check(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// State of this moment, and never to be read as a script.
async fn sealed(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get_all(CONTENT_LENGTH).iter().any(|length| length.as_bytes() != b"0")
}

fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (first, second) = (types.next(), types.next());
    let essence = first.and_then(|value| value.to_str().ok()).and_then(|value| value.split(';').next());
    second.is_none() && essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, StatusCode};
    use axum::routing::get;
    use tower::ServiceExt;

    use super::*;

    async fn answer(listener: &str, request: axum::http::request::Builder) -> Response {
        let guard = Guard::new(listener.parse().unwrap(), ["Box.example:8081".to_owned()]);
        let router = guard.protect(Router::new().route("/", get(|| async { "in" }).post(|| async { "in" })));
        router.oneshot(request.uri("/").body(Body::empty()).unwrap()).await.unwrap()
    }

    async fn status(host: &str, headers: &[(&str, &str)], method: Method) -> StatusCode {
        let mut request = Request::builder().method(method).header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        answer("127.0.0.1:8081", request).await.status()
    }

    #[tokio::test]
    async fn names_of_the_machine_itself_get_in() {
        for host in [
            "localhost",
            "localhost:8081",
            "LOCALHOST:1",
            "localhost.",
            "admin.localhost:8081",
            "127.0.0.1:8081",
            "127.9.9.9",
            "[::1]:8081",
            "[::ffff:127.0.0.1]",
            "box.example",
        ] {
            assert_eq!(status(host, &[], Method::GET).await, StatusCode::OK, "{host}");
        }
    }

    #[tokio::test]
    async fn a_name_that_somebody_may_have_rebound_does_not() {
        for host in [
            "evil.example",
            "evil.example:8081",
            "localhost.evil.example",
            "notlocalhost",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "0.0.0.0:8081",
            "[2001:db8::1]:8081",
            "",
            ":8081",
        ] {
            assert_eq!(status(host, &[], Method::GET).await, StatusCode::FORBIDDEN, "{host}");
        }
        let none = answer("127.0.0.1:8081", Request::builder()).await;
        assert_eq!(none.status(), StatusCode::BAD_REQUEST);
        assert_eq!(status("localhost", &[("host", "a")], Method::GET).await, StatusCode::BAD_REQUEST);
    }

    #[tokio::test]
    async fn on_another_address_any_address_is_a_name_of_ours() {
        for (host, expected) in [
            ("10.0.0.1:8081", StatusCode::OK),
            ("[2001:db8::1]", StatusCode::OK),
            ("evil.example", StatusCode::FORBIDDEN),
        ] {
            let request = Request::builder().header("host", host);
            assert_eq!(answer("0.0.0.0:8081", request).await.status(), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn only_our_own_pages_change_something() {
        let host = "localhost:8081";
        let post = |headers: &'static [(&str, &str)]| status(host, headers, Method::POST);
        assert_eq!(post(&[]).await, StatusCode::OK);
        assert_eq!(post(&[("origin", "http://localhost:8081")]).await, StatusCode::OK);
        assert_eq!(post(&[("sec-fetch-site", "same-origin")]).await, StatusCode::OK);
        for headers in [
            &[("origin", "http://evil.example")][..],
            &[("origin", "http://localhost:8080")],
            &[("origin", "https://localhost:8081")],
            &[("origin", "null")],
            &[("origin", "http://localhost:8081"), ("origin", "http://evil.example")],
            &[("sec-fetch-site", "cross-site")],
        ] {
            assert_eq!(status(host, headers, Method::POST).await, StatusCode::FORBIDDEN, "{headers:?}");
            // Reading is the browser's to prevent: we send no CORS headers.
            assert_eq!(status(host, headers, Method::GET).await, StatusCode::OK, "{headers:?}");
        }
    }

    #[tokio::test]
    async fn a_body_is_json() {
        let post = |headers: &'static [(&str, &str)]| status("localhost", headers, Method::POST);
        let json = &[("content-length", "2"), ("content-type", "Application/JSON; charset=utf-8")];
        assert_eq!(post(json).await, 200);
        assert_eq!(post(&[("transfer-encoding", "chunked"), ("content-type", "text/plain")]).await, 415);
        assert_eq!(post(&[("content-length", "2"), ("content-type", "text/plain")]).await, 415);
        assert_eq!(post(&[("content-length", "2")]).await, 415);
        // `curl -X POST -d ''`
        let empty = &[("content-length", "0"), ("content-type", "application/x-www-form-urlencoded")];
        assert_eq!(post(empty).await, 200);
    }

    #[tokio::test]
    async fn answers_are_neither_kept_nor_guessed_at() {
        for host in ["localhost", "evil.example"] {
            let response = answer("127.0.0.1:8081", Request::builder().header("host", host)).await;
            assert_eq!(response.headers()["x-content-type-options"], "nosniff");
            assert_eq!(response.headers()["cache-control"], "no-store");
        }
    }
}
