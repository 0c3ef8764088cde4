//! Carries packets between two TUN devices, on a thread of its own.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::Context as _;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tokio_tun::Tun;

use crate::bench::distance::queue::Queue;

/// A running relay; ends when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    lost_of_a_thousand: Arc<AtomicU32>,
    _stop: watch::Sender<()>,
}

impl Relay {
    /// Makes two devices of these names, to be given addresses and moved by the caller.
    pub(super) fn start(names: [&str; 2]) -> anyhow::Result<Self> {
        let lost_of_a_thousand = Arc::new(AtomicU32::new(0));
        let (stop, stopped) = watch::channel(());
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let names = names.map(str::to_owned);
        let loss = Arc::clone(&lost_of_a_thousand);
        let (made, is_made) = std::sync::mpsc::channel();
        thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    let devices = names.each_ref().map(|name| device(name));
                    let devices = match devices {
                        [Ok(a), Ok(b)] => [Arc::new(a), Arc::new(b)],
                        [Err(error), _] | [_, Err(error)] => {
                            let _ = made.send(Err(error));
                            return;
                        }
                    };
                    let _ = made.send(Ok(()));
                    let [a, b] = devices;
                    let mut stopped = stopped;
                    tokio::select! {
                        () = carry(&a, &b, &loss, 1) => {}
                        () = carry(&b, &a, &loss, 2) => {}
                        // The sender says nothing; it goes.
                        _ = stopped.changed() => {}
                    }
                });
            })?;
        is_made.recv().context("the relay has ended")??;
        Ok(Self {
            lost_of_a_thousand,
            _stop: stop,
        })
    }

    pub(super) fn lose(&self, of_a_thousand: u32) {
        self.lost_of_a_thousand
            .store(of_a_thousand, Ordering::Relaxed);
    }
}

fn device(name: &str) -> anyhow::Result<Tun> {
    let mut devices = Tun::builder()
        .name(name)
        .build()
        .context("cannot make a TUN device")?;
    devices.pop().context("no TUN device was made")
}

/// One direction, until a device is gone.
async fn carry(from: &Tun, to: &Tun, loss: &AtomicU32, seed: u64) {
    let mut queue = Queue::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut packet = vec![0; PACKET_BYTES_MAX];
    loop {
        let due = queue.due();
        let leaves = async {
            match due {
                Some(due) => sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            received = from.recv(&mut packet) => match received {
                Ok(bytes) => {
                    let packet = packet.get(..bytes).unwrap_or_default();
                    queue.enter(Instant::now(), packet, loss.load(Ordering::Relaxed));
                }
                // A device that is down for a moment, while it is moved.
                Err(error) if is_of_device(&error) => tokio::task::yield_now().await,
                Err(_) => return,
            },
            () = leaves => {}
        }
        let now = Instant::now();
        while let Some(packet) = queue.leave(now) {
            if let Err(error) = to.send(&packet).await
                && !is_of_device(&error)
            {
                return;
            }
        }
    }
}

/// EIO: the device is not up.
fn is_of_device(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

const PACKET_BYTES_MAX: usize = 2048;
