//! Which service a model's name means.

use std::collections::HashMap;
use std::sync::Arc;

use crate::activator::service::Service;
use crate::config::spec::ServiceKey;
use crate::proxy::error::ProxyError;

/// The namespace whose service a name means that several have.
const DEFAULT_NAMESPACE: &str = "default";
/// Names that an error repeats.
const MOST_SHOWN: usize = 10;
/// Characters of each.
const LONGEST_SHOWN: usize = 80;

/// All names of all services. Made anew with the routes.
#[derive(Debug, Default)]
pub struct Table {
    /// One service each, unless it is the own name of several.
    services: HashMap<String, Vec<Arc<Service>>>,
    /// What the list shows, sorted.
    ids: Vec<(String, Arc<Service>)>,
}

// === impl Table ===

impl Table {
    /// Of these services. That no two claim the same is seen to by `config::models`.
    pub fn new<'a>(services: impl Iterator<Item = &'a Arc<Service>> + Clone) -> Self {
        let mut table = Self::default();
        for service in services.clone() {
            let models = &service.spec().models;
            let full = |name: &str| format!("{}/{name}", service.key.namespace);
            let own = models.claimed.is_empty().then_some(&models.own);
            let mut names: Vec<String> = models.claimed.iter().chain(own).cloned().collect();
            names.extend([full(&service.key.name), full(&models.own)]);
            names.sort();
            names.dedup();
            for name in names {
                table.services.entry(name).or_default().push(service.clone());
            }
        }
        for service in services {
            let models = &service.spec().models;
            let is_ours = |name: &str| table.find(name).is_ok_and(|found| found.key == service.key);
            let mut ids = models.claimed.clone();
            if ids.is_empty() {
                let full = || format!("{}/{}", service.key.namespace, models.own);
                ids.push(if is_ours(&models.own) { models.own.clone() } else { full() });
            }
            table.ids.extend(ids.into_iter().map(|id| (id, service.clone())));
        }
        table.ids.sort_by(|(a, _), (b, _)| a.cmp(b));
        table
    }

    /// The service that a name means.
    pub fn find(&self, name: &str) -> Result<&Arc<Service>, ProxyError> {
        match self.services.get(name).map(Vec::as_slice) {
            Some([service]) => Ok(service),
            None | Some([]) => Err(ProxyError::NoSuchModel(self.unknown(name))),
            Some(several) => {
                let by_default = several.iter().find(|service| &*service.key.namespace == DEFAULT_NAMESPACE);
                by_default.ok_or_else(|| ProxyError::NoSuchModel(ambiguous(name, several)))
            }
        }
    }

    /// The names to ask for, in order, and whose they are.
    pub fn ids(&self) -> impl Iterator<Item = (&str, &Arc<Service>)> {
        self.ids.iter().map(|(id, service)| (id.as_str(), service))
    }

    fn unknown(&self, name: &str) -> String {
        let known: Vec<String> = self.ids.iter().take(MOST_SHOWN).map(|(id, _)| shown(id)).collect();
        let more = match self.ids.len().saturating_sub(MOST_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        if known.is_empty() {
            return format!("there is no model {:?}, nor any other", shown(name));
        }
        let known = known.join(", ");
        format!("there is no model {:?}; known: {known}{more} (GET /v1/models lists them)", shown(name))
    }
}

fn ambiguous(name: &str, services: &[Arc<Service>]) -> String {
    let keys = services.iter().take(MOST_SHOWN).map(|service| &service.key);
    let full = keys.map(|ServiceKey { namespace, .. }| format!("{namespace}/{name}")).collect::<Vec<_>>();
    format!(
        "the model {:?} is in several namespaces; ask for one with its namespace: {}",
        shown(name),
        full.join(", ")
    )
}

/// A name as it may be repeated to whoever sent it.
fn shown(name: &str) -> String {
    name.chars().take(LONGEST_SHOWN).collect()
}
