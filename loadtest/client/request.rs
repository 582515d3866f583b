//! Makes a service's requests. What is the same for all of them is made once.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, UPGRADE, USER_AGENT};
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::{Method, Request, Version};

use crate::arrivals::seed;
use crate::outcome::Failure;
use crate::scenario::{Body, Protocol, Service, Template};

/// What a request's randomness is for: body and head must not draw the same numbers.
const BODY: u64 = 1;
const HEAD: u64 = 2;

/// Makes requests.
pub(super) struct Requests {
    method: Method,
    scheme: &'static str,
    host: HeaderValue,
    path: Path,
    /// Those that are always the same, with `host` for HTTP/1.1.
    headers: HeaderMap,
    /// The others.
    templates: Vec<(HeaderName, Template)>,
    body: Body,
    seed: u64,
}

enum Path {
    Fixed(PathAndQuery),
    Template(Template),
}

// === impl Requests ===

impl Requests {
    pub(super) fn new(service: &Service, seed: u64) -> Self {
        let mut headers = HeaderMap::new();
        let mut templates = Vec::new();
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("loadtest/", env!("CARGO_PKG_VERSION"))));
        match service.protocol {
            Protocol::Sse => {
                headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream"));
            }
            // gRPC's specification: it shows that nothing in between drops trailers.
            Protocol::Grpc => {
                headers.insert(TE, HeaderValue::from_static("trailers"));
            }
            Protocol::Websocket(_) => {
                headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
                headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
                headers.insert("sec-websocket-version", HeaderValue::from_static("13"));
            }
            Protocol::Http1 | Protocol::H2c => {}
        }
        for (name, template) in &service.headers {
            match template.fixed().and_then(|text| HeaderValue::from_str(text).ok()) {
                Some(value) => {
                    headers.insert(name, value);
                }
                None => templates.push((name.clone(), template.clone())),
            }
        }
        let path = service.path.fixed().and_then(|text| text.parse().ok());
        Self {
            method: service.method.clone(),
            scheme: service.target.scheme.name(),
            host: service.host.clone(),
            path: path.map_or_else(|| Path::Template(service.path.clone()), Path::Fixed),
            headers,
            templates,
            body: service.body.clone(),
            seed,
        }
    }

    /// The body of one request.
    pub(super) fn body(&self, index: u64) -> Bytes {
        self.body.render(index, &mut self.rng(index, BODY))
    }

    /// Over HTTP/1.1: the path alone, and a `Host`.
    pub(super) fn http1(&self, index: u64, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let (path, mut headers) = self.head(index)?;
        headers.insert(HOST, self.host.clone());
        Ok(self.request(Uri::from(path), headers, body))
    }

    /// Over HTTP/2: scheme, authority and path.
    pub(super) fn http2(&self, index: u64, body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let (path, headers) = self.head(index)?;
        let uri = Uri::builder().scheme(self.scheme).authority(self.host.as_bytes()).path_and_query(path);
        let mut request = self.request(uri.build().map_err(|_| Failure::Protocol)?, headers, body);
        *request.version_mut() = Version::HTTP_2;
        Ok(request)
    }

    /// Random bits of one request, for what is not the body.
    pub(super) fn rng(&self, index: u64, purpose: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(seed(self.seed, purpose, index))
    }

    /// Bodies of a connection's messages, one after the other.
    pub(super) fn message(&self, index: u64, number: u64) -> Bytes {
        self.body.render(index, &mut self.rng(index, BODY + HEAD + number))
    }

    fn head(&self, index: u64) -> Result<(PathAndQuery, HeaderMap), Failure> {
        let mut headers = self.headers.clone();
        let mut rng = self.rng(index, HEAD);
        let path = match &self.path {
            Path::Fixed(path) => path.clone(),
            Path::Template(template) => {
                template.render(index, &mut rng).parse().map_err(|_| Failure::Protocol)?
            }
        };
        for (name, template) in &self.templates {
            let value = HeaderValue::from_str(&template.render(index, &mut rng));
            headers.insert(name, value.map_err(|_| Failure::Protocol)?);
        }
        Ok((path, headers))
    }

    fn request(&self, uri: Uri, headers: HeaderMap, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        request
    }
}
