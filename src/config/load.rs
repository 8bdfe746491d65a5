//! Reads the sources, each overriding the one before. Every value is first tried alone: that is how all faults are
//! found, not just the first. Called through [`Config::load`].

use std::{collections::BTreeMap, path::Path};

use serde_json::{Value, json};
use toml::de::{DeTable, DeValue};

use super::{
    Config,
    fault::{ConfigErrors, Fault},
    schema, secret_files,
    source::{PREFIX, Source, Sources},
};

/// What set each key that is not at its default.
pub type Origins = BTreeMap<String, Source>;

/// A configuration and where its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The values in force.
    pub config: Config,
    /// What set them.
    pub origins: Origins,
}

impl Config {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// All faults at once.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        Self::load_with_origins(sources).map(|loaded| loaded.config)
    }

    /// Reads and checks a configuration, and keeps what set each value.
    ///
    /// # Errors
    /// All faults at once.
    pub fn load_with_origins(sources: &Sources) -> Result<Loaded, ConfigErrors> {
        let mut reading = Reading::default();
        if let Some(path) = &sources.file {
            reading.file(path);
        }
        for (name, value) in &sources.variables {
            reading.variable(name, value);
        }
        for flag in &sources.flags {
            reading.text(flag.key, &flag.value, Source::Flag(flag.name));
        }
        reading.finish()
    }
}

#[derive(Default)]
struct Reading {
    tree: Value,
    origins: Origins,
    faults: Vec<Fault>,
}

impl Reading {
    fn fault(&mut self, key: &str, value: Option<String>, problem: impl Into<String>, source: Source) {
        self.faults.push(Fault { key: key.to_owned(), value, problem: problem.into(), source });
    }

    fn file(&mut self, path: &Path) {
        let at = |line| Source::File(path.to_owned(), line);
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) => return self.fault("", None, format!("cannot be read: {e}"), at(0)),
        };
        let line_of = |offset: usize| text.bytes().take(offset).filter(|b| *b == b'\n').count() + 1;
        // Only the message and the line number: the parser's own output quotes the line, which may hold a secret.
        let refused = |e: toml::de::Error| (e.message().to_owned(), at(e.span().map_or(1, |span| line_of(span.start))));
        let read = || Ok((DeTable::parse(&text)?, toml::from_str::<toml::Table>(&text)?));
        match read().map_err(refused) {
            Ok((places, values)) => {
                let tree = json!(values);
                self.table(&tree, "", places.get_ref(), &|offset| at(line_of(offset)));
            }
            Err((message, source)) => self.fault("", None, format!("is not valid TOML: {message}"), source),
        }
    }

    /// Walks a table of the file: `values` holds its values, `places` where they are in the file.
    fn table(&mut self, values: &Value, path: &str, places: &DeTable<'_>, at: &dyn Fn(usize) -> Source) {
        for (key, place) in places {
            let name: &str = key.get_ref();
            let Some(value) = values.get(name) else { continue };
            if name.contains('.') {
                self.fault(name, None, "contains a dot, put the key into a [section] of its own", at(key.span().start));
                continue;
            }
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            match place.get_ref() {
                DeValue::Table(inner) if !inner.is_empty() => self.table(value, &path, inner, at),
                _ => self.value(&path, value.clone(), at(key.span().start)),
            }
        }
    }

    /// `NATTER_A__B`. Variables with another purpose are ignored, but not one that looks like a misspelt key.
    fn variable(&mut self, name: &str, text: &str) {
        let Some(tail) = name.strip_prefix(PREFIX) else { return };
        let source = Source::Variable(name.to_owned());
        if tail.contains("__") {
            return self.text(&tail.to_lowercase().replace("__", "."), text, source);
        }
        let meant = schema::keys().find(|key| key.replace(['.', '_'], "").eq_ignore_ascii_case(&tail.replace('_', "")));
        if let Some(key) = meant {
            self.fault(name, None, format!("sets nothing, did you mean {}?", schema::variable(&key)), source);
        }
    }

    /// A variable or flag has no type: of its possible readings, the first that the key accepts is used.
    fn text(&mut self, path: &str, text: &str, source: Source) {
        if !schema::is_key(path) {
            return self.value(path, text.into(), source);
        }
        let secret = schema::is_secret(path) && !text.is_empty();
        if secret && text.contains(char::REPLACEMENT_CHARACTER) {
            return self.fault(path, None, "is not UTF-8 text", source);
        }
        // A password may look like a TOML string, and its quotes are part of it.
        let readings = if secret { vec![json!(text)] } else { readings(text) };
        if let Some(value) = readings.iter().find(|value| schema::accepts(path, value).is_ok()) {
            return self.value(path, value.clone(), source);
        }
        // The most useful message is that of the reading that came closest: one of the right type.
        let mismatches = readings.iter().filter_map(|value| schema::accepts(path, value).err());
        let problem = mismatches.min_by_key(|mismatch| mismatch.wrong_type).map(|mismatch| mismatch.problem);
        let problem = problem.unwrap_or_default();
        self.fault(path, Some(schema::shown(path, &text.into())), problem, source);
    }

    fn value(&mut self, path: &str, value: Value, source: Source) {
        let empty_service = value == json!({}) && schema::is_section(path);
        if schema::is_section(path) && !empty_service {
            return self.fault(path, None, "is a section and takes no value", source);
        }
        if !schema::is_key(path) && !empty_service {
            let hint = schema::nearest(path).map_or_else(String::new, |key| format!(", did you mean {key}?"));
            return self.fault(path, None, format!("is not a key{hint}"), source);
        }
        if let Err(mismatch) = schema::accepts(path, &value) {
            return self.fault(path, Some(schema::shown(path, &value)), mismatch.problem, source);
        }
        let keys: Vec<&str> = path.split('.').collect();
        schema::insert(&mut self.tree, &keys, value);
        self.origins.insert(path.to_owned(), source);
    }

    fn finish(mut self) -> Result<Loaded, ConfigErrors> {
        let tree = if self.tree.is_null() { json!({}) } else { self.tree };
        // What could be read is checked even when other keys have faults, so that all are reported at once.
        match serde_json::from_value::<Config>(tree) {
            Ok(mut config) => {
                let unread = secret_files::read(&mut config, &mut self.origins);
                for mut fault in config.faults().into_iter().chain(unread) {
                    fault.source = self.origins.get(&fault.key).cloned().unwrap_or(Source::Default);
                    self.faults.push(fault);
                }
                if self.faults.is_empty() {
                    return Ok(Loaded { config, origins: self.origins });
                }
            }
            Err(e) => self.faults.push(Fault {
                key: String::new(),
                value: None,
                problem: format!("the values do not fit together: {e}"),
                source: Source::Default,
            }),
        }
        Err(ConfigErrors(self.faults))
    }
}

/// As a TOML value, as the text itself, and as a comma-separated list; an empty text may also mean an empty list or
/// "not set".
fn readings(text: &str) -> Vec<Value> {
    if text.trim().is_empty() {
        return vec![json!([]), Value::Null, json!(text)];
    }
    let items: Vec<&str> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
    let typed = text.trim().parse::<toml::Value>().ok().map(|value| json!(value));
    typed.into_iter().chain([json!(text), json!(items)]).collect()
}
