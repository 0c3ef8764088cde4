//! What a rule says of a person or an address: pure, total, default deny where a rule names anybody.
//!
//! Everything of a person is whole ASCII text compared exactly: no wildcards, no subdomains, no Unicode
//! folding, so that an address has one reading only. No I/O, no clock.

mod evaluate;
mod network;
mod parse;

pub(crate) use evaluate::{Decision, evaluate};
pub(crate) use network::{admits, parse_network};
pub(crate) use parse::{parse_domain_rule, parse_email_rule};
