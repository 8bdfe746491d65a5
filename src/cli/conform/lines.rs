//! A line of a scenario's text as a step. Called by `script`.

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

use serde_json::{Map, Value};

use super::{
    rules::COUNT,
    script::{CONV, Handed, Line, SentBy, Step, Way},
};
use crate::protocol::ErrorCode;

/// A rule by its number, or `frames`.
pub(super) fn rule(text: &str) -> Result<usize, String> {
    let rule = if text == "frames" { 0 } else { number_of(text)? };
    if rule < COUNT { Ok(rule) } else { Err(format!("there is no rule {rule}")) }
}

pub(super) fn number_of<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

/// `300ms`, `6s`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = number_of(&text[..digits])?;
    match &text[digits..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "h" => Ok(Duration::from_secs(number * 3600)),
        _ => Err(format!("{text:?} is no time: 300ms, 6s, 1h")),
    }
}

fn hex(text: &str) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).map_err(|error| error.to_string());
    digits.chunks(2).map(pair).collect()
}

/// `7` or `1..20`.
fn range(text: &str) -> Result<RangeInclusive<u64>, String> {
    match text.split_once("..") {
        Some((from, to)) => Ok(number_of(from)?..=number_of(to)?),
        None => number_of(text).map(|one| one..=one),
    }
}

/// The names of what the client sends; `m1..20` is twenty of them.
fn ids(words: &[&str]) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for word in words {
        let start = word.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        match word[start.len()..].contains("..") {
            true => all.extend(range(&word[start.len()..])?.map(|number| format!("{start}{number}"))),
            false => all.push((*word).to_owned()),
        }
    }
    if all.is_empty() { Err("which?".into()) } else { Ok(all) }
}

/// A line in parts: words, `name=value`, and an object of JSON at its end.
struct Parts<'a> {
    words: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
    object: Map<String, Value>,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, String> {
        let (plain, object) = match text.find('{') {
            Some(at) => (&text[..at], serde_json::from_str(&text[at..]).map_err(|error| error.to_string())?),
            None => (text, Map::new()),
        };
        let (named, words): (Vec<&str>, Vec<&str>) = plain.split_whitespace().partition(|word| word.contains('='));
        Ok(Self { words, named: named.into_iter().filter_map(|word| word.split_once('=')).collect(), object })
    }

    /// Takes the value of a name, so that what nobody took can be refused.
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.named.iter().position(|(other, _)| *other == name)?;
        Some(self.named.swap_remove(at).1)
    }

    fn take_or<T>(&mut self, name: &str, read: impl Fn(&str) -> Result<T, String>, missing: T) -> Result<T, String> {
        self.take(name).map_or(Ok(missing), read)
    }

    fn one(&self) -> Result<&'a str, String> {
        self.words.first().copied().ok_or_else(|| "something is missing".into())
    }

    fn conv(&mut self) -> String {
        self.take("conv").unwrap_or(CONV).to_owned()
    }

    fn address(&mut self) -> Result<Option<usize>, String> {
        self.take("address").map(number_of).transpose()
    }

    fn since(&mut self) -> Option<String> {
        self.take("since").map(str::to_owned)
    }
}

impl Line {
    /// Reads it; `default` is the rule of its scenario.
    pub(super) fn read(text: &str, default: usize) -> Result<Self, String> {
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        // These take their line as it is.
        let raw = match verb {
            "say" => Some(Step::Say(rest.to_owned())),
            "binary" => Some(Step::Binary(hex(rest)?)),
            "bytes" => Some(Step::Bytes(hex(rest)?)),
            _ => None,
        };
        if let Some(step) = raw {
            return Ok(Self { text: text.to_owned(), rule: default, step });
        }
        let mut parts = Parts::of(rest)?;
        let rule = parts.take_or("rule", rule, default)?;
        let step = node_step(verb, &mut parts)?;
        let step = match step {
            Some(step) => step,
            None => client_step(verb, &mut parts)?.ok_or_else(|| format!("there is no step {verb:?}"))?,
        };
        match parts.named.first() {
            Some((name, _)) => Err(format!("{verb} takes no {name}")),
            None => Ok(Self { text: text.to_owned(), rule, step }),
        }
    }
}

/// What the node does, and what the program is asked for.
fn node_step(verb: &str, parts: &mut Parts<'_>) -> Result<Option<Step>, String> {
    const HOUR: Duration = Duration::from_secs(3600);
    Ok(Some(match verb {
        "accept" => Step::Accept { address: parts.address()? },
        "login" => Step::Login { address: parts.address()?, since: parts.since() },
        "hang-up" => Step::HangUp,
        "refuse" => Step::Refuse(number_of(parts.one()?)?),
        "welcome" => Step::Welcome {
            ping_secs: parts.take_or("ping", number_of, 25)?,
            exp: parts.take_or("exp", duration, HOUR)?,
            more: std::mem::take(&mut parts.object),
        },
        "caught-up" => Step::CaughtUp { since: parts.since() },
        "goodbye" => Step::Goodbye(duration(parts.one()?)?),
        "close" => Step::Close(parts.words.first().map(|code| number_of(code)).transpose()?),
        "cut" => Step::Cut,
        "reset" => Step::Reset,
        "freeze" => Step::Freeze,
        "message" => Step::Message(handed(parts)?),
        "sent" => Step::Sent { ids: ids(&parts.words)?, by: SentBy::Both },
        "answer" => Step::Sent { ids: ids(&parts.words)?, by: SentBy::Answer },
        "echo" => Step::Sent { ids: ids(&parts.words)?, by: SentBy::Message },
        "error" => error(parts)?,
        "truncated" => Step::Truncated { from: number_of(parts.one()?)?, conv: parts.conv() },
        "token-ok" => Step::TokenOk { exp: parts.take_or("exp", duration, HOUR)? },
        "ping" => Step::Ping,
        "write" => Step::Write {
            ids: ids(&parts.words)?,
            to: parts.take("to").unwrap_or("@bob").to_owned(),
            more: std::mem::take(&mut parts.object),
        },
        "fresh-token" => Step::FreshToken,
        "end" => Step::End,
        _ => return Ok(None),
    }))
}

/// What the client must do.
fn client_step(verb: &str, parts: &mut Parts<'_>) -> Result<Option<Step>, String> {
    Ok(Some(match verb {
        "send" => Step::Send(ids(&parts.words)?),
        "ack" => Step::Ack { seq: number_of(parts.one()?)?, conv: parts.conv() },
        "token" => Step::Token,
        "pong" => Step::Pong,
        "told" => told(parts)?,
        "wait" => Step::Wait(duration(parts.one()?)?),
        "quiet" => Step::Quiet(duration(parts.one()?)?),
        "away" => Step::Away(duration(parts.one()?)?),
        "waits" => match parts.words[..] {
            [id, least] => Step::Waits { id: id.to_owned(), least: duration(least)? },
            _ => return Err("which, and how long at least?".into()),
        },
        "survives" => Step::Survives,
        "exit" => Step::Exit,
        _ => return Ok(None),
    }))
}

fn handed(parts: &mut Parts<'_>) -> Result<Handed, String> {
    let way = match parts.take("way") {
        None => Way::Whole,
        Some("fragments") => Way::Fragments,
        Some("slow") => Way::Slow,
        Some(other) => return Err(format!("there is no way {other:?}")),
    };
    Ok(Handed {
        seqs: range(parts.one()?)?,
        conv: parts.conv(),
        from: parts.take("from").unwrap_or("bob").to_owned(),
        of: parts.take("of").map(str::to_owned),
        more: std::mem::take(&mut parts.object),
        way,
        every: parts.take_or("every", duration, Duration::ZERO)?,
    })
}

fn error(parts: &mut Parts<'_>) -> Result<Step, String> {
    let (of, code) = match parts.words[..] {
        [of, code] => (of.to_owned(), code.to_owned()),
        _ => return Err("of what, and which code?".into()),
    };
    let known = ErrorCode::ALL.iter().find(|known| known.word() == code);
    let retry = match (parts.take("retry"), known) {
        (Some(said), _) => said == "true",
        (None, Some(known)) => known.retry(),
        (None, None) => return Err("a code that is not known needs retry=true or retry=false".into()),
    };
    let after = parts.take("after").map(duration).transpose()?.map(|after| after.as_millis() as u64);
    Ok(Step::Error { of, code, retry, after })
}

fn told(parts: &mut Parts<'_>) -> Result<Step, String> {
    let conv = parts.conv();
    match parts.words[..] {
        ["message", seqs] => Ok(Step::ToldMessages { conv, seqs: range(seqs)? }),
        ["sent", ..] => ids(&parts.words[1..]).map(Step::ToldSent),
        ["refused", id, code] => Ok(Step::ToldRefused { id: id.to_owned(), code: code.to_owned() }),
        ["closed"] => Ok(Step::ToldClosed(None)),
        ["closed", code] => number_of(code).map(|code| Step::ToldClosed(Some(code))),
        _ => Err("told message N, told sent NAME, told refused NAME CODE, told closed CODE".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted() {
        assert_eq!(ids(&["m1..3", "x"]).unwrap(), ["m1", "m2", "m3", "x"]);
        assert_eq!(ids(&["one"]).unwrap(), ["one"]);
    }
}
