//! Dates of the formats that evidence has, as seconds since 1970: RFC 3339 with `Z`, and GeneralizedTime of
//! DER (X.690, section 11.7). Leap seconds and years before 1970 or after 9999 are refused.

use std::time::{Duration, SystemTime};

const DAY: u64 = 86_400;
/// The end of the year 9999.
const LAST: u64 = 253_402_300_799;

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970 to the first day of a year.
fn days_before(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    365 * (year - 1970) + leaps(year - 1) - leaps(1969)
}

/// Fourteen digits: year, month, day, hour, minute, second.
fn digits(text: &[u8]) -> Option<u64> {
    let number = |from: usize, to: usize| {
        text.get(from..to)?.iter().try_fold(0u64, |sum, digit| {
            char::from(*digit).to_digit(10).map(|digit| 10 * sum + u64::from(digit))
        })
    };
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    let fits = text.len() == 14
        && year >= 1970
        && (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let days = || days_before(year) + (1..month).map(|m| days_in(year, m)).sum::<u64>() + day - 1;
    fits.then(|| days() * DAY + hour * 3600 + minute * 60 + second)
}

/// `2025-06-19T10:16:03Z`.
pub(crate) fn rfc3339(text: &str) -> Option<u64> {
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    let bytes = text.as_bytes();
    let marked = marks.iter().all(|(at, mark)| bytes.get(*at) == Some(mark));
    let rest: Vec<u8> = bytes
        .iter()
        .enumerate()
        .filter(|(at, _)| marks.iter().all(|(mark, _)| mark != at))
        .map(|(_, byte)| *byte)
        .collect();
    if marked { digits(&rest) } else { None }
}

/// `20250619101603Z`.
pub(crate) fn generalized(text: &[u8]) -> Option<u64> {
    digits(text.strip_suffix(b"Z")?)
}

/// A date for people.
pub(crate) fn date(seconds: u64) -> String {
    let seconds = seconds.min(LAST);
    let (days, rest) = (seconds / DAY, seconds % DAY);
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let mut day = days - days_before(year);
    let mut month = 1;
    while day >= days_in(year, month) {
        day -= days_in(year, month);
        month += 1;
    }
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z", day + 1)
}

/// Seconds since 1970; a clock before that is one at that.
pub(crate) fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// A fixed clock.
#[cfg(any(test, fuzzing))]
pub(crate) fn at(text: &str) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(rfc3339(text).expect("a date"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn dates_come_back(seconds in 0u64..253_402_300_800) {
            let text = date(seconds);
            prop_assert_eq!(rfc3339(&text), Some(seconds));
            let plain: String = text.chars().filter(|c| !"-:T".contains(*c)).collect();
            prop_assert_eq!(generalized(plain.as_bytes()), Some(seconds));
        }
    }

    #[test]
    fn known_dates() {
        assert_eq!(rfc3339("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(rfc3339("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(rfc3339("2025-06-11T00:30:58Z"), Some(1_749_601_858));
        assert_eq!(date(1_749_601_858), "2025-06-11T00:30:58Z");
        for bad in [
            "2001-02-29T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2025-13-01T00:00:00Z",
            "2025-06-19T24:00:00Z",
            "2025-06-19T10:16:03",
            "2025-06-19 10:16:03Z",
            "2025-06-19T10:16:03+00:00",
            "2025-06-19T10:16:03ZZ",
            "2025-00-01T00:00:00Z",
            "",
        ] {
            assert_eq!(rfc3339(bad), None, "{bad}");
        }
    }
}
