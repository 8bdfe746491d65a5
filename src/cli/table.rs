//! Tables and texts for people, on standard output. Called by the commands that list something.

use comfy_table::{Cell, Table, presets::UTF8_FULL_CONDENSED};

use crate::protocol::Body;

/// A table with these headings; cells hold text as it is.
pub(super) fn table<const N: usize>(headings: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(headings);
    for row in rows {
        table.add_row(row.map(|text| Cell::new(printable(&text))));
    }
    table.to_string()
}

/// What a body says, for people.
pub(super) fn text_of(body: &Body) -> String {
    body.parse::<String>().unwrap_or_else(|_| serde_json::to_string(body).unwrap_or_default())
}

/// Someone else wrote this: it must not move the cursor or set the title of the reader's terminal.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}
