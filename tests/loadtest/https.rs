//! Encrypted targets.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use crate::ran::{loadtest, run_with};
use crate::support::Lab;

/// A server for `localhost` that says which HTTP it was asked with, and its certificate.
async fn server() -> (SocketAddr, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = service_fn(async |req: Request<Incoming>| {
                    let version = format!("{:?}", req.version());
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(version))))
                });
                let _ = auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), answer)
                    .await;
            });
        }
    });
    (addr, made.cert.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn trusted_and_not() {
    let lab = Lab::new();
    let (addr, pem) = server().await;
    let (_, other) = server().await;
    std::fs::write(lab.path("trusted.pem"), pem).unwrap();
    std::fs::write(lab.path("other.pem"), other).unwrap();
    let url = format!("https://localhost:{}/", addr.port());
    let of = |protocol| ["--url", &url, "--rate", "20", "--duration", "500ms", "--protocol", protocol];
    let trusted = lab.text_path("trusted.pem");
    for (protocol, answer) in [("http1", "HTTP/1.1"), ("h2", "HTTP/2.0")] {
        let ran = run_with(&lab, &of(protocol), ("SSL_CERT_FILE", &trusted)).await.exits(0);
        assert_eq!(ran.total()["ok"], 10, "{protocol}");
        assert_eq!(ran.total()["bytes_in"], 10 * answer.len() as u64, "{protocol}");
    }
    let ran = run_with(&lab, &of("http1"), ("SSL_CERT_FILE", &lab.text_path("other.pem"))).await.exits(2);
    assert_eq!(ran.service()["codes"], serde_json::json!({"tls": 10}));
    assert!(ran.stderr.contains("certificate"), "{}", ran.stderr);
    // Its name is checked, too.
    let by_address = format!("https://{addr}/");
    let args = ["run", "--url", &by_address, "--rate", "1", "--duration", "1s", "-q"];
    let ran = loadtest(&lab, &args).await;
    assert_eq!(ran.code, 2, "{}", ran.stderr);
}
