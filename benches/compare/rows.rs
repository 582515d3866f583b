//! What is measured: a row is a load, and the job that the proxies have under it.

use crate::proxies::{Job, Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Row {
    /// HTTP/1.1, one connection.
    #[value(name = "h1-1")]
    H1x1,
    /// HTTP/1.1, 32 connections.
    #[value(name = "h1-32")]
    H1x32,
    /// HTTP/1.1, 512 connections.
    #[value(name = "h1-512")]
    H1x512,
}

/// More slots than connections: they are counted, and nobody waits.
const PLENTY: u32 = 1024;
const ALL: &[Kind] =
    &[Kind::QueueProxy, Kind::Serve1, Kind::Serve4, Kind::Haproxy1, Kind::Haproxy4, Kind::Nginx];

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
        }
    }

    pub(crate) fn job(self) -> Job {
        Job { limit: PLENTY }
    }

    pub(crate) fn connections(self) -> u32 {
        match self {
            Self::H1x1 => 1,
            Self::H1x32 => 32,
            Self::H1x512 => 512,
        }
    }

    pub(crate) fn ways(self) -> &'static [Kind] {
        ALL
    }
}
