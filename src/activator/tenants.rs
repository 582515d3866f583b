//! For whom a request is: the header that the configuration names.

use std::hash::{BuildHasher, RandomState};

use http::{HeaderMap, HeaderName};

use crate::policy::line::Tenant;

/// Tells tenants apart without keeping their names: a 64-bit hash under a key of this process, which no client can
/// aim at another's.
#[derive(Clone, Debug)]
pub struct Tenants {
    header: Option<HeaderName>,
    hash: RandomState,
}

// === impl Tenants ===

impl Tenants {
    /// Named by this header; empty = there are none.
    pub fn new(header: &str) -> Self {
        Self { header: HeaderName::try_from(header).ok(), hash: RandomState::new() }
    }

    /// The tenant of a request with these headers. Those that do not name one are one tenant together.
    pub fn of(&self, headers: &HeaderMap) -> Tenant {
        let Some(header) = &self.header else { return Tenant::NONE };
        let name = headers.get(header).map_or(&b""[..], http::HeaderValue::as_bytes);
        Tenant::of(self.hash.hash_one(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_tells_them_apart() {
        let tenants = Tenants::new("x-tenant");
        let of = |name: Option<&str>| {
            let headers = name.map(|name| ("x-tenant".parse().unwrap(), name.parse().unwrap()));
            tenants.of(&HeaderMap::from_iter(headers))
        };
        assert_eq!(of(Some("a")), of(Some("a")));
        assert_ne!(of(Some("a")), of(Some("b")));
        assert_ne!(of(None), Tenant::NONE);
        assert_eq!(Tenants::new("").of(&HeaderMap::new()), Tenant::NONE);
    }
}
