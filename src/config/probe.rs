//! `readiness`, and `readinessProbe` of a container → [`Probe`].

use super::decode::{Field, Fields};
use super::names::is_header;
use super::node::Value;
use super::spec::Probe;

/// A container probe's fields that are accepted without effect: here, replicas are probed until they answer, often
/// enough to see the first moment.
const TIMING: [&str; 6] = [
    "initialDelaySeconds",
    "periodSeconds",
    "timeoutSeconds",
    "successThreshold",
    "failureThreshold",
    "terminationGracePeriodSeconds",
];
const PATH_MAX: usize = 2048;

/// Reads a probe. `own` is the service's port: a probe of it says `port: None`. `named` resolves a port's name.
pub fn read(field: &Field<'_>, own: u16, named: &dyn Fn(&str) -> Option<u16>) -> Option<Probe> {
    let f = field.fields();
    let port = |f: &Fields<'_>| probe_port(f, own, named);
    let http = f.fields("httpGet").map(|f| http_get(f, &port));
    let tcp = f.fields("tcpSocket").map(|f| {
        f.refuse(&["host"], "another host", "no host: a replica is probed on its own address");
        let port = port(&f);
        f.finish();
        Probe::TcpSocket { port }
    });
    let grpc = f.fields("grpc").map(|f| {
        let service = f.take("service").and_then(|s| s.text().map(str::to_owned)).unwrap_or_default();
        let port = port(&f);
        f.finish();
        Probe::Grpc { port, service }
    });
    let exec = f.fields("exec").map(|f| {
        let command = f.require("command", "a list: program and arguments").and_then(|c| c.command());
        f.finish();
        Probe::Exec { command: command.unwrap_or_default() }
    });
    f.ignore(&TIMING);
    f.finish();
    let mut given = [http, tcp, grpc, exec].into_iter().flatten();
    let probe = given.next();
    if given.next().is_some() {
        field.problem("more than one kind of probe", "one of httpGet, tcpSocket, grpc, exec");
    }
    probe
}

fn http_get(f: Fields<'_>, port: &dyn Fn(&Fields<'_>) -> Option<u16>) -> Probe {
    let path = match f.take("path") {
        None => "/".to_owned(),
        Some(v) => {
            // A runtime's path may hold `{{ .Name }}`, which is put in later.
            let blank = |p: &str, b: u8| b == b' ' && p.contains("{{");
            let good = |p: &&str| {
                p.starts_with('/')
                    && p.len() <= PATH_MAX
                    && p.bytes().all(|b| b.is_ascii_graphic() || blank(p, b))
            };
            let text = v.text();
            text.filter(good)
                .or_else(|| text.and_then(|_| v.wrong("a path that begins with / and has no blanks")))
                .unwrap_or("/")
                .to_owned()
        }
    };
    let port = port(&f);
    let headers = f.take("httpHeaders").map(|v| headers(&v)).unwrap_or_default();
    f.refuse(&["host"], "another host", "no host: use httpHeaders to send a Host header");
    if let Some(scheme) = f.take("scheme") {
        scheme.choice(&[("HTTP", ())]);
    }
    f.finish();
    Probe::HttpGet { path, port, headers }
}

fn headers(v: &Field<'_>) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for item in v.list() {
        let f = item.fields();
        let name = f.require("name", "a header's name").and_then(|n| {
            let text = n.text()?;
            if is_header(text) { Some(text.to_owned()) } else { n.wrong("a header's name") }
        });
        let value = f.take("value").and_then(|n| {
            let text = n.text()?;
            let good = http::header::HeaderValue::from_str(text).is_ok();
            if good { Some(text.to_owned()) } else { n.wrong("a header's value, without control characters") }
        });
        f.finish();
        out.extend(name.map(|n| (n, value.unwrap_or_default())));
    }
    out
}

fn probe_port(f: &Fields<'_>, own: u16, named: &dyn Fn(&str) -> Option<u16>) -> Option<u16> {
    let v = f.take("port")?;
    let port = match &v.node.value {
        Value::Text(name) => named(name).or_else(|| v.wrong("a port from 1 to 65535, or the name of one")),
        _ => v.port(1),
    };
    port.filter(|p| *p != own)
}
