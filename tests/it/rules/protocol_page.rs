//! `docs/protocol.md` describes the protocol as it is: every frame and field of the golden files, and the bounds of the
//! configuration. Error codes and close codes are pages of their own, made by [`super::reference`].

use std::fs;

use natter::{
    config::Config,
    model::{MAX_DEPTH, MAX_SEQ},
    protocol::{
        Op, SHORT_TEXT,
        ask::{CONVERSATIONS_LIMIT, HISTORY_LIMIT},
    },
};
use serde_json::Value;

use crate::harness::listing::root;

fn page() -> String {
    fs::read_to_string(root().join("docs/protocol.md")).unwrap()
}

/// The section of a frame, below "What a client says" or "What a node says".
fn section<'a>(page: &'a str, chapter: &str, op: &str) -> &'a str {
    let from = page.split_once(&format!("\n## {chapter}\n")).unwrap_or_else(|| panic!("no chapter {chapter:?}")).1;
    let chapter_text = from.split("\n## ").next().unwrap_or_default();
    let mut parts = chapter_text.split("\n### ").skip(1);
    let heading = |part: &&str| part.lines().next().is_some_and(|line| line.contains(&format!("`{op}`")));
    parts.find(heading).unwrap_or_else(|| panic!("{chapter:?} has no section for {op:?}"))
}

/// The names of all fields of a frame; what stands in a body is the client's own.
fn fields(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                found.push(name.clone());
                if name != "body" {
                    fields(value, found);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, found)),
        _ => {}
    }
}

/// The golden frames of a folder.
fn golden(folder: &str) -> Vec<Value> {
    let files = fs::read_dir(root().join("tests/golden").join(folder)).unwrap().flatten();
    let json = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    json.map(|path| serde_json::from_slice(&fs::read(path).unwrap()).unwrap()).collect()
}

#[test]
fn every_frame_is_described() {
    let page = page();
    for (folder, chapter) in
        [("client", "What a client says"), ("server", "What a node says"), ("server/error", "What a node says")]
    {
        for frame in golden(folder) {
            let op = frame["op"].as_str().unwrap();
            let text = section(&page, chapter, op);
            let mut names = Vec::new();
            fields(&frame, &mut names);
            // Messages inside of an answer are described where `message` is.
            let message = section(&page, "What a node says", "message");
            for name in names.iter().filter(|name| *name != "op") {
                let quoted = format!("`{name}`");
                let inside = folder == "server" && ["history", "conversations", "room", "rooms"].contains(&op);
                assert!(text.contains(&quoted) || inside && message.contains(&quoted), "{op}: no word of {quoted}");
            }
        }
    }
    for op in Op::ALL.iter().filter(|op| op.is_for_clients()) {
        section(&page, "What a client says", op.word());
    }
}

fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let from_the_end = digits.chars().rev().enumerate();
    let mut text: Vec<char> = Vec::new();
    for (place, digit) in from_the_end {
        if place > 0 && place % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text.iter().rev().collect()
}

#[test]
fn bounds_are_those_of_the_code() {
    let (page, config) = (page().replace('\n', " "), Config::default());
    let (limits, timing) = (&config.limits, &config.timing);
    for text in [
        format!("1 to {HISTORY_LIMIT} messages, 50 if missing"),
        format!("1 to {CONVERSATIONS_LIMIT}, 50 if missing"),
        format!("cut to {SHORT_TEXT} characters"),
        format!("0 to {MAX_SEQ}"),
        format!("nested at most {MAX_DEPTH} deep"),
        format!("at most {} bytes in either encoding", thousands(limits.body_bytes as u64)),
        format!("A frame may have {} bytes", thousands(limits.max_frame_bytes() as u64)),
        format!("no more than {} messages (`welcome.limits.window`)", limits.window),
        format!("Up to {} requests at once and {} a second", limits.send_burst, limits.sends_per_sec),
        format!("At most {} sessions of one user", limits.sessions_per_user),
        format!("within {} ms", thousands(timing.hello_timeout_ms)),
        format!("a WebSocket ping comes this often ({})", timing.ping_secs),
    ] {
        assert!(page.contains(&text), "docs/protocol.md does not say: {text}");
    }
}
