//! The shell blocks of README.md, run as they stand: every line is either run against a mesh or named here as one that
//! needs what a test has not (a build, docker). A line that is neither fails. The Rust block is compiled by `tests/run`,
//! the JavaScript block runs in `browser::readme`.

use std::{path::Path, process::Output};

use async_nats::ConnectOptions;
use natter::{config::Service, model::UserId};

use crate::{
    harness::{
        natter::natter,
        process::{Process, output},
    },
    mesh::{SECRET, TestMesh},
};

/// Lines that build, start containers or measure for minutes; what they start has tests of its own.
const ELSEWHERE: [&str; 8] = [
    "cargo install --path .",
    "cargo run --release -- dev",
    "./tests/run",
    "cp .env.example .env",
    "docker compose ",
    "natter dev",
    "natter bench ",
    "natter conform ",
];

/// What the configuration's block sets up; the test has its own mesh for it.
const SERVING: [&str; 4] = ["natter config --default > natter.toml", "openssl rand ", "export ", "natter serve "];

/// The commands of all shell blocks, without comments, continued lines in one.
fn commands() -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let blocks = readme.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let joined = blocks.map(|block| block.replace("\\\n", " ")).collect::<Vec<_>>().join("\n");
    let code = |line: &str| line.split(" # ").next().unwrap().trim().to_owned();
    joined.lines().map(code).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// The words of a command: quotes taken off, variables filled in.
pub(super) fn words(line: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let filled = variables.iter().fold(line.to_owned(), |line, (name, value)| line.replace(&format!("${name}"), value));
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in filled.chars() {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ', None) => words.push(String::new()),
            (c, _) => words.last_mut().unwrap().push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// `nats … req subject payload`, as the nats command does it: any flag that is not known here fails.
pub(super) async fn nats_request(words: &[String]) -> String {
    let (mut server, mut user, mut password, mut inbox) = Default::default();
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        let place = match word.as_str() {
            "--server" => &mut server,
            "--user" => &mut user,
            "--password" => &mut password,
            "--inbox-prefix" => &mut inbox,
            "req" => break,
            other => panic!("nats is given the argument {other}, which is not known here"),
        };
        *place = rest.next().unwrap().clone();
    }
    let options = ConnectOptions::with_user_and_password(user, password);
    let client = if inbox.is_empty() { options } else { options.custom_inbox_prefix(inbox) };
    let client = client.connect(server).await.unwrap();
    let (subject, body) = (rest.next().unwrap().clone(), rest.next().unwrap().clone());
    let reply = client.request(subject, body.into()).await.expect("the service must get its reply");
    String::from_utf8(reply.payload.to_vec()).unwrap()
}

/// A line with curl, run by a shell that has the variables of the lines before.
async fn curl(mesh: &TestMesh, line: &str, token: &str) -> String {
    let mut shell = tokio::process::Command::new("sh");
    let http = format!("http://{}", mesh.nodes[0].addr);
    shell.args(["-c", line]).env("NATTER_HTTP", http).env("NATTER_TOKEN", token);
    let output = shell.output().await.expect("there must be a shell");
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn good(line: &str, output: &Output) -> String {
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shell_line_does_what_it_says() {
    let billing = UserId::new("billing").unwrap();
    let mesh = TestMesh::tuned(1, |config| {
        config.services.insert(billing, Service { http: true, ..Service::default() });
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let (nats, billing) = (mesh.nats.client_url(), mesh.nats.passwords().billing.clone());
    let variables = [("NATTER_NATS_URL", nats.as_str()), ("NATTER_BILLING_PASSWORD", billing.as_str())];
    let command = |words: &[String]| {
        let mut command = natter(folder.path());
        command
            .args(&words[1..])
            .env("NATTER_URL", mesh.nodes[0].url())
            .env("NATTER_AUTH__HS256_SECRET_FILE", "secret");
        command
    };
    let mut run = 0;
    for line in commands() {
        if ELSEWHERE.iter().chain(&SERVING).any(|start| line.starts_with(start)) {
            continue;
        }
        run += 1;
        let words = words(&line, &variables);
        match (words[0].as_str(), words[1].as_str()) {
            ("nats", _) => {
                let reply: serde_json::Value = serde_json::from_str(&nats_request(&words).await).unwrap();
                assert_eq!(reply["conv"], "dm:billing:bob", "{reply}");
            }
            ("curl", _) => {
                let minted = output(command(&self::words("natter token --service billing", &[]))).await;
                let output = curl(&mesh, &line, good("natter token", &minted).trim()).await;
                let reply: serde_json::Value =
                    serde_json::from_str(&output).unwrap_or_else(|e| panic!("{e}: {output}"));
                assert_eq!(reply["conv"], "dm:billing:bob", "{reply}");
            }
            ("natter", "tail") => {
                let mut tail = Process::reading(command(&words));
                let seen = tail.line_after("{").await;
                assert!(seen.contains("\"body\""), "{line}: {seen}");
            }
            ("natter", _) => drop(good(&line, &output(command(&words)).await)),
            _ => panic!("nothing runs this line of README.md: {line}"),
        }
    }
    assert!(run >= 3, "only {run} lines were run");
}

#[tokio::test]
async fn the_configuration_that_is_printed_is_one() {
    let folder = tempfile::tempdir().unwrap();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let lines = commands();
    for start in SERVING {
        assert!(lines.iter().any(|line| line.starts_with(start)), "README.md has no line {start}");
    }
    let mut print = natter(folder.path());
    print.args(words("config --default"));
    std::fs::write(folder.path().join("natter.toml"), good("config --default", &output(print).await)).unwrap();
    let mut read = natter(folder.path());
    read.args(words("config --config natter.toml")).env("NATTER_NATS__URLS", "nats://nats-1:4222");
    assert!(good("config", &output(read).await).contains("nats-1:4222"));
}
