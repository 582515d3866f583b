//! Services: where requests go and what they are.

use std::path::Path;
use std::time::Duration;

use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery};
use pilotlight::config::decode::Fields;
use pilotlight::config::field::Field;
use pilotlight::config::quantity::DURATION_MAX;

use super::body::{self, Body};
use super::success::{self, Success};
use super::target::Target;
use super::template::{Owner, PLACEHOLDERS, Template};
use super::threshold::{self, Threshold};
use crate::observe::{Observe, Of};

/// Services of one scenario, copies counted.
pub(crate) const SERVICES_MAX: u32 = 1000;
const HEADERS_MAX: usize = 100;
const TIMEOUT: Duration = Duration::from_mins(2);
const MILLI: Duration = Duration::from_millis(1);

/// One service, and how it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Service {
    /// Its name, different from all others'.
    pub(crate) name: String,
    /// Where connections go.
    pub(crate) target: Target,
    /// `Host` or `:authority`.
    pub(crate) host: HeaderValue,
    /// What follows.
    pub(crate) path: Template,
    /// How it is spoken to.
    pub(crate) protocol: Protocol,
    /// `GET`, or `POST` with a body.
    pub(crate) method: Method,
    /// Besides `Host`, and what the protocol needs.
    pub(crate) headers: Vec<(HeaderName, Template)>,
    /// What is sent.
    pub(crate) body: Body,
    /// From the intended start to the end of the answer.
    pub(crate) timeout: Duration,
    /// Which codes are good.
    pub(crate) success: Success,
    /// Connections of HTTP/2; HTTP/1.1 has as many as requests are open.
    pub(crate) connections: u32,
    /// What must hold.
    pub(crate) thresholds: Vec<Threshold>,
    /// How its replicas are seen.
    pub(crate) observe: Option<Observe>,
}

/// How a service is spoken to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: with prior knowledge, or by ALPN over TLS.
    H2c,
    /// gRPC over HTTP/2.
    Grpc,
    /// Server-sent events over HTTP/1.1.
    Sse,
    /// A websocket over HTTP/1.1: messages, and for each an answer.
    Websocket(Websocket),
}

/// What a websocket's client does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Websocket {
    /// Messages of a connection; each is the body.
    pub(crate) messages: u32,
    /// From one message to the next, if the answer is there by then.
    pub(crate) every: Duration,
}

// === impl Protocol ===

impl Protocol {
    /// As YAML has it.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::H2c => "h2c",
            Self::Grpc => "grpc",
            Self::Sse => "sse",
            Self::Websocket(_) => "websocket",
        }
    }
}

// === impl Service ===

impl Service {
    /// Where requests go, for people; placeholders that differ from request to request are left as they are.
    pub(crate) fn url(&self) -> String {
        format!("{}{}", self.target, self.path.fixed().unwrap_or("/…"))
    }
}

/// What a service's fields are read with.
pub(crate) struct Reader<'a> {
    /// Relative paths begin here.
    pub(crate) folder: &'a Path,
    /// Goes instead of every service's scheme, host and port.
    pub(crate) url: Option<&'a Target>,
}

// === impl Reader ===

impl Reader<'_> {
    /// Reads one service and its copies.
    pub(crate) fn services(&self, item: &Field<'_>) -> Vec<Service> {
        let fields = item.fields();
        let copies = fields.take("count").map_or(Some(1), |f| f.whole(1..=SERVICES_MAX));
        if !fields.has("url") {
            fields.require("url", "where it is, such as http://127.0.0.1:8080/");
        }
        // Mistakes are the same in all copies: one is enough to find them.
        let first = self.one(&fields, 0, copies != Some(1));
        fields.ignore(&["load"]);
        fields.finish();
        let mut services: Vec<Service> = first.into_iter().collect();
        for copy in 1..copies.unwrap_or(1) {
            services.extend(self.one(&item.fields(), copy, true));
        }
        services
    }

    fn one(&self, fields: &Fields<'_>, copy: u32, several: bool) -> Option<Service> {
        let number =
            |text: &str| text.replace("{{index}}", &copy.to_string()).replace("{{copy}}", &copy.to_string());
        let given = fields.take("name");
        let name = given.as_ref().map_or(Some("service"), Field::nonempty);
        let name = name.map(number);
        let name = name.map(|n| {
            if several && given.as_ref().is_none_or(same_for_all) { format!("{n}-{copy}") } else { n }
        });
        let owner = Owner { service: name.as_deref().unwrap_or_default(), copy };
        let url = fields.take("url");
        let target = url.as_ref().and_then(|f| self.target(f, &number));
        let host = fields.take("host").map(|f| host(&f, &number));
        let path = fields.take("path").map(|f| template(&f, owner).filter(|t| is_path(t, &f)));
        let protocol = protocol(fields);
        let method = fields.take("method").map(|f| method(&f));
        let headers = fields.take("headers").map(|f| headers(&f, owner)).unwrap_or_default();
        let body = self.body(fields, protocol.as_ref(), owner);
        let timeout = fields.take("timeout").map_or(Some(TIMEOUT), |f| f.duration(MILLI..=DURATION_MAX));
        let grpc = protocol == Some(Protocol::Grpc);
        let success = fields
            .take("success")
            .map_or_else(|| Some(Success::default_of(grpc)), |f| success::read(&f, grpc));
        let connections = fields.take("connections").map_or(Some(1), |f| f.whole(1..=1000));
        let thresholds = fields.take("thresholds").map(|f| threshold::read(&f, false)).unwrap_or_default();

        let of = Of { owner, folder: self.folder };
        let observe = fields.take("observe").and_then(|f| Observe::read(&f, of));

        let (target, rest) = target?;
        let rest = url.as_ref().and_then(|f| template_of(f, &rest, owner).filter(|t| is_path(t, f)))?;
        let (body, grpc_path, content_type) = body?;
        let path = grpc_path.map_or_else(|| path.unwrap_or(Some(rest)), |p| Some(Template::from(p)));
        let method = method.unwrap_or_else(|| Some(if body.is_empty() { Method::GET } else { Method::POST }));
        let host = host.unwrap_or_else(|| HeaderValue::from_str(&target.authority()).ok());
        let mut headers = headers;
        if let Some(kind) = content_type
            && !headers.iter().any(|(name, _)| name == CONTENT_TYPE)
        {
            headers.push((CONTENT_TYPE, Template::from(kind.to_owned())));
        }
        Some(Service {
            name: name?,
            target,
            host: host?,
            path: path?,
            method: if grpc { Method::POST } else { method? },
            protocol: protocol?,
            headers,
            body,
            timeout: timeout?,
            success: success?,
            connections: connections?,
            thresholds,
            observe,
        })
    }

    /// The target, and what follows it in the URL.
    fn target(&self, field: &Field<'_>, number: &dyn Fn(&str) -> String) -> Option<(Target, String)> {
        let text = field.nonempty()?;
        match Target::split(text, number) {
            Some((target, rest)) => Some((self.url.cloned().unwrap_or(target), rest)),
            None => field.wrong("http://HOST[:PORT][/PATH], or https://…"),
        }
    }

    /// The body, gRPC's path, and the content type that goes without saying.
    #[allow(clippy::type_complexity, reason = "three parts of one answer, used once")]
    fn body(
        &self,
        fields: &Fields<'_>,
        protocol: Option<&Protocol>,
        owner: Owner<'_>,
    ) -> Option<(Body, Option<String>, Option<&'static str>)> {
        let grpc = fields.take("grpc");
        let plain = fields.take("body");
        if protocol == Some(&Protocol::Grpc) {
            if let Some(plain) = plain {
                plain.problem("`body` with protocol grpc", "grpc.message");
            }
            let Some(grpc) = grpc else {
                fields.require("grpc", "grpc: {method: package.Service/Method, message: …}");
                return None;
            };
            let (body, path) = body::grpc(&grpc, self.folder)?;
            return Some((body, Some(path), Some("application/grpc")));
        }
        if let (Some(grpc), Some(_)) = (grpc, protocol) {
            grpc.problem("`grpc` without protocol grpc", "protocol: grpc, too");
        }
        let Some(plain) = plain else {
            return Some((Body::default(), None, None));
        };
        let (body, kind) = body::read(&plain, self.folder, owner)?;
        Some((body, None, kind))
    }
}

fn same_for_all(name: &Field<'_>) -> bool {
    name.node.as_text().is_none_or(|text| !text.contains("{{"))
}

fn protocol(fields: &Fields<'_>) -> Option<Protocol> {
    let websocket = fields.take("websocket");
    let names = [("http1", 0), ("h2c", 1), ("h2", 1), ("grpc", 2), ("sse", 3), ("websocket", 4)];
    let chosen = fields.take("protocol").map_or(Some(0), |f| f.choice(&names))?;
    if chosen != 4
        && let Some(websocket) = &websocket
    {
        websocket.problem("`websocket` without protocol websocket", "protocol: websocket, too");
    }
    Some(match chosen {
        0 => Protocol::Http1,
        1 => Protocol::H2c,
        2 => Protocol::Grpc,
        3 => Protocol::Sse,
        _ => {
            let inner = websocket.map(|f| f.fields());
            let take = |name| inner.as_ref().and_then(|f| f.take(name));
            let messages = take("messages").map_or(Some(1), |f| f.whole(1..=1_000_000));
            let every =
                take("every").map_or(Some(Duration::ZERO), |f| f.duration(Duration::ZERO..=DURATION_MAX));
            if let Some(inner) = inner {
                inner.finish();
            }
            Protocol::Websocket(Websocket { messages: messages?, every: every? })
        }
    })
}

fn host(field: &Field<'_>, number: &dyn Fn(&str) -> String) -> Option<HeaderValue> {
    let text = number(field.nonempty()?);
    let good = text.parse::<Authority>().is_ok();
    let value = HeaderValue::from_str(&text).ok().filter(|_| good);
    value.or_else(|| field.wrong("a host such as iris.default.localhost, with or without a port"))
}

fn method(field: &Field<'_>) -> Option<Method> {
    let text = field.nonempty()?;
    let upper = text.bytes().all(|b| b.is_ascii_uppercase());
    Method::from_bytes(text.as_bytes())
        .ok()
        .filter(|m| upper && *m != Method::CONNECT)
        .or_else(|| field.wrong("a method in capitals, such as GET or POST"))
}

fn headers(field: &Field<'_>, owner: Owner<'_>) -> Vec<(HeaderName, Template)> {
    // The connection's own: a second one of them makes a request that two parsers read differently.
    const OURS: [&str; 5] = ["host", "content-length", "transfer-encoding", "connection", "upgrade"];
    let mut headers = Vec::new();
    for (name, value) in field.text_map() {
        let lower = name.to_ascii_lowercase();
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            value.problem(format!("the header {name:?}"), "a header's name");
            continue;
        };
        if OURS.contains(&lower.as_str()) {
            value.problem(format!("the header {name}"), "`host` for Host; the others are made here");
            continue;
        }
        let Some(template) = template(&value, owner) else { continue };
        if HeaderValue::from_str(&template.render(0, &mut fastrand::Rng::with_seed(0))).is_err() {
            value.wrong::<()>("a header's value: no line ends or control characters");
        }
        headers.push((header, template));
    }
    if headers.len() > HEADERS_MAX {
        field.problem(format!("{} headers", headers.len()), format!("at most {HEADERS_MAX}"));
    }
    headers
}

fn template(field: &Field<'_>, owner: Owner<'_>) -> Option<Template> {
    template_of(field, field.text()?, owner)
}

fn template_of(field: &Field<'_>, text: &str, owner: Owner<'_>) -> Option<Template> {
    match Template::parse(text, owner) {
        Ok(template) => Some(template),
        Err(unknown) => {
            field.problem(unknown, PLACEHOLDERS);
            None
        }
    }
}

fn is_path(template: &Template, field: &Field<'_>) -> bool {
    let sample = template.render(0, &mut fastrand::Rng::with_seed(0));
    let good = sample.starts_with('/') && sample.parse::<PathAndQuery>().is_ok();
    if !good {
        field.wrong::<()>("a path such as /v2/models/iris/infer?x=1, without blanks");
    }
    good
}
