//! Why a source could not be read.

/// In words that name the place and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ObserveError {
    /// What the scenario gives is not an address.
    #[error("{0:?} is not an http:// or https:// address")]
    Address(String),
    /// Nobody there, or the connection broke.
    #[error("{url}: {reason}")]
    Connection {
        /// What was asked.
        url: String,
        /// What happened.
        reason: String,
    },
    /// It answered, but not with 200.
    #[error("{url}: {status} {text}")]
    Status {
        /// What was asked.
        url: String,
        /// Its code.
        status: u16,
        /// The beginning of what it said.
        text: String,
    },
    /// It answered with something else.
    #[error("{url}: not the answer of {of}: {reason}")]
    Answer {
        /// What was asked.
        url: String,
        /// What should be there.
        of: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// It did not answer.
    #[error("no answer in time")]
    Timeout,
    /// A file that the scenario names.
    #[error("tokenFile {path}: {source}")]
    Token {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: std::io::Error,
    },
    /// A query is wrong, or its answer is of no use.
    #[error("query for {quantity} ({query}): {reason}")]
    Query {
        /// Such as `ready`.
        quantity: &'static str,
        /// In `PromQL`.
        query: String,
        /// What is wrong.
        reason: String,
    },
    /// No queries gave anything, which is how Prometheus says that it does not know the metrics.
    #[error(
        "{0}: none of the queries has a value: is the service's name right, and are its metrics scraped?"
    )]
    Empty(String),
    /// No way into the cluster.
    #[error("kubernetes: {0}")]
    Kubeconfig(String),
    /// The cluster's answer.
    #[error("kubernetes: {what}: {reason}")]
    Kubernetes {
        /// What was asked for.
        what: String,
        /// What is wrong.
        reason: String,
    },
}
