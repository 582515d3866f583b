//! Which runtime serves a model, by KServe's rules: the named one; else, of those that list the format with
//! `autoSelect`, are not disabled and speak the protocol, the namespace's before the cluster's, by priority, then name.

use super::isvc::Model;
use super::runtime::{Format, Runtime};
use crate::config::decode::At;

/// Names listed in a message.
const LISTED_MAX: usize = 20;

/// Finds the runtime of `model` for an object of `namespace`. Records a problem when there is none.
pub fn select<'r, 'a>(
    model: &Model<'_>,
    namespace: &str,
    runtimes: &'r [Runtime<'a>],
) -> Option<&'r Runtime<'a>> {
    if let Some(named) = &model.runtime {
        return by_name(named, model, namespace, runtimes);
    }
    let format = model.format.as_ref()?;
    let fits = |r: &&Runtime<'_>| unfit(r, model).is_none() && matching(r, model, true).is_some();
    let best = in_reach(runtimes, namespace).filter(fits).min_by_key(|r| {
        let priority = matching(r, model, true).and_then(|f| f.priority).unwrap_or(0);
        (r.cluster, std::cmp::Reverse(priority), r.key.name.clone())
    });
    if best.is_none() {
        let version = model.version.as_ref().map(|v| format!(" version {:?}", v.value)).unwrap_or_default();
        let protocol =
            model.protocol.as_ref().map(|p| format!(" with protocol {}", p.value)).unwrap_or_default();
        let given = format!("no runtime serves the format {:?}{version}{protocol} by itself", format.value);
        model.problem_at(format, given, known(runtimes, namespace));
    }
    best
}

fn by_name<'r, 'a>(
    name: &At<String>,
    model: &Model<'_>,
    namespace: &str,
    runtimes: &'r [Runtime<'a>],
) -> Option<&'r Runtime<'a>> {
    // The namespace's own comes first, as in KServe.
    let named = in_reach(runtimes, namespace).filter(|r| *r.key.name == *name.value);
    let Some(runtime) = named.min_by_key(|r| r.cluster) else {
        let given = format!("the runtime {:?} is not there", name.value);
        model.problem_at(name, given, known(runtimes, namespace));
        return None;
    };
    if let Some(why) = unfit(runtime, model) {
        model.problem_at(name, format!("{runtime} {why}"), known(runtimes, namespace));
        return None;
    }
    Some(runtime)
}

fn in_reach<'r, 'a>(
    runtimes: &'r [Runtime<'a>],
    namespace: &str,
) -> impl Iterator<Item = &'r Runtime<'a>> + Clone {
    runtimes.iter().filter(move |r| r.cluster || *r.key.namespace == *namespace)
}

/// Why a runtime cannot serve this model, if so.
fn unfit(runtime: &Runtime<'_>, model: &Model<'_>) -> Option<String> {
    if runtime.disabled {
        return Some("is disabled".into());
    }
    if runtime.multi_model {
        return Some("is for several models at once (multiModel)".into());
    }
    if let (Some(format), None) = (&model.format, matching(runtime, model, false)) {
        return Some(format!("does not serve the format {:?}", format.value));
    }
    let protocol = model.protocol.as_ref()?;
    let speaks = runtime.protocols.is_empty() || runtime.protocols.contains(&protocol.value);
    (!speaks).then(|| format!("does not speak the protocol {}", protocol.value))
}

/// The runtime's entry for the model's format. Without a version in the model, any version will do.
fn matching<'r>(runtime: &'r Runtime<'_>, model: &Model<'_>, auto: bool) -> Option<&'r Format> {
    let format = model.format.as_ref()?;
    let fits = |f: &&Format| {
        f.name == format.value
            && model.version.as_ref().is_none_or(|v| v.value == f.version)
            && (f.auto_select || !auto)
    };
    runtime.formats.iter().filter(fits).max_by_key(|f| f.priority.unwrap_or(0))
}

/// What there is instead, for the message.
fn known(runtimes: &[Runtime<'_>], namespace: &str) -> String {
    let describe = |r: &Runtime<'_>| {
        let formats: Vec<String> = r
            .formats
            .iter()
            .map(|f| {
                let version = if f.version.is_empty() { String::new() } else { format!(":{}", f.version) };
                format!("{}{version}{}", f.name, if f.auto_select { "" } else { " (only when named)" })
            })
            .collect();
        format!("{r} for {}{}", formats.join(", "), if r.disabled { ", disabled" } else { "" })
    };
    let all: Vec<String> = in_reach(runtimes, namespace).take(LISTED_MAX).map(describe).collect();
    if all.is_empty() {
        return format!("a runtime; none is declared for namespace {namespace} in these files");
    }
    all.join("; ")
}
