//! Where a value came from, and where to look for values. Filled by the commands, read by [`super::load`].

use std::{fmt, path::PathBuf};

use serde::{Serialize, Serializer};

/// What every variable that sets a key starts with.
pub const PREFIX: &str = "NATTER_";

/// What set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nothing: the key has its default.
    Default,
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// An environment variable, by its name.
    Variable(String),
    /// A flag, as it is typed.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A flag that sets a key.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As it is typed: `--listen`.
    pub name: &'static str,
    /// The key it sets: `http.listen`.
    pub key: &'static str,
    /// What was given; read like a variable.
    pub value: String,
}

/// Everything that a configuration is made of, except the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The one file.
    pub file: Option<PathBuf>,
    /// Environment variables; those that do not start with `NATTER_` are ignored.
    pub variables: Vec<(String, String)>,
    /// Flags, the strongest.
    pub flags: Vec<Flag>,
}

impl Sources {
    /// The file, this process's variables, and no flags yet. What is not UTF-8 in a variable is replaced, and is then
    /// reported as a fault of the key.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let text = |os: std::ffi::OsString| os.to_string_lossy().into_owned();
        let variables = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
        Self { file, variables: variables.filter(|(name, _)| name.starts_with(PREFIX)).collect(), flags: Vec::new() }
    }

    /// Adds a flag if it was given.
    #[must_use]
    pub fn flag(mut self, name: &'static str, key: &'static str, value: Option<impl fmt::Display>) -> Self {
        self.flags.extend(value.map(|value| Flag { name, key, value: value.to_string() }));
        self
    }
}
