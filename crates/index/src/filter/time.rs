//! Points in time as filters and payloads write them: RFC 3339 and its relaxed
//! forms, read into microseconds since 1970.
//!
//! A date alone is its midnight, a time without a zone is UTC, seconds and
//! fraction may be missing. What is finer than a microsecond is cut off.

use std::fmt;
use std::str::FromStr;

use jiff::civil;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::Error;

/// A point in time, kept as it was written.
///
/// ```
/// use cairn_index::DateTime;
///
/// let noon: DateTime = "2024-02-29 12:00".parse()?;
/// let same: DateTime = "2024-02-29T14:00:00.0+0200".parse()?;
/// assert_eq!(noon.micros(), same.micros());
/// # Ok::<(), cairn_index::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateTime {
    text: String,
    micros: i64,
}

impl DateTime {
    /// A time in milliseconds since the start of 1970, UTC, written as RFC 3339
    /// does.
    pub fn from_millis(millis: u64) -> Self {
        Self::from_micros(i64::try_from(millis).map_or(i64::MAX, |millis| millis.saturating_mul(1000)))
    }

    /// The same of microseconds, which may be before 1970. Years are those from
    /// -9999 to 9999; what is beyond is the first or last moment of them.
    pub fn from_micros(micros: i64) -> Self {
        let end = if micros < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
        let time = jiff::Timestamp::from_microsecond(micros).unwrap_or(end);
        Self { text: time.to_string(), micros: time.as_microsecond() }
    }

    /// Microseconds since the start of 1970, UTC.
    pub fn micros(&self) -> i64 {
        self.micros
    }
}

impl FromStr for DateTime {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let micros = micros(text).ok_or_else(|| {
            Error::Filter(format!("`{text}` is not a date-time, write it like 2024-02-29T12:00:00Z"))
        })?;
        Ok(Self { text: text.to_owned(), micros })
    }
}

impl fmt::Display for DateTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for DateTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for DateTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Microseconds since 1970 of a written time; `None` if it is not one.
pub(crate) fn micros(text: &str) -> Option<i64> {
    let mut rest = Rest(text.as_bytes());
    let (year, month, day) = (rest.digits(4)?, rest.after(b'-')?.digits(2)?, rest.after(b'-')?.digits(2)?);
    let date = civil::Date::new(year as i16, month as i8, day as i8).ok()?;
    let mut seconds = date.duration_since(civil::date(1970, 1, 1)).as_secs();
    let mut fraction = 0;
    if !rest.0.is_empty() {
        rest.one_of(b"Tt ")?;
        let (of_day, micros) = clock(&mut rest)?;
        seconds += of_day - zone(&mut rest)?;
        fraction = micros;
    }
    rest.0.is_empty().then_some(seconds * 1_000_000 + fraction)
}

/// `hh:mm`, `hh:mm:ss` or `hh:mm:ss.f` as seconds and microseconds.
fn clock(rest: &mut Rest<'_>) -> Option<(i64, i64)> {
    let (hour, minute) = (rest.digits(2)?, rest.after(b':')?.digits(2)?);
    let (mut second, mut micros) = (0, 0);
    if rest.one_of(b":").is_some() {
        second = rest.digits(2)?;
        if rest.one_of(b".").is_some() {
            micros = rest.fraction()?;
        }
    }
    // A leap second counts as the first of the next minute.
    (hour < 24 && minute < 60 && second <= 60).then_some((hour * 3600 + minute * 60 + second, micros))
}

/// The seconds a zone is ahead of UTC; none written is UTC.
fn zone(rest: &mut Rest<'_>) -> Option<i64> {
    if rest.0.is_empty() || rest.one_of(b"Zz").is_some() {
        return Some(0);
    }
    let sign = if rest.one_of(b"+-")? == b'-' { -1 } else { 1 };
    let hours = rest.digits(2)?;
    let minutes = if rest.0.is_empty() {
        0
    } else {
        rest.one_of(b":");
        rest.digits(2)?
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3600 + minutes * 60))
}

struct Rest<'t>(&'t [u8]);

impl Rest<'_> {
    fn one_of(&mut self, wanted: &[u8]) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        wanted.contains(&first).then(|| self.0 = rest)?;
        Some(first)
    }

    fn after(&mut self, wanted: u8) -> Option<&mut Self> {
        self.one_of(&[wanted]).map(|_| self)
    }

    fn digit(&mut self) -> Option<i64> {
        self.one_of(b"0123456789").map(|digit| i64::from(digit - b'0'))
    }

    fn digits(&mut self, count: usize) -> Option<i64> {
        (0..count).try_fold(0, |number, _| Some(number * 10 + self.digit()?))
    }

    /// At least one digit behind the point, as microseconds.
    fn fraction(&mut self) -> Option<i64> {
        let (mut micros, mut unit) = (self.digit()? * 100_000, 10_000);
        while let Some(digit) = self.digit() {
            micros += digit * unit;
            unit /= 10;
        }
        Some(micros)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relaxed_form_is_the_instant_it_means() {
        let noon = 1_709_208_000_000_000;
        for text in [
            "2024-02-29T12:00:00Z",
            "2024-02-29t12:00:00z",
            "2024-02-29 12:00:00",
            "2024-02-29T12:00",
            "2024-02-29T12:00:00.000",
            "2024-02-29T14:00:00+02:00",
            "2024-02-29T14:00:00+0200",
            "2024-02-29 14:00+02",
            "2024-02-29T06:30:00-05:30",
        ] {
            assert_eq!(micros(text), Some(noon), "{text}");
        }
        assert_eq!(micros("1970-01-01"), Some(0));
        assert_eq!(micros("1969-12-31T23:59:59.9999999Z"), Some(-1));
        assert_eq!(micros("1970-01-01T00:00:00.5Z"), Some(500_000));
        // A usual way to write "never".
        assert_eq!(micros("9999-12-31T23:59:59-12:00"), Some(253_402_343_999_000_000));
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "2024",
            "2024-02",
            "2024-02-30",
            "2024-2-3",
            "2024-02-29T",
            "2024-02-29T12",
            "2024-02-29T25:00",
            "2024-02-29T12:00:00.",
            "2024-02-29T12:00:00+2",
            "2024-02-29T12:00:00Zx",
            "2024-02-29x",
            "é024-02-29",
            "20240229",
            "2024-02-29T12:60",
        ] {
            assert_eq!(micros(text), None, "{text}");
        }
        assert!("tomorrow".parse::<DateTime>().unwrap_err().to_string().contains("2024-02-29T12:00:00Z"));
    }
}
