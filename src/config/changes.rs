//! Which keys differ between two configurations: when it is read again, an operator wants to know what was taken and
//! what needs a restart. Called by `natter serve`.

use super::{Config, schema};

impl Config {
    /// The keys that differ and that only a restart takes: all but `[auth]`, `[services]` and `log.filter`. Secrets are
    /// compared, and named only by their section.
    pub fn changed_for_restart(&self, other: &Self) -> Vec<String> {
        let tree = |config: &Self| serde_json::to_value(config).unwrap_or_default();
        let (mine, others) = (tree(self), tree(other));
        let live = |key: &str| key.starts_with("auth.") || key.starts_with("services.") || key == "log.filter";
        let differs = |key: &String| schema::get(&mine, key) != schema::get(&others, key);
        let mut changed: Vec<String> = schema::keys().filter(|key| !live(key)).filter(differs).collect();
        if self.webhooks != other.webhooks {
            changed.push("webhooks".to_owned());
        }
        for (section, differs) in [("nats", self.nats != other.nats), ("store", self.store != other.store)] {
            if differs && !changed.iter().any(|key| key.split('.').next() == Some(section)) {
                changed.push(format!("{section} (a secret)"));
            }
        }
        changed
    }
}
