//! How long to wait before the next try. Pure: the attempt's number and a random seed come in.

use std::time::Duration;

/// The delay before try number `attempt` (the first reconnect is 0 and waits for nothing).
///
/// Full jitter: uniform between zero and an exponentially growing bound, so that a thousand agents
/// that lost the same edge do not come back in step.
pub(crate) fn delay(attempt: u32, seed: u64) -> Duration {
    let Some(exponent) = attempt.checked_sub(1) else {
        return Duration::ZERO;
    };
    let bound_ms = BASE_MS
        .checked_shl(exponent)
        .filter(|bound| bound >> exponent == BASE_MS)
        .map_or(CAP_MS, |bound| bound.min(CAP_MS));
    // The product fits: the bound is below 2^14.
    let delay_ms = (u128::from(seed) * u128::from(bound_ms)) >> 64;
    Duration::from_millis(u64::try_from(delay_ms).unwrap_or(CAP_MS))
}

const BASE_MS: u64 = 250;
/// Longer waits only make a person think that the agent has given up.
const CAP_MS: u64 = 15_000;

#[cfg(test)]
mod tests;
