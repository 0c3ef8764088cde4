//! What a rule says of a person: pure, total, default deny where a rule names anybody.
//!
//! Everything is whole ASCII text compared exactly: no wildcards, no subdomains, no Unicode folding,
//! so that an address has one reading only. No I/O, no clock.

mod evaluate;
mod parse;

pub(crate) use evaluate::{Decision, evaluate};
pub(crate) use parse::{parse_domain_rule, parse_email_rule};
