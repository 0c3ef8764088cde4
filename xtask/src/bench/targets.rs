//! What must be reached, in one table. `--check` fails when one of these is missed.

use std::fmt;

use crate::bench::row::Link;

/// A bound for one figure of ours.
#[derive(Debug)]
struct Target {
    case: &'static str,
    figure: &'static str,
    /// Only for this link; on the other the figure has no target.
    link: Option<Link>,
    bound: Bound,
}

/// How good is good enough.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    RatioAtLeast(f64),
    RatioAtMost(f64),
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    /// Without a value, or without the ratio that it is about, it is not.
    pub(super) fn is_met(self, value: Option<f64>, ratio: Option<f64>) -> bool {
        match self {
            Self::RatioAtLeast(least) => ratio.is_some_and(|ratio| ratio >= least),
            Self::RatioAtMost(most) => ratio.is_some_and(|ratio| ratio <= most),
            Self::AtLeast(least) => value.is_some_and(|value| value >= least),
            Self::AtMost(most) => value.is_some_and(|value| value <= most),
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RatioAtLeast(bound) => write!(f, "ratio ≥ {bound}"),
            Self::RatioAtMost(bound) => write!(f, "ratio ≤ {bound}"),
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

pub(super) fn find(case: &str, figure: &str, link: Option<Link>) -> Option<Bound> {
    TARGETS
        .iter()
        .filter(|target| target.case == case && target.figure == figure)
        .find(|target| target.link.is_none() || target.link == link)
        .map(|target| target.bound)
}

/// The figures of a case that have targets on one of these links.
pub(super) fn figures_of(case: &str, links: &[Link]) -> Vec<(&'static str, Option<Link>)> {
    TARGETS
        .iter()
        .filter(|target| target.case == case)
        .filter(|target| target.link.is_none_or(|link| links.contains(&link)))
        .map(|target| (target.figure, target.link))
        .collect()
}

const fn target(case: &'static str, figure: &'static str, bound: Bound) -> Target {
    Target {
        case,
        figure,
        link: None,
        bound,
    }
}

const fn on(link: Link, case: &'static str, figure: &'static str, bound: Bound) -> Target {
    Target {
        case,
        figure,
        link: Some(link),
        bound,
    }
}

use Bound::{AtLeast, AtMost, RatioAtLeast, RatioAtMost};

const TARGETS: &[Target] = &[
    // Against nginx as a TLS reverse proxy, without tunnel and login.
    target("keepalive", "c=64 requests", RatioAtLeast(1.2)),
    target("keepalive", "c=256 requests", RatioAtLeast(1.2)),
    target("keepalive", "c=64 CPU per request", RatioAtMost(0.8)),
    target("keepalive", "c=256 CPU per request", RatioAtMost(0.8)),
    target("keepalive", "c=64 p99", RatioAtMost(1.2)),
    // Against itself at c=64.
    target("keepalive", "c=1024 requests ÷ c=64", RatioAtLeast(0.9)),
    on(Link::Tls, "bulk", "down, 1 stream", RatioAtLeast(1.2)),
    on(Link::Tls, "bulk", "down, 8 streams", RatioAtLeast(1.2)),
    on(Link::Quic, "bulk", "down, 1 stream", RatioAtLeast(1.0)),
    on(Link::Quic, "bulk", "down, 8 streams", RatioAtLeast(1.0)),
    target("idle", "memory per idle client", AtMost(30.0)),
    on(
        Link::Quic,
        "distance",
        "0.1 % loss, one stream",
        AtLeast(500.0),
    ),
    // One and a half round trips of 50 ms.
    target(
        "distance",
        "0.1 % loss, small requests beside two downloads, p50",
        AtMost(75.0),
    ),
    target("agents", "memory per idle agent", AtMost(60.0)),
    target("agents", "processor at rest", AtMost(15.0)),
    target("cut", "one stream, p99", AtMost(50.0)),
    target("cut", "10000 streams, resets queued", AtMost(250.0)),
    target("cut", "10000 streams, last client", AtMost(800.0)),
    target("start", "edge to first request", AtMost(150.0)),
    target("start", "agent to name answering", AtMost(150.0)),
    target("peers", "c=64 requests ÷ rathole", RatioAtLeast(1.2)),
    target("peers", "c=64 requests ÷ chisel", RatioAtLeast(3.0)),
    target("peers", "c=64 requests ÷ bore", RatioAtLeast(0.8)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_need_what_they_are_about() {
        assert!(RatioAtLeast(1.2).is_met(None, Some(1.2)));
        assert!(!RatioAtLeast(1.2).is_met(Some(9.0), None));
        assert!(!RatioAtMost(0.8).is_met(Some(0.1), Some(0.81)));
        assert!(AtMost(30.0).is_met(Some(30.0), None));
        assert!(!AtLeast(500.0).is_met(None, Some(9.0)));
    }

    #[test]
    fn figures_are_those_of_the_links() {
        let bulk = |links: &[Link]| figures_of("bulk", links).len();
        assert_eq!(bulk(&[Link::Quic]), 2);
        assert_eq!(bulk(&[Link::Quic, Link::Tls]), 4);
        let start = figures_of("start", &[]);
        assert_eq!(start.len(), 2, "of no link in particular");
    }

    #[test]
    fn links_have_their_own() {
        let down = |link| find("bulk", "down, 1 stream", Some(link));
        assert_eq!(down(Link::Tls), Some(RatioAtLeast(1.2)));
        assert_eq!(down(Link::Quic), Some(RatioAtLeast(1.0)));
        assert_eq!(find("bulk", "up, 1 stream", Some(Link::Quic)), None);
        assert_eq!(
            find("start", "edge to first request", None),
            Some(AtMost(150.0))
        );
    }
}
