//! The chat page in a real browser.

mod chromium;
mod devtools;
mod page;
mod readme;
mod states;
