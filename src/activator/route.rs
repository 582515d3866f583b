//! Which service a request is for.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::models::table::Table;
use super::service::Service;
use crate::config::spec::ServiceKey;
use crate::proxy::host::without_port;

/// A snapshot of all services, by key and by host. Replaced whole when the configuration changes.
#[derive(Debug, Default)]
pub struct Routes {
    services: BTreeMap<ServiceKey, Arc<Service>>,
    hosts: HashMap<Box<str>, Arc<Service>>,
    /// The services by the names of models, for the shared hosts.
    pub models: Table,
}

// === impl Routes ===

impl Routes {
    /// Routes to these. Hosts are lower case and belong to one service each (validated by `config`).
    pub fn new(services: impl IntoIterator<Item = Arc<Service>>) -> Self {
        let mut routes = Self::default();
        for service in services {
            for host in &service.spec().hosts {
                routes.hosts.insert(host.as_str().into(), service.clone());
            }
            routes.services.insert(service.key.clone(), service);
        }
        routes.models = Table::new(routes.services.values());
        routes
    }

    /// The service of a `Host` or `:authority`, whose port, case and trailing dot do not matter.
    pub fn by_host(&self, host: &str) -> Option<&Arc<Service>> {
        let name = without_port(host);
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return self.hosts.get(name.to_ascii_lowercase().as_str());
        }
        self.hosts.get(name)
    }

    /// The service of this name.
    pub fn by_key(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.services.get(key)
    }

    /// All of them, in order of their keys.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }
}
