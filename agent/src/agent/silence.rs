//! Finds a dead edge while streams are open: a killed one says no goodbye.

use std::time::Duration;

use proto::silence::{Silence, Verdict};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::control::Command;
use crate::link::Link;

/// Resolves once the link is dead though streams are open on it. Until then asks an edge that says
/// nothing for a word.
pub(super) async fn fell_silent(link: Link, streams: TaskTracker, commands: mpsc::Sender<Command>) {
    let began = Instant::now();
    let mut silence = Silence::new(Duration::ZERO);
    loop {
        let is_awaited = !streams.is_empty();
        tokio::time::sleep(Silence::look_after(is_awaited)).await;
        let is_awaited = !streams.is_empty();
        match silence.look(began.elapsed(), link.received(), is_awaited) {
            Verdict::Lives => {}
            // A queue that is full says enough.
            Verdict::Ask => drop(commands.try_send(Command::Probe)),
            Verdict::Dead => return,
        }
    }
}
