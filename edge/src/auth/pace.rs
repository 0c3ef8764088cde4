//! How many logins one address may begin: each makes the store keep a record for a while, and
//! anybody may ask for one.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use moka::sync::Cache;

/// Counts by address, a minute at a time.
pub(super) struct Pace(Cache<IpAddr, Arc<AtomicU32>>);

impl Pace {
    pub(super) fn new() -> Self {
        Self(
            Cache::builder()
                .max_capacity(ADDRESSES_MAX)
                .time_to_live(WINDOW)
                .build(),
        )
    }

    /// Counts one more; false when it is one too many.
    pub(super) fn allows(&self, client: IpAddr) -> bool {
        let address = network(client);
        // Whoever is on this machine, or a proxy on it that all come through.
        if address.is_loopback() {
            return true;
        }
        let count = self.0.get_with(address, Arc::default);
        count.fetch_add(1, Ordering::Relaxed) < LOGINS_MAX
    }
}

/// One IPv6 customer holds a whole /64.
fn network(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) if address.is_loopback() => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            [a, b, c, d, 0, 0, 0, 0].into()
        }
    }
}

const WINDOW: Duration = Duration::from_mins(1);
/// An office behind one address comes to work within minutes; a flood of records does not fit.
const LOGINS_MAX: u32 = 300;
/// Some 100 bytes each.
const ADDRESSES_MAX: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// One address cannot fill the store with logins that nobody finishes.
    #[test]
    fn bounds_one_network() {
        let pace = Pace::new();
        let allowed = |texts: [&str; 2]| {
            let addresses = texts.map(|text| text.parse::<IpAddr>().unwrap());
            (0..1000)
                .filter(|turn| pace.allows(addresses[turn % 2]))
                .count()
        };
        assert_eq!(
            allowed(["192.0.2.1", "::ffff:192.0.2.1"]),
            LOGINS_MAX as usize
        );
        assert_eq!(
            allowed(["2001:db8::1", "2001:db8::ffff:0:1"]),
            LOGINS_MAX as usize
        );
        assert_eq!(
            allowed(["192.0.2.2", "2001:db8:0:1::1"]),
            2 * LOGINS_MAX as usize
        );
        assert_eq!(allowed(["127.0.0.1", "::1"]), 1000);
    }
}
