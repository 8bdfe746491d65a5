//! The scenarios that come with natter, a file for each topic. Called by the command.

use super::script::{Scenario, parse};

const FILES: [(&str, &str); 7] = [
    ("connect", include_str!("scenarios/connect.txt")),
    ("receive", include_str!("scenarios/receive.txt")),
    ("odd", include_str!("scenarios/odd.txt")),
    ("send", include_str!("scenarios/send.txt")),
    ("refused", include_str!("scenarios/refused.txt")),
    ("closed", include_str!("scenarios/closed.txt")),
    ("alive", include_str!("scenarios/alive.txt")),
];

/// All of them.
///
/// # Errors
/// When one cannot be read, which a test rules out.
pub(super) fn all() -> anyhow::Result<Vec<Scenario>> {
    let mut all = Vec::new();
    for (file, text) in FILES {
        all.extend(parse(text).map_err(|words| anyhow::anyhow!("{file}: {words}"))?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::rules, *};
    use crate::protocol::{CloseReason, ErrorCode};

    #[test]
    fn there_are_a_hundred_each_with_a_name_of_its_own() {
        let all = all().unwrap();
        assert!(all.len() >= 100, "{}", all.len());
        let names: BTreeSet<_> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
    }

    #[test]
    fn each_rule_each_close_code_and_each_error_is_met() {
        let all = all().unwrap();
        let rules: BTreeSet<_> = all.iter().flat_map(|one| one.lines.iter().map(|line| line.rule)).collect();
        assert_eq!(rules, (0..rules::COUNT).collect());
        let met = |words: &str| all.iter().any(|one| one.lines.iter().any(|line| line.text.contains(words)));
        for reason in CloseReason::ALL {
            assert!(met(&format!("close {}", reason.code())), "{reason:?}");
        }
        for code in ErrorCode::ALL {
            assert!(met(&format!(" {}", code.word())), "{code:?}");
        }
    }
}
