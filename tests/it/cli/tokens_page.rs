//! The examples of docs/tokens.md make tokens that a node takes, in each language that is installed.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use natter::{
    auth::Verifier,
    config::{Auth, UserEncoding},
};

use crate::harness::{process::output, skip::skip};

/// Letters of several bytes, and what JSON, a shell and the escape could stumble over.
const IDS: [&str; 4] = ["alice", "auth0|5f7c", "Zoë_o'\"x\"@example.org", "a b\\c/日本"];

/// The code block of a language, its file, and how it is run.
const LANGUAGES: [(&str, &str, &[&str]); 4] = [
    ("js", "token.mjs", &["node"]),
    ("python", "token.py", &["python3"]),
    ("go", "token.go", &["go", "run"]),
    ("php", "token.php", &["php"]),
];

fn block<'a>(page: &'a str, language: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("no example in {language}"));
    rest.split_once("\n```").unwrap().0
}

fn is_installed(program: &str) -> bool {
    let version = if program == "go" { "version" } else { "--version" };
    let asked = Command::new(program).arg(version).stdin(Stdio::null()).output();
    asked.is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_make_tokens_that_are_taken() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tokens.md")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "a-secret-of-the-page-long-enough-for-hs256\n").unwrap();
    let auth =
        Auth { hs256_secret_file: Some(secret.clone()), user_encoding: UserEncoding::Escaped, ..Auth::default() };
    let verifier = Verifier::from_config(&auth).unwrap();
    let mut ran = 0;
    for (language, file, words) in LANGUAGES {
        let text = block(&page, language);
        if !is_installed(words[0]) {
            // Not skip(): that the machine of the CI has all four is not asked for.
            eprintln!("{} is not installed, its example was not run", words[0]);
            continue;
        }
        let path = folder.path().join(file);
        fs::write(&path, text).unwrap();
        for id in IDS {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).arg(&path).arg(id).env("SECRET_FILE", &secret);
            let done = output(command).await;
            assert!(done.status.success(), "{language}: {}", String::from_utf8_lossy(&done.stderr));
            let said = String::from_utf8(done.stdout).unwrap();
            let (token, user) = said.trim_end().split_once('\n').unwrap_or_else(|| panic!("{language}: {said}"));
            let claims = verifier.verify(token).unwrap_or_else(|error| panic!("{language}, {id}: {error}"));
            assert_eq!(claims.user.as_str(), user, "{language}, {id}");
        }
        ran += 1;
    }
    if ran == 0 {
        skip("the examples of docs/tokens.md", "none of node, python3, go and php is installed");
    }
}
