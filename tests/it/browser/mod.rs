//! The chat page, and natter.js, in a real browser.

mod axe;
mod chromium;
mod devtools;
mod long;
mod natter_js;
mod page;
mod people;
mod readme;
mod rooms;
mod screens;
mod states;
mod trouble;
