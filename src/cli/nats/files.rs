//! The files that give a service its place in the folder `nats/`, as text: what its own file says, and what `accounts.conf` says
//! with it and without it. Used by `natter nats service`; nothing here touches the disk.

use crate::model::UserId;

/// The example is the template: what is right for it is right for all.
const TEMPLATE: &str = include_str!("../../../nats/services/billing.conf");
/// Names of `accounts.conf` that are no services.
const TAKEN: [&str; 3] = ["node", "operator", "route"];
const INCLUDE: &str = "include ./services/";

/// Why a service cannot be added or removed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EditError {
    /// A user that is no service has the name.
    #[error("{0} is not a name for a service: nodes, operators and routes are called that")]
    Taken(String),
    /// The permissions of two services would have one name.
    #[error(
        "{0} has the permissions ${1} already, and so would this one: names that differ in - and _ or in capitals only do not go together"
    )]
    SamePermissions(String, String),
    /// It is in the file.
    #[error("accounts.conf has a service {0} already")]
    There(String),
    /// It is not in the file.
    #[error("accounts.conf has no service {0}")]
    NotThere(String),
    /// The file does not look like the one that natter brings.
    #[error("accounts.conf has no line `{0}`: add the service by hand, as nats/README.md says")]
    Unknown(&'static str),
}

/// How a service shows who it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof<'a> {
    /// With the key whose public half this is.
    Key(&'a str),
    /// With a password, which the servers take from their environment.
    Password,
}

/// A service as the files name it.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    name: &'a str,
    permissions: String,
}

impl<'a> Entry<'a> {
    /// # Errors
    /// [`EditError::Taken`].
    pub(super) fn new(service: &'a UserId) -> Result<Self, EditError> {
        let name = service.as_str();
        if TAKEN.contains(&name.to_ascii_lowercase().as_str()) {
            return Err(EditError::Taken(name.to_owned()));
        }
        Ok(Self { name, permissions: permissions_of(name) })
    }

    /// The name of its file in `services/`.
    pub(super) fn file(&self) -> String {
        format!("{}.conf", self.name)
    }

    /// The variable with its password.
    pub(super) fn variable(&self) -> String {
        format!("NATTER_{}_PASSWORD", self.permissions)
    }

    /// What its file says.
    pub(super) fn text(&self) -> String {
        let Self { name, permissions } = self;
        let rules = TEMPLATE.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let rules = rules.replace("BILLING", permissions).replace("billing", name);
        format!("# What the service {name} may publish and hear.\n{rules}\n")
    }

    /// `accounts.conf` with the service.
    ///
    /// # Errors
    /// When it is there, or collides with another, or the file is not like ours.
    pub(super) fn added_to(&self, accounts: &str, proof: Proof) -> Result<String, EditError> {
        let services = services(accounts);
        if services.contains(&self.name) {
            return Err(EditError::There(self.name.to_owned()));
        }
        if let Some(other) = services.iter().find(|other| permissions_of(other) == self.permissions) {
            return Err(EditError::SamePermissions((*other).to_owned(), self.permissions.clone()));
        }
        let mut lines: Vec<String> = accounts.lines().map(str::to_owned).collect();
        let users = lines.iter().position(|line| line.trim() == "users = [").ok_or(EditError::Unknown("users = ["))?;
        let end = lines.iter().skip(users).position(|line| line.trim() == "]").ok_or(EditError::Unknown("]"))?;
        let user = match proof {
            Proof::Key(public) => format!("nkey: {public}"),
            Proof::Password => format!("user: {}, password: ${}", self.name, self.variable()),
        };
        lines.insert(users + end, format!("    {{ {user}, permissions: ${} }}", self.permissions));
        let include = lines.iter().rposition(|line| line.trim().starts_with(INCLUDE)).map_or(users, |last| last + 1);
        lines.insert(include, format!("  {INCLUDE}{}", self.file()));
        Ok(lines.join("\n") + "\n")
    }

    /// `accounts.conf` without the service.
    ///
    /// # Errors
    /// When it is not there.
    pub(super) fn removed_from(&self, accounts: &str) -> Result<String, EditError> {
        if !services(accounts).contains(&self.name) {
            return Err(EditError::NotThere(self.name.to_owned()));
        }
        let (include, permissions) =
            (format!("{INCLUDE}{}", self.file()), format!("permissions: ${}", self.permissions));
        let is_ours = |line: &str| {
            let user =
                line.trim_end_matches(['}', ',', ' ']).ends_with(&permissions) && line.trim_start().starts_with('{');
            line.trim() == include || user
        };
        Ok(accounts.lines().filter(|line| !is_ours(line)).fold(String::new(), |all, line| all + line + "\n"))
    }
}

/// The services that `accounts.conf` includes.
pub(super) fn services(accounts: &str) -> Vec<&str> {
    let includes = accounts.lines().filter_map(|line| line.trim().strip_prefix(INCLUDE));
    includes.filter_map(|file| file.trim_matches('"').strip_suffix(".conf")).collect()
}

/// Names in a configuration of NATS hold letters, digits and `_`.
fn permissions_of(name: &str) -> String {
    name.to_ascii_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCOUNTS: &str = include_str!("../../../nats/accounts.conf");

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn what_was_added_and_removed_again_leaves_no_trace() {
        let shop = user("web-shop");
        let entry = Entry::new(&shop).unwrap();
        for (proof, line) in [
            (Proof::Key("UABC"), "    { nkey: UABC, permissions: $WEB_SHOP }\n"),
            (Proof::Password, "    { user: web-shop, password: $NATTER_WEB_SHOP_PASSWORD, permissions: $WEB_SHOP }\n"),
        ] {
            let with = entry.added_to(ACCOUNTS, proof).unwrap();
            assert!(with.contains(line) && with.contains("  include ./services/web-shop.conf\n"), "{with}");
            assert_eq!(services(&with), ["billing", "web-shop"]);
            assert_eq!(entry.added_to(&with, proof), Err(EditError::There("web-shop".to_owned())));
            assert_eq!(entry.removed_from(&with).unwrap(), ACCOUNTS);
        }
        assert_eq!(entry.removed_from(ACCOUNTS), Err(EditError::NotThere("web-shop".to_owned())));
        let without = Entry::new(&user("billing")).unwrap().removed_from(ACCOUNTS).unwrap();
        assert!(services(&without).is_empty());
        assert_eq!(services(&entry.added_to(&without, Proof::Password).unwrap()), ["web-shop"]);
    }

    #[test]
    fn a_service_s_file_is_the_example_under_its_name() {
        let text = Entry::new(&user("Shop")).unwrap().text();
        assert!(text.contains("SHOP = {") && text.contains("\"natter.queue.Shop.>\""), "{text}");
        assert!(text.contains("\"natter.feed.Shop\"") && text.contains("\"natter.hook.Shop.>\""), "{text}");
        assert!(text.contains("\"_INBOX_Shop.>\"") && !text.to_lowercase().contains("billing"), "{text}");
        let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines(&text), lines(TEMPLATE));
    }

    #[test]
    fn names_that_cannot_be_kept_apart_are_refused() {
        for name in ["node", "Operator", "route"] {
            assert_eq!(Entry::new(&user(name)).unwrap_err(), EditError::Taken(name.to_owned()));
        }
        let (one, other) = (user("a-b"), user("A_b"));
        let with = Entry::new(&one).unwrap().added_to(ACCOUNTS, Proof::Password).unwrap();
        let refused = Entry::new(&other).unwrap().added_to(&with, Proof::Password);
        assert_eq!(refused, Err(EditError::SamePermissions("a-b".to_owned(), "A_B".to_owned())));
    }

    #[test]
    fn a_file_that_is_not_like_ours_is_left_alone() {
        let shop = user("shop");
        let refused = Entry::new(&shop).unwrap().added_to("accounts { A { users: [] } }", Proof::Password);
        assert_eq!(refused, Err(EditError::Unknown("users = [")));
    }
}
