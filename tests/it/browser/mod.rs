//! The chat page in a real browser.

mod chromium;
mod dev;
mod devtools;
mod page;
mod process;
