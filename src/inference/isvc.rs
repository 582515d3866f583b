//! `InferenceService` (`serving.kserve.io/v1beta1`): what the user asks for.

use std::path::Path;
use std::time::Duration;

use super::container::{Container, NO_EFFECT, POD_FIELDS};
use crate::config::annotations;
use crate::config::decode::{At, Field, Fields};
use crate::config::meta::{self, Meta};
use crate::config::node::Node;
use crate::config::problem::Sink;
use crate::config::quantity::DURATION_MAX;
use crate::config::scaled_service::LIMIT;
use crate::config::scaling::{Knobs, NUMBER_MAX, REPLICAS_MAX, Target, metric};
use crate::config::spec::{ServiceKey, Source};

/// The apiVersion.
pub const API_VERSION: &str = "serving.kserve.io/v1beta1";
/// The kind.
pub const KIND: &str = "InferenceService";
/// What is said of KServe features that come later.
pub const NOT_YET: &str = "not supported yet on one machine";

/// KServe's default, unlike a `ScaledService`'s 0.
const MIN_REPLICAS: u32 = 1;

/// The older way to write a model: one field for each format.
const LEGACY: [&str; 10] = [
    "sklearn",
    "xgboost",
    "tensorflow",
    "pytorch",
    "triton",
    "onnx",
    "huggingface",
    "pmml",
    "lightgbm",
    "paddle",
];

/// Accepted without effect: they only concern a cluster.
const CLUSTER_ONLY: [&str; 5] = ["autoScaling", "deploymentStrategy", "scaleMetricType", "labels", "volumes"];

/// One object. Only the predictor, until transformers and explainers come.
pub struct InferenceService<'a> {
    /// Who it is.
    pub meta: Meta,
    /// The file and line.
    pub source: Source,
    /// The predictor.
    pub predictor: Component<'a>,
    /// Collects problems of its file.
    pub sink: &'a Sink,
}

/// A predictor; later also a transformer or an explainer.
pub struct Component<'a> {
    /// The model that it serves.
    pub model: Model<'a>,
    /// How it scales; annotations included.
    pub knobs: Knobs,
    /// `containerConcurrency`; 0 = unlimited.
    pub concurrency: u32,
    /// `timeout` of a request.
    pub timeout: Option<Duration>,
}

/// `predictor.model`.
pub struct Model<'a> {
    /// `modelFormat.name`; `None` when that is already a problem.
    pub format: Option<At<String>>,
    /// `modelFormat.version`.
    pub version: Option<At<String>>,
    /// The runtime, when one is named.
    pub runtime: Option<At<String>>,
    /// `protocolVersion`.
    pub protocol: Option<At<String>>,
    /// Where the model's files are.
    pub storage_uri: Option<Field<'a>>,
    /// What goes over the runtime's container.
    pub container: Container<'a>,
    sink: &'a Sink,
}

/// Reads one object. `None` when there is no model to speak of; the problem is recorded.
pub fn read<'a>(object: &'a Node, sink: &'a Sink) -> Option<InferenceService<'a>> {
    let top = Fields::new(object, "", sink);
    top.ignore(&["apiVersion", "kind", "status"]);
    let meta = Meta::read(&top);
    let spec = top.require("spec", "a map with `predictor`");
    top.finish();
    check_kserve_annotations(&meta, sink);
    let f = spec?.fields();
    f.refuse(&["transformer", "explainer", "canary"], NOT_YET, "`predictor`");
    let predictor = f.require("predictor", "a map with `model`");
    f.finish();
    let predictor = predictor.and_then(|p| component(&p, &meta.annotations, sink))?;
    Some(InferenceService { source: meta.source(sink, object), meta, predictor, sink })
}

fn component<'a>(
    place: &Field<'a>,
    annotations: &[(String, At<String>)],
    sink: &'a Sink,
) -> Option<Component<'a>> {
    let f = place.fields();
    f.refuse(&LEGACY, NOT_YET, "`model: {modelFormat: {name: …}, storageUri: …}`");
    f.refuse(&["containers", "workerSpec"], NOT_YET, "`model`");
    f.refuse(&["canaryTrafficPercent", "logger", "batcher", "storageUris", "name"], NOT_YET, "");
    f.ignore_with_warning(&[&CLUSTER_ONLY[..], &POD_FIELDS[..]].concat(), NO_EFFECT);
    let own = meta::annotations(&f, "annotations");
    let replicas = |name| f.take(name).and_then(|v| Some(v.at(v.whole(0..=REPLICAS_MAX)?)));
    let target = |v: Field<'_>| Some(v.at(Target::Total(v.number(1.0..=NUMBER_MAX)?)));
    let stated = Knobs {
        min: replicas("minReplicas"),
        max: replicas("maxReplicas"),
        target: f.take("scaleTarget").and_then(target),
        metric: f.take("scaleMetric").and_then(|v| metric(&v)),
        ..Knobs::default()
    };
    let knobs = stated.over(annotations::read(&own, sink)).over(annotations::read(annotations, sink));
    let default = Knobs { min: Some(place.at(MIN_REPLICAS)), ..Knobs::default() };
    let concurrency = f.take("containerConcurrency").and_then(|v| v.whole(LIMIT)).unwrap_or(0);
    let timeout = f.take("timeout").and_then(|v| v.whole(0..=DURATION_MAX.as_secs() as u32));
    let model = if LEGACY.iter().chain(&["containers"]).any(|l| f.has(l)) {
        f.ignore(&["model"]);
        None
    } else {
        f.require("model", "a map with `modelFormat` and `storageUri`")
    };
    f.finish();
    Some(Component {
        model: read_model(&model?, sink),
        knobs: knobs.over(default),
        concurrency,
        timeout: timeout.map(|t| Duration::from_secs(t.into())),
    })
}

fn read_model<'a>(place: &Field<'a>, sink: &'a Sink) -> Model<'a> {
    let f = place.fields();
    let text = |f: &Fields<'_>, name| f.take(name).and_then(|v| Some(v.at(v.nonempty()?.to_owned())));
    let (mut format, mut version) = (None, None);
    if let Some(v) = f.require("modelFormat", "a map with `name`, such as {name: sklearn}") {
        let f = v.fields();
        let name = f.require("name", "a model format, such as sklearn");
        format = name.and_then(|v| Some(v.at(v.nonempty()?.to_owned())));
        version = text(&f, "version");
        f.finish();
    }
    f.refuse(&["storage"], NOT_YET, "`storageUri`");
    let protocol = f.take("protocolVersion").and_then(|v| {
        let known = ["v1", "v2", "grpc-v1", "grpc-v2"].map(|p| (p, p));
        Some(v.at(v.choice(&known)?.to_owned()))
    });
    let model = Model {
        format,
        version,
        runtime: text(&f, "runtime"),
        protocol,
        storage_uri: f.take("storageUri"),
        container: Container::read(&f, place),
        sink,
    };
    f.finish();
    model
}

/// KServe's own annotations: most concern a cluster, but one that changes what the user sees must not be lost.
fn check_kserve_annotations(meta: &Meta, sink: &Sink) {
    if let Some(v) = meta.annotation("serving.kserve.io/stop").filter(|v| v.value == "true") {
        sink.problem(v.pos, &v.path, format!("stop is {NOT_YET}"), "leave the service out of the files");
    }
    if let Some(v) = meta.annotation("serving.kserve.io/autoscalerClass") {
        sink.warn(v.pos, &v.path, format!("{NO_EFFECT}: autoscalerClass {:?}", v.value));
    }
}

// === impl InferenceService ===

impl InferenceService<'_> {
    /// The service of a component: `N-predictor`.
    pub fn component_key(&self, component: &str) -> ServiceKey {
        ServiceKey::new(&self.meta.key.namespace, &format!("{}-{component}", self.meta.key.name))
    }

    /// The folder that relative paths are relative to.
    pub fn folder(&self) -> &Path {
        self.sink.folder()
    }
}

// === impl Model ===

impl Model<'_> {
    /// Records a problem with one of its fields.
    pub fn problem_at<T>(&self, at: &At<T>, given: String, allowed: String) {
        self.sink.problem(at.pos, &at.path, given, allowed);
    }
}
