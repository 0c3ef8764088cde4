//! Durations as people write them: `90s`, `24h`, `1h30m`, `7d`.

use std::time::Duration;

/// Parses a sum of whole numbers with units, largest first or not.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at_checked(digits)?;
        let letters = tail.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, tail) = tail.split_at_checked(letters)?;
        let number: u64 = number.parse().ok()?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            "d" => Duration::from_secs(number.checked_mul(86_400)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = tail;
    }
    Some(total)
}

/// The shortest text that parses back.
pub(super) fn text(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if duration.subsec_millis() != 0 {
        return format!("{}ms", duration.as_millis());
    }
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds >= length && seconds.is_multiple_of(length) && (unit != "d" || seconds > 86_400)
        {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        for (given, seconds) in [
            ("90s", 90),
            ("24h", 86_400),
            ("1h30m", 5400),
            ("7d", 604_800),
        ] {
            assert_eq!(parse(given), Some(Duration::from_secs(seconds)), "{given}");
        }
        for wrong in [
            "",
            "5",
            "h",
            "1 h",
            "-1s",
            "1.5h",
            "1y",
            "99999999999999999999s",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
        for same in ["24h", "4h", "10s", "5m", "7d", "250ms"] {
            assert_eq!(parse(same).map(text).as_deref(), Some(same));
        }
    }
}
