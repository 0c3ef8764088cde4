//! The public port, bound: a TCP listener and a UDP socket per worker, all on the same number.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// The sockets of the public port.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) address: SocketAddr,
    /// One per worker; the kernel spreads connections over them.
    pub(crate) tcp: Vec<std::net::TcpListener>,
    /// One per worker where the system spreads datagrams over sockets, else one.
    pub(crate) udp: Vec<UdpSocket>,
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
        Ok(Self {
            address,
            tcp,
            udp: udp(address, workers)?,
        })
    }
}

/// The UDP sockets. The first is bound alone, which fails when another edge is there, and shares its
/// port only then: at no time could both have bound it.
fn udp(address: SocketAddr, workers: usize) -> io::Result<Vec<UdpSocket>> {
    let first = socket(address, Type::DGRAM, false)?;
    let mut sockets = Vec::with_capacity(workers);
    // Elsewhere the last socket bound would get everything.
    if cfg!(target_os = "linux") && workers > 1 {
        first.set_reuse_port(true)?;
        for _ in 1..workers {
            sockets.push(socket(address, Type::DGRAM, true)?);
        }
    }
    sockets.insert(0, first);
    for socket in &sockets {
        for (what, outcome) in [
            ("receive", socket.set_recv_buffer_size(UDP_BUFFER)),
            ("send", socket.set_send_buffer_size(UDP_BUFFER)),
        ] {
            if let Err(error) = outcome {
                tracing::warn!(%error, what, "UDP buffer not raised");
            }
        }
    }
    let got = sockets
        .iter()
        .filter_map(|socket| socket.recv_buffer_size().ok())
        .min();
    if let Some(got) = got.filter(|got| *got < UDP_BUFFER) {
        tracing::info!(
            got_bytes = got,
            wanted_bytes = UDP_BUFFER,
            "the system limits UDP buffers: raise net.core.rmem_max and net.core.wmem_max for faster links"
        );
    }
    Ok(sockets.into_iter().map(UdpSocket::from).collect())
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
        for workers in [1, 2] {
            let first = Bound::new("127.0.0.1:0".parse().unwrap(), workers).unwrap();
            assert_eq!(first.tcp.len(), workers);
            for udp in &first.udp {
                assert_eq!(udp.local_addr().unwrap(), first.address);
            }
            for others in [1, 2] {
                let second = Bound::new(first.address, others);
                assert_eq!(
                    second.err().map(|error| error.kind()),
                    Some(io::ErrorKind::AddrInUse)
                );
                assert_eq!(
                    udp(first.address, others).err().map(|error| error.kind()),
                    Some(io::ErrorKind::AddrInUse)
                );
            }
        }
    }
}
