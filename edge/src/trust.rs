//! When memory may be believed: pure decisions over log batches, heartbeats and the monotonic time
//! that the caller gives. No I/O, no clock, no async: it can be simulated under every schedule.

pub(crate) mod follow;
pub(crate) mod lease;
pub(crate) mod merge;
