//! The rules for a client, as `docs/protocol.md` numbers them, to be quoted to whoever broke one. Called by the referee and
//! the report.

/// What a client did wrong, and the rule against it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// The number of the rule; [`FRAMES`] where it is one of the page's other chapters.
    pub rule: usize,
    /// What was seen.
    pub words: String,
}

impl Fault {
    /// A rule was broken in this way.
    pub(super) fn new(rule: usize, words: impl Into<String>) -> Self {
        Self { rule, words: words.into() }
    }
}

/// Not one of the numbered rules: what the page says of frames and values.
pub(super) const FRAMES: usize = 0;

/// By number. A test holds them to the page.
const RULES: [&str; 22] = [
    "Frames and values are as the page says.",
    "Keep the device's name for good; one connection per device at a time.",
    "Offer one subprotocol, send `hello` first, wait for `welcome` before anything else.",
    "Keep the last seq taken in for each conversation, and drop a `message` that is not above it.",
    "`ack` what you have taken in (stored or shown), the highest seq per conversation, at most a few times a second.",
    "Never `ack` what you do not have: it will not come again.",
    "Show messages in the order of seq, never of `ts`.",
    "Make a random cid for each message, and keep it with the message until it is answered.",
    "No answer, or an error with `retry`: send the same cid with the same body again.",
    "A message is sent when `sent` came, or when a `message` from you with its cid came.",
    "After a reconnect send everything again that has no answer, in the order in which it was written.",
    "After `rate_limited` wait `retry_after_ms`, then start again at the first refused message.",
    "After `unavailable` wait, twice as long each time, up to some seconds.",
    "An error without `retry` is final for that request: show it, do not repeat it.",
    "Reconnect by the table above, after 0.5 s, doubled up to 30 s, and a random half of that.",
    "Keep the last `since` that a `caught_up` brought, and say it in each `hello`, as long as you keep what you acknowledged.",
    "Start over at 0.5 s only after `caught_up`: a node that accepts and drops at once must not be asked ever faster.",
    "After `goodbye` wait `reconnect_ms` instead. With several addresses take the next one.",
    "Nothing heard for twice `ping_secs`: the connection is dead. Browsers cannot see pings: send `ping` and wait 10 s.",
    "A minute before `exp` send a fresh `token`; after 4101 get one and connect.",
    "Ignore ops and fields that you do not know.",
    "What a `truncated` cut, and anything older, comes by `history`; it needs no `ack`.",
];

/// How many there are, the one for frames included.
pub(super) const COUNT: usize = RULES.len();

/// A rule's text.
pub(super) fn text(rule: usize) -> &'static str {
    RULES.get(rule).copied().unwrap_or_default()
}

/// A rule's name: `rule 8`, or `frames`.
pub(super) fn name(rule: usize) -> String {
    if rule == FRAMES { "frames".into() } else { format!("rule {rule}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_the_page() {
        let page = include_str!("../../../docs/protocol.md");
        let list = page.split_once("\n## Rules for a client\n").unwrap().1;
        let list = list.split("\n## ").next().unwrap();
        let numbered = |line: &&str| line.starts_with(|c: char| c.is_ascii_digit());
        let written: Vec<_> = list.lines().filter(numbered).collect();
        let known: Vec<_> = (1..COUNT).map(|rule| format!("{rule}. {}", text(rule))).collect();
        assert_eq!(written, known);
    }
}
