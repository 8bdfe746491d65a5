//! Writes a configuration as TOML: what is in force (`natter config`), or a documented example of the defaults
//! (`natter config --default`). Secrets are masked by their types.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    Config, Loaded,
    schema::{self, ANY_SERVICE, ANY_WEBHOOK, NAMED, SECTIONS, Section},
};

/// Every key with its help and its default. Loaded as it is, it gives the defaults.
pub fn example() -> String {
    let defaults = to_tree(&Config::default());
    let mut out = String::from(EXAMPLE_HEAD);
    for section in SECTIONS {
        out.push('\n');
        section.about.iter().for_each(|line| comment(&mut out, line));
        let off = if NAMED.contains(&section.path) { "# " } else { "" };
        let path = section.path.replace("services.<name>", "services.billing").replace("<name>", "push");
        line(&mut out, format_args!("{off}[{path}]"));
        for (key, about) in section.keys.iter().filter(|(key, _)| is_key(section, key)) {
            about.iter().for_each(|line| comment(&mut out, line));
            let value = schema::get(&defaults, &format!("{}.{key}", section.path)).and_then(to_toml);
            match value {
                // The host's name is a default of this host only.
                Some(value) if (section.path, *key) != ("node", "name") => {
                    line(&mut out, format_args!("{key} = {value}"))
                }
                _ => line(&mut out, format_args!("# {key} = {}", sample(section.path, key))),
            }
        }
    }
    out
}

/// A key of the configuration, for its description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The section and what it is for.
    pub section: (&'static str, String),
    /// The key's name in its section.
    pub key: &'static str,
    /// What it does.
    pub about: String,
    /// What is in force when nothing is set, as TOML; none where that is nothing, or another thing on each machine.
    pub default: Option<String>,
    /// The variable that sets it.
    pub variable: String,
}

/// Every key, section by section, in the order of [`example`].
pub fn described() -> Vec<Described> {
    let defaults = to_tree(&Config::default());
    let of = |section: &'static Section| {
        let keys = section.keys.iter().filter(|(key, _)| is_key(section, key));
        keys.map(|(key, about)| (section, *key, *about)).collect::<Vec<_>>()
    };
    let text = |lines: &[&str]| lines.concat().trim().to_owned();
    let described = |(section, key, about): (&'static Section, &'static str, &[&str])| {
        let path = format!("{}.{key}", section.path);
        let default = schema::get(&defaults, &path).and_then(to_toml).filter(|_| section.path != "node");
        let section = (section.path, text(section.about));
        Described { section, key, about: text(about), default, variable: schema::variable(&path) }
    };
    SECTIONS.iter().flat_map(of).map(described).collect()
}

const EXAMPLE_HEAD: &str = "\
# natter's configuration with all defaults. Keys that are commented out have none.
# A NATTER_… variable overrides a key (NATTER_NATS__URLS for nats.urls), and a flag overrides both.
# Paths are relative to the folder in which natter is started.
";

impl Loaded {
    /// The values in force, as TOML, with a comment after each that is not a default: what set it.
    pub fn to_toml(&self) -> String {
        let tree = to_tree(&self.config);
        let mut out = String::new();
        for section in SECTIONS.iter().filter(|section| !NAMED.contains(&section.path)) {
            self.section(&mut out, &tree, section, section.path);
        }
        let names = |any| match any {
            ANY_WEBHOOK => self.config.webhooks.keys().collect::<Vec<_>>(),
            _ => self.config.services.keys().collect(),
        };
        for section in SECTIONS.iter().filter(|section| NAMED.contains(&section.path)) {
            for name in names(section.path) {
                self.section(&mut out, &tree, section, &section.path.replace("<name>", name.as_str()));
            }
        }
        out
    }

    /// The values in force, and what set each key that does not have its default, as JSON.
    pub fn to_json(&self) -> Value {
        serde_json::json!({ "config": to_tree(&self.config), "sources": self.origins })
    }

    fn section(&self, out: &mut String, tree: &Value, section: &Section, path: &str) {
        if !out.is_empty() {
            out.push('\n');
        }
        line(out, format_args!("[{path}]"));
        for (key, _) in section.keys.iter().filter(|(key, _)| is_key(section, key)) {
            let path = format!("{path}.{key}");
            let Some(value) = schema::get(tree, &path).and_then(to_toml) else { continue };
            match self.origins.get(&path) {
                Some(source) => line(out, format_args!("{key} = {value}  # {source}")),
                None => line(out, format_args!("{key} = {value}")),
            }
        }
    }
}

fn is_key(section: &Section, key: &str) -> bool {
    !schema::is_section(&format!("{}.{key}", section.path))
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

fn comment(out: &mut String, text: &str) {
    line(out, format_args!("#{text}"));
}

fn to_tree(config: &Config) -> Value {
    // Only a map with keys that are no texts could fail here, and there is none.
    serde_json::to_value(config).unwrap_or_default()
}

/// A value in TOML; `None` if it is not set.
fn to_toml(value: &Value) -> Option<String> {
    toml::Value::try_from(value).ok().map(|value| value.to_string())
}

/// An example for a key without a default.
fn sample(section: &str, key: &str) -> &'static str {
    match (section, key) {
        ("node", "name") => "\"node-1\"",
        (ANY_SERVICE, "http" | "mints_tokens" | "erases_users" | "feed") => "true",
        (ANY_WEBHOOK, "url") => "\"https://push.example.org/natter\"",
        (ANY_WEBHOOK, "kinds") => "[\"offline\"]",
        (ANY_WEBHOOK, "secret") => "\"whsec_…\"",
        (ANY_WEBHOOK, "plaintext") => "true",
        (ANY_WEBHOOK, "at_once") => "4",
        (ANY_WEBHOOK, "queue") => "50000",
        (ANY_WEBHOOK, "timeout_ms") => "10000",
        (ANY_WEBHOOK, "retry_ms") => "1000",
        ("hook", "service") => "\"moderation\"",
        (ANY_SERVICE, "requests_per_sec") => "500",
        (ANY_SERVICE, _) => "[\"alice\", \"bob\"]",
        (_, "jwks_url") => "\"https://login.example.org/.well-known/jwks.json\"",
        (_, key) if key.ends_with("_file") => "\"/etc/natter/…\"",
        _ => "\"…\"",
    }
}
