//! Strings that must never be printed. Used by the configuration's sections and by `auth`.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What is printed instead of a secret.
pub const MASK: &str = "********";

/// A string that `Debug`, `Display` and `Serialize` mask: it can reach a log, an error or the output of `natter config`
/// only through [`Secret::expose`].
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a string.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret in a file's text, which is all of it but the line end that editors add.
    pub fn of_text(text: &str) -> Self {
        Self::new(text.trim_end_matches(['\r', '\n']))
    }

    /// The string itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// A server's URL, which may contain a user and a password or a token; printed without them.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct ServerUrl(String);

impl ServerUrl {
    /// Wraps a URL unchecked; `Config::validate` checks it.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The URL with any credentials in it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The same server for another account: without the credentials that are in the URL.
    #[must_use]
    pub fn anonymous(&self) -> Self {
        let Some((before, host)) = self.0.rsplit_once('@') else { return self.clone() };
        let scheme = before.find("://").map_or("", |at| &before[..at + 3]);
        Self(format!("{scheme}{host}"))
    }

    /// The URL without its credentials.
    pub fn masked(&self) -> String {
        mask_url(&self.0)
    }
}

/// Masks everything between `://` and `@`; without a scheme, everything before the `@`.
pub fn mask_url(url: &str) -> String {
    let Some((before, host)) = url.rsplit_once('@') else { return url.to_owned() };
    let scheme = before.find("://").map_or("", |at| &before[..at + 3]);
    format!("{scheme}{MASK}@{host}")
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for ServerUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.masked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_whichever_way_it_is_printed() {
        let secret = Secret::new("hunter2");
        let json = serde_json::to_string(&secret).unwrap();
        for shown in [format!("{secret}"), format!("{secret:?}"), format!("{secret:#?}"), json] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(serde_json::from_str::<Secret>("\"hunter2\"").unwrap().expose(), "hunter2");
    }

    #[test]
    fn a_url_loses_its_credentials_and_nothing_else() {
        for (url, shown) in [
            ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
            ("nats://u:p@host:4222", "nats://********@host:4222"),
            ("tls://token@host", "tls://********@host"),
            ("nats://u:p@ss@host", "nats://********@host"),
            ("u:p@host", "********@host"),
        ] {
            assert_eq!(ServerUrl::new(url).to_string(), shown);
            assert_eq!(format!("{:?}", ServerUrl::new(url)), shown);
        }
    }
}
