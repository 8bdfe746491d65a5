//! Scenarios as text: a name, the rule that is at stake, and the steps, one a line. `docs/conform.md` describes the language.
//! Called by `scenarios` for those that come with natter, and for files of the user's own.

use std::{ops::RangeInclusive, time::Duration};

use serde_json::{Map, Value};

use super::lines::{number_of, rule};

/// The conversation of the client's user with the other one.
pub(super) const CONV: &str = "dm:alice:bob";

/// One thing to put a client through.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    pub name: String,
    pub about: String,
    /// Broken when a step that waits for the client waits in vain.
    pub rule: usize,
    /// How many addresses the client is given.
    pub addresses: usize,
    /// Takes its time: it is started first.
    pub slow: bool,
    pub lines: Vec<Line>,
}

/// A step with its text, and with its own rule where it is about another one than its scenario.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub text: String,
    pub rule: usize,
    pub step: Step,
}

/// How a frame is put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Whole,
    /// In three fragments, with a ping between them.
    Fragments,
    /// A few bytes at a time.
    Slow,
}

/// How a client hears that something of its own is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SentBy {
    /// As from a node: `sent`, and the message in its place.
    Both,
    Answer,
    Message,
}

/// A message for the client.
#[derive(Debug, Clone)]
pub(super) struct Handed {
    pub conv: String,
    pub from: String,
    pub seqs: RangeInclusive<u64>,
    /// It is what the client sent under this name.
    pub of: Option<String>,
    pub more: Map<String, Value>,
    pub way: Way,
    /// Between one and the next.
    pub every: Duration,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    // What the node does.
    Accept { address: Option<usize> },
    Login { address: Option<usize>, since: Option<String> },
    HangUp,
    Refuse(u16),
    Welcome { ping_secs: u64, exp: Duration, more: Map<String, Value> },
    CaughtUp { since: Option<String> },
    Goodbye(Duration),
    Close(Option<u16>),
    Cut,
    Reset,
    Freeze,
    Message(Handed),
    Sent { ids: Vec<String>, by: SentBy },
    Error { of: String, code: String, retry: bool, after: Option<u64> },
    Truncated { conv: String, from: u64 },
    TokenOk { exp: Duration },
    Say(String),
    Binary(Vec<u8>),
    Bytes(Vec<u8>),
    Ping,
    // What the program is asked for.
    Write { ids: Vec<String>, to: String, more: Map<String, Value> },
    FreshToken,
    End,
    // What the client must do.
    Send(Vec<String>),
    Ack { conv: String, seq: u64 },
    Token,
    Pong,
    ToldMessages { conv: String, seqs: RangeInclusive<u64> },
    ToldSent(Vec<String>),
    ToldRefused { id: String, code: String },
    ToldClosed(Option<u16>),
    Wait(Duration),
    Quiet(Duration),
    Away(Duration),
    Waits { id: String, least: Duration },
    Survives,
    Exit,
}

/// The scenarios of a text.
///
/// # Errors
/// Which line cannot be read, and why.
pub(super) fn parse(text: &str) -> Result<Vec<Scenario>, String> {
    let mut blocks: Vec<Vec<(usize, &str)>> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
    {
        if line.starts_with("scenario ") {
            blocks.push(Vec::new());
        }
        let block = blocks.last_mut().ok_or_else(|| format!("line {}: no `scenario NAME` before it", number + 1))?;
        block.push((number + 1, line));
    }
    let mut all = Vec::new();
    for block in blocks {
        all.extend(expand(&block)?);
    }
    Ok(all)
}

/// One scenario, or one for each word of its `each`.
fn expand(block: &[(usize, &str)]) -> Result<Vec<Scenario>, String> {
    let each = block.iter().find_map(|(_, line)| line.strip_prefix("each "));
    let Some(each) = each else { return Ok(vec![scenario(block, None)?]) };
    each.split_whitespace().map(|word| scenario(block, Some(word))).collect()
}

fn scenario(block: &[(usize, &str)], each: Option<&str>) -> Result<Scenario, String> {
    let mut made =
        Scenario { name: String::new(), about: String::new(), rule: 0, addresses: 1, slow: false, lines: Vec::new() };
    for (number, line) in block {
        let line = each.map_or_else(|| (*line).to_owned(), |word| line.replace("{each}", word));
        let at = |words: String| format!("line {number}, {:?}: {words}", line.trim());
        if line.starts_with(' ') {
            made.lines.push(Line::read(line.trim(), made.rule).map_err(at)?);
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match word {
            "scenario" => made.name = rest.trim().to_owned(),
            "about" => made.about = rest.trim().to_owned(),
            "rule" => made.rule = rule(rest.trim()).map_err(at)?,
            "addresses" => made.addresses = number_of(rest.trim()).map_err(at)?,
            "slow" => made.slow = true,
            "each" => {}
            _ => {
                return Err(
                    at("a step begins with spaces; else scenario, about, rule, each, addresses or slow".into()),
                );
            }
        }
    }
    if made.about.is_empty() || made.lines.is_empty() {
        return Err(format!("the scenario {:?} lacks its `about` or its steps", made.name));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_scenarios_with_steps() {
        let text = "scenario closed-{each}\nrule 14\nabout It is closed with {each}.\neach 4000 4001\n  login\n  \
                    close {each}\n\nscenario other\nrule frames\nabout Another.\n  message 1..3 from=carol rule=3 {\"x\": 1}\n";
        let all = parse(text).unwrap();
        let names: Vec<_> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names, ["closed-4000", "closed-4001", "other"]);
        assert!(matches!(all[1].lines[1].step, Step::Close(Some(4001))));
        assert_eq!((all[1].lines[1].rule, all[2].lines[0].rule), (14, 3));
        let Step::Message(handed) = &all[2].lines[0].step else { panic!("{:?}", all[2]) };
        assert_eq!((handed.seqs.clone(), handed.from.as_str(), handed.more["x"].as_u64()), (1..=3, "carol", Some(1)));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_its_line() {
        for (line, words) in [
            ("  lgoin", "there is no step"),
            ("  wait 3", "is no time"),
            ("  cut x=1", "takes no x"),
            ("  error one bogus", "needs retry"),
            ("  ack 1 rule=99", "no rule 99"),
            ("  send", "which?"),
        ] {
            let error = parse(&format!("scenario s\nrule 1\nabout a\n{line}\n")).unwrap_err();
            assert!(error.contains(words) && error.contains("line 4"), "{error}");
        }
    }
}
