//! Says loudly that a part of the tests did not run because the machine lacks what it needs.

use std::{env, fs::OpenOptions, io::Write as _};

/// Notes that `part` was not tested and why: on stderr, and in the file that `NATTER_SKIPPED` names, which the test
/// command shows at its end. With `CI=true`, nothing may be skipped.
///
/// # Panics
/// With `CI=true`.
pub fn skip(part: &str, reason: &str) {
    let line = format!("SKIPPED {part}: {reason}\n");
    eprint!("{line}");
    if let Some(path) = env::var_os("NATTER_SKIPPED").filter(|path| !path.is_empty()) {
        // One write for the whole line: tests run concurrently.
        let file = OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).unwrap();
    }
    assert!(env::var("CI").as_deref() != Ok("true"), "{line}");
}
