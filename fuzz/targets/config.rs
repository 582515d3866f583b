//! Files → services, as `pilotlight validate` and `serve` read them: problems have places, the same files give the
//! same answer, and a service that comes out is sound.
#![no_main]

use std::collections::HashSet;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use pilotlight::config::Loaded;
use pilotlight::config::names::{self, is_label};
use pilotlight::config::problem::{Problem, Problems};
use pilotlight::config::quantity::DURATION_MAX;
use pilotlight::config::spec::{Probe, ServiceSpec, Workload};

fn describe(result: &Result<Loaded, Problems>) -> String {
    match result {
        Ok(loaded) => serde_json::to_string(loaded).expect("printable"),
        Err(problems) => problems.to_string(),
    }
}

fn check_problem(problem: &Problem) {
    let text = problem.to_string();
    assert!(!text.contains(char::is_control) && text.len() < 8_000, "{text:?}");
    assert!(!problem.given.is_empty());
}

fn check(service: &ServiceSpec) {
    assert!(is_label(&service.key.name) && is_label(&service.key.namespace), "{}", service.key);
    assert!(service.port > 0 && service.source.line > 0);
    let own = format!("{}.{}.localhost", service.key.name, service.key.namespace);
    assert!(service.hosts.contains(&own), "{:?}", service.hosts);
    for host in &service.hosts {
        assert_eq!(names::host(host).as_deref(), Some(&host[..]));
        http::HeaderValue::from_str(host).expect("a Host");
    }
    let scaling = &service.scaling;
    assert!(
        scaling.min <= scaling.ceiling() && scaling.initial <= scaling.ceiling() && scaling.activation >= 1
    );
    assert!(scaling.target >= 0.01 && scaling.target.is_finite() && scaling.total.is_finite());
    assert!(scaling.max_up_rate > 1.0 && scaling.max_down_rate > 1.0);
    assert!(
        !scaling.window.is_zero()
            && scaling.panic_window <= scaling.window
            && !scaling.panic_window.is_zero()
    );
    let timeouts = &service.timeouts;
    for timeout in [
        timeouts.activation,
        timeouts.response_start,
        timeouts.idle,
        timeouts.request,
        timeouts.drain,
        scaling.slo.wait,
    ] {
        assert!(timeout <= DURATION_MAX.max(Duration::ZERO));
    }
    assert!(service.limits.rate >= 0.0 && service.limits.tenant_rate >= 0.0);
    assert!(service.no_wake.iter().all(|rule| rule.path.is_some() || rule.user_agent.is_some()));
    if let Workload::Process(process) = &service.workload {
        assert!(process.command.iter().all(|text| !text.contains('\0')) && !process.command[0].is_empty());
        assert!(process.env.iter().all(|(name, value)| names::is_variable(name) && !value.contains('\0')));
        assert!(process.working_dir.is_absolute());
    }
    match &service.readiness {
        Probe::HttpGet { path, headers, .. } => {
            path.parse::<http::uri::PathAndQuery>().expect("a path");
            for (name, value) in headers {
                http::HeaderName::try_from(name).expect("a name");
                http::HeaderValue::try_from(value).expect("a value");
            }
        }
        Probe::Exec { command } => assert!(!command.is_empty()),
        Probe::TcpSocket { .. } | Probe::Grpc { .. } => {}
    }
}

fuzz_target!(|data: &[u8]| {
    let files: [(&str, &[u8]); 1] = [("/dev/shm/a.yaml", data)];
    let result = pilotlight::fuzz::load(&files);
    assert_eq!(describe(&result), describe(&pilotlight::fuzz::load(&files)));
    match &result {
        Ok(loaded) => {
            loaded.services.iter().for_each(check);
            loaded.warnings.iter().for_each(check_problem);
            let hosts: Vec<&String> = loaded.services.iter().flat_map(|service| &service.hosts).collect();
            let distinct: HashSet<&&String> = hosts.iter().collect();
            assert_eq!(distinct.len(), hosts.len(), "a host of two services, or twice: {hosts:?}");
        }
        Err(problems) => {
            assert!(!problems.0.is_empty(), "refused without a reason");
            problems.0.iter().for_each(check_problem);
        }
    }
});
