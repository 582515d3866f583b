//! The data path's sockets, in one place so that tests can put a network that fails beneath it.
//!
//! They are tokio's. In unit tests each may also be turmoil's, for code that runs inside a simulation
//! (`tests/turmoil`).

#[cfg(not(test))]
pub use tokio::net::{TcpListener, TcpStream};

#[cfg(test)]
pub use simulated::{TcpListener, TcpStream};

#[cfg(test)]
mod simulated {
    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
    use std::pin::Pin;
    use std::sync::LazyLock;
    use std::task::{Context, Poll};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    /// What a simulated socket shows to who asks the kernel: it takes every option of TCP and has nothing to tell.
    static QUIET: LazyLock<std::net::TcpListener> =
        LazyLock::new(|| std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port"));

    /// A connection.
    #[derive(Debug)]
    pub enum TcpStream {
        /// The kernel's.
        Real(tokio::net::TcpStream),
        /// The simulation's.
        Simulated(turmoil::net::TcpStream),
    }

    /// A listener.
    pub enum TcpListener {
        /// The kernel's.
        Real(tokio::net::TcpListener),
        /// The simulation's.
        Simulated(turmoil::net::TcpListener),
    }

    /// Does the same with either.
    macro_rules! either {
        ($self:expr, $socket:ident => $do:expr) => {
            match $self {
                Self::Real($socket) => $do,
                Self::Simulated($socket) => $do,
            }
        };
    }

    // === impl TcpStream ===

    impl TcpStream {
        /// Inside a simulation, to one of its hosts.
        pub async fn connect(to: SocketAddr) -> io::Result<Self> {
            if turmoil::in_simulation() {
                return turmoil::net::TcpStream::connect(to).await.map(Self::Simulated);
            }
            tokio::net::TcpStream::connect(to).await.map(Self::Real)
        }

        /// As tokio's.
        pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
            either!(self, socket => socket.set_nodelay(nodelay))
        }

        /// As tokio's; a simulated connection is reset by whoever closes it with bytes unread, and not otherwise.
        pub fn set_zero_linger(&self) -> io::Result<()> {
            if let Self::Real(socket) = self { socket.set_zero_linger() } else { Ok(()) }
        }

        /// As tokio's.
        pub fn local_addr(&self) -> io::Result<SocketAddr> {
            either!(self, socket => socket.local_addr())
        }

        /// As tokio's.
        pub fn poll_peek(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
            either!(self, socket => socket.poll_peek(cx, buf))
        }
    }

    impl AsFd for TcpStream {
        fn as_fd(&self) -> BorrowedFd<'_> {
            if let Self::Real(socket) = self { socket.as_fd() } else { QUIET.as_fd() }
        }
    }

    impl AsRawFd for TcpStream {
        fn as_raw_fd(&self) -> RawFd {
            self.as_fd().as_raw_fd()
        }
    }

    impl AsyncRead for TcpStream {
        fn poll_read(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            either!(self.get_mut(), socket => Pin::new(socket).poll_read(cx, buf))
        }
    }

    impl AsyncWrite for TcpStream {
        fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            either!(self.get_mut(), socket => Pin::new(socket).poll_write(cx, bytes))
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            either!(self.get_mut(), socket => Pin::new(socket).poll_flush(cx))
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            either!(self.get_mut(), socket => Pin::new(socket).poll_shutdown(cx))
        }
    }

    // === impl TcpListener ===

    impl TcpListener {
        /// Inside a simulation, on the host that runs.
        pub async fn bind(at: impl Into<SocketAddr>) -> io::Result<Self> {
            let at = at.into();
            if turmoil::in_simulation() {
                return turmoil::net::TcpListener::bind(at).await.map(Self::Simulated);
            }
            tokio::net::TcpListener::bind(at).await.map(Self::Real)
        }

        /// As tokio's.
        pub fn from_std(listener: std::net::TcpListener) -> io::Result<Self> {
            tokio::net::TcpListener::from_std(listener).map(Self::Real)
        }

        /// As tokio's.
        pub fn local_addr(&self) -> io::Result<SocketAddr> {
            either!(self, socket => socket.local_addr())
        }

        /// As tokio's.
        pub async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
            Ok(match self {
                Self::Real(socket) => {
                    let (stream, peer) = socket.accept().await?;
                    (TcpStream::Real(stream), peer)
                }
                Self::Simulated(socket) => {
                    let (stream, peer) = socket.accept().await?;
                    (TcpStream::Simulated(stream), peer)
                }
            })
        }
    }
}
