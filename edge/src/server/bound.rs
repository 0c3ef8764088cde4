//! The public port, bound: one TCP listener per worker and one UDP socket, all on the same number.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// The sockets of the public port.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    /// One per worker; the kernel spreads connections over them.
    pub(crate) tcp: Vec<std::net::TcpListener>,
    pub(crate) udp: UdpSocket,
}

impl Bound {
    /// Binds everything. With port 0 the system picks one that is free for TCP and UDP.
    pub(crate) fn new(wanted: SocketAddr, workers: usize) -> io::Result<Self> {
        let mut tries = if wanted.port() == 0 { PORT_TRIES } else { 1 };
        loop {
            match Self::once(wanted, workers) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries > 1 => tries -= 1,
                outcome => return outcome,
            }
        }
    }

    fn once(wanted: SocketAddr, workers: usize) -> io::Result<Self> {
        // Without address reuse this fails when another process listens there: with it, two edges
        // would silently share the port.
        let address = socket(wanted, Type::STREAM, false)?
            .local_addr()?
            .as_socket()
            .ok_or(io::ErrorKind::AddrNotAvailable)?;
        let mut tcp = Vec::with_capacity(workers);
        for _ in 0..workers.max(1) {
            let listener = socket(address, Type::STREAM, true)?;
            listener.listen(BACKLOG)?;
            tcp.push(listener.into());
        }
        let udp = socket(address, Type::DGRAM, false)?;
        for (what, outcome) in [
            ("receive", udp.set_recv_buffer_size(UDP_BUFFER)),
            ("send", udp.set_send_buffer_size(UDP_BUFFER)),
        ] {
            if let Err(error) = outcome {
                tracing::warn!(%error, what, "UDP buffer not raised");
            }
        }
        let got = udp.recv_buffer_size().unwrap_or(0);
        if got < UDP_BUFFER {
            tracing::info!(
                got_bytes = got,
                wanted_bytes = UDP_BUFFER,
                "the system limits UDP buffers: raise net.core.rmem_max and net.core.wmem_max for faster links"
            );
        }
        Ok(Self {
            address,
            tcp,
            udp: udp.into(),
        })
    }
}

fn socket(address: SocketAddr, kind: Type, shared: bool) -> io::Result<Socket> {
    let protocol = if kind == Type::STREAM {
        Protocol::TCP
    } else {
        Protocol::UDP
    };
    let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
    if kind == Type::STREAM {
        // A restart must not wait for old connections to time out.
        socket.set_reuse_address(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

const PORT_TRIES: usize = 16;
const BACKLOG: i32 = 1024;
/// Half the bulk speed is lost at the system's default.
const UDP_BUFFER: usize = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two edges never share a port silently.
    #[test]
    fn a_taken_port_is_an_error() {
        let first = Bound::new("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        assert_eq!(first.tcp.len(), 2);
        assert_eq!(first.udp.local_addr().unwrap(), first.address);
        let second = Bound::new(first.address, 2);
        assert_eq!(
            second.err().map(|error| error.kind()),
            Some(io::ErrorKind::AddrInUse)
        );
    }
}
