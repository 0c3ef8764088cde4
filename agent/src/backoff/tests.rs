//! Bounds of the delays.

use super::*;

#[test]
fn the_first_reconnect_is_immediate() {
    assert_eq!(delay(0, u64::MAX), Duration::ZERO);
}

#[test]
fn bounds_double_up_to_the_cap() {
    let table = [
        (1, 250),
        (2, 500),
        (3, 1000),
        (6, 8000),
        (7, 15_000),
        (8, 15_000),
        (64, 15_000),
        (65, 15_000),
        (u32::MAX, 15_000),
    ];
    for (attempt, bound_ms) in table {
        assert_eq!(delay(attempt, 0), Duration::ZERO, "attempt {attempt}");
        let largest = delay(attempt, u64::MAX).as_millis();
        assert_eq!(largest, bound_ms - 1, "attempt {attempt}");
        let middle = delay(attempt, u64::MAX / 2).as_millis();
        assert!(
            middle.abs_diff(bound_ms / 2) <= 1,
            "attempt {attempt}: {middle}"
        );
    }
}
