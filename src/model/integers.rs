//! Finds integers that 64 bits cannot hold in JSON text. Called by the protocol's decoder for whatever comes in as JSON:
//! the JSON library turns such an integer into a float, and an order number would come out with other digits.

/// The first integer, written without a point or an exponent, that fits neither `i64` nor `u64`. `json` has been read
/// as JSON before.
pub(crate) fn wide_integer(json: &[u8]) -> Option<&str> {
    if !may_hold_one(json) {
        return None;
    }
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        at = match byte {
            b'"' => end_of_string(json, at + 1),
            b'-' | b'0'..=b'9' => {
                let end = end_of_number(json, at);
                let text = std::str::from_utf8(&json[at..end]).ok()?;
                let integer = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
                if integer && text.parse::<i64>().is_err() && text.parse::<u64>().is_err() {
                    return Some(text);
                }
                end
            }
            _ => at + 1,
        };
    }
    None
}

/// The shortest such integer has 19 digits (below `i64::MIN`), so one of every 19 bytes tells nearly every frame
/// that has none.
fn may_hold_one(json: &[u8]) -> bool {
    const DIGITS: usize = 19;
    json.iter().skip(DIGITS - 1).step_by(DIGITS).any(u8::is_ascii_digit)
}

/// Past the quote that ends the string.
fn end_of_string(json: &[u8], mut at: usize) -> usize {
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

fn end_of_number(json: &[u8], at: usize) -> usize {
    let inside = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    json[at..].iter().position(|byte| !inside(byte)).map_or(json.len(), |length| at + length)
}

#[cfg(test)]
mod tests {
    use super::wide_integer;

    #[test]
    fn an_integer_beyond_64_bits_is_found_wherever_it_stands() {
        for pad in 0..40 {
            let pad = " ".repeat(pad);
            for wide in ["18446744073709551616", "-9223372036854775809", "123456789012345678901234567890"] {
                for json in [format!("{pad}{wide}"), format!("{{\"a\\\"\":{pad}[1,{wide}]}}")] {
                    assert_eq!(wide_integer(json.as_bytes()), Some(wide), "{json}");
                }
            }
            for fine in [
                "18446744073709551615",
                "-9223372036854775808",
                "1e30",
                "18446744073709551616.5",
                "123456789012345678901234567890e1",
                "\"18446744073709551616\"",
                "\"\\\\\\\"18446744073709551616\"",
            ] {
                assert_eq!(wide_integer(format!("{pad}{fine}").as_bytes()), None, "{fine}");
            }
        }
    }
}
