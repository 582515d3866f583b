//! Asks the kernel for one listening socket (`sock_diag(7)`): about 10 µs, 4 of them once it is open. `/proc/net/tcp` tells the same, but to read
//! to its end makes the kernel walk its whole table of connections, 262,144 buckets on an ordinary machine: 2 to 4 ms
//! a table, even when there are none.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

const HEADER: usize = 16;
/// `struct inet_diag_req_v2` behind a header.
const REQUEST: usize = HEADER + 56;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 1;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const TCP_LISTEN: u8 = 10;
/// Where `struct inet_diag_msg` has its state and its inode.
const STATE: usize = HEADER + 1;
const INODE: usize = HEADER + 68;

/// Open, to ask again and again: 4 µs a question.
#[derive(Debug)]
pub(crate) struct SockDiag(OwnedFd);

// === impl SockDiag ===

impl SockDiag {
    /// Fails on a kernel without it, and in some sandboxes.
    pub(crate) fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?))
    }

    /// The inode of the socket that gets connections to this address, as the kernel itself looks it up: the one bound
    /// to that address, else one bound to all, IPv6 ones that take IPv4 too. `Ok(None)`: nobody listens.
    pub(crate) fn listener(&self, address: SocketAddr) -> io::Result<Option<u64>> {
        send(&self.0, &request(address), SendFlags::empty())?;
        let mut answer = [0; 512];
        // The kernel answers within `send`: there is nothing to wait for.
        let (read, _) = recv(&self.0, &mut answer, RecvFlags::DONTWAIT)?;
        match answer.get(4..6).map(|kind| u16::from_ne_bytes([kind[0], kind[1]])) {
            Some(SOCK_DIAG_BY_FAMILY) if read >= INODE + 4 && answer[STATE] == TCP_LISTEN => {
                let inode: [u8; 4] = answer[INODE..INODE + 4].try_into().expect("it is four bytes long");
                Ok(Some(u32::from_ne_bytes(inode).into()))
            }
            // NLMSG_ERROR, with what went wrong, negative.
            Some(2) if read >= HEADER + 4 => {
                let error: [u8; 4] = answer[HEADER..HEADER + 4].try_into().expect("it is four bytes long");
                let error = io::Error::from_raw_os_error(-i32::from_ne_bytes(error));
                if error.kind() == io::ErrorKind::NotFound { Ok(None) } else { Err(error) }
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

fn request(address: SocketAddr) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    request[..4].copy_from_slice(&(REQUEST as u32).to_ne_bytes());
    request[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request[HEADER + 1] = IPPROTO_TCP;
    request[HEADER + 4..HEADER + 8].copy_from_slice(&(1u32 << TCP_LISTEN).to_ne_bytes());
    // The id: source port, destination port, source, destination, interface, cookie (none: all ones).
    request[HEADER + 8..HEADER + 10].copy_from_slice(&address.port().to_be_bytes());
    match address.ip() {
        IpAddr::V4(ip) => {
            request[HEADER] = AF_INET;
            request[HEADER + 12..HEADER + 16].copy_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            request[HEADER] = AF_INET6;
            request[HEADER + 12..HEADER + 28].copy_from_slice(&ip.octets());
        }
    }
    request[REQUEST - 8..].fill(0xff);
    request
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::os::fd::AsRawFd;

    use super::*;

    fn inode(socket: &TcpListener) -> String {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
        link.to_str().unwrap().to_owned()
    }

    #[test]
    fn finds_who_gets_the_connections() {
        let one = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let kernel = SockDiag::open().unwrap();
        let address = one.local_addr().unwrap();
        assert_eq!(format!("socket:[{}]", kernel.listener(address).unwrap().unwrap()), inode(&one));
        drop(one);
        assert_eq!(kernel.listener(address).unwrap(), None);
        for all in
            [TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)), TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))]
        {
            let Ok(all) = all else { continue };
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, all.local_addr().unwrap().port()));
            assert_eq!(format!("socket:[{}]", kernel.listener(address).unwrap().unwrap()), inode(&all));
        }
    }
}
