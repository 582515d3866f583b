//! Requests per second, for a service and for each tenant.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::HeaderMap;

use crate::config::spec::Limits;
use crate::proxy::error::ProxyError;

/// Tenants whose recent requests are remembered. Beyond it, those that were quiet are forgotten, which is exact:
/// a tenant that is quiet long enough has its whole allowance again.
const MAX_TENANTS: usize = 10_000;
/// A lower rate than one request in a year is that: the limiter counts nanoseconds in 64 bits.
const SLOWEST: Duration = Duration::from_hours(24 * 365);
/// A longer tenant name is a client's mistake or an attack on our memory.
const MAX_TENANT_NAME: usize = 256;

/// A service's limiters.
#[derive(Debug, Default)]
pub struct RateLimits {
    service: Option<(f64, DefaultDirectRateLimiter)>,
    tenants: Option<(f64, String, DefaultKeyedRateLimiter<Vec<u8>>)>,
}

// === impl RateLimits ===

impl RateLimits {
    /// Limiters for what is configured.
    pub fn new(limits: &Limits) -> Self {
        let service = quota(limits.rate, limits.burst).map(|quota| (limits.rate, RateLimiter::direct(quota)));
        let tenants = if limits.tenant_header.is_empty() {
            None
        } else {
            quota(limits.tenant_rate, limits.burst)
                .map(|quota| (limits.tenant_rate, limits.tenant_header.clone(), RateLimiter::keyed(quota)))
        };
        Self { service, tenants }
    }

    /// Whether a request with these headers may pass. Tenants first, so that a flooding one does not use up what
    /// the service may take.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), ProxyError> {
        if let Some((rate, header, limiter)) = &self.tenants {
            let tenant = headers.get(header).map(http::HeaderValue::as_bytes).unwrap_or_default();
            let tenant = &tenant[..tenant.len().min(MAX_TENANT_NAME)];
            if limiter.len() > MAX_TENANTS {
                limiter.retain_recent();
            }
            if let Err(not_yet) = limiter.check_key(&tenant.to_vec()) {
                let retry_after = not_yet.wait_time_from(DefaultClock::default().now());
                return Err(ProxyError::RateLimit { limit: *rate, tenant: true, retry_after });
            }
        }
        if let Some((rate, limiter)) = &self.service
            && let Err(not_yet) = limiter.check()
        {
            let retry_after = not_yet.wait_time_from(DefaultClock::default().now());
            return Err(ProxyError::RateLimit { limit: *rate, tenant: false, retry_after });
        }
        Ok(())
    }
}

fn quota(rate: f64, burst: u32) -> Option<Quota> {
    if rate <= 0.0 {
        return None;
    }
    let burst = NonZeroU32::new(burst).or_else(|| NonZeroU32::new(rate.ceil() as u32))?;
    let period = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(SLOWEST).min(SLOWEST);
    Some(Quota::with_period(period)?.allow_burst(burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_have_their_own_allowance() {
        let limits = Limits { rate: 0.0, burst: 2, tenant_header: "x-tenant".into(), tenant_rate: 0.001 };
        let limits = RateLimits::new(&limits);
        let tenant = |name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-tenant", name.parse().unwrap());
            limits.check(&headers)
        };
        assert!(tenant("a").is_ok() && tenant("a").is_ok());
        assert!(matches!(tenant("a"), Err(ProxyError::RateLimit { tenant: true, .. })));
        assert!(tenant("b").is_ok());
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
        assert!(RateLimits::new(&Limits::default()).check(&HeaderMap::new()).is_ok());
    }
}
