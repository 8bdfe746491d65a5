//! Texts and figures as the page writes them. Called by `html` and `draw`.

/// As text in HTML, also in an attribute.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// Three digits, with k or M where there are more before the point.
pub(super) fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        large if large >= 999_500.0 => (value / 1e6, "M"),
        large if large >= 9_999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let digits = match scaled.abs() {
        large if large >= 99.95 => 0,
        large if large >= 9.995 => 1,
        large if large >= 0.0995 => 2,
        0.0 => 0,
        _ => 3,
    };
    let text = format!("{scaled:.digits$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// Milliseconds since 1970 as a date and a time, UTC.
pub(super) fn when(millis: u64) -> String {
    let (days, secs) = (millis / 86_400_000, millis / 1_000 % 86_400);
    let (year, month, day) = date(days);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", secs / 3600, secs / 60 % 60)
}

/// The civil date of a day since 1970, by Howard Hinnant's `civil_from_days`: years begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let of = [0.0, 0.0123, 0.5, 1.0, 1.234, 12.345, 123.45, 1_234.5, 12_345.0, 123_456.0, 1_234_567.0];
        let words = of.map(short);
        assert_eq!(words, ["0", "0.012", "0.5", "1", "1.23", "12.3", "123", "1234", "12.3k", "123k", "1.23M"]);
        assert_eq!(short(-12.5), "-12.5");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(when(0), "1970-01-01 00:00 UTC");
        assert_eq!(when(951_782_399_000), "2000-02-28 23:59 UTC");
        assert_eq!(when(1_709_164_800_000), "2024-02-29 00:00 UTC");
        assert_eq!(when(1_790_000_000_000), "2026-09-21 14:13 UTC");
    }
}
