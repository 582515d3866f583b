//! The Kubernetes API: any object with a scale subresource, of the cluster that `KUBECONFIG` names.
//!
//! A Deployment, `StatefulSet` or `ReplicaSet` says all in one small object. Of any other, the scale subresource says how
//! many replicas there should be, and which pods are its own; these are counted.

use ::pilotlight::config::field::Field;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::{ApiResource, pinned_kind};
use kube::{Client, Config};

use super::error::ObserveError;
use super::http::reasons;
use super::{Of, address_of};
use crate::run::Observed;

/// More pods than a service of a load test has.
const PODS_MOST: u32 = 500;

/// Which object of which cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At {
    /// Of the object.
    pub(crate) api_version: String,
    /// Of the object.
    pub(crate) kind: String,
    /// None = the scenario's name of the service.
    pub(crate) name: Option<String>,
    /// None = the context's, or `default`.
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig; none = the current one.
    pub(crate) context: Option<String>,
    /// An address without authentication, such as `kubectl proxy`'s; none = `KUBECONFIG`, `~/.kube/config`, or the pod's
    /// service account.
    pub(crate) server: Option<String>,
}

/// Reads it.
pub(super) struct Reader {
    at: At,
    name: String,
    objects: Option<Objects>,
}

/// Connected, and the object's kind is known to the cluster.
struct Objects {
    own: Api<DynamicObject>,
    pods: Api<Pod>,
    /// Says in its own status how many replicas are ready.
    whole: bool,
}

// === impl At ===

impl At {
    pub(super) fn read(field: &Field<'_>, of: Of<'_>) -> Self {
        let fields = field.fields();
        let at = Self {
            api_version: of.text(&fields, "apiVersion").unwrap_or_else(|| "apps/v1".into()),
            kind: of.text(&fields, "kind").unwrap_or_else(|| "Deployment".into()),
            name: of.text(&fields, "name"),
            namespace: of.text(&fields, "namespace"),
            context: of.text(&fields, "context"),
            server: fields.take("server").and_then(|f| address_of(&f)),
        };
        fields.finish();
        at
    }

    pub(super) fn reader(&self, service: &str) -> Reader {
        let name = self.name.clone().unwrap_or_else(|| service.to_owned());
        Reader { at: self.clone(), name, objects: None }
    }

    async fn config(&self) -> Result<Config, ObserveError> {
        let wrong = |e: &(dyn std::error::Error + 'static)| ObserveError::Kubeconfig(reasons(e));
        if let Some(server) = &self.server {
            let uri = server.parse().map_err(|_| ObserveError::Address(server.clone()))?;
            let mut config = Config::new(uri);
            config.default_retry = false;
            return Ok(config);
        }
        let mut config = if self.context.is_some() {
            let file = Kubeconfig::read().map_err(|e| wrong(&e))?;
            let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
            Config::from_custom_kubeconfig(file, &options).await.map_err(|e| wrong(&e))?
        } else {
            Config::infer().await.map_err(|e| wrong(&e))?
        };
        // The next look comes by itself; a retry would only be late.
        config.default_retry = false;
        Ok(config)
    }

    fn kind(&self) -> GroupVersionKind {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        GroupVersionKind::gvk(group, version, &self.kind)
    }
}

// === impl Reader ===

impl Reader {
    pub(super) async fn read(&mut self) -> Result<Observed, ObserveError> {
        let objects = match &mut self.objects {
            Some(objects) => objects,
            none => none.insert(Objects::connect(&self.at).await?),
        };
        let seen =
            if objects.whole { objects.status(&self.name).await } else { objects.scale(&self.name).await };
        seen.map_err(|e| failed(&format!("{}/{}", self.at.kind, self.name), &e))
    }
}

// === impl Objects ===

impl Objects {
    async fn connect(at: &At) -> Result<Self, ObserveError> {
        let config = at.config().await?;
        let namespace = at.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|e| failed("client", &e))?;
        let kind = at.kind();
        let whole =
            kind.group == "apps" && ["Deployment", "StatefulSet", "ReplicaSet"].contains(&&*kind.kind);
        // The plural of a well-known kind is known; any other is asked for.
        let resource = if whole {
            ApiResource::from_gvk(&kind)
        } else {
            pinned_kind(&client, &kind)
                .await
                .map_err(|e| failed(&format!("{} {}", at.api_version, at.kind), &e))?
                .0
        };
        let own = Api::namespaced_with(client.clone(), &namespace, &resource);
        Ok(Self { own, pods: Api::namespaced(client, &namespace), whole })
    }

    /// One object that says everything.
    async fn status(&self, name: &str) -> Result<Observed, kube::Error> {
        let object = self.own.get(name).await?;
        let number = |path: &str| object.data.pointer(path).and_then(serde_json::Value::as_u64);
        let (all, ready) =
            (number("/status/replicas").unwrap_or(0), number("/status/readyReplicas").unwrap_or(0));
        Ok(Observed {
            // The API leaves out what is 1 by default; once stored, it is always there.
            desired: number("/spec/replicas"),
            ready: Some(ready),
            starting: Some(all.saturating_sub(ready)),
            ..Observed::default()
        })
    }

    /// Its scale, and the pods that its selector names.
    async fn scale(&self, name: &str) -> Result<Observed, kube::Error> {
        let scale = self.own.get_scale(name).await?;
        let number = |n: Option<i32>| n.and_then(|n| u64::try_from(n).ok());
        let mut observed =
            Observed { desired: number(scale.spec.and_then(|spec| spec.replicas)), ..Observed::default() };
        let Some(status) = scale.status else { return Ok(observed) };
        let Some(selector) = status.selector.filter(|selector| !selector.is_empty()) else {
            // What exists is all that such an object says.
            observed.ready = number(Some(status.replicas));
            return Ok(observed);
        };
        let pods = self.pods.list(&ListParams::default().labels(&selector).limit(PODS_MOST)).await?;
        let alive = pods.items.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
        let (ready, starting): (Vec<_>, Vec<_>) =
            alive.filter(|pod| !over(pod)).partition(|pod| is_ready(pod));
        observed.ready = Some(ready.len() as u64);
        observed.starting = Some(starting.len() as u64);
        Ok(observed)
    }
}

/// It has ended and will not come back.
fn over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn failed(what: &str, error: &kube::Error) -> ObserveError {
    let reason = match error {
        kube::Error::Api(status) => format!("{} {}", status.code, status.message),
        error => reasons(error),
    };
    ObserveError::Kubernetes { what: what.to_owned(), reason }
}
