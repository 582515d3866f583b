//! `metadata`: who an object is.

use super::decode::{At, Fields};
use super::names::{LABEL_FORM, is_label};
use super::node::Node;
use super::problem::{Pos, Sink};
use super::spec::{ServiceKey, Source};

/// The namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What a Kubernetes API adds when an object is read back from it; it has no meaning here.
const SERVER_FIELDS: [&str; 10] = [
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "finalizers",
    "ownerReferences",
    "selfLink",
];

/// Who an object is, and what is written on it.
#[derive(Clone, Debug)]
pub struct Meta {
    /// Namespace and name.
    pub key: ServiceKey,
    /// Free-form labels.
    pub labels: Vec<(String, String)>,
    /// Free-form annotations and where each stands.
    pub annotations: Vec<(String, At<String>)>,
    /// Where the name stands.
    pub pos: Pos,
    /// Whether it has a usable name and namespace. If not, the problem is recorded, [`UNNAMED`] stands in, and the
    /// object is read on: every mistake is told in one run.
    pub named: bool,
}

/// Stands in for a name that cannot be used; no DNS label, so nothing is ever called that.
pub const UNNAMED: &str = "-";

// === impl Meta ===

impl Meta {
    /// Reads `metadata` of an object.
    pub fn read(object: &Fields<'_>) -> Self {
        let Some(fields) = object.require("metadata", "a map with at least `name`") else {
            let (labels, annotations) = (Vec::new(), Vec::new());
            let key = ServiceKey::new(UNNAMED, UNNAMED);
            return Self { key, labels, annotations, pos: object.pos(), named: false };
        };
        let fields = fields.fields();
        fields.ignore(&SERVER_FIELDS);
        let name = fields.require("name", LABEL_FORM);
        let pos = name.as_ref().map_or(fields.pos(), |n| n.node.pos);
        let label = |f: &super::decode::Field<'_>| {
            f.text().and_then(|t| if is_label(t) { Some(t.to_owned()) } else { f.wrong(LABEL_FORM) })
        };
        let name = name.as_ref().and_then(label);
        let namespace = match fields.take("namespace") {
            None => Some(DEFAULT_NAMESPACE.to_owned()),
            Some(f) => label(&f),
        };
        let labels = fields.take("labels").map(|f| f.text_map()).unwrap_or_default();
        let labels =
            labels.into_iter().filter_map(|(k, f)| Some((k.to_owned(), f.text()?.to_owned()))).collect();
        let annotations = annotations(&fields, "annotations");
        fields.refuse(&["generateName"], "no names are made up here", "metadata.name");
        fields.finish();
        let named = name.is_some() && namespace.is_some();
        let or_unnamed = |text: Option<String>| text.unwrap_or_else(|| UNNAMED.to_owned());
        let key = ServiceKey::new(&or_unnamed(namespace), &or_unnamed(name));
        Self { key, labels, annotations, pos, named }
    }

    /// Where the object stands.
    pub fn source(&self, sink: &Sink, object: &Node) -> Source {
        Source { file: sink.file().to_path_buf(), line: object.pos.line }
    }

    /// An annotation's text.
    pub fn annotation(&self, name: &str) -> Option<&At<String>> {
        self.annotations.iter().find(|(k, _)| k == name).map(|(_, v)| v)
    }
}

/// A map of annotations with their places.
pub fn annotations(fields: &Fields<'_>, name: &'static str) -> Vec<(String, At<String>)> {
    let map = fields.take(name).map(|f| f.text_map()).unwrap_or_default();
    map.into_iter().filter_map(|(k, f)| Some((k.to_owned(), f.at(f.text()?.to_owned())))).collect()
}
