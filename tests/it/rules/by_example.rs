//! `docs/protocol-by-example.md`: each golden frame, in the order in which a client meets it. The page is made from the golden files:
//! `UPDATE_GOLDEN=1 cargo test --test it by_example` writes it anew.

use std::{collections::BTreeSet, fmt::Write as _, fs, path::Path};

use serde_json::Value;

use crate::harness::listing::root;

const PAGE: &str = "docs/protocol-by-example.md";

/// The folders of the golden files, and how their frames are marked: who says it.
const FOLDERS: [(&str, &str); 3] = [("client", "→"), ("server", "←"), ("server/error", "←")];

const START: &str = "\
# The protocol by example

Every frame as it goes over the wire, made from the files that the tests hold the code to (`tests/golden/`, where each stands in
MessagePack as well). `→` is what the client writes, `←` what the node writes. What the fields mean is in
[the protocol](protocol.md); whether your client keeps its rules, `natter conform` tells ([how](conform.md)).

Connect to `ws://…/v1/ws` with `Sec-WebSocket-Protocol: natter.json.v1`; each frame is a text frame with one object. Leave out what
you do not need: in a first client that is everything but *Log in*, *Send*, *Receive* and *When it goes wrong*.
";

const NOTE: &str = "Made from the golden files; do not edit. UPDATE_GOLDEN=1 cargo test --test it by_example";

/// A chapter: its heading, what to know, and its frames.
type Chapter = (&'static str, &'static str, &'static [&'static str]);

const CHAPTERS: &[Chapter] = &[
    (
        "Log in",
        "The first frame. Then comes what the device has missed, and `caught_up`, whose `since` stands in the next `hello`. A device \
         that the node does not know is welcomed as new.",
        &[
            "client/hello",
            "server/welcome",
            "server/caught_up_since",
            "client/hello_since",
            "server/welcome_new",
            "server/caught_up",
        ],
    ),
    (
        "Send",
        "To a user or into a room. `ref` is yours and comes back; `cid` makes it safe to send again. The second one replies, \
         mentions, and is gone after a minute.",
        &["client/send", "server/sent", "client/send_refers"],
    ),
    (
        "Receive",
        "In the order of `seq`, your own messages as well. Acknowledge the highest that you have.",
        &[
            "server/message",
            "server/message_rich",
            "client/ack",
            "server/message_refers",
            "server/message_expired",
            "server/truncated",
        ],
    ),
    (
        "When it goes wrong",
        "Every error has this form; `retry` says whether to ask again, `retry_after_ms` when. The node says goodbye before it closes.",
        &[
            "server/error/rate_limited",
            "server/error/rejected",
            "server/error/unavailable",
            "server/goodbye",
            "server/error/bad_frame",
            "server/error/unknown_op",
            "server/error/bad_name",
            "server/error/bad_body",
            "server/error/too_large",
            "server/error/not_member",
            "server/error/not_found",
            "server/error/no_such_room",
            "server/error/room_exists",
            "server/error/room_full",
            "server/error/not_allowed",
            "server/error/last_owner",
            "server/error/blocked",
            "server/error/cid_reused",
            "server/error/bad_ack",
            "server/error/bad_ref",
            "server/error/unauthorized",
            "server/error/unsupported",
        ],
    ),
    (
        "Stay connected",
        "A sign of life, and a fresh token.",
        &["client/ping", "server/pong", "client/token", "server/token_ok"],
    ),
    (
        "Read marks and receipts",
        "How far the person has read; how far somebody else has received and read.",
        &["client/read", "server/receipt", "server/receipt_delivered"],
    ),
    (
        "History",
        "Back from a message, on from one, around one; as it is shown, or raw, row by row.",
        &[
            "client/history_before",
            "server/history",
            "client/history_after",
            "client/history_around",
            "server/history_folded",
            "client/history_raw",
        ],
    ),
    ("Conversations", "A list with what is unread.", &["client/conversations", "server/conversations"]),
    (
        "Edit, delete, react",
        "Each is a row of the log, is answered with `sent`, and comes to everybody in its place.",
        &[
            "client/edit",
            "server/message_edit",
            "client/delete",
            "server/message_delete",
            "client/react",
            "server/message_reaction",
            "client/unreact",
        ],
    ),
    (
        "Rooms",
        "A change is answered with `changed` and comes to the members as a message of kind `event`; whom it is about hears of it at \
         once by `member`.",
        &[
            "client/create",
            "server/changed",
            "client/create_any",
            "server/changed_already",
            "client/join",
            "client/leave",
            "client/invite",
            "client/kick",
            "server/message_event",
            "server/member",
            "client/role",
            "client/topic",
            "client/topic_none",
            "client/lifetime",
            "client/lifetime_none",
            "client/room",
            "server/room",
            "client/rooms",
            "server/rooms",
            "client/members",
            "server/members",
            "client/readers",
            "server/readers",
        ],
    ),
    (
        "Who is online, who types",
        "Asked once, or watched. Signals are of the moment and have no answer.",
        &[
            "client/presence_ask",
            "client/presence",
            "server/presences",
            "server/presence",
            "server/presence_gone",
            "server/presence_ended",
            "client/signal",
            "server/signal",
            "server/signal_bare",
        ],
    ),
    ("Block somebody", "", &["client/block", "server/blocking", "client/unblock", "client/blocks", "server/blocks"]),
    (
        "One's own devices",
        "",
        &["client/sessions", "server/sessions", "client/end_session", "client/end_session_device", "server/ended"],
    ),
];

fn golden(name: &str) -> String {
    let text = fs::read_to_string(root().join(format!("tests/golden/{name}.json"))).unwrap();
    let op = serde_json::from_str::<Value>(&text).unwrap()["op"].as_str().unwrap().to_owned();
    assert!(text.starts_with(&format!("{{\"op\":\"{op}\"")), "{name} does not begin with its op");
    text.trim_end().to_owned()
}

fn page() -> String {
    let mut page = format!("<!-- {NOTE} -->\n\n{START}");
    for (heading, text, frames) in CHAPTERS {
        let _ = write!(page, "\n## {heading}\n\n");
        if !text.is_empty() {
            let _ = write!(page, "{text}\n\n");
        }
        page += "```text\n";
        for name in *frames {
            let arrow = FOLDERS.iter().find(|(folder, _)| name.starts_with(folder)).unwrap().1;
            let _ = writeln!(page, "{arrow} {}", golden(name));
        }
        page += "```\n";
    }
    page
}

#[test]
fn the_page_is_made_from_the_golden_files() {
    let (path, wanted) = (root().join(PAGE), page());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).find(|(found, wanted)| found != wanted);
    assert!(found == wanted, "{PAGE} is not what the golden files say: {differs:?}; UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn every_golden_frame_is_in_it_once() {
    let shown: Vec<_> =
        CHAPTERS.iter().flat_map(|(_, _, frames)| frames.iter().map(|name| (*name).to_owned())).collect();
    let once: BTreeSet<_> = shown.iter().cloned().collect();
    assert_eq!(once.len(), shown.len(), "a frame is shown twice");
    let mut there = BTreeSet::new();
    for (folder, _) in FOLDERS {
        let files = fs::read_dir(root().join("tests/golden").join(folder)).unwrap().flatten().map(|entry| entry.path());
        for path in files.filter(|path| path.extension().is_some_and(|kind| kind == "json")) {
            there.insert(format!("{folder}/{}", path.file_stem().and_then(|name| Path::new(name).to_str()).unwrap()));
        }
    }
    assert_eq!(once, there);
}
