//! The subcommands: their flags, and the typed configuration that these become.

use std::ffi::OsString;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::command_line::{self, Exit, Values};
use super::names::{self, is_header};
use super::quantity::{self, DURATION_FORM, DURATION_MAX};
use super::scaled_service::{LIMIT, QUEUE, RATE};
use super::spec::{Concurrency, Limits, Probe, Protocol};
use super::subcommands::ALL;

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Command {
    /// One machine: everything in one process.
    Serve(ServeConfig),
    /// Checks files.
    Validate(ValidateConfig),
    /// The sidecar.
    QueueProxy(QueueProxyConfig),
}

/// `pilotlight serve`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServeConfig {
    /// Files and folders with objects; never empty.
    pub files: Vec<PathBuf>,
    /// Where requests come in.
    pub listen: SocketAddr,
    /// Health, metrics and API.
    pub admin: SocketAddr,
    /// Each service's own loopback port comes from here; `None` = they have none.
    pub service_ports: Option<PortRange>,
    /// Hosts on which requests name a model; lower case, without port.
    pub model_hosts: Vec<String>,
    /// Logs and Python environments; absolute.
    pub state_dir: PathBuf,
    /// What clients may hold.
    pub connections: ConnectionsConfig,
    /// How it logs.
    pub log: LogConfig,
}

/// `pilotlight validate`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ValidateConfig {
    /// Files and folders with objects; never empty.
    pub files: Vec<PathBuf>,
}

/// `pilotlight queue-proxy`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueProxyConfig {
    /// Where requests come in.
    pub listen: SocketAddr,
    /// The app.
    pub app: SocketAddr,
    /// Where gRPC goes, when not there.
    pub grpc_app: Option<SocketAddr>,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// What the app gets at once, and what waits.
    pub concurrency: Concurrency,
    /// From the request sent to the response's head; zero = no bound, as for all of these.
    pub response_start_timeout: Duration,
    /// Without a byte in either direction.
    pub idle_timeout: Duration,
    /// The whole request.
    pub request_timeout: Duration,
    /// For what is in flight after SIGTERM.
    pub drain_timeout: Duration,
    /// After SIGTERM, work is taken until none has come for this long.
    pub drain_quiet: Duration,
    /// What the app speaks.
    pub protocol: Protocol,
    /// How to find out that the app can serve.
    pub readiness: Probe,
    /// What clients may hold.
    pub connections: ConnectionsConfig,
    /// How often a ready app is asked whether it still is; zero = not again.
    pub readiness_period: Duration,
    /// Rate limits, and what tells tenants apart.
    pub limits: Limits,
    /// How it logs.
    pub log: LogConfig,
}

/// What clients may hold, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionsConfig {
    /// Connections at once; `None` = as many as open files allow.
    pub most: Option<u32>,
    /// For the head of a request; zero = no bound, as for the next.
    pub header_timeout: Duration,
    /// Between two requests.
    pub keep_alive_timeout: Duration,
}

/// How a process logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogConfig {
    /// For people or machines.
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
}

/// For people or machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// And what may fail.
    Warn,
    /// And what matters to a user.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

/// Ports from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest.
    pub last: u16,
}

const ADDR_FORM: &str = "IP:PORT such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080, or localhost:PORT";

/// Reads the command line (the program's name first) and the variables.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Command, Exit> {
    let (subcommand, values) = command_line::read(ALL, args, env)?;
    match subcommand.name {
        "serve" => {
            let config = serve(&values);
            values.finish(config).map(Command::Serve)
        }
        "validate" => {
            let files = files(&values);
            values.finish(files.map(|files| ValidateConfig { files })).map(Command::Validate)
        }
        _ => {
            let config = queue_proxy(&values);
            values.finish(config).map(Command::QueueProxy)
        }
    }
}

/// Every value is looked at before the first missing one ends it: all mistakes in one run.
fn serve(v: &Values<'_>) -> Option<ServeConfig> {
    let (files, listen, admin) = (files(v), addr(v, "listen", 0), addr(v, "admin", 0));
    let ports =
        v.parse("service-ports", "FIRST-LAST such as 20000-20999, from 1 to 65535, or off", port_range);
    let model_hosts =
        v.parse("model-hosts", "hosts or addresses without ports, apart by commas, or off", model_hosts);
    let (state_dir, connections, log) = (state_dir(v), connections(v), log(v));
    distinct(v, listen, admin);
    Some(ServeConfig {
        files: files?,
        listen: listen?,
        admin: admin?,
        service_ports: ports?,
        model_hosts: model_hosts?,
        state_dir: state_dir?,
        connections: connections?,
        log: log?,
    })
}

fn queue_proxy(v: &Values<'_>) -> Option<QueueProxyConfig> {
    let (listen, app, admin) = (addr(v, "listen", 0), addr(v, "app", 1), addr(v, "admin", 0));
    let whole = |name, range: std::ops::RangeInclusive<u32>| {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        v.parse(name, &allowed, |t| digits(t).filter(|n| range.contains(n)))
    };
    let grpc_app = if v.all("grpc-app").is_empty() { Some(None) } else { addr(v, "grpc-app", 1).map(Some) };
    let (limit, queue) = (whole("concurrency", LIMIT), whole("queue", QUEUE));
    let (start, idle) = (timeout(v, "response-start-timeout"), timeout(v, "idle-timeout"));
    let (request, drain) = (timeout(v, "request-timeout"), timeout(v, "drain-timeout"));
    let quiet = timeout(v, "drain-quiet");
    let protocol = choice(
        v,
        "protocol",
        &[("http1", Protocol::Http1), ("h2c", Protocol::H2c), ("auto", Protocol::Auto)],
    );
    let readiness =
        v.parse("readiness", "tcp, http:/PATH, grpc, grpc:SERVICE, exec:PROGRAM ARGUMENT…", probe);
    let (period, limits) = (timeout(v, "readiness-period"), limits(v));
    let (connections, log) = (connections(v), log(v));
    distinct(v, listen, admin);
    Some(QueueProxyConfig {
        listen: listen?,
        app: app?,
        grpc_app: grpc_app?,
        admin: admin?,
        concurrency: Concurrency { limit: limit?, queue: queue? },
        response_start_timeout: start?,
        idle_timeout: idle?,
        request_timeout: request?,
        drain_timeout: drain?,
        drain_quiet: quiet?,
        protocol: protocol?,
        readiness: readiness?,
        connections: connections?,
        readiness_period: period?,
        limits: limits?,
        log: log?,
    })
}

fn timeout(v: &Values<'_>, name: &'static str) -> Option<Duration> {
    let allowed = format!("{DURATION_FORM}, at most {}; 0s = none", quantity::show_duration(DURATION_MAX));
    v.parse(name, &allowed, |t| quantity::duration(t).filter(|d| *d <= DURATION_MAX))
}

fn connections(v: &Values<'_>) -> Option<ConnectionsConfig> {
    let most = v.parse("max-connections", "a whole number from 1 to 1000000, or auto", |text| match text {
        "auto" => Some(None),
        number => digits(number).filter(|n| (1..=1_000_000).contains(n)).map(Some),
    });
    let (header, keep_alive) = (timeout(v, "header-timeout"), timeout(v, "keep-alive-timeout"));
    Some(ConnectionsConfig { most: most?, header_timeout: header?, keep_alive_timeout: keep_alive? })
}

fn limits(v: &Values<'_>) -> Option<Limits> {
    let rate = |name| {
        let allowed = format!("requests per second from {} to {}; 0 = none", RATE.start(), RATE.end());
        v.parse(name, &allowed, |t| t.parse::<f64>().ok().filter(|rate| RATE.contains(rate)))
    };
    let (service, tenant) = (rate("rate"), rate("tenant-rate"));
    let burst = v.parse("burst", "a whole number; 0 = one second's worth", digits);
    let named = !v.all("tenant-header").is_empty();
    let header =
        v.parse("tenant-header", "a header's name", |t| is_header(t).then(|| t.to_ascii_lowercase()));
    // `None` of one that is not given is no mistake.
    let header = if named { header } else { Some(String::new()) };
    if tenant.is_some_and(|rate| rate > 0.0) && !named {
        v.mistake("--tenant-rate", "a rate per tenant without --tenant-header", "--tenant-header too, or 0");
    }
    Some(Limits { rate: service?, burst: burst?, tenant_header: header?, tenant_rate: tenant? })
}

fn files(v: &Values<'_>) -> Option<Vec<PathBuf>> {
    let given = v.all("file");
    if given.is_empty() {
        v.mistake("--file", "missing", "-f FILE_OR_DIR, at least once (or PILOTLIGHT_FILE)");
        return None;
    }
    for empty in given.iter().filter(|g| g.text.is_empty()) {
        v.mistake(&empty.from, "\"\"", "a file or a folder");
    }
    Some(given.into_iter().map(|g| PathBuf::from(g.text)).collect())
}

fn addr(v: &Values<'_>, name: &'static str, least_port: u16) -> Option<SocketAddr> {
    let read = |text: &str| {
        let local = |port: &str| Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse().ok()?)));
        let found = text.strip_prefix("localhost:").map_or_else(|| text.parse().ok(), local);
        found.filter(|a: &SocketAddr| a.port() >= least_port)
    };
    v.parse(name, ADDR_FORM, read)
}

fn distinct(v: &Values<'_>, listen: Option<SocketAddr>, admin: Option<SocketAddr>) {
    if let (Some(l), Some(a)) = (listen, admin)
        && l == a
        && a.port() > 0
    {
        v.mistake("--admin", &format!("{a} is --listen too"), "another address");
    }
}

/// `Some(None)`: off.
#[allow(clippy::option_option)] // outer: could be read; inner: wanted
fn port_range(text: &str) -> Option<Option<PortRange>> {
    if text == "off" {
        return Some(None);
    }
    let (first, last) = text.split_once('-')?;
    let port = |t| digits(t).and_then(|p| u16::try_from(p).ok());
    let range = PortRange { first: port(first)?, last: port(last)? };
    (range.first > 0 && range.first <= range.last).then_some(Some(range))
}

fn model_hosts(text: &str) -> Option<Vec<String>> {
    if text == "off" {
        return Some(Vec::new());
    }
    let host = |text: &str| {
        let address = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        match address {
            Some(address) => address.parse::<Ipv6Addr>().ok().map(|_| text.to_ascii_lowercase()),
            None => names::host(text),
        }
    };
    text.split(',').map(|part| host(part.trim())).collect()
}

fn state_dir(v: &Values<'_>) -> Option<PathBuf> {
    if let Some(given) = v.all("state-dir").into_iter().next() {
        let absolute = std::path::absolute(&given.text).ok();
        if absolute.is_none() {
            v.mistake(&given.from, "\"\"", "a folder; it is made when it is not there");
        }
        return absolute;
    }
    // The XDG specification says that a relative path is to be ignored.
    let base = v.env("XDG_STATE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let base = base.or_else(|| v.env("HOME").map(|home| PathBuf::from(home).join(".local/state")));
    if base.is_none() {
        v.mistake("--state-dir", "missing, and neither XDG_STATE_HOME nor HOME is set", "a folder");
    }
    base.map(|b| b.join("pilotlight"))
}

fn log(v: &Values<'_>) -> Option<LogConfig> {
    let format = choice(v, "log-format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let levels = [
        ("error", LogLevel::Error),
        ("warn", LogLevel::Warn),
        ("info", LogLevel::Info),
        ("debug", LogLevel::Debug),
        ("trace", LogLevel::Trace),
    ];
    let level = choice(v, "log-level", &levels);
    Some(LogConfig { format: format?, level: level? })
}

fn choice<T: Copy>(v: &Values<'_>, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
    let names: Vec<&str> = choices.iter().map(|(n, _)| *n).collect();
    v.parse(name, &names.join(", "), |t| choices.iter().find(|(n, _)| *n == t).map(|(_, value)| *value))
}

fn probe(text: &str) -> Option<Probe> {
    let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
    match kind {
        "tcp" if rest.is_empty() => Some(Probe::TcpSocket { port: None }),
        "http" if rest.starts_with('/') && !rest.contains(char::is_whitespace) => {
            Some(Probe::HttpGet { path: rest.to_owned(), port: None, headers: Vec::new() })
        }
        "grpc" => Some(Probe::Grpc { port: None, service: rest.to_owned() }),
        "exec" => {
            let command: Vec<String> = rest.split_whitespace().map(str::to_owned).collect();
            (!command.is_empty()).then_some(Probe::Exec { command })
        }
        _ => None,
    }
}

/// Only digits: `parse` alone would take `+5`.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
