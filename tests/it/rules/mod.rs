//! Rules that the sources and the pages must keep.

mod by_example;
mod docs;
mod events;
mod golden;
mod import_rules;
mod known_tests;
mod markdown;
mod pages;
mod protocol_page;
mod reference;
mod rules_page;
mod test_rules;
