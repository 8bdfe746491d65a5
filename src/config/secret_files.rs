//! Secrets that are kept in files: `nats.password_file` fills `nats.password`, and so on, so that all that use a secret
//! find it in one place. The secrets of `[auth]` are read with its other keys. Called by [`super::load`], and by
//! `natter doctor`, which looks at the files themselves.

use std::path::{Path, PathBuf};

use super::{Config, Origins, Secret, fault::Fault, schema, source::Source};

/// Files with keys, which have no key of the configuration for what is in them.
const KEY_FILES: [&str; 4] = ["nats.nkey_file", "nats.creds_file", "nats.tls_key_file", "store.scylla.tls_key_file"];

impl Config {
    /// Every key that holds a secret itself.
    pub fn secret_keys(&self) -> Vec<String> {
        let of_webhooks = self.webhooks.keys().map(|name| format!("webhooks.{name}.secret"));
        schema::keys().filter(|key| schema::is_secret(key)).chain(of_webhooks).collect()
    }

    /// Every file that is named and holds a secret, by its key.
    pub fn secret_files(&self) -> Vec<(String, PathBuf)> {
        let tree = serde_json::to_value(self).unwrap_or_default();
        let keys = self.secret_keys().into_iter().map(|key| format!("{key}_file"));
        let keys = keys.chain(KEY_FILES.map(str::to_owned));
        let named = |key: String| {
            schema::get(&tree, &key).and_then(|path| path.as_str()).map(PathBuf::from).map(|path| (key, path))
        };
        keys.filter_map(named).collect()
    }
}

/// Reads every file that is named; what comes back is what is wrong with them.
pub(super) fn read(config: &mut Config, origins: &mut Origins) -> Vec<Fault> {
    let (nats, scylla, sealing) = (&mut config.nats, &mut config.store.scylla, &mut config.sealing);
    let mut pairs: Vec<(String, &mut Option<Secret>, &Option<PathBuf>)> = vec![
        ("nats.password".to_owned(), &mut nats.password, &nats.password_file),
        ("nats.token".to_owned(), &mut nats.token, &nats.token_file),
        ("store.scylla.password".to_owned(), &mut scylla.password, &scylla.password_file),
        ("sealing.master_key".to_owned(), &mut sealing.master_key, &sealing.master_key_file),
    ];
    let of_webhooks = config.webhooks.iter_mut();
    pairs.extend(of_webhooks.map(|(name, of)| (format!("webhooks.{name}.secret"), &mut of.secret, &of.secret_file)));
    let mut faults = Vec::new();
    for (key, secret, file) in pairs {
        let Some(file) = file else { continue };
        let file_key = format!("{key}_file");
        let found =
            if secret.is_some() { Err(format!("is a second value besides {key}, keep one")) } else { text(file) };
        match found {
            Ok(text) => {
                *secret = Some(text);
                origins.extend(origins.get(&file_key).cloned().map(|source| (key.clone(), source)));
            }
            Err(problem) => {
                let value = Some(format!("{:?}", file.display().to_string()));
                faults.push(Fault { key: file_key, value, problem, source: Source::Default });
            }
        }
    }
    faults
}

fn text(file: &Path) -> Result<Secret, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot be read: {error}"))?;
    let secret = Secret::of_text(&text);
    if secret.expose().is_empty() { Err("is empty".to_owned()) } else { Ok(secret) }
}
