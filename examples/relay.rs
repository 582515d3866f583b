//! A process that listens on $PORT and passes every byte to and from another address: so that an app inside a test
//! can stand where `pilotlight serve` starts one. A reset on one side becomes a reset on the other.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let bad = |what: &str| std::io::Error::other(format!("relay: {what}"));
    let to = std::env::args().nth(1).and_then(|to| to.parse::<SocketAddr>().ok());
    let to = to.ok_or_else(|| bad("ADDR is missing"))?;
    let port = std::env::var("PORT").ok().and_then(|port| port.parse::<u16>().ok());
    let port = port.ok_or_else(|| bad("PORT is not set"))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (mut one, _) = listener.accept().await?;
        tokio::spawn(async move {
            let Ok(mut other) = TcpStream::connect(to).await else { return };
            let _ = (one.set_nodelay(true), other.set_nodelay(true));
            if copy_bidirectional(&mut one, &mut other).await.is_err() {
                let _ = (one.set_zero_linger(), other.set_zero_linger());
            }
        });
    }
}
