//! The language of agents and edges: identifiers, error codes, limits, the control protocol as two
//! state machines, and the head of a data stream.
//!
//! This crate performs no I/O, reads no clock and draws no randomness: time and random bytes come
//! in as arguments. It is `#![no_std]` with `alloc`, so a socket, a file or a clock does not compile.
#![no_std]
#![warn(missing_docs)]

extern crate alloc;

pub mod id;
