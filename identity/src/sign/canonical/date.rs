//! Times as clients write them, each in exactly one spelling.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::time::UnixTime;

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The first second of the year 10000, which no date here can spell.
const END: u64 = 253_402_300_800;

/// How a time is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimestampForm {
    /// Seconds since the Unix epoch.
    S,
    /// Milliseconds since the Unix epoch.
    Ms,
    /// As in `Sun, 06 Nov 1994 08:49:37 GMT`. Source: RFC 9110 section 5.6.7, IMF-fixdate.
    HttpDate,
    /// As in `19941106T084937Z`. Source: ISO 8601 basic format, as AWS writes it.
    Iso8601,
}

impl TimestampForm {
    /// Whether the byte may stand in such a time.
    pub(super) fn admits(self, byte: u8) -> bool {
        match self {
            Self::S | Self::Ms => byte.is_ascii_digit(),
            Self::HttpDate => byte.is_ascii_alphanumeric() || matches!(byte, b' ' | b',' | b':'),
            Self::Iso8601 => byte.is_ascii_digit() || matches!(byte, b'T' | b'Z'),
        }
    }

    /// Reads a time, in whole seconds.
    pub(super) fn parse(self, text: &str) -> Option<UnixTime> {
        match self {
            Self::S => number(text).map(UnixTime),
            Self::Ms => number(text).map(|millis| UnixTime(millis / 1000)),
            Self::HttpDate | Self::Iso8601 => self.parse_date(text),
        }
    }

    /// Writes a moment given in milliseconds since the Unix epoch.
    pub(super) fn format(self, millis: u64) -> String {
        let seconds = millis / 1000;
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
        let (year, month, day) = civil(days);
        match self {
            Self::S => seconds.to_string(),
            Self::Ms => millis.to_string(),
            Self::HttpDate => {
                let (weekday, month) = (DAYS[(days % 7) as usize], MONTHS[month - 1]);
                format!("{weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
            }
            Self::Iso8601 => format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z"),
        }
    }

    fn parse_date(self, text: &str) -> Option<UnixTime> {
        let part = |from: usize, len: usize| text.get(from..from + len);
        let digits = |from, len| part(from, len).filter(|t| is_digits(t))?.parse::<u64>().ok();
        let (date, time) = match self {
            Self::HttpDate => {
                let month = MONTHS.iter().position(|name| part(8, 3) == Some(name))? as u64 + 1;
                ((digits(12, 4)?, month, digits(5, 2)?), (digits(17, 2)?, digits(20, 2)?, digits(23, 2)?))
            }
            _ => (
                (digits(0, 4)?, digits(4, 2)?, digits(6, 2)?),
                (digits(9, 2)?, digits(11, 2)?, digits(13, 2)?),
            ),
        };
        let days = days_from_civil(date)?;
        let seconds = days * 86_400 + time.0 * 3600 + time.1 * 60 + time.2;
        // What does not come out as it went in has a wrong weekday, a 31st of June, a minute 60, a byte
        // where none belongs.
        let same = seconds < END && self.format(seconds.checked_mul(1000)?) == text;
        same.then_some(UnixTime(seconds))
    }
}

/// A number that is not negative, in its one spelling; 15 digits are the year 33658 in milliseconds.
fn number(text: &str) -> Option<u64> {
    let plain =
        (1..=15).contains(&text.len()) && is_digits(text) && (text.len() == 1 || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Turns days since 1970 into a date of the Gregorian calendar, years counted from March.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
fn civil(days: u64) -> (u64, usize, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month as usize, day)
}

/// The other way round, for dates since 1970. Source: as above, `days_from_civil`.
fn days_from_civil((year, month, day): (u64, u64, u64)) -> Option<u64> {
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_their_one_spelling() {
        use TimestampForm::{HttpDate, Iso8601, Ms, S};
        let cases = [
            (S, "0", Some(0)),
            (S, "999999999999999", Some(999_999_999_999_999)),
            (Ms, "1999", Some(1)),
            (HttpDate, "Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            (HttpDate, "Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            (HttpDate, "Thu, 29 Feb 2024 00:00:00 GMT", Some(1_709_164_800)),
            (HttpDate, "Fri, 31 Dec 9999 23:59:59 GMT", Some(253_402_300_799)),
            (Iso8601, "20150830T123600Z", Some(1_440_938_160)),
        ];
        for (form, text, seconds) in cases {
            assert_eq!(form.parse(text).map(|t| t.0), seconds, "{text}");
        }
        let refused = [
            (S, ""),
            (S, "01"),
            (S, "-1"),
            (S, "+1"),
            (S, "1.0"),
            (S, "1e9"),
            (S, " 1"),
            (S, "1000000000000000"),
            (S, "\u{0661}"),
            (Ms, "00"),
            (HttpDate, "Mon, 06 Nov 1994 08:49:37 GMT"),
            (HttpDate, "Sun, 6 Nov 1994 08:49:37 GMT"),
            (HttpDate, "Sun, 06 nov 1994 08:49:37 GMT"),
            (HttpDate, "Sun, 06 Nov 1994 08:49:37 gmt"),
            (HttpDate, "Sun, 06 Nov 1994 08:49:37 +00"),
            (HttpDate, "Sun, 06 Nov 1994 08:49:60 GMT"),
            (HttpDate, "Sun, 06 Nov 1994 24:49:37 GMT"),
            (HttpDate, "Sunday, 06-Nov-94 08:49:37 GMT"),
            (HttpDate, "Thu, 30 Feb 2024 00:00:00 GMT"),
            (HttpDate, "Wed, 31 Dec 1969 23:59:59 GMT"),
            (HttpDate, "Sun, 06 Nov 1994 08:49:37 GMT "),
            (HttpDate, "S\u{fc}n, 06 Nov 1994 08:49:37 GMT"),
            (Iso8601, "20150830T123600"),
            (Iso8601, "20150830t123600z"),
            (Iso8601, "20151330T123600Z"),
            (Iso8601, "20150800T123600Z"),
            (Iso8601, "2015083OT123600Z"),
            (Iso8601, "2015-08-30T12:36:00Z"),
        ];
        for (form, text) in refused {
            assert_eq!(form.parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_is_read_back_as_it_was_written() {
        for day in (0..END / 86_400).step_by(13) {
            let seconds = day * 86_400 + day % 86_400;
            for form in [TimestampForm::HttpDate, TimestampForm::Iso8601] {
                let text = form.format(seconds * 1000);
                assert_eq!(form.parse(&text), Some(UnixTime(seconds)), "{text}");
                assert!(text.bytes().all(|byte| form.admits(byte)), "{text}");
            }
        }
    }
}
