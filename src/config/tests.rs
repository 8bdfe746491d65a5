//! Loading as an operator does it: files, variables and flags, alone, over each other, and wrong.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::{
    bus::NatsOptions,
    node,
    store::{embedded::EmbeddedOptions, scylla::ScyllaOptions},
};

mod secrets;

fn from_text(text: &str) -> (TempDir, Sources) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("natter.toml");
    std::fs::write(&path, text).unwrap();
    (folder, Sources { file: Some(path), ..Sources::default() })
}

fn variables(pairs: &[(&str, &str)]) -> Sources {
    let variables = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { variables, ..Sources::default() }
}

fn faults(sources: &Sources) -> Vec<Fault> {
    Config::load(sources).unwrap_err().0
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

#[test]
fn nothing_at_all_gives_the_defaults_and_they_are_good() {
    assert_eq!(Config::load(&Sources::default()).unwrap(), Config::default());
    Config::default().validate().unwrap();
    assert_eq!(Config::default().limits.max_frame_bytes(), 2 * 65_536 + 4_096);
}

#[test]
fn the_example_documents_every_key_and_loads_into_the_defaults() {
    let text = example();
    let (_folder, sources) = from_text(&text);
    assert_eq!(Config::load(&sources).unwrap(), Config::default());
    for key in schema::keys() {
        let name = key.rsplit('.').next().unwrap();
        let written = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{name} = "));
        assert!(text.lines().any(written), "{key} is not in the example");
    }
    // Commented keys are good as well, once what the dots stand for is filled in.
    let on: String = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|l| l.starts_with('[') || l.contains(" = ")).unwrap_or(line))
        .filter(|line| !line.starts_with("kind = \"e") && !line.starts_with("nkey_file") && !line.starts_with("creds"))
        .filter(|line| {
            !line.starts_with("token")
                && !line.starts_with("master_key")
                && !line.starts_with("password_file")
                && !line.contains("(one process")
        })
        .filter(|line| !line.starts_with("secret_file"))
        .map(|line| line.replace("whsec_…", &format!("whsec_{}", "b".repeat(32))))
        .map(|line| line.replace("\"…\"", "\"a-text-of-more-than-thirty-two-bytes\"") + "\n")
        .collect();
    let (_folder, sources) = from_text(&on);
    let config = Config::load(&sources).unwrap();
    assert!(may_send_as(&config.services, &user("billing"), &user("alice")));
    assert!(config.webhooks.contains_key("push") && config.hook.service.is_some());
}

#[test]
fn a_later_source_is_the_stronger() {
    let (_folder, mut sources) = from_text("[limits]\nwindow = 10\nbody_bytes = 100\n[http]\nlisten = \"0.0.0.0:1\"\n");
    sources.variables = vec![
        ("NATTER_LIMITS__WINDOW".into(), "20".into()),
        ("NATTER_HTTP__LISTEN".into(), "0.0.0.0:2".into()),
        ("PATH".into(), "/bin".into()),
    ];
    let sources = sources.flag("--listen", "http.listen", Some("0.0.0.0:3")).flag("--log", "log.filter", None::<&str>);
    let loaded = Config::load_with_origins(&sources).unwrap();
    let config = &loaded.config;
    assert_eq!((config.limits.body_bytes, config.limits.window, config.http.listen.port()), (100, 20, 3));
    let origin = |key: &str| loaded.origins.get(key).map(Source::to_string).unwrap_or_default();
    assert!(origin("limits.body_bytes").ends_with("natter.toml:3"), "{}", origin("limits.body_bytes"));
    assert_eq!(origin("limits.window"), "NATTER_LIMITS__WINDOW");
    assert_eq!(origin("http.listen"), "--listen");
    assert_eq!(loaded.origins.len(), 3);
}

#[test]
fn a_variable_is_read_as_its_key_needs_it() {
    let config = Config::load(&variables(&[
        ("NATTER_NATS__URLS", "nats://a:4222, nats://b:4222"),
        ("NATTER_NATS__USER", "12345"),
        ("NATTER_NATS__PASSWORD", "true"),
        ("NATTER_NATS__TOKEN", ""),
        ("NATTER_HTTP__ALLOWED_ORIGINS", "[\"https://x.example\"]"),
        ("NATTER_AUTH__AUDIENCE", "natter"),
        ("NATTER_AUTH__ISSUER", ""),
        ("NATTER_STORE__KIND", "scylla"),
        ("NATTER_STORE__SCYLLA__CONTACT_POINTS", "one:9042"),
        ("NATTER_SERVICES__BILLING__MAY_SEND_AS", "alice,bob"),
        ("NATTER_SERVICES__SUPPORT__MAY_SEND_AS", "*"),
        ("NATTER_CONFIG", "of another use"),
        // What Kubernetes sets for a service that is called natter.
        ("NATTER_PORT", "tcp://10.0.0.1:8080"),
        ("NATTER_SERVICE_HOST", "10.0.0.1"),
    ]))
    .unwrap();
    let urls: Vec<_> = config.nats.urls.iter().map(ServerUrl::expose).collect();
    assert_eq!(urls, ["nats://a:4222", "nats://b:4222"]);
    assert_eq!(config.nats.user.as_deref(), Some("12345"));
    assert_eq!(config.nats.password.as_ref().map(Secret::expose), Some("true"));
    assert_eq!((config.nats.token.as_ref(), config.auth.issuer.len()), (None, 0));
    assert_eq!(config.http.allowed_origins, ["https://x.example"]);
    assert_eq!(config.auth.audience, ["natter"]);
    assert_eq!(config.store.scylla.contact_points, ["one:9042"]);
    assert!(
        may_send_as(&config.services, &user("billing"), &user("bob"))
            && !may_send_as(&config.services, &user("billing"), &user("eve"))
    );
    assert!(
        may_send_as(&config.services, &user("support"), &user("eve"))
            && may_send_as(&config.services, &user("other"), &user("other"))
    );
}

#[test]
fn every_fault_is_told_at_once_with_key_value_limit_and_source() {
    let (_folder, mut sources) = from_text(
        "[limits]\nwindw = 1\nwindow = 0\nbody_bytes = \"big\"\nframe_bytes = 5\n\n[timing]\nidle_secs = 30\n\n\
         [nats]\nuser = \"u\"\nurls = [\"http://x\"]\n\n[colour]\nred = 1\n",
    );
    sources.variables = vec![
        ("NATTER_STORE__KIND".into(), "mysql".into()),
        ("NATTER_NATS_URLS".into(), "nats://a".into()),
        ("NATTER_HTTP__LISTEN".into(), "8080".into()),
        ("NATTER_LIMITS__SEND_BURST".into(), "-1".into()),
        ("NATTER_SERVICES__BILLING__MAY_SEND_AS".into(), "a b,c".into()),
    ];
    sources = sources.flag("--log", "log.filter", Some("natter=="));
    let found: Vec<String> = faults(&sources).iter().map(Fault::to_string).collect();
    for wanted in [
        "limits.windw is not a key, did you mean limits.window? [",
        "natter.toml:2]",
        "limits.window = 0 must be from 1 to 65536 [",
        "limits.body_bytes = \"big\" must be a whole number, 0 or more [",
        "limits.frame_bytes = 5 must be more than limits.body_bytes (65536), or 0 [",
        "timing.idle_secs = 30 must be more than two pings (timing.ping_secs is 25) [",
        "nats.user needs nats.password as well [",
        "nats.urls = \"http://x\" must be like nats://host:4222",
        "colour.red is not a key [",
        "store.kind = \"mysql\" must be \"embedded\" or \"scylla\" [NATTER_STORE__KIND]",
        "http.listen = \"8080\" must be an address and a port",
        "limits.send_burst = \"-1\" must be a whole number from 0 to 4294967295 [NATTER_LIMITS__SEND_BURST]",
        "NATTER_NATS_URLS sets nothing, did you mean NATTER_NATS__URLS? [NATTER_NATS_URLS]",
        "services.billing.may_send_as = \"a b,c\" must be a list of users, or \"*\" [",
        "log.filter = \"natter==\" must be like info",
    ] {
        assert!(found.iter().any(|fault| fault.contains(wanted)), "wanted {wanted:?} in {found:#?}");
    }
    assert_eq!(found.len(), 14, "{found:#?}");
    assert!(Config::load(&sources).unwrap_err().to_string().starts_with("14 faults in the configuration\n  "));
}

#[test]
fn what_may_frame_the_page_cannot_break_out_of_the_header() {
    let (_folder, good) = from_text("[http]\nframe_ancestors = [\"self\", \"https://a.example:8443\"]\n");
    assert_eq!(Config::load(&good).unwrap().http.frame_ancestors, ["self", "https://a.example:8443"]);
    for bad in
        ["'none'", "https://a; script-src *", "https://a\\n", "https://a/path", "*", "data:", "javascript://a", ""]
    {
        let (_folder, sources) = from_text(&format!("[http]\nframe_ancestors = [\"{bad}\"]\n"));
        let found = faults(&sources);
        assert!(found.len() == 1 && found[0].to_string().contains("http.frame_ancestors"), "{bad}: {found:?}");
    }
}

#[test]
fn cells_are_lists_of_servers_instead_of_one() {
    let cells = "[[\"nats://a:1\", \"nats://b:1\"], [\"nats://u:hunter2@c:1\"]]";
    let config = Config::load(&variables(&[("NATTER_NATS__CELLS", cells)])).unwrap();
    let read: Vec<Vec<_>> = config.nats.cells.iter().map(|cell| cell.iter().map(ServerUrl::expose).collect()).collect();
    assert_eq!(read, [vec!["nats://a:1", "nats://b:1"], vec!["nats://u:hunter2@c:1"]]);
    let many = format!("[{}]", vec!["[\"nats://a:1\"]"; Nats::CELLS + 1].join(", "));
    for (set, wanted) in [
        ("[[\"nats://a:1\"], []]", "nats.cells = [] must name at least one server"),
        ("[[\"nats://u:hunter2@a:x\"]]", "nats.cells = \"nats://"),
        (&many, "nats.cells = 65 must be at most 64 clusters"),
        ("[\"nats://a:1\"]", "nats.cells"),
    ] {
        let found = faults(&variables(&[("NATTER_NATS__CELLS", set)]));
        assert!(found.len() == 1 && found[0].to_string().contains(wanted), "{found:?}");
        assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
    }
    let (_folder, both) = from_text("[nats]\nurls = [\"nats://x:1\"]\ncells = [[\"nats://a:1\"]]\n");
    assert!(faults(&both)[0].to_string().starts_with("nats.urls = set is not used beside nats.cells"));
}

/// Bodies leave the mesh by these: encrypted, signed, and to nobody who was not named.
#[test]
fn events_go_to_nobody_by_mistake() {
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let of = |url: &str, more: &str, secret: &str| {
        let text = format!("[webhooks.push]\nurl = \"{url}\"\n{more}secret = \"{secret}\"\n");
        let (_folder, sources) = from_text(&text);
        Config::load(&sources).err().map(|errors| errors.0.iter().map(Fault::to_string).collect::<Vec<_>>())
    };
    let (url, kinds) = ("https://push.example.org/natter", "kinds = [\"message\"]\n");
    for (key, found) in [
        ("url", of("http://push.example.org/natter", kinds, secret)),
        ("url", of("https://user:hunter2@push.example.org/", kinds, secret)),
        ("url", of("http://user:hunter2@10.0.0.1/", "kinds = [\"message\"]\nplaintext = true\n", secret)),
        ("url", of("ftp://push.example.org/", kinds, secret)),
        ("kinds", of(url, "", secret)),
        ("secret", of(url, kinds, "whsec_aHVudGVyMg==")),
        ("secret", of(url, kinds, "hunter2-that-is-long-enough-for-anything")),
    ] {
        let found = found.unwrap();
        assert!(found.len() == 1 && found[0].starts_with(&format!("webhooks.push.{key} = ")), "{key}: {found:?}");
        assert!(!found[0].contains("hunter2") && !found[0].contains("aHVudGVyMg"), "{found:?}");
    }
    assert_eq!(of(url, kinds, secret), None);
    assert_eq!(of("http://127.0.0.1:8080/", kinds, secret), None);
    assert_eq!(of("http://10.0.0.1/", "kinds = [\"message\"]\nplaintext = true\n", secret), None);
    let (_folder, public) = from_text("[events]\nkinds = [\"offline\", \"message\"]\n");
    assert!(faults(&public)[0].to_string().starts_with("events.kinds = "), "{:?}", faults(&public));
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_with_its_name() {
    let missing = Sources { file: Some(PathBuf::from("/no/such/natter.toml")), ..Sources::default() };
    assert!(faults(&missing)[0].to_string().starts_with("cannot be read: "));
    let (_folder, broken) = from_text("[nats]\nurls = []\npassword = \"hunter2\n");
    let found = faults(&broken);
    assert!(found[0].problem.starts_with("is not valid TOML: "), "{found:?}");
    assert!(matches!(&found[0].source, Source::File(_, 3)), "{found:?}");
    assert!(!format!("{found:?}").contains("hunter2"));
}

#[test]
fn what_is_shown_says_what_set_it_and_loads_again() {
    let sources = variables(&[
        ("NATTER_LIMITS__WINDOW", "20"),
        ("NATTER_SERVICES__BILLING__MAY_SEND_AS", "alice"),
        ("NATTER_LOG__FORMAT", "json"),
    ]);
    let loaded = Config::load_with_origins(&sources).unwrap();
    let text = loaded.to_toml();
    assert!(text.contains("window = 20  # NATTER_LIMITS__WINDOW\n"), "{text}");
    assert!(text.contains("send_burst = 400\n"), "{text}");
    assert!(text.contains("[services.billing]\n"), "{text}");
    let (_folder, again) = from_text(&text);
    assert_eq!(Config::load(&again).unwrap(), loaded.config);
    let json = loaded.to_json();
    assert_eq!(json["config"]["limits"]["window"], 20);
    assert_eq!(json["sources"]["limits.window"], "NATTER_LIMITS__WINDOW");
}

#[test]
fn a_section_takes_no_value_and_a_value_no_keys() {
    let (_folder, sources) = from_text("limits = 5\nnode.name.x = 1\n\"a.b\" = 2\n[services.\"no name\"]\n");
    let found: Vec<String> = faults(&sources).iter().map(Fault::to_string).collect();
    for wanted in ["limits is a section", "node.name.x is not a key", "a.b contains a dot", "services.no name"] {
        assert!(found.iter().any(|fault| fault.starts_with(wanted)), "wanted {wanted:?} in {found:#?}");
    }
    assert_eq!(found.len(), 4, "{found:#?}");
    let (_folder, empty) = from_text("[limits]\n[services.billing]\n");
    assert!(Config::load(&empty).unwrap().services.contains_key("billing"));
}

#[test]
fn a_host_name_becomes_a_name() {
    for (host, name) in [("web-1\n", "web-1"), ("a.b.example", "a-b-example"), ("", "node"), ("  ", "node"), ("ä", "-")]
    {
        assert_eq!(name_from_host(host).as_str(), name);
    }
    assert_eq!(name_from_host(&"x".repeat(100)).as_str().len(), 64);
}

/// What a node builds its own parts from.
fn node_parts(config: &Config) -> impl std::fmt::Debug {
    let gateway = (node::rules(config), node::settings(config), node::capacity(config));
    let people = (node::presence_settings(config), node::blocks_known(config));
    (gateway, node::limits(config), node::work_limits(config), node::spread(config), people)
}

/// What every part of a node is built from, as text.
fn parts_of(config: &Config) -> String {
    let nats = NatsOptions::from_config(config.node.name.as_str(), &config.nats);
    let stores = (EmbeddedOptions::from(config), ScyllaOptions::from(&config.store.scylla));
    format!("{:?}", (nats, stores, node_parts(config)))
}

#[test]
fn each_default_is_said_once() {
    let config = Config::default();
    let urls = config.nats.urls.iter().map(ServerUrl::expose);
    let own = (
        NatsOptions::new(config.node.name.as_str(), urls),
        (EmbeddedOptions::default(), ScyllaOptions::default()),
        node_parts(&config),
    );
    assert_eq!(format!("{own:?}"), parts_of(&config), "an engine has defaults of its own");
}

/// Another value of the same kind.
fn other(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Number(number) => (number.as_u64().unwrap() + 1).into(),
        serde_json::Value::Array(_) => serde_json::json!(["other:1"]),
        serde_json::Value::Bool(is) => (!is).into(),
        serde_json::Value::String(link) if link == "own" => "async-nats".into(),
        _ => "other".into(),
    }
}

#[test]
fn no_key_is_ignored_by_the_part_it_is_for() {
    // A user counts only with a password, and the options do not show those.
    let unseen = ["nats.user", "nats.password", "store.embedded.data_dir"];
    let read_with_the_configuration = ["nats.password_file", "nats.token_file", "store.scylla.password_file"];
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let parts = ["limits.", "timing.", "presence.", "nats.", "store.embedded.", "store.scylla."];
    let mut changed = 0;
    for key in schema::keys().filter(|key| parts.iter().any(|part| key.starts_with(part))) {
        if unseen.contains(&key.as_str()) || read_with_the_configuration.contains(&key.as_str()) {
            continue;
        }
        let mut tree = serde_json::json!({});
        let path: Vec<&str> = key.split('.').collect();
        let other = match key.as_str() {
            "nats.cells" => serde_json::json!([["other:1"]]),
            _ => other(schema::get(&defaults, &key).unwrap()),
        };
        schema::insert(&mut tree, &path, other);
        // TLS files show only once there is an authority.
        if key.starts_with("store.scylla.tls_") && key != "store.scylla.tls_ca_file" {
            schema::insert(&mut tree, &["store", "scylla", "tls_ca_file"], "ca".into());
        }
        let with = parts_of(&serde_json::from_value(tree.clone()).unwrap());
        schema::insert(&mut tree, &path, schema::get(&defaults, &key).unwrap().clone());
        let without = parts_of(&serde_json::from_value(tree).unwrap());
        assert_ne!(with, without, "{key} changes nothing");
        changed += 1;
    }
    assert!(changed > 30, "only {changed} keys were tried");
}

fn page(path: &str) -> String {
    std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Pages and examples that name keys and variables.
const PAGES: [&str; 9] = [
    "README.md",
    "ARCHITECTURE.md",
    "deploy/README.md",
    "docs/tokens.md",
    "nats/README.md",
    "docker-compose.yml",
    ".env.example",
    "src/cli/serve.rs",
    "src/cli/mod.rs",
];

#[test]
fn every_key_that_a_page_names_exists() {
    let mut named = 0;
    for path in PAGES {
        let text = page(path);
        for variable in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let Some((section, key)) = variable.strip_prefix(PREFIX).and_then(|tail| tail.split_once("__")) else {
                continue;
            };
            let key = format!("{section}.{}", key.replace("__", ".")).to_lowercase();
            assert!(schema::is_key(&key), "{path} names {variable}, but there is no key {key}");
            named += 1;
        }
        for word in text.split('`').skip(1).step_by(2).filter(|_| path.ends_with(".md")) {
            let is_file = [".md", ".rs", ".conf", ".yml", ".toml"].iter().any(|kind| word.ends_with(kind));
            let plain = word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.'));
            let (section, key) = word.split_once('.').unwrap_or_default();
            if plain && !is_file && !key.is_empty() && schema::is_section(section) {
                assert!(schema::is_key(word) || schema::is_section(word), "{path} names {word}, which is not a key");
                named += 1;
            }
        }
    }
    assert!(named > 20, "only {named} were found: is this test still right?");
}

#[test]
fn the_defaults_that_a_page_quotes_are_those_in_force() {
    let defaults = serde_json::to_value(Config::default()).unwrap();
    let mut quoted = 0;
    for path in PAGES.iter().filter(|path| path.ends_with(".md")) {
        let text = page(path);
        // `timing.reconcile_secs` (60), `timing.ping_secs` (25 s)
        for (key, rest) in text.split('`').skip(1).step_by(2).zip(text.split('`').skip(2).step_by(2)) {
            let Some(rest) = rest.strip_prefix(" (").filter(|_| schema::is_key(key)) else { continue };
            let digits: String =
                rest.chars().take_while(|c| c.is_ascii_digit() || *c == ',').filter(|c| *c != ',').collect();
            if let Ok(number) = digits.parse::<u64>() {
                assert_eq!(schema::get(&defaults, key), Some(&number.into()), "{path} quotes {key}");
                quoted += 1;
            }
        }
    }
    assert!(quoted > 0, "no page quotes a default: is this test still right?");
    let shown = Auth::KEYS.iter().find(|(key, _)| *key == "hs256_secret").unwrap().1.join("");
    assert!(shown.contains(&MIN_SECRET_BYTES.to_string()), "{shown}");
}
