//! Flags and variables, a line each: every mistake is one line, and a configuration can be written as flags again.
#![no_main]

use std::ffi::OsString;

use libfuzzer_sys::fuzz_target;
use pilotlight::config::command_line::Exit;
use pilotlight::config::flags::{Command, QueueProxyConfig, parse};
use pilotlight::config::quantity::show_duration;
use pilotlight::config::spec::{Probe, Protocol};

fn run(args: &[String], env: &[(&str, &str)]) -> Result<Command, Exit> {
    let lookup = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    parse(std::iter::once("pilotlight").chain(args.iter().map(String::as_str)).map(OsString::from), &lookup)
}

/// The flags that say so.
fn flags(config: &QueueProxyConfig) -> Vec<String> {
    let protocol = match config.protocol {
        Protocol::Http1 => "http1",
        Protocol::H2c => "h2c",
        Protocol::Auto => "auto",
    };
    let readiness = match &config.readiness {
        Probe::TcpSocket { .. } => "tcp".to_owned(),
        Probe::HttpGet { path, .. } => format!("http:{path}"),
        Probe::Grpc { service, .. } => format!("grpc:{service}"),
        Probe::Exec { command } => format!("exec:{}", command.join(" ")),
    };
    let most = config.connections.most.map_or("auto".to_owned(), |most| most.to_string());
    let values = [
        ("listen", config.listen.to_string()),
        ("app", config.app.to_string()),
        ("grpc-app", config.grpc_app.map_or_else(String::new, |addr| addr.to_string())),
        ("admin", config.admin.to_string()),
        ("concurrency", config.concurrency.limit.to_string()),
        ("queue", config.concurrency.queue.to_string()),
        ("response-start-timeout", show_duration(config.response_start_timeout)),
        ("idle-timeout", show_duration(config.idle_timeout)),
        ("request-timeout", show_duration(config.request_timeout)),
        ("drain-timeout", show_duration(config.drain_timeout)),
        ("drain-quiet", show_duration(config.drain_quiet)),
        ("protocol", protocol.to_owned()),
        ("readiness", readiness),
        ("readiness-period", show_duration(config.readiness_period)),
        ("rate", config.limits.rate.to_string()),
        ("burst", config.limits.burst.to_string()),
        ("tenant-header", config.limits.tenant_header.clone()),
        ("tenant-rate", config.limits.tenant_rate.to_string()),
        ("max-connections", most),
        ("header-timeout", show_duration(config.connections.header_timeout)),
        ("keep-alive-timeout", show_duration(config.connections.keep_alive_timeout)),
        ("log-format", format!("{:?}", config.log.format).to_lowercase()),
        ("log-level", format!("{:?}", config.log.level).to_lowercase()),
    ];
    // What is empty is left out: it is the same.
    let flags = values
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("--{name}={value}"));
    std::iter::once("queue-proxy".to_owned()).chain(flags).collect()
}

fuzz_target!(|text: &str| {
    let (mut args, mut env) = (Vec::new(), Vec::new());
    for line in text.split('\n') {
        match line.strip_prefix("PILOTLIGHT_").and_then(|_| line.split_once('=')) {
            Some(variable) => env.push(variable),
            None => args.push(line.to_owned()),
        }
    }
    match run(&args, &env) {
        Ok(Command::QueueProxy(config)) => match run(&flags(&config), &[]) {
            Ok(Command::QueueProxy(again)) => assert_eq!(config, again),
            other => panic!("{config:?} is not taken again: {other:?}"),
        },
        Ok(_) => {}
        Err(Exit::Text(help)) => assert!(help.ends_with('\n') && !help.trim().is_empty()),
        Err(Exit::Bad(mistakes)) => {
            assert!(!mistakes.is_empty(), "refused without a reason");
            for mistake in &mistakes {
                assert!(!mistake.contains(char::is_control), "{mistake:?}");
                assert!(mistake.contains("allowed: "), "{mistake:?}");
                assert!(mistake.len() < 4_000, "{mistake:?}");
            }
        }
    }
});
