//! What is sent.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut as _, Bytes, BytesMut};
use hyper::http::uri::PathAndQuery;
use pilotlight::config::field::Field;
use pilotlight::config::node::{Entry, Node, Value};

use super::message;
use super::template::{Owner, PLACEHOLDERS, Template};

/// Bytes of one body.
const BYTES_MAX: u64 = 64 << 20;
/// A gRPC message: not compressed, and its length.
const GRPC_PREFIX: usize = 5;

/// A request's body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    /// Always the same; empty = none.
    Fixed(Bytes),
    /// Another for every request.
    Template(Template),
}

impl Default for Body {
    fn default() -> Self {
        Self::Fixed(Bytes::new())
    }
}

/// Reads `{text | file | template | templateFile | json | hex | base64: …}`, and the content type that goes without saying.
pub(crate) fn read(
    field: &Field<'_>,
    folder: &Path,
    owner: Owner<'_>,
) -> Option<(Body, Option<&'static str>)> {
    const FORM: &str = "one of text, file, template, templateFile, json, hex, base64";
    const JSON: Option<&str> = Some("application/json");
    const TEXT: Option<&str> = Some("text/plain; charset=utf-8");
    let fields = field.fields();
    let (text, file) = (fields.take("text"), fields.take("file"));
    let (template, template_file) = (fields.take("template"), fields.take("templateFile"));
    let (json, raw, base64) = (fields.take("json"), fields.take("hex"), fields.take("base64"));
    fields.finish();
    let given = [&text, &file, &template, &template_file, &json, &raw, &base64];
    if given.into_iter().flatten().count() != 1 {
        field.problem(field.node.describe(), FORM);
        return None;
    }
    if let Some(f) = text {
        return Some((Body::Fixed(f.text()?.to_owned().into()), TEXT));
    }
    if let Some(f) = file {
        let kind = kind_of(f.node.as_text().unwrap_or_default());
        return Some((Body::Fixed(contents(&f, folder)?.into()), kind));
    }
    if let Some(f) = template {
        return Some((filled(&f, f.text()?, owner)?, TEXT));
    }
    if let Some(f) = template_file {
        let kind = kind_of(f.node.as_text().unwrap_or_default());
        let text = String::from_utf8(contents(&f, folder)?).ok().or_else(|| f.wrong("a file in UTF-8"))?;
        return Some((filled(&f, &text, owner)?, kind));
    }
    if let Some(f) = json {
        return Some((filled(&f, &to_json(f.node), owner)?, JSON));
    }
    let bytes = raw.map(|f| hexadecimal(&f)).or_else(|| base64.map(|f| in_base64(&f)))??;
    Some((Body::Fixed(bytes.into()), Some("application/octet-stream")))
}

/// Reads `{method, message: {fields | hex | base64 | file}}`: the framed message and the path.
pub(crate) fn grpc(field: &Field<'_>, folder: &Path) -> Option<(Body, String)> {
    const METHOD: &str = "package.Service/Method, such as inference.GRPCInferenceService/ServerReady";
    let fields = field.fields();
    let method = fields.require("method", METHOD).and_then(|f| {
        let text = f.nonempty()?.trim_start_matches('/');
        let good =
            text.split('/').filter(|part| !part.is_empty()).count() == 2 && text.matches('/').count() == 1;
        let path = format!("/{text}");
        let good = good && path.parse::<PathAndQuery>().is_ok();
        if good { Some(path) } else { f.wrong(METHOD) }
    });
    let message = fields.take("message").map_or(Some(Vec::new()), |f| {
        let inner = f.fields();
        let (by_number, raw) = (inner.take("fields"), inner.take("hex"));
        let (base64, file) = (inner.take("base64"), inner.take("file"));
        inner.finish();
        let given = [&by_number, &raw, &base64, &file].into_iter().flatten().count();
        match (given, by_number, raw, base64, file) {
            (1, Some(f), ..) => Some(message::encode(&f)),
            (1, _, Some(f), ..) => hexadecimal(&f),
            (1, _, _, Some(f), _) => in_base64(&f),
            (1, .., Some(f)) => contents(&f, folder),
            _ => {
                f.problem(f.node.describe(), "one of fields, hex, base64, file");
                None
            }
        }
    });
    fields.finish();
    let message = message?;
    let mut framed = BytesMut::with_capacity(GRPC_PREFIX + message.len());
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    Some((Body::Fixed(framed.freeze()), method?))
}

// === impl Body ===

impl Body {
    /// Whether nothing is sent.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::Fixed(bytes) if bytes.is_empty())
    }

    /// The bytes of one request.
    pub(crate) fn render(&self, index: u64, rng: &mut fastrand::Rng) -> Bytes {
        match self {
            Self::Fixed(bytes) => bytes.clone(),
            Self::Template(template) => template.render(index, rng).into(),
        }
    }
}

fn filled(field: &Field<'_>, text: &str, owner: Owner<'_>) -> Option<Body> {
    match Template::parse(text, owner) {
        Ok(template) => Some(match template.fixed() {
            Some(text) => Body::Fixed(text.to_owned().into()),
            None => Body::Template(template),
        }),
        Err(unknown) => {
            field.problem(unknown, PLACEHOLDERS);
            None
        }
    }
}

fn contents(field: &Field<'_>, folder: &Path) -> Option<Vec<u8>> {
    let path = folder.join(field.nonempty()?);
    let read = std::fs::metadata(&path).and_then(|meta| {
        if meta.len() > BYTES_MAX {
            Err(std::io::Error::other("larger than 64 MiB"))
        } else {
            std::fs::read(&path)
        }
    });
    match read {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            field.problem(format!("{}: {error}", path.display()), "a file that can be read, at most 64 MiB");
            None
        }
    }
}

fn hexadecimal(field: &Field<'_>) -> Option<Vec<u8>> {
    message::hex(field.text()?).or_else(|| field.wrong("pairs of hexadecimal digits"))
}

fn in_base64(field: &Field<'_>) -> Option<Vec<u8>> {
    STANDARD.decode(field.text()?.trim()).ok().or_else(|| field.wrong("base64"))
}

fn kind_of(file: &str) -> Option<&'static str> {
    let json = Path::new(file).extension().is_some_and(|e| e.eq_ignore_ascii_case("json"));
    json.then_some("application/json")
}

/// YAML → JSON, keys in the order given.
fn to_json(node: &Node) -> String {
    let join = |parts: Vec<String>| parts.join(",");
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match &node.value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i, _) => i.to_string(),
        // What JSON has no number for stays the text that it was.
        Value::Float(f, text) => {
            serde_json::Number::from_f64(*f).map_or_else(|| quoted(text), |n| n.to_string())
        }
        Value::Text(text) => quoted(text),
        Value::List(items) => format!("[{}]", join(items.iter().map(to_json).collect())),
        Value::Map(entries) => {
            let entry = |e: &Entry| format!("{}:{}", quoted(&e.key), to_json(&e.value));
            format!("{{{}}}", join(entries.iter().map(entry).collect()))
        }
    }
}
