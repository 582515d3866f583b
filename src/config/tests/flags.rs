//! The command line: what is read, and every mistake in one run.

use std::ffi::OsString;
use std::time::Duration;

use crate::config::command_line::Exit;
use crate::config::flags::{Command, LogFormat, LogLevel, PortRange, QueueProxyConfig, ServeConfig, parse};
use crate::config::spec::{Limits, Probe, Protocol};

fn run(args: &[&str], env: &[(&str, &str)]) -> Result<Command, Exit> {
    let lookup = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    parse(std::iter::once("pilotlight").chain(args.iter().copied()).map(OsString::from), &lookup)
}

#[track_caller]
fn serve(args: &[&str], env: &[(&str, &str)]) -> ServeConfig {
    let mut all = vec![("HOME", "/h")];
    all.extend(env);
    match run(&[&["serve"], args].concat(), &all) {
        Ok(Command::Serve(c)) => c,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn queue_proxy(args: &[&str]) -> QueueProxyConfig {
    match run(&[&["queue-proxy"], args].concat(), &[]) {
        Ok(Command::QueueProxy(c)) => c,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn mistakes(args: &[&str], env: &[(&str, &str)]) -> Vec<String> {
    match run(args, env) {
        Err(exit @ Exit::Bad(_)) => {
            assert_eq!(exit.code(), 64);
            let Exit::Bad(messages) = exit else { unreachable!() };
            messages
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults() {
    let c = serve(&["-f", "a.yaml"], &[]);
    assert_eq!(
        (c.listen.to_string(), c.admin.to_string()),
        ("127.0.0.1:8080".into(), "127.0.0.1:8081".into())
    );
    assert_eq!(c.service_ports, Some(PortRange { first: 20000, last: 20999 }));
    assert_eq!(c.state_dir.to_str(), Some("/h/.local/state/pilotlight"));
    assert_eq!(c.model_hosts, ["localhost", "127.0.0.1", "[::1]", "models.localhost"]);
    let hosts = |text| serve(&["-f", "a", "--model-hosts", text], &[]).model_hosts;
    assert_eq!(hosts("LLM.example.com, 10.0.0.1,[FD00::1]"), ["llm.example.com", "10.0.0.1", "[fd00::1]"]);
    assert_eq!(hosts("off"), [""; 0]);
    for bad in ["a:80", "http://a", "a,,b", "[::1]:80", "::1", "*"] {
        let found = mistakes(&["serve", "-f", "a", "--model-hosts", bad], &[("HOME", "/h")]);
        assert!(found.len() == 1 && found[0].starts_with("--model-hosts: "), "{bad}: {found:?}");
    }
    assert_eq!((c.log.format, c.log.level), (LogFormat::Text, LogLevel::Info));
    let connections = c.connections;
    assert_eq!((connections.most, connections.header_timeout), (None, Duration::from_secs(30)));
    assert_eq!(connections.keep_alive_timeout, Duration::from_secs(620));
    let q = queue_proxy(&[]);
    assert_eq!(q.connections, connections);
    let q = queue_proxy(&["--max-connections", "9", "--header-timeout", "0s", "--keep-alive-timeout", "5s"]);
    assert_eq!((q.connections.most, q.connections.header_timeout), (Some(9), Duration::ZERO));
    let bad = mistakes(&["queue-proxy", "--max-connections", "0", "--header-timeout", "soon"], &[]);
    assert!(bad.len() == 2 && bad[0].contains("1000000, or auto"), "{bad:?}");
    let q = queue_proxy(&[]);
    assert_eq!((q.listen.to_string(), q.app.to_string()), ("127.0.0.1:8012".into(), "127.0.0.1:8080".into()));
    assert_eq!((q.concurrency.limit, q.concurrency.queue), (0, 100));
    assert_eq!((q.idle_timeout, q.request_timeout), (Duration::from_mins(5), Duration::ZERO));
    assert_eq!((q.protocol, q.readiness), (Protocol::Auto, Probe::TcpSocket { port: None }));
    assert_eq!((q.readiness_period, q.limits), (Duration::from_secs(1), Limits::default()));
    let q =
        queue_proxy(&["--tenant-header", "X-Tenant", "--tenant-rate", "2.5", "--rate=10", "--burst", "3"]);
    let limits = Limits { rate: 10.0, burst: 3, tenant_header: "x-tenant".into(), tenant_rate: 2.5 };
    assert_eq!(q.limits, limits);
    let said = mistakes(&["queue-proxy", "--tenant-rate", "1", "--rate", "-1", "--burst", "x"], &[]);
    assert_eq!(said.len(), 3, "{said:?}");
}

#[test]
fn flags_win_over_variables_and_these_over_defaults() {
    let env = [
        ("PILOTLIGHT_LISTEN", "0.0.0.0:1"),
        ("PILOTLIGHT_FILE", "a:b"),
        ("PILOTLIGHT_SERVICE_PORTS", "off"),
        ("PILOTLIGHT_ADMIN", ""),
    ];
    let c = serve(&[], &env);
    assert_eq!((c.files.len(), c.listen.port(), c.service_ports, c.admin.port()), (2, 1, None, 8081));
    // A variable that is not used is not looked at.
    let c = serve(&["--listen=localhost:2", "-f", "c", "d", "--file", "e"], &[("PILOTLIGHT_LISTEN", "bad")]);
    assert_eq!((c.listen.to_string(), c.files.len()), ("127.0.0.1:2".into(), 3));
    assert_eq!(serve(&["-f", "a"], &[("XDG_STATE_HOME", "/x")]).state_dir.to_str(), Some("/x/pilotlight"));
    assert!(serve(&["-f", "a", "--state-dir", "rel"], &[]).state_dir.is_absolute());
}

#[test]
fn probes() {
    for (text, expected) in [
        ("http:/a?b", Probe::HttpGet { path: "/a?b".into(), port: None, headers: Vec::new() }),
        ("grpc", Probe::Grpc { port: None, service: String::new() }),
        ("grpc:a.b", Probe::Grpc { port: None, service: "a.b".into() }),
        ("exec:test -e /x", Probe::Exec { command: vec!["test".into(), "-e".into(), "/x".into()] }),
    ] {
        assert_eq!(queue_proxy(&["--readiness", text]).readiness, expected);
    }
}

#[test]
fn every_mistake_in_one_run() {
    let found = mistakes(
        &[
            "serve",
            "--listen",
            "nonsense",
            "--bogus",
            "1",
            "--service-ports",
            "9-1",
            "--log-levle",
            "x",
            "stray",
        ],
        &[("PILOTLIGHT_ADMIN", "8081"), ("PILOTLIGHT_LOG_FORMAT", "xml")],
    );
    let places: Vec<&str> = found.iter().map(|m| m.split(':').next().unwrap()).collect();
    assert_eq!(
        places,
        [
            "--bogus",
            "--log-levle",
            "\"stray\"",
            "--file",
            "--listen",
            "PILOTLIGHT_ADMIN",
            "--service-ports",
            "--state-dir",
            "PILOTLIGHT_LOG_FORMAT"
        ]
    );
    assert!(found[1].contains("did you mean --log-level?"), "{}", found[1]);
    assert_eq!(found[8], "PILOTLIGHT_LOG_FORMAT: \"xml\"; allowed: text, json");
}

#[test]
fn one_mistake_each() {
    for (args, start) in [
        (&["--listen", "8080"][..], "--listen: \"8080\""),
        (&["--listen", ":8080"], "--listen: \":8080\""),
        (&["--listen"], "--listen: no value"),
        (&["--listen", "127.0.0.1:1", "--listen", "127.0.0.1:2"], "--listen: given twice"),
        (&["--listen", "1.1.1.1:5", "--admin", "1.1.1.1:5"], "--admin: 1.1.1.1:5 is --listen too"),
        (&["--app", "127.0.0.1:0"], "--app: \"127.0.0.1:0\""),
        (&["--grpc-app", "127.0.0.1"], "--grpc-app: \"127.0.0.1\""),
        (&["--concurrency", "x"], "--concurrency: \"x\""),
        (&["--concurrency=-1"], "--concurrency: \"-1\""),
        (&["--concurrency", "-1"], "--concurrency: \"-1\""),
        (&["--queue", "+1"], "--queue: \"+1\""),
        (&["--idle-timeout", "5"], "--idle-timeout: \"5\""),
        (&["--drain-timeout", "300h"], "--drain-timeout: \"300h\""),
        (&["--protocol", "h3"], "--protocol: \"h3\""),
        (&["--readiness", "http"], "--readiness: \"http\""),
        (&["--readiness", "exec:"], "--readiness: \"exec:\""),
        (&["--log-level", "loud"], "--log-level: \"loud\""),
    ] {
        let found = mistakes(&[&["queue-proxy"], args].concat(), &[]);
        assert!(found.len() == 1 && found[0].starts_with(start), "{args:?}: {found:?}");
    }
    let odd = mistakes(&["queue-proxy", "--\u{1b}[31m"], &[]);
    assert!(odd[0].starts_with("--\\u{1b}[31m: unknown flag"), "not for a terminal to obey: {odd:?}");
    assert!(mistakes(&[], &[])[0].starts_with("no subcommand"));
    assert!(mistakes(&["sevre"], &[])[0].contains("did you mean serve?"));
    assert!(mistakes(&["validate"], &[])[0].starts_with("--file: missing"));
}

#[test]
fn help_says_defaults_variables_and_examples() {
    for args in
        [&["--help"][..], &["serve", "--help"], &["help", "serve"], &["serve", "-f", "a", "-h"], &["-V"]]
    {
        let Err(exit) = run(args, &[]) else { panic!("{args:?}") };
        assert_eq!(exit.code(), 0);
        let Exit::Text(text) = exit else { panic!("{args:?}") };
        if args.contains(&"serve") {
            for part in [
                "--service-ports",
                "[default: 20000-20999]",
                "PILOTLIGHT_SERVICE_PORTS",
                "Examples:",
                "-f, --file",
            ] {
                assert!(text.contains(part), "{part}\n{text}");
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn arbitrary_arguments_never_panic(
        args in proptest::collection::vec("(-{0,2}[a-z=:/-]{0,12}|--listen|-f|--queue|--readiness|\\PC{0,8})", 0..8),
        value in "\\PC{0,12}",
    ) {
        for name in ["serve", "queue-proxy", "validate"] {
            let args: Vec<OsString> = ["pilotlight", name].into_iter().map(OsString::from).chain(args.iter().map(OsString::from)).collect();
            if let Err(Exit::Bad(mistakes)) = parse(args, &|_| Some(value.clone())) {
                proptest::prop_assert!(!mistakes.is_empty());
            }
        }
    }
}
