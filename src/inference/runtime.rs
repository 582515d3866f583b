//! `ServingRuntime` and `ClusterServingRuntime` (`serving.kserve.io/v1alpha1`): how a model format is served.

use std::fmt;

use super::container::{Container, NO_EFFECT, POD_FIELDS, SERVING_CONTAINER};
use crate::config::decode::{At, Field, Fields};
use crate::config::meta::Meta;
use crate::config::names::{self, PYTHON_VERSION_FORM};
use crate::config::node::Node;
use crate::config::problem::{Pos, Sink};
use crate::config::spec::{PythonSpec, ServiceKey, Source};

/// The apiVersion of both kinds.
pub const API_VERSION: &str = "serving.kserve.io/v1alpha1";
/// For one namespace.
pub const KIND: &str = "ServingRuntime";
/// For every namespace.
pub const CLUSTER_KIND: &str = "ClusterServingRuntime";
/// Annotation: the pip requirements of the process's environment. One a line; on one line, apart by blanks or commas.
pub const PYTHON_REQUIREMENTS: &str = "pilotlight.dev/python-requirements";
/// Annotation: which Python, such as `>=3.9,<3.13`.
pub const PYTHON_VERSION: &str = "pilotlight.dev/python-version";

/// `ModelMesh`'s fields, and others without a meaning here.
const IGNORED: [&str; 9] = [
    "builtInAdapter",
    "grpcDataEndpoint",
    "grpcEndpoint",
    "grpcMultiModelManagementEndpoint",
    "httpDataEndpoint",
    "replicas",
    "storageHelper",
    "volumes",
    "workerSpec",
];

/// How a model format is served.
#[derive(Clone)]
pub struct Runtime<'a> {
    /// Namespace (for a cluster runtime without meaning) and name.
    pub key: ServiceKey,
    /// For every namespace.
    pub cluster: bool,
    /// The file and line.
    pub source: Source,
    /// Where its name stands.
    pub pos: Pos,
    /// What it serves.
    pub formats: Vec<Format>,
    /// What it speaks (`v1`, `v2`, `grpc-v2`); empty = not stated, anything.
    pub protocols: Vec<String>,
    /// Not to be used.
    pub disabled: bool,
    /// `ModelMesh`'s: not used for an `InferenceService` of one model.
    pub multi_model: bool,
    /// What runs; `None` when there is none or no way to tell which.
    pub container: Option<Container<'a>>,
    /// The environment that it needs.
    pub python: Option<PythonSpec>,
}

/// A model format that a runtime serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// Such as `sklearn`.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
    /// Whether the runtime is chosen for it without being named.
    pub auto_select: bool,
    /// The higher one is chosen.
    pub priority: Option<u32>,
}

/// Reads one object. `None` when there is no name to speak of it by.
pub fn read<'a>(object: &'a Node, cluster: bool, sink: &'a Sink) -> Option<Runtime<'a>> {
    let top = Fields::new(object, "", sink);
    top.ignore(&["apiVersion", "kind", "status"]);
    let meta = Meta::read(&top);
    let spec = top.require("spec", "a map with `supportedModelFormats` and `containers`");
    top.finish();
    let spec = spec?;
    let f = spec.fields();
    let boolean = |name| f.take(name).and_then(|v| v.boolean()).unwrap_or(false);
    let runtime = Runtime {
        cluster,
        source: meta.source(sink, object),
        pos: meta.pos,
        formats: f.take("supportedModelFormats").map(|v| formats(&v)).unwrap_or_default(),
        protocols: f.take("protocolVersions").map(|v| v.texts()).unwrap_or_default(),
        disabled: boolean("disabled"),
        multi_model: boolean("multiModel"),
        container: f.require("containers", "a list of containers").and_then(|c| serving_container(&c)),
        python: python(&meta.annotations, sink),
        key: meta.key,
    };
    // For validation: a bad probe is a problem also of a runtime that nothing uses.
    let _ = runtime.container.as_ref().map(Container::probe);
    f.ignore(&["annotations", "labels"]);
    f.ignore_with_warning(&[&IGNORED[..], &POD_FIELDS[..]].concat(), NO_EFFECT);
    f.finish();
    Some(runtime)
}

/// The Python environment that annotations ask for.
pub fn python(annotations: &[(String, At<String>)], sink: &Sink) -> Option<PythonSpec> {
    let find = |name: &str| annotations.iter().find(|(key, _)| key == name).map(|(_, v)| v);
    let version = find(PYTHON_VERSION).and_then(|v| {
        names::python_version(&v.value).or_else(|| {
            sink.problem(v.pos, &v.path, crate::config::problem::quoted(&v.value), PYTHON_VERSION_FORM);
            None
        })
    });
    let requirements = find(PYTHON_REQUIREMENTS).map(|v| requirements(&v.value));
    if requirements.is_none() && version.is_none() {
        return None;
    }
    Some(PythonSpec { requirements: requirements.unwrap_or_default(), version: version.unwrap_or_default() })
}

/// Several lines: one requirement each, as in requirements.txt (also as `- item`). One line: apart by blanks, or
/// by a comma before a name (`numpy>=1,<2` has a comma of its own).
fn requirements(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.trim().lines().collect();
    if let [line] = lines[..] {
        let words = line.split_whitespace().map(|w| w.trim_end_matches(',')).filter(|w| !w.is_empty());
        return words.flat_map(split_at_names).collect();
    }
    let clean = |line: &str| {
        let line = line.trim().trim_start_matches("- ").trim();
        // A comment begins with # at the start or after a blank, so that URLs keep their fragments.
        let end = if line.starts_with('#') { 0 } else { line.find(" #").unwrap_or(line.len()) };
        line[..end].trim().to_owned()
    };
    lines.into_iter().map(clean).filter(|l| !l.is_empty()).collect()
}

fn split_at_names(word: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for part in word.split(',') {
        match out.last_mut() {
            Some(last)
                if !part.starts_with(|c: char| c.is_ascii_alphabetic())
                    || last.contains('[') != last.contains(']') =>
            {
                last.push(',');
                last.push_str(part);
            }
            _ => out.push(part.to_owned()),
        }
    }
    out
}

fn formats(v: &Field<'_>) -> Vec<Format> {
    let mut formats = Vec::new();
    for item in v.list() {
        let f = item.fields();
        let text = |name| f.take(name).and_then(|t| t.text().map(str::to_owned)).unwrap_or_default();
        let name = f.require("name", "a model format, such as sklearn").and_then(|n| n.nonempty());
        let format = Format {
            name: name.unwrap_or_default().to_owned(),
            version: text("version"),
            auto_select: f.take("autoSelect").and_then(|b| b.boolean()).unwrap_or(false),
            priority: f.take("priority").and_then(|p| p.whole(1..=u32::MAX)),
        };
        f.finish();
        formats.push(format);
    }
    formats
}

fn serving_container<'a>(v: &Field<'a>) -> Option<Container<'a>> {
    let mut all: Vec<Container<'a>> = v.list().iter().map(Container::read_whole).collect();
    let serving = match all.iter().position(|c| c.name == SERVING_CONTAINER) {
        Some(at) => at,
        None if all.len() == 1 => 0,
        None => {
            let given = format!("{} containers, none named {SERVING_CONTAINER}", all.len());
            v.problem(given, format!("one container, or one that is named {SERVING_CONTAINER}"));
            return None;
        }
    };
    for other in all.iter().enumerate().filter(|(i, _)| *i != serving).map(|(_, c)| c) {
        other.place.warn(format!("{NO_EFFECT}: the container {:?} beside {SERVING_CONTAINER}", other.name));
    }
    Some(all.swap_remove(serving))
}

// === impl Runtime ===

impl Runtime<'_> {
    /// Whether both have the same kind, namespace and name.
    pub fn is_named_as(&self, other: &Self) -> bool {
        self.cluster == other.cluster
            && self.key.name == other.key.name
            && (self.cluster || self.key.namespace == other.key.namespace)
    }
}

impl fmt::Display for Runtime<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cluster {
            write!(f, "{CLUSTER_KIND} {}", self.key.name)
        } else {
            write!(f, "{KIND} {}", self.key)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirement_forms() {
        let two = ["mlserver==1.7.1", "mlserver-sklearn==1.7.1"];
        for text in [
            "mlserver==1.7.1 mlserver-sklearn==1.7.1",
            "mlserver==1.7.1,mlserver-sklearn==1.7.1",
            "mlserver==1.7.1, mlserver-sklearn==1.7.1",
            "mlserver==1.7.1\nmlserver-sklearn==1.7.1\n",
            "# needed\n- mlserver==1.7.1\n- mlserver-sklearn==1.7.1 # both\n",
        ] {
            assert_eq!(requirements(text), two, "{text:?}");
        }
        assert_eq!(requirements("numpy>=1,<2 a[x,y]==1"), ["numpy>=1,<2", "a[x,y]==1"]);
        assert_eq!(
            requirements("numpy >=1; python_version < \"3.9\"\nb")[0],
            "numpy >=1; python_version < \"3.9\""
        );
        assert!(requirements("").is_empty());
    }
}
