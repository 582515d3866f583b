//! What a request says of its model before its body is read: by method, path and content type.

use std::borrow::Cow;

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, Method};

use super::{json, message, multipart};
use crate::proxy::error::Dialect;

/// Where the model's name is.
#[derive(Debug)]
pub enum Asks<'a> {
    /// Which models there are.
    List,
    /// About one model, without using it.
    About(Cow<'a, str>),
    /// The path names it.
    Named(Cow<'a, str>),
    /// The body names it.
    InBody(Finder),
    /// Nowhere that we know of.
    Nowhere,
    /// In a body that cannot be read here, for this reason.
    Unreadable(&'static str),
}

/// Looks for the name in a body.
#[derive(Debug)]
pub enum Finder {
    /// OpenAI's.
    Json(json::Finder),
    /// OpenAI's for audio.
    Form(multipart::Finder),
    /// The Open Inference Protocol's.
    Message(message::Finder),
}

const KEY: &str = "model";
const GRPC_SERVICE: &str = "/inference.GRPCInferenceService/";

/// Where a request with this head says its model.
pub fn asks<'a>(method: &Method, path: &'a str, headers: &HeaderMap) -> Asks<'a> {
    if Dialect::of(headers) == Dialect::Grpc {
        return path.strip_prefix(GRPC_SERVICE).map_or(Asks::Nowhere, call);
    }
    if let Some(model) = path.strip_prefix("/v2/models/") {
        return name(model.split('/').next().unwrap_or_default(), Asks::Named);
    }
    // KServe has OpenAI's paths below this.
    let Some(path) = path.strip_prefix("/openai").unwrap_or(path).strip_prefix("/v1/") else {
        return Asks::Nowhere;
    };
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let Some(model) = path.strip_prefix("models") else {
        return if *method == Method::POST { body(headers) } else { Asks::Nowhere };
    };
    match model.strip_prefix('/') {
        None if !model.is_empty() => Asks::Nowhere,
        None | Some("") if reads => Asks::List,
        None | Some("") => Asks::Nowhere,
        Some(model) => match [":predict", ":explain"].iter().find_map(|verb| model.strip_suffix(verb)) {
            Some(model) => name(model, Asks::Named),
            None if reads => name(model, Asks::About),
            None => Asks::Nowhere,
        },
    }
}

fn name<'a>(encoded: &'a str, asks: impl Fn(Cow<'a, str>) -> Asks<'a>) -> Asks<'a> {
    if encoded.is_empty() { Asks::Nowhere } else { asks(decoded(encoded)) }
}

/// The field that names the model in the (first) message of a method.
fn call(method: &str) -> Asks<'static> {
    let field = match method {
        "ServerLive" | "ServerReady" | "ServerMetadata" | "RepositoryIndex" => return Asks::Nowhere,
        "RepositoryModelLoad" | "RepositoryModelUnload" => 2,
        _ => 1,
    };
    Asks::InBody(Finder::Message(message::Finder::new(field)))
}

fn body(headers: &HeaderMap) -> Asks<'static> {
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
    {
        return Asks::Unreadable("the body is compressed (Content-Encoding)");
    }
    let form = headers.get(CONTENT_TYPE).and_then(|kind| multipart::Finder::new(KEY, kind));
    // Whatever else it says it is: what comes by `curl -d` says it is a form, and apps take it for JSON.
    Asks::InBody(form.map_or_else(|| Finder::Json(json::Finder::new(KEY)), Finder::Form))
}

/// A path's segment without its percent-encoding; bytes that are no UTF-8 become what no model is called.
fn decoded(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|digits| byte == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(decoded) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            bytes.push(decoded);
            rest = &after[2..];
        } else {
            bytes.push(byte);
            rest = after;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &Method, path: &str, kind: &'static str) -> String {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, http::HeaderValue::from_static(kind))]);
        match asks(method, path, &headers) {
            Asks::List => "list".into(),
            Asks::About(name) => format!("about {name}"),
            Asks::Named(name) => format!("named {name}"),
            Asks::InBody(Finder::Json(_)) => "json".into(),
            Asks::InBody(Finder::Form(_)) => "form".into(),
            Asks::InBody(Finder::Message(_)) => "message".into(),
            Asks::Nowhere => "nowhere".into(),
            Asks::Unreadable(_) => "unreadable".into(),
        }
    }

    #[test]
    fn paths_say_where_the_name_is() {
        let (get, post, json) = (Method::GET, Method::POST, "application/json");
        for (method, path, expected) in [
            (&get, "/v1/models", "list"),
            (&Method::HEAD, "/openai/v1/models", "list"),
            (&get, "/v1/models/", "list"),
            (&get, "/v1/models/iris", "about iris"),
            (&get, "/v1/models/meta-llama/Llama-3", "about meta-llama/Llama-3"),
            (&post, "/v1/models/iris:predict", "named iris"),
            (&post, "/v1/models/llama3:8b:explain", "named llama3:8b"),
            (&post, "/v1/models/iris", "nowhere"),
            (&Method::DELETE, "/v1/models/iris", "nowhere"),
            (&post, "/v1/models", "nowhere"),
            (&get, "/v1/modelsx", "nowhere"),
            (&post, "/v2/models/iris/infer", "named iris"),
            (&get, "/v2/models/lab%2Firis/versions/1/ready", "named lab/iris"),
            (&get, "/v2/models/a%zz%e4%41", "named a%zz\u{fffd}A"),
            (&get, "/v2/models/", "nowhere"),
            (&get, "/v2/health/ready", "nowhere"),
            (&post, "/v1/chat/completions", "json"),
            (&post, "/openai/v1/embeddings", "json"),
            (&get, "/v1/chat/completions", "nowhere"),
            (&get, "/", "nowhere"),
        ] {
            assert_eq!(of(method, path, json), expected, "{method} {path}");
        }
        assert_eq!(of(&post, "/v1/audio/transcriptions", "multipart/form-data; boundary=x"), "form");
        assert_eq!(of(&post, "/inference.GRPCInferenceService/ModelInfer", "application/grpc"), "message");
        assert_eq!(of(&post, "/inference.GRPCInferenceService/ServerReady", "application/grpc"), "nowhere");
        assert_eq!(of(&post, "/v1/completions", "application/grpc"), "nowhere");
    }
}
