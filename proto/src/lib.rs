//! The language of agents and edges: identifiers, error codes, limits, the control protocol as two
//! state machines, and the head of a data stream.
//!
//! An agent dials an edge over a link whose TLS proves the edge. It opens one stream, the control
//! stream, and speaks first: hello, authenticate, then a bind for each endpoint. The edge opens a data
//! stream for each connection to an upstream: a small head, the agent's ack, then bytes. Either side
//! may probe; the edge drains before it stops; a close says whether coming back is of use.
//!
//! Reading order: `version`, `limits`, `code`, `id`, `authtoken`, `bind`, `frame`, `codec`, `control`
//! (two machines without I/O), `head`, `window`, `budget`,
//! `silence`.
//!
//! This crate performs no I/O, reads no clock and draws no randomness: time and random bytes come
//! in as arguments. It is `#![no_std]` with `alloc`, so a socket, a file or a clock does not compile.
#![no_std]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod authtoken;
pub mod bind;
pub mod budget;
pub mod code;
pub mod codec;
pub mod control;
pub mod frame;
pub mod head;
pub mod id;
pub mod limits;
pub mod silence;
pub mod turns;
pub mod version;
pub mod window;

#[cfg(test)]
mod tests;
