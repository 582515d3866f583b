//! TCP and TLS connections to one target.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::either::Either;

use crate::outcome::{Failed, Failure};
use crate::scenario::{Scheme, Target};

/// A connection as hyper wants it.
pub(crate) type Io = TokioIo<Either<TcpStream, TlsStream<TcpStream>>>;

/// Which certificates are trusted: the system's, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`.
#[derive(Clone)]
pub(crate) struct Tls {
    roots: Option<Arc<RootCertStore>>,
}

/// Opens connections to one target. The name is looked up once.
pub(crate) struct Connector {
    target: Target,
    addresses: OnceCell<Vec<SocketAddr>>,
    tls: Option<(TlsConnector, Option<ServerName<'static>>)>,
}

// === impl Tls ===

impl Tls {
    /// Reads certificates only if a scenario needs them. The error says why there are none.
    pub(crate) fn new(needed: bool) -> Result<Self, String> {
        if !needed {
            return Ok(Self { roots: None });
        }
        let loaded = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (good, _) = roots.add_parsable_certificates(loaded.certs);
        if good == 0 {
            let why: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
            let why = if why.is_empty() { "the system has none".to_owned() } else { why.join("; ") };
            return Err(format!("no certificates to trust ({why}); SSL_CERT_FILE=FILE names others"));
        }
        Ok(Self { roots: Some(Arc::new(roots)) })
    }

    fn connector(&self, http2: bool) -> Option<TlsConnector> {
        let roots = self.roots.clone()?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has what the default versions need");
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
        Some(TlsConnector::from(Arc::new(config)))
    }
}

// === impl Connector ===

impl Connector {
    pub(crate) fn new(target: &Target, tls: &Tls, http2: bool) -> Self {
        let tls = (target.scheme == Scheme::Https).then(|| tls.connector(http2)).flatten();
        let tls = tls.map(|connector| (connector, ServerName::try_from(target.host.clone()).ok()));
        Self { target: target.clone(), addresses: OnceCell::new(), tls }
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Io, Failed> {
        let addresses = self.addresses.get_or_try_init(|| self.look_up()).await?;
        let mut stream = Err(Failed::from(Failure::Connect));
        for address in addresses {
            stream = TcpStream::connect(address).await.map_err(|e| Failed::new(Failure::Connect, &e));
            if stream.is_ok() {
                break;
            }
        }
        let stream = stream?;
        // Without this, small requests may wait for an acknowledgement. It fails on sockets that are gone.
        let _ = stream.set_nodelay(true);
        let Some((tls, name)) = &self.tls else {
            return Ok(TokioIo::new(Either::Left(stream)));
        };
        let name = name.clone().ok_or(Failure::Tls)?;
        let encrypted = tls.connect(name, stream).await.map_err(|e| Failed::new(Failure::Tls, &e))?;
        Ok(TokioIo::new(Either::Right(encrypted)))
    }

    async fn look_up(&self) -> Result<Vec<SocketAddr>, Failed> {
        let Target { host, port, .. } = &self.target;
        if let Ok(ip) = host.parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(ip, *port)]);
        }
        // RFC 6761 §6.3: these names are this machine's. Not every resolver knows.
        if host == "localhost" || host.ends_with(".localhost") {
            return Ok(vec![SocketAddr::from((Ipv4Addr::LOCALHOST, *port))]);
        }
        let found = tokio::net::lookup_host((host.as_str(), *port)).await;
        Ok(found.map_err(|e| Failed::new(Failure::Connect, &e))?.collect())
    }
}
