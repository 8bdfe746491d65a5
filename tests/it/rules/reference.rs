//! The pages under `docs/reference`: configuration, metrics, error codes, close codes and ops, each made from the code that defines
//! them. `UPDATE_GOLDEN=1 cargo test --test it rules::reference` writes them anew.

use std::{fmt::Write as _, fs};

use natter::{
    config::{Described, described},
    metrics::Metrics,
    protocol::{CloseReason, ErrorCode, Op, close::should_reconnect},
};

use crate::harness::listing::root;

/// What others than a node close a connection with.
const OTHERS: [(u16, &str); 5] = [
    (1001, "Going away: what a proxy or a browser says."),
    (1005, "Closed without a code."),
    (1006, "Said by nobody: the connection just ended."),
    (1012, "A restart of something in between."),
    (1013, "A restart of something in between."),
];

/// Each page: its file, its text, and the descriptions in it.
fn pages() -> [(&'static str, String); 5] {
    [
        ("configuration", configuration()),
        ("metrics", metrics()),
        ("errors", errors()),
        ("close-codes", close_codes()),
        ("ops", ops()),
    ]
}

fn page(title: &str, source: &str, intro: &str, rows: &str) -> String {
    format!(
        "<!-- Made from {source}; do not edit. UPDATE_GOLDEN=1 cargo test --test it rules::reference -->\n\n# {title}\n\n{intro}\n\n{rows}"
    )
}

/// The cells of a table's row. Each has something to say.
fn row(cells: &[&str]) -> String {
    let first = cells[0];
    let about = cells.last().unwrap();
    assert!(about.len() > 8 && about.contains(' '), "{first} has no description: {about:?}");
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn table<'a>(head: &[&str], rows: impl IntoIterator<Item = Vec<&'a str>>) -> String {
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---|".repeat(head.len()));
    rows.into_iter().for_each(|cells| text += &row(&cells));
    text
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn configuration() -> String {
    let intro = "\
Every key, the variable that sets it, what is in force when nothing is set, and what it does. A key stands in its section of the
TOML file; a variable is stronger than the file, and a command's flag stronger than both. `natter config --default` prints a file
with all of them, `natter config` what is in force and what set it. `<name>` stands for a name of your own.";
    let all = described();
    let mut rows = String::new();
    let mut sections = all.chunk_by(|one, next| one.section.0 == next.section.0).peekable();
    while let Some(keys) = sections.next() {
        let (path, about) = &keys[0].section;
        assert!(about.len() > 8, "[{path}] has no description");
        // Writing to a String cannot fail.
        let _ = write!(rows, "## `[{path}]`\n\n{about}\n\n");
        let named: Vec<_> =
            keys.iter().map(|key| (format!("`{}`<br>`{}`", key.key, key.variable), default(key), &key.about)).collect();
        rows += &table(
            &["key and variable", "default", ""],
            named.iter().map(|(key, default, about)| vec![key.as_str(), default.as_str(), about.as_str()]),
        );
        rows += if sections.peek().is_some() { "\n" } else { "" };
    }
    page("Configuration", "the sections in src/config/sections.rs", intro, &rows)
}

fn default(key: &Described) -> String {
    key.default.as_ref().map_or_else(String::new, |value| format!("`{value}`"))
}

fn metrics() -> String {
    let intro = "\
What `/metrics` of a node shows, in the OpenMetrics text format. Every series also has the label `node`. What to watch, and what
to do about it: [alerts](../operations.md#alerts).";
    let found: Vec<_> = families().into_iter().map(|family| (format!("`{}`", family.series()), family)).collect();
    let rows = found.iter().map(|(name, family)| vec![name.as_str(), &family.kind, &family.labels, &family.help]);
    page("Metrics", "the registry in src/metrics", intro, &table(&["name", "kind", "labels", ""], rows))
}

/// A metric as it is shown.
#[derive(Default)]
struct Family {
    name: String,
    kind: String,
    help: String,
    labels: String,
}

impl Family {
    /// What Prometheus knows it by.
    fn series(&self) -> String {
        let end = match self.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        format!("{}{end}", self.name)
    }

    /// Takes the labels from a series of its own.
    fn sees(&mut self, series: &str) {
        let Some((_, rest)) = series.split_once('{') else { return };
        let labels = rest.split_once('}').unwrap().0.split(',').filter_map(|label| label.split_once('='));
        let labels = labels.map(|(label, _)| label).filter(|label| !["node", "le"].contains(label));
        self.labels = labels.map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
    }
}

/// What a new node shows at `/metrics`, in that order.
fn families() -> Vec<Family> {
    let metrics = Metrics::new("n1");
    // What has no series before it was counted.
    metrics.closed("gone");
    metrics.error("bad_frame");
    metrics.refused(Op::Send, ErrorCode::BadFrame);
    let mut found = Vec::<Family>::new();
    for line in metrics.encode().lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) {
            found.push(Family { name: name.to_owned(), help: help.to_owned(), ..Family::default() });
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let family = found.last_mut().filter(|family| family.name == name).expect("its help comes first");
            family.kind = kind.to_owned();
        } else if !line.starts_with('#') {
            found.last_mut().unwrap().sees(line);
        }
    }
    found
}

fn errors() -> String {
    let intro = "\
What a refused request is answered with, over a WebSocket ([`error`](../protocol.md#error)), over NATS and over HTTP
([services](../services.md#errors)). `retry`: whether the same request may succeed later without any change; the answer says it
too, and what a code means that your program does not know. `message` in the answer says which field, which limit and what to
do: it is for people, so compare `code` only.";
    let codes: Vec<_> = ErrorCode::ALL.iter().map(|code| (format!("`{}`", code.word()), code)).collect();
    let rows = codes.iter().map(|(word, code)| vec![word.as_str(), yes_no(code.retry()), code.about()]);
    page("Error codes", "the table in src/protocol/error.rs", intro, &table(&["code", "retry", "meaning"], rows))
}

fn close_codes() -> String {
    let intro = "\
What a WebSocket is closed with, and whether to connect again, with a growing wait ([rules for a
client](../protocol.md#rules-for-a-client)). 4000 to 4099 mean \"connect again\", 4100 to 4199 \"do not, until something changed\",
also those of later versions. The label is that of `natter_sessions_closed_total`; codes without one come from others than a
node.";
    let own = CloseReason::ALL.iter().map(|reason| (reason.code(), format!("`{}`", reason.label()), reason.about()));
    let mut all: Vec<_> = own.chain(OTHERS.map(|(code, about)| (code, String::new(), about))).collect();
    all.sort_by_key(|(code, ..)| *code);
    let all: Vec<_> = all.into_iter().map(|(code, label, about)| (code, code.to_string(), label, about)).collect();
    let rows = all
        .iter()
        .map(|(code, text, label, about)| vec![text.as_str(), label.as_str(), yes_no(should_reconnect(*code)), *about]);
    page(
        "Close codes",
        "the table in src/protocol/close.rs",
        intro,
        &table(&["code", "label", "reconnect", "meaning"], rows),
    )
}

fn ops() -> String {
    let intro = "\
What can be asked: by a client in a frame ([the protocol](../protocol.md#what-a-client-says)), by a service for itself or for
its users over NATS and HTTP ([services](../services.md#everything-else)). `limited`: whether the rate limit counts it ([by how
much](../protocol.md#what-a-client-says)); `at once`: how much of the requests that a session may have under way it takes.";
    let described: Vec<_> =
        Op::ALL.iter().map(|op| (format!("`{}`", op.word()), op.weight().to_string(), op)).collect();
    let rows = described.iter().map(|(word, weight, op)| {
        vec![
            word.as_str(),
            yes_no(op.is_for_clients()),
            yes_no(op.takes().is_some()),
            yes_no(op.is_limited()),
            weight,
            op.about(),
        ]
    });
    let head = ["op", "client", "service", "limited", "at once", ""];
    page("Ops", "the table in src/protocol/op.rs", intro, &table(&head, rows))
}

#[test]
fn the_reference_is_what_the_code_says() {
    for (name, text) in pages() {
        let path = root().join(format!("docs/reference/{name}.md"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == text,
            "{} is out of date: UPDATE_GOLDEN=1 cargo test --test it rules::reference",
            path.display()
        );
    }
}

#[test]
fn nothing_is_left_out() {
    let page = |name: &str| pages().into_iter().find(|(page, _)| *page == name).unwrap().1;
    let example = natter::config::example();
    let keys = example.lines().filter_map(|line| line.trim_start_matches("# ").split_once(" = ")).count();
    assert_eq!(page("configuration").lines().filter(|line| line.starts_with("| `")).count(), keys);
    assert!(keys > 100 && page("metrics").lines().count() > 80);
    for name in ["natter_sessions", "natter_appended_total", "natter_append_seconds", "process_open_fds"] {
        assert!(page("metrics").contains(&format!("| `{name}` |")), "{name}");
    }
}
