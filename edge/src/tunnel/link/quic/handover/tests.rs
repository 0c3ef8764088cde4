//! What is handed over, in fabricated batches.

use std::net::{IpAddr, Ipv4Addr};
use std::task::Waker;

use super::*;

/// Bytes of one buffer and their stride.
type Joined = (Vec<u8>, usize);

/// A socket that has received these batches.
#[derive(Debug)]
struct Canned(Mutex<VecDeque<Vec<Joined>>>);

impl AsyncUdpSocket for Canned {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        unreachable!("nothing is sent")
    }

    fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let Some(batch) = self.0.lock().unwrap().pop_front() else {
            return Poll::Pending;
        };
        for (place, (bytes, stride)) in batch.iter().enumerate() {
            buffers[place][..bytes.len()].copy_from_slice(bytes);
            metas[place] = RecvMeta {
                addr: sender(),
                len: bytes.len(),
                stride: *stride,
                ecn: Some(quinn::udp::EcnCodepoint::Ce),
                dst_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            };
        }
        Poll::Ready(Ok(batch.len()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(sender())
    }
}

fn sender() -> SocketAddr {
    "192.0.2.1:7".parse().unwrap()
}

/// A datagram of `len` bytes for a worker, or a long header's where the mark is `None`.
fn datagram(id: Option<u8>, len: usize, fill: u8) -> Vec<u8> {
    let mut bytes = vec![fill; len];
    bytes[0] = if id.is_some() { 0x40 } else { 0xc0 };
    if len > 1 {
        bytes[1] = id.unwrap_or(1);
    }
    bytes
}

fn sockets(batches: Vec<Vec<Joined>>, workers: usize) -> Vec<WorkerSocket> {
    let handover = Handover::new(workers);
    let mut batches = Some(batches);
    (0..workers)
        .map(|worker| {
            let canned = Canned(Mutex::new(batches.take().unwrap_or_default().into()));
            WorkerSocket::new(Arc::new(canned), worker, Arc::clone(&handover))
        })
        .collect()
}

/// Everything that a worker gets until it has to wait, datagram by datagram.
fn received(socket: &WorkerSocket) -> Vec<Vec<u8>> {
    let mut room = vec![vec![0; 4096]; 8];
    let mut all = Vec::new();
    let mut polls = 0;
    loop {
        let mut buffers: Vec<_> = room.iter_mut().map(|room| IoSliceMut::new(room)).collect();
        let mut metas = [RecvMeta::default(); 8];
        let mut cx = Context::from_waker(Waker::noop());
        match socket.poll_recv(&mut cx, &mut buffers, &mut metas) {
            Poll::Ready(count) => {
                for (buffer, meta) in buffers.iter().zip(metas).take(count.unwrap()) {
                    assert_eq!(meta.addr, sender());
                    assert!(meta.ecn.is_some() && meta.dst_ip.is_some());
                    let bytes = &buffer[..meta.len];
                    all.extend(bytes.chunks(meta.stride).map(<[u8]>::to_vec));
                }
            }
            // It may have given others their turn.
            Poll::Pending if polls < 4 => polls += 1,
            Poll::Pending => return all,
        }
    }
}

/// Each datagram of a joined buffer is looked at; order and bytes stay, the last one may be shorter.
#[test]
fn every_datagram_reaches_its_worker() {
    let ids = [0, 1, 1, 0, 2, 0, 0, 2];
    let joined: Vec<u8> = ids
        .iter()
        .enumerate()
        .flat_map(|(place, id)| {
            let len = if place == 7 { 20 } else { 30 };
            datagram(Some(*id), len, u8::try_from(place).unwrap())
        })
        .collect();
    let sockets = sockets(
        vec![
            vec![(joined, 30), (datagram(Some(4), 50, 90), 50)],
            vec![(datagram(Some(3), 40, 91), 40)],
        ],
        3,
    );
    let fills = |datagrams: &[Vec<u8>]| -> Vec<(usize, u8)> {
        let fill = |datagram: &Vec<u8>| (datagram.len(), datagram[2]);
        datagrams.iter().map(fill).collect()
    };
    assert_eq!(
        fills(&received(&sockets[0])),
        [(30, 0), (30, 3), (30, 5), (30, 6), (40, 91)]
    );
    assert_eq!(fills(&received(&sockets[1])), [(30, 1), (30, 2), (50, 90)]);
    assert_eq!(fills(&received(&sockets[2])), [(30, 4), (20, 7)]);
    assert_eq!(sockets[0].handover.counts(), (5, 0));
}

/// Handshakes and what is too short to name a worker stay where they arrive.
#[test]
fn handshakes_and_rubbish_stay() {
    let stays = vec![
        datagram(None, 1200, 1),
        datagram(Some(1), ID_BYTES, 2),
        datagram(Some(1), 1, 3),
    ];
    let batch = stays.iter().map(|bytes| (bytes.clone(), bytes.len()));
    let sockets = sockets(vec![batch.collect()], 2);
    assert_eq!(received(&sockets[0]), stays);
    assert_eq!(received(&sockets[1]), Vec::<Vec<u8>>::new());
}

/// A worker that does not read costs a bounded amount of memory; what is beyond is counted.
#[test]
fn a_full_queue_drops() {
    let count = QUEUE_MAX + 10;
    let one = || vec![(datagram(Some(1), 40, 1), 40)];
    let sockets = sockets((0..count).map(|_| one()).collect(), 2);
    while sockets[0].handover.counts().0 < count as u64 {
        assert_eq!(received(&sockets[0]), Vec::<Vec<u8>>::new());
    }
    assert_eq!(sockets[0].handover.counts(), (count as u64, 10));
    assert_eq!(received(&sockets[1]).len(), QUEUE_MAX);
}

/// A flood for others never keeps a worker from its own tasks, nor from its own datagrams.
#[test]
fn others_do_not_starve_a_worker() {
    let mut batches: Vec<_> = (0..ROUNDS_MAX)
        .map(|_| vec![(datagram(Some(1), 40, 1), 40)])
        .collect();
    batches.push(vec![(datagram(Some(0), 40, 2), 40)]);
    let sockets = sockets(batches, 2);
    let mut room = vec![vec![0; 64]; 2];
    let mut buffers: Vec<_> = room.iter_mut().map(|room| IoSliceMut::new(room)).collect();
    let mut metas = [RecvMeta::default(); 2];
    let mut cx = Context::from_waker(Waker::noop());
    let mut poll = |socket: &WorkerSocket| socket.poll_recv(&mut cx, &mut buffers, &mut metas);
    assert!(poll(&sockets[0]).is_pending(), "its tasks have their turn");
    assert!(matches!(poll(&sockets[0]), Poll::Ready(Ok(1))));
    // Half of the buffers are for what others handed over.
    assert!(matches!(poll(&sockets[1]), Poll::Ready(Ok(1))));
}
