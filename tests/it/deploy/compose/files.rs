//! The compose file as the engine reads it: merged, and with its variables filled in.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_yaml_ng::Value;

/// Stands for every secret of .env. Starts with a letter, as .env.example demands.
pub const SECRET: &str = "p0123456789abcdef0123456789abcdef";

/// The root of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The variables of .env.example; those without a value are the secrets.
pub fn example() -> BTreeMap<String, String> {
    let text = read(".env.example");
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line.split_once('=').unwrap()).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// The file before its variables are filled in.
pub fn raw() -> Value {
    let mut file: Value = serde_yaml_ng::from_str(&read("docker-compose.yml")).unwrap();
    // One pass for what merges, one for what was merged and itself merges something.
    file.apply_merge().unwrap();
    file.apply_merge().unwrap();
    file
}

/// The file with .env.example, its secrets filled in.
pub fn filled() -> Value {
    let mut file = raw();
    each_text(&mut file, &mut |text| *text = fill(text, &variables()));
    file
}

/// The same with files of deploy/compose/ added. What they demand beyond .env.example is the variable's own name.
pub fn added(names: &[&str]) -> Value {
    let mut variables = variables();
    let mut all = raw();
    for name in names {
        let text = read(&format!("deploy/compose/{name}.yml"));
        for (name, rest) in expressions(&text) {
            if rest.starts_with(":?") {
                variables.insert(name.clone(), format!("/{name}"));
            }
        }
        let mut file: Value = serde_yaml_ng::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        file.apply_merge().unwrap();
        merge(&mut all, file, "");
    }
    each_text(&mut all, &mut |text| *text = fill(text, &variables));
    all
}

/// As the engine merges: mappings by key, lists one behind the other, but a command is replaced.
fn merge(all: &mut Value, more: Value, key: &str) {
    match (all, more) {
        (Value::Mapping(all), Value::Mapping(more)) => {
            for (name, value) in more {
                let key = name.as_str().unwrap_or_default().to_owned();
                match all.get_mut(&name) {
                    Some(there) => merge(there, value, &key),
                    None => drop(all.insert(name, value)),
                }
            }
        }
        (Value::Sequence(all), Value::Sequence(more)) if key != "command" => all.extend(more),
        (all, more) => *all = more,
    }
}

fn variables() -> BTreeMap<String, String> {
    let mut variables = example();
    variables.values_mut().filter(|value| value.is_empty()).for_each(|value| *value = SECRET.to_owned());
    variables
}

/// The services by name.
pub fn services(file: &Value) -> BTreeMap<String, &Value> {
    let all = file["services"].as_mapping().unwrap();
    all.iter().map(|(name, service)| (name.as_str().unwrap().to_owned(), service)).collect()
}

/// The environment of a service.
pub fn environment(service: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => panic!("{other:?}: quote it, so that it stays what it is"),
    };
    let all = service["environment"].as_mapping().into_iter().flatten();
    all.map(|(name, value)| (name.as_str().unwrap().to_owned(), text(value))).collect()
}

/// A list of strings.
pub fn texts(value: &Value) -> Vec<String> {
    value.as_sequence().into_iter().flatten().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// What a variable's expression says: its name, and `:?` or `:-` with what follows.
pub fn expressions(text: &str) -> Vec<(String, String)> {
    let parts = text.split("${").skip(1).map(|part| part.split_once('}').unwrap().0);
    parts
        .map(|inside| match inside.find(':') {
            Some(at) => (inside[..at].to_owned(), inside[at..].to_owned()),
            None => (inside.to_owned(), String::new()),
        })
        .collect()
}

fn fill(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut out = text.to_owned();
    for (name, rest) in expressions(text) {
        let given = variables.get(&name).filter(|value| !value.is_empty()).cloned();
        let value = given.or_else(|| rest.strip_prefix(":-").map(str::to_owned));
        out = out.replace(&format!("${{{name}{rest}}}"), &value.unwrap_or_else(|| panic!("{name} is not set")));
    }
    out
}

/// Calls the function for each string that is not a key.
pub fn each_text(value: &mut Value, call: &mut impl FnMut(&mut String)) {
    match value {
        Value::String(text) => call(text),
        Value::Sequence(items) => items.iter_mut().for_each(|item| each_text(item, call)),
        Value::Mapping(entries) => entries.values_mut().for_each(|item| each_text(item, call)),
        _ => {}
    }
}

/// Every file below a folder of the repository.
pub fn files_below(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files_below(path.to_str().unwrap()) } else { vec![path] };
    entries.flat_map(below).collect()
}
