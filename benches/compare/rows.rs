//! What is measured: a row is a load, and the job that the proxies have under it.

use crate::proxies::{Job, Kind, Wire};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Row {
    /// HTTP/1.1, one connection
    #[value(name = "h1-1")]
    H1x1,
    /// HTTP/1.1, 32 connections
    #[value(name = "h1-32")]
    H1x32,
    /// HTTP/1.1, 512 connections
    #[value(name = "h1-512")]
    H1x512,
    /// h2c from the client, HTTP/1.1 to the replica
    H2c,
    /// gRPC unary calls, h2c all the way
    Grpc,
    /// 64 KiB each way
    Bodies,
    /// 1,000 open event streams
    Streams,
    /// Ten times as many connections as slots
    Overload,
    /// Constant rate, open loop, at half of the capacity of the slowest
    Half,
    /// Memory: idle, with 1,000 and with 10,000 resting connections
    Idle,
}

/// How a row is loaded.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// wrk: so many connections, each asking again as soon as it is answered.
    Closed { connections: u32, path: &'static str, body: usize },
    /// h2load: the same over so many connections with so many streams each.
    Multiplexed { connections: u32, streams: u32, grpc: bool },
    /// Open event streams; an event is what counts as a request.
    Events { streams: u32 },
    /// Half of the requests/s that the slowest way does with so many connections, at a constant rate.
    Half { connections: u32 },
    /// Connections that rest.
    Resting,
}

/// More slots than connections: they are counted, and nobody waits.
const PLENTY: u32 = 1024;
const FEW: u32 = 32;

// === impl Row ===

impl Row {
    pub(crate) fn all() -> &'static [Self] {
        <Self as clap::ValueEnum>::value_variants()
    }

    pub(crate) fn name(self) -> String {
        clap::ValueEnum::to_possible_value(&self).expect("no row is hidden").get_name().to_owned()
    }

    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::H1x1 => "HTTP/1.1, 1 connection, 66 bytes of body",
            Self::H1x32 => "HTTP/1.1, 32 connections, 66 bytes of body",
            Self::H1x512 => "HTTP/1.1, 512 connections, 66 bytes of body",
            Self::H2c => "h2c → HTTP/1.1, 4 connections of 8 streams, 66 bytes of body",
            Self::Grpc => "gRPC unary, h2c → h2c, 4 connections of 8 streams, 32 bytes each way",
            Self::Bodies => "HTTP/1.1, 32 connections, bodies of 64 KiB each way",
            Self::Streams => "1,000 event streams, 10 events a second each; a request is an event",
            Self::Overload => "limit 32, 320 connections, an app that takes 2 ms",
            Self::Half => "half of the slowest way's capacity, constant rate, open loop, 32 connections",
            Self::Idle => "memory, RSS (PSS), with connections that rest after one answer",
        }
    }

    pub(crate) fn shape(self) -> Shape {
        let closed = |connections| Shape::Closed { connections, path: "/", body: 0 };
        match self {
            Self::H1x1 => closed(1),
            Self::H1x32 => closed(32),
            Self::H1x512 => closed(512),
            Self::H2c => Shape::Multiplexed { connections: 4, streams: 8, grpc: false },
            Self::Grpc => Shape::Multiplexed { connections: 4, streams: 8, grpc: true },
            Self::Bodies => Shape::Closed { connections: 32, path: "/body", body: 64 * 1024 },
            Self::Streams => Shape::Events { streams: 1000 },
            Self::Overload => Shape::Closed { connections: FEW * 10, path: "/slow", body: 0 },
            Self::Half => Shape::Half { connections: 32 },
            Self::Idle => Shape::Resting,
        }
    }

    pub(crate) fn job(self) -> Job {
        let (client, app) = match self {
            Self::H2c => (Wire::H2, Wire::H1),
            Self::Grpc => (Wire::H2, Wire::H2),
            _ => (Wire::H1, Wire::H1),
        };
        let limit = if self == Self::Overload { FEW } else { PLENTY };
        Job { limit, client, app, streams: self == Self::Streams }
    }

    pub(crate) fn ways(self) -> Vec<Kind> {
        let mut ways = vec![Kind::QueueProxy, Kind::Serve1];
        let four = matches!(self, Self::H1x1 | Self::H1x32 | Self::H1x512 | Self::Overload);
        ways.extend(four.then_some(Kind::Serve4));
        ways.push(Kind::Haproxy1);
        ways.extend(four.then_some(Kind::Haproxy4));
        ways.push(Kind::Nginx);
        ways
    }

    /// CPU per request, as a share of HAProxy's: at most, and aimed at.
    pub(crate) fn cpu_bound(self, kind: Kind) -> Option<(f64, f64)> {
        match (self, kind) {
            (Self::H1x1, Kind::QueueProxy) => Some((1.05, 0.95)),
            (Self::H1x32, Kind::QueueProxy) => Some((1.10, 0.95)),
            (Self::H1x32, Kind::Serve4) => Some((1.25, 1.05)),
            (Self::H2c, Kind::QueueProxy | Kind::Serve1) => Some((1.5, 1.0)),
            _ => None,
        }
    }
}
