//! GET, over one kept connection, bounded in time and bytes.

use std::path::PathBuf;

use bytes::Bytes;
use http::Request;
use http::header::{ACCEPT, AUTHORIZATION, HOST, USER_AGENT};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};

use super::error::ObserveError;
use crate::client::{Connector, Io, Tls};
use crate::scenario::{Scheme, Target};

/// A service's state or a query's answer is a few KiB.
const BODY_MOST: usize = 4 << 20;
/// Of a refusal's text, what is shown.
const TEXT_MOST: usize = 200;

/// A server that is asked again and again.
pub(super) struct Http {
    target: Target,
    /// What comes before every path; no `/` at its end.
    prefix: String,
    /// Made by the first question: certificates are read from disk.
    connector: Option<Connector>,
    token_file: Option<PathBuf>,
    connection: Option<SendRequest<Empty<Bytes>>>,
}

// === impl Http ===

impl Http {
    /// `base`: an address, with the path that comes before every other if there is one.
    pub(super) fn new(base: &str, token_file: Option<PathBuf>) -> Result<Self, ObserveError> {
        match Target::split(base, &str::to_owned) {
            Some((target, path)) if !path.contains('?') => {
                let prefix = path.trim_end_matches('/').to_owned();
                Ok(Self { target, prefix, connector: None, token_file, connection: None })
            }
            _ => Err(ObserveError::Address(base.to_owned())),
        }
    }

    /// The whole address of what [`Http::get`] asks for.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.target, self.prefix)
    }

    /// The body of a 200. `path` begins with `/` and may have a query.
    pub(super) async fn get(&mut self, path: &str) -> Result<Bytes, ObserveError> {
        let token = self.token().await?;
        let answer = match self.connection.take().filter(SendRequest::is_ready) {
            Some(kept) => self.ask(kept, path, token.as_deref()).await.ok(),
            None => None,
        };
        // A kept connection may have been closed meanwhile; a failure on a new one is real.
        let ((head, body), connection) = if let Some(answer) = answer {
            answer
        } else {
            let connection = self.connect(path).await?;
            self.ask(connection, path, token.as_deref()).await?
        };
        let body = Limited::new(body, BODY_MOST).collect().await;
        let body = body.map_err(|e| self.broken(path, &*e))?.to_bytes();
        self.connection = Some(connection);
        if head.status == http::StatusCode::OK {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body);
        let text =
            text.trim().chars().take(TEXT_MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
        Err(ObserveError::Status { url: self.url(path), status: head.status.as_u16(), text })
    }

    /// Read anew each time: such files are rotated.
    async fn token(&self) -> Result<Option<String>, ObserveError> {
        let Some(path) = &self.token_file else { return Ok(None) };
        match tokio::fs::read_to_string(path).await {
            Ok(token) => Ok(Some(format!("Bearer {}", token.trim()))),
            Err(source) => Err(ObserveError::Token { path: path.display().to_string(), source }),
        }
    }

    async fn connect(&mut self, path: &str) -> Result<SendRequest<Empty<Bytes>>, ObserveError> {
        if self.connector.is_none() {
            let tls = Tls::new(self.target.scheme == Scheme::Https);
            let tls = tls.map_err(|reason| ObserveError::Connection { url: self.url(path), reason })?;
            self.connector = Some(Connector::new(&self.target, &tls, false));
        }
        let connector = self.connector.as_ref().expect("it was made above");
        let io: Io = connector.connect().await.map_err(|failed| {
            let reason = failed.why.unwrap_or_else(|| format!("{:?}", failed.kind).to_lowercase());
            ObserveError::Connection { url: self.url(path), reason }
        })?;
        let (sender, connection) = http1::handshake(io).await.map_err(|e| self.broken(path, &e))?;
        // Ends with the sender, or when the other side closes.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn ask(&self, mut connection: SendRequest<Empty<Bytes>>, path: &str, token: Option<&str>) -> Asked {
        let mut request = Request::get(format!("{}{path}", self.prefix))
            .header(HOST, self.target.authority())
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, concat!("pilotlight-loadtest/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, token);
        }
        let request = request.body(Empty::new()).map_err(|e| self.broken(path, &e))?;
        let response = connection.send_request(request).await.map_err(|e| self.broken(path, &e))?;
        Ok((response.into_parts(), connection))
    }

    fn broken(&self, path: &str, error: &(dyn std::error::Error + 'static)) -> ObserveError {
        ObserveError::Connection { url: self.url(path), reason: reasons(error) }
    }
}

type Asked = Result<((http::response::Parts, Incoming), SendRequest<Empty<Bytes>>), ObserveError>;

/// An error with what caused it: hyper's and kube's own say little by themselves.
pub(super) fn reasons(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let why = error.to_string();
        if !text.contains(&why) {
            text.push_str(": ");
            text.push_str(&why);
        }
        cause = error.source();
    }
    text
}
