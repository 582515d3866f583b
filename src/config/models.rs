//! Names of models: which a service claims, and whose they are.

use std::collections::HashMap;

use super::decode::{At, Field};
use super::problem::{Sink, quoted};
use super::scaled_service::Declared;

/// Names of models of one service.
pub const MODELS_MAX: usize = 64;
/// Bytes of a model's name.
pub const NAME_MAX: usize = 256;

const FORM: &str =
    "a model's name such as meta-llama/Llama-3-8B: 1 to 256 bytes without blanks and control characters";

/// The names that `spec.models` claims.
pub fn claimed(v: &Field<'_>) -> Vec<At<String>> {
    let items = v.list();
    if items.len() > MODELS_MAX {
        v.problem(format!("{} names", items.len()), format!("at most {MODELS_MAX}"));
    }
    let mut names: Vec<At<String>> = Vec::new();
    for item in items {
        let Some(text) = item.text() else { continue };
        if !is_name(text) {
            item.wrong::<()>(FORM).unwrap_or_default();
        } else if names.iter().any(|n| n.value == text) {
            item.problem(format!("{} twice", quoted(text)), "each name once");
        } else {
            names.push(item.at(text.to_owned()));
        }
    }
    names
}

/// A name means one service: the later claim is told about the older one, and no claim takes another service's own
/// name away. Two services of one name in two namespaces both keep it.
pub fn check(declared: &[(Declared, &Sink)]) {
    let mut owners: HashMap<String, &Declared> = HashMap::new();
    for (service, _) in declared {
        let (namespace, models) = (&service.spec.key.namespace, &service.spec.models);
        for name in [&*service.spec.key.name, &*models.own] {
            owners.entry(format!("{namespace}/{name}")).or_insert(service);
        }
        if models.claimed.is_empty() {
            owners.entry(models.own.clone()).or_insert(service);
        }
    }
    for (new, sink) in declared {
        for name in &new.models {
            let old = *owners.entry(name.value.clone()).or_insert(new);
            let is_own = |service: &Declared| service.spec.models.own == name.value;
            if old.spec.key == new.spec.key
                || (is_own(old) && is_own(new) && old.spec.models.claimed.is_empty())
            {
                continue;
            }
            let place = format!("{}:{}", old.spec.source.file.display(), old.name_pos.line);
            let given =
                format!("the model {} belongs to {}, declared at {place}", quoted(&name.value), old.spec.key);
            sink.problem(name.pos, &name.path, given, "a name that no other service has");
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && !text.chars().any(|c| c.is_control() || c.is_whitespace())
}
