//! The tables of flags: names, defaults, help.

use super::command_line::{Flag, Subcommand};

const FILE: Flag = Flag {
    name: "file",
    short: Some('f'),
    value: "FILE_OR_DIR",
    default: "",
    repeated: true,
    help: "File or folder (its *.yaml, *.yml, *.json) with objects; can be repeated; in the variable apart by colons",
};
const LOG_FORMAT: Flag = flag("log-format", "text|json", "text", "Log lines for people or for machines");
const LOG_LEVEL: Flag = flag("log-level", "error|warn|info|debug|trace", "info", "How much is logged");

const MAX_CONNECTIONS: Flag = flag(
    "max-connections",
    "N|auto",
    "auto",
    "Client connections at once; beyond, one that rests makes room, or newcomers wait; auto = as many as open files allow",
);
const HEADER_TIMEOUT: Flag = flag(
    "header-timeout",
    "DURATION",
    "30s",
    "For the head of a request over HTTP/1, from its first byte; for a connection's first, from the start; 0s = none",
);
const KEEP_ALIVE_TIMEOUT: Flag = flag(
    "keep-alive-timeout",
    "DURATION",
    "620s",
    "How long a connection may rest between requests, at least; 0s = for ever. More than a load balancer in front keeps its own",
);

const SERVE: Subcommand = Subcommand {
    name: "serve",
    about: "One machine: runs the services of the files on request load; edits to the files are picked up",
    examples: "Examples:\n  pilotlight serve -f deploy/local/iris.yaml\n  pilotlight serve -f services/ -f extra.yaml --listen 0.0.0.0:80\n  \
               PILOTLIGHT_LOG_FORMAT=json pilotlight serve -f services/",
    flags: &[
        FILE,
        flag("listen", "ADDR", "127.0.0.1:8080", "Where requests come in, by Host; port 0 = any free one"),
        flag("admin", "ADDR", "127.0.0.1:8081", "Health, metrics, JSON API"),
        flag(
            "service-ports",
            "FIRST-LAST|off",
            "20000-20999",
            "Each service gets a stable loopback port of these, where any Host works",
        ),
        flag(
            "state-dir",
            "DIR",
            "",
            "Logs and Python environments [default: $XDG_STATE_HOME/pilotlight, else ~/.local/state/pilotlight]",
        ),
        flag(
            "model-hosts",
            "HOST,…|off",
            "localhost,127.0.0.1,[::1],models.localhost",
            "On these hosts a request names its model instead of a service's host: in JSON, path or gRPC message",
        ),
        MAX_CONNECTIONS,
        HEADER_TIMEOUT,
        KEEP_ALIVE_TIMEOUT,
        LOG_FORMAT,
        LOG_LEVEL,
    ],
};

const VALIDATE: Subcommand = Subcommand {
    name: "validate",
    about: "Checks files: exit code 0 when all is sound, else 64 and every mistake with file, line and field",
    examples: "Example:\n  pilotlight validate -f services/",
    flags: &[FILE],
};

const QUEUE_PROXY: Subcommand = Subcommand {
    name: "queue-proxy",
    about: "The sidecar in front of one app: enforces its concurrency, queues what is beyond, reports load",
    examples: "Examples:\n  pilotlight queue-proxy --app 127.0.0.1:8080 --concurrency 1 --queue 100\n  \
               pilotlight queue-proxy --app 127.0.0.1:8080 --readiness http:/v2/health/ready --request-timeout 30s",
    flags: &[
        flag("listen", "ADDR", "127.0.0.1:8012", "Where requests come in; port 0 = any free one"),
        flag("app", "ADDR", "127.0.0.1:8080", "The app"),
        flag("grpc-app", "ADDR", "", "Where the app takes gRPC, if that is elsewhere [default: --app]"),
        flag("concurrency", "N", "0", "Requests that the app gets at once; 0 = unlimited"),
        flag("queue", "N", "100", "Requests that wait for a slot; more are refused"),
        flag("admin", "ADDR", "127.0.0.1:8022", "Health, readiness, metrics, drain"),
        flag(
            "response-start-timeout",
            "DURATION",
            "5m",
            "From the request sent to the response's head; 0s = none",
        ),
        flag("idle-timeout", "DURATION", "5m", "Without a byte in either direction; 0s = none"),
        flag("request-timeout", "DURATION", "0s", "The whole request; 0s = none"),
        flag("drain-timeout", "DURATION", "10m", "For what is in flight after SIGTERM; 0s = none"),
        flag(
            "drain-quiet",
            "DURATION",
            "0s",
            "After SIGTERM, take new work until none has come for this long: for who still sends; 0s = take none",
        ),
        flag("protocol", "http1|h2c|auto", "auto", "What the app speaks"),
        flag(
            "readiness",
            "PROBE",
            "tcp",
            "tcp, http:/PATH, grpc[:SERVICE] or \"exec:PROGRAM ARGUMENT…\" (apart by blanks, no shell)",
        ),
        flag("readiness-period", "DURATION", "1s", "How often a ready app is asked again; 0s = not again"),
        flag("rate", "N", "0", "Requests per second; more are answered 429; 0 = any number"),
        flag("burst", "N", "0", "Requests that may come at once; 0 = one second's worth"),
        flag("tenant-header", "HEADER", "", "Names the tenant: tenants that wait take turns [default: none]"),
        flag("tenant-rate", "N", "0", "Requests per second of each tenant; 0 = any number"),
        MAX_CONNECTIONS,
        HEADER_TIMEOUT,
        KEEP_ALIVE_TIMEOUT,
        LOG_FORMAT,
        LOG_LEVEL,
    ],
};

/// Every subcommand that there is so far. `flags::parse` makes its typed configuration.
pub(super) const ALL: &[Subcommand] = &[SERVE, VALIDATE, QUEUE_PROXY];

const fn flag(name: &'static str, value: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, value, default, repeated: false, help }
}
