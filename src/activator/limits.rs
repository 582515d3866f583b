//! Requests per second, for a service and for each tenant.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use http::HeaderMap;
use parking_lot::Mutex;

use super::tenants::Tenants;
use crate::config::spec::Limits;
use crate::policy::line::Tenant;
use crate::proxy::error::ProxyError;

/// Tenants whose recent requests are remembered: at least the last half of these that sent any.
const MAX_TENANTS: usize = 16_384;

/// A lower rate than one request in a year is that: the limiter counts nanoseconds in 64 bits.
const SLOWEST: Duration = Duration::from_hours(24 * 365);

/// A burst that takes longer to earn again is cut.
const LONGEST_REFILL: Duration = Duration::from_hours(24 * 365 * 100);

/// A service's limiters.
#[derive(Debug)]
pub struct RateLimits {
    tenant: Tenants,
    service: Option<(f64, DefaultDirectRateLimiter)>,
    each: Option<(f64, TenantLimiter)>,
}

type TenantLimiter = RateLimiter<Tenant, Recent, DefaultClock, NoOpMiddleware>;

/// What governor keeps per tenant, bounded: a client that makes up names must not fill our memory, and a search for
/// who may be forgotten must not cost every request. In two halves: when the young one is full it becomes the old one,
/// and what was the old one is forgotten. Who sends is young again, so only the quiet are forgotten; they begin anew
/// with their whole allowance, which most of them have again anyway.
#[derive(Debug, Default)]
struct Recent {
    halves: Mutex<Halves>,
}

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<Tenant, Nanos>,
    old: HashMap<Tenant, Nanos>,
}

// === impl RateLimits ===

impl RateLimits {
    /// Limiters for what is configured.
    pub fn new(limits: &Limits) -> Self {
        let service = quota(limits.rate, limits.burst).map(|quota| (limits.rate, RateLimiter::direct(quota)));
        let each = quota(limits.tenant_rate, limits.burst).filter(|_| !limits.tenant_header.is_empty()).map(
            |quota| (limits.tenant_rate, RateLimiter::new(quota, Recent::default(), DefaultClock::default())),
        );
        Self { tenant: Tenants::new(&limits.tenant_header), service, each }
    }

    /// Whether a request with these headers may pass. Tenants first, so that a flooding one does not use up what
    /// the service may take.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), ProxyError> {
        if let Some((rate, limiter)) = &self.each
            && let Err(not_yet) = limiter.check_key(&self.tenant(headers))
        {
            let retry_after = not_yet.wait_time_from(DefaultClock::default().now());
            return Err(ProxyError::RateLimit { limit: *rate, tenant: true, retry_after });
        }
        if let Some((rate, limiter)) = &self.service
            && let Err(not_yet) = limiter.check()
        {
            let retry_after = not_yet.wait_time_from(DefaultClock::default().now());
            return Err(ProxyError::RateLimit { limit: *rate, tenant: false, retry_after });
        }
        Ok(())
    }

    /// For whom a request with these headers is.
    pub fn tenant(&self, headers: &HeaderMap) -> Tenant {
        self.tenant.of(headers)
    }
}

fn quota(rate: f64, burst: u32) -> Option<Quota> {
    if rate <= 0.0 {
        return None;
    }
    let burst = NonZeroU32::new(burst).or_else(|| NonZeroU32::new(rate.ceil() as u32))?;
    let period = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(SLOWEST).min(SLOWEST);
    // It multiplies the two, and adds the result to the time.
    let most = LONGEST_REFILL.as_nanos() / period.as_nanos().max(1);
    let burst = burst.min(NonZeroU32::new(most.try_into().unwrap_or(u32::MAX)).unwrap_or(NonZeroU32::MIN));
    Some(Quota::with_period(period)?.allow_burst(burst))
}

// === impl Recent ===

impl StateStore for Recent {
    type Key = Tenant;

    fn measure_and_replace<T, F, E>(&self, tenant: &Tenant, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let mut halves = self.halves.lock();
        let known = halves.young.get(tenant).or_else(|| halves.old.get(tenant)).copied();
        let (answer, next) = match decide(known) {
            Ok(decided) => decided,
            Err(refused) => {
                // Refused ones are remembered as well: a flood must not be forgiven because it is refused.
                if let Some(known) = known {
                    halves.remember(*tenant, known);
                }
                return Err(refused);
            }
        };
        halves.remember(*tenant, next);
        Ok(answer)
    }
}

// === impl Halves ===

impl Halves {
    fn remember(&mut self, tenant: Tenant, state: Nanos) {
        if let Some(known) = self.young.get_mut(&tenant) {
            *known = state;
            return;
        }
        if self.young.len() == MAX_TENANTS / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tenant, state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(limits: &Limits) -> impl Fn(&str) -> Result<(), ProxyError> + use<> {
        let limits = RateLimits::new(limits);
        move |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-tenant", name.parse().unwrap());
            limits.check(&headers)
        }
    }

    fn two_each() -> Limits {
        Limits { rate: 0.0, burst: 2, tenant_header: "x-tenant".into(), tenant_rate: 0.001 }
    }

    #[test]
    fn tenants_have_their_own_allowance() {
        let send = limited(&two_each());
        assert!(send("a").is_ok() && send("a").is_ok());
        assert!(matches!(send("a"), Err(ProxyError::RateLimit { tenant: true, .. })));
        assert!(send("b").is_ok());
    }

    #[test]
    fn the_lowest_rates_are_rates_too() {
        let limits = Limits { rate: 1e-20, burst: 1_000_000_000, ..Limits::default() };
        let limits = RateLimits::new(&limits);
        assert!(limits.check(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn rates_of_any_size_are_rates() {
        for rate in [f64::MIN_POSITIVE, 1e-20, 1e-9, 0.5, 1.0, 1e9, f64::MAX] {
            let limits = RateLimits::new(&Limits { rate, burst: 1, tenant_rate: rate, ..Limits::default() });
            assert!(limits.check(&HeaderMap::new()).is_ok(), "{rate}: the first of a burst");
            if rate <= 1e-9 {
                assert!(limits.check(&HeaderMap::new()).is_err(), "{rate}: one in a lifetime");
            }
        }
    }

    #[test]
    fn a_service_without_limits_has_none() {
        let limits = RateLimits::new(&Limits::default());
        assert!(limits.check(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn made_up_names_fill_nothing_and_forgive_nobody_who_keeps_sending() {
        let limits = RateLimits::new(&two_each());
        let mut headers = HeaderMap::new();
        let mut send = |name: &str| {
            headers.insert("x-tenant", name.parse().unwrap());
            limits.check(&headers).is_ok()
        };
        assert!(send("flood") && send("flood") && !send("flood"));
        for n in 0..3 * MAX_TENANTS {
            assert!(send(&n.to_string()));
            if n % 1000 == 0 {
                assert!(!send("flood"));
            }
        }
        let halves = limits.each.unwrap().1.into_state_store().halves.into_inner();
        assert!(halves.young.len() + halves.old.len() <= MAX_TENANTS);
    }
}
