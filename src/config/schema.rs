//! Which keys exist, and which values each accepts. Everything is derived from the sections themselves, so that a key
//! is written only once. Called by [`super::load`], [`super::validate`] and [`super::show`].

use serde_json::{Value, json};

use super::{
    Auth, Config, Embedded, Events, Hook, Http, Limits, Log, Nats, Node, Presence, Queue, Scylla, Sealing, Service,
    Store, Timing, Webhook,
    secret::{MASK, mask_url},
    section::Doc,
    source::PREFIX,
};

/// A section as an operator sees it.
pub(super) struct Section {
    pub path: &'static str,
    pub about: &'static [&'static str],
    pub keys: &'static [Doc],
}

/// The path in [`SECTIONS`] that stands for every service.
pub(super) const ANY_SERVICE: &str = "services.<name>";

/// The path in [`SECTIONS`] that stands for every webhook.
pub(super) const ANY_WEBHOOK: &str = "webhooks.<name>";

/// The sections that there are several of, each by a name of its own.
pub(super) const NAMED: [&str; 2] = [ANY_SERVICE, ANY_WEBHOOK];

macro_rules! sections {
    ($($path:expr => $ty:ty),* $(,)?) => {
        &[$(Section { path: $path, about: <$ty>::ABOUT, keys: <$ty>::KEYS }),*]
    };
}

/// Every section, in the order in which they are printed.
pub(super) const SECTIONS: &[Section] = sections! {
    "node" => Node,
    "http" => Http,
    "nats" => Nats,
    "store" => Store,
    "store.embedded" => Embedded,
    "store.scylla" => Scylla,
    "sealing" => Sealing,
    "auth" => Auth,
    "limits" => Limits,
    "timing" => Timing,
    "presence" => Presence,
    "queue" => Queue,
    ANY_SERVICE => Service,
    "events" => Events,
    ANY_WEBHOOK => Webhook,
    "hook" => Hook,
    "log" => Log,
};

/// Whether `path` is a section, not a key.
pub(super) fn is_section(path: &str) -> bool {
    SECTIONS.iter().any(|section| section.path == path)
        || NAMED.iter().any(|any| any.split('.').next() == Some(path))
        || named_of(path).is_some_and(|(_, key)| key.is_empty())
}

/// Every key by its full path, services and webhooks as in [`NAMED`].
pub(super) fn keys() -> impl Iterator<Item = String> {
    let of = |section: &'static Section| section.keys.iter().map(|(key, _)| format!("{}.{key}", section.path));
    SECTIONS.iter().flat_map(of).filter(|path| !is_section(path))
}

/// Whether there is such a key.
pub(super) fn is_key(path: &str) -> bool {
    match named_of(path) {
        Some((any, key)) => {
            let section = SECTIONS.iter().find(|section| section.path == any);
            section.is_some_and(|section| section.keys.iter().any(|(name, _)| *name == key))
        }
        None => keys().any(|known| known == path),
    }
}

/// Which of [`NAMED`] a path is in, and the part behind the name; empty for the section itself.
fn named_of(path: &str) -> Option<(&'static str, &str)> {
    NAMED.into_iter().find_map(|any| {
        let rest = path.strip_prefix(any.strip_suffix("<name>")?)?;
        let (name, key) = rest.split_once('.').unwrap_or((rest, ""));
        (!name.is_empty()).then_some((any, key))
    })
}

/// The variable that sets a key.
pub(super) fn variable(path: &str) -> String {
    format!("{PREFIX}{}", path.replace('.', "__").to_uppercase())
}

/// Sets one value in a tree of objects.
pub(super) fn insert(tree: &mut Value, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        *tree = value;
        return;
    };
    if !tree.is_object() {
        *tree = json!({});
    }
    insert(&mut tree[*first], rest, value);
}

/// Reads the value of a key from a tree.
pub(super) fn get<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(tree, |tree, key| tree.get(key))
}

/// Why a key does not accept a value.
pub(super) struct Mismatch {
    /// The value is not even of the key's type.
    pub wrong_type: bool,
    /// What the value must be.
    pub problem: String,
}

/// Whether the key accepts the value, without regard to other keys.
pub(super) fn accepts(path: &str, value: &Value) -> Result<(), Mismatch> {
    let mut tree = json!({});
    let path: Vec<&str> = path.split('.').collect();
    insert(&mut tree, &path, value.clone());
    serde_json::from_value::<Config>(tree).map(drop).map_err(|e| {
        let message = e.to_string();
        Mismatch { wrong_type: message.starts_with("invalid type"), problem: asked_for(&message) }
    })
}

/// The deserializer's message in plain words, without the value it quotes, which may be a secret.
fn asked_for(message: &str) -> String {
    if let Some((_, kinds)) = message.split_once("unknown variant ").and_then(|(_, rest)| rest.split_once("expected "))
    {
        return format!("must be {}", kinds.replace('`', "\""));
    }
    if message.contains("untagged enum SendAs") {
        return "must be a list of users, or \"*\"".to_owned();
    }
    if message.contains("socket address") {
        return "must be an address and a port, such as 127.0.0.1:8080".to_owned();
    }
    let Some((_, expected)) = message.rsplit_once(", expected ") else {
        return if message.contains("invalid type") { "has the wrong type".to_owned() } else { message.to_owned() };
    };
    let expected = match expected {
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "a string" | "string" | "path string" | "a path string" => "a string",
        "a sequence" => "a list",
        other => other,
    };
    format!("must be {}", expected.replace('`', "\""))
}

/// A value as it may be printed.
pub(super) fn shown(path: &str, value: &Value) -> String {
    if is_secret(path) { format!("\"{MASK}\"") } else { masked(value).to_string() }
}

/// Found out from the key's type: a secret is serialized as the mask.
pub(super) fn is_secret(path: &str) -> bool {
    let mut tree = json!({});
    let keys: Vec<&str> = path.split('.').collect();
    insert(&mut tree, &keys, json!("probe"));
    let read = serde_json::from_value::<Config>(tree).ok().and_then(|config| serde_json::to_value(config).ok());
    read.is_some_and(|tree| get(&tree, path) == Some(&json!(MASK)))
}

fn masked(value: &Value) -> Value {
    match value {
        Value::String(text) if text.contains("://") => mask_url(text).into(),
        Value::Array(items) => items.iter().map(masked).collect(),
        other => other.clone(),
    }
}

/// The key that was most likely meant.
pub(super) fn nearest(path: &str) -> Option<String> {
    let wanted = named_of(path).map_or_else(|| path.to_owned(), |(any, key)| format!("{any}.{key}"));
    let near = |known: String| {
        let same_key = known.rsplit('.').next() == wanted.rsplit('.').next();
        // A key in the wrong section is as near as one wrong letter.
        let steps = if same_key { 1 } else { distance(&known, &wanted) };
        (steps, known)
    };
    let (steps, known) = keys().map(near).min()?;
    (steps <= 2 || steps * 4 <= wanted.len()).then_some(known)
}

/// How many letters must be added, dropped or changed to turn one text into the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let changed = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sections_list_every_key_there_is() {
        let defaults = serde_json::to_value(Config::default()).unwrap();
        let mut found = Vec::new();
        for section in SECTIONS.iter().filter(|s| !NAMED.contains(&s.path)) {
            for key in get(&defaults, section.path).unwrap().as_object().unwrap().keys() {
                let path = format!("{}.{key}", section.path);
                if !is_section(&path) {
                    found.push(path);
                }
            }
        }
        let mut listed: Vec<String> = keys().filter(|key| !NAMED.iter().any(|any| key.starts_with(any))).collect();
        listed.sort();
        found.sort();
        assert_eq!(listed, found);
        assert!(is_key("services.billing.may_send_as") && !is_key("services.billing.x") && !is_key("limits"));
        assert!(keys().all(|key| is_key(&key)));
    }

    #[test]
    fn secrets_are_known_by_their_type() {
        for key in ["nats.password", "nats.token", "store.scylla.password", "auth.hs256_secret", "webhooks.push.secret"]
        {
            assert_eq!(shown(key, &json!("hunter2")), "\"********\"");
            assert_eq!(shown(key, &json!(12345)), "\"********\"");
        }
        assert_eq!(shown("nats.urls", &json!(["nats://u:p@h"])), "[\"nats://********@h\"]");
        assert_eq!(shown("nats.user", &json!("u")), "\"u\"");
    }

    #[test]
    fn slips_are_understood() {
        for (typed, meant) in [
            ("limits.windw", "limits.window"),
            ("limit.window", "limits.window"),
            ("nats.keyspace", "store.scylla.keyspace"),
            ("timing.ping_ms", "timing.ping_secs"),
            ("services.billing.may_send", "services.<name>.may_send_as"),
            ("webhooks.push.ur", "webhooks.<name>.url"),
        ] {
            assert_eq!(nearest(typed).as_deref(), Some(meant), "{typed}");
        }
        assert_eq!(nearest("colour"), None);
    }

    #[test]
    fn a_distance_counts_letters() {
        for (one, other, steps) in [("", "abc", 3), ("abc", "abc", 0), ("abc", "abd", 1), ("kitten", "sitting", 3)] {
            assert_eq!(distance(one, other), steps);
            assert_eq!(distance(other, one), steps);
        }
    }
}
