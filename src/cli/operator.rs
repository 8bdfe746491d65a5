//! How a command of an operator reaches the nodes: over NATS, with the account of operators. Part of `nodes`, `why`, `trace`,
//! `disconnect` and `drain`.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    Global,
    report::Hint,
    running::{self, RunningDev},
};
use crate::{
    bus::{
        NatsAuth, NatsOptions,
        nats::operator::{Operator, OperatorError},
    },
    config::{Loaded, Secret, ServerUrl},
    operators::wire::{Answered, Said},
    subject::{OPERATOR, OPERATOR_INBOX, Subject},
};

/// The variable with the password of operators, the same as in `.env` of docker compose.
const PASSWORD: &str = "NATTER_OPERATOR_PASSWORD";

/// Arguments of every command of an operator.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "How to reach the nodes")]
pub(super) struct Account {
    /// NATS servers, comma-separated [default: nats.urls of the configuration, else the running natter dev]
    #[arg(long, value_name = "URL,…", value_delimiter = ',')]
    nats: Vec<String>,
    /// The account of operators at NATS
    #[arg(long, value_name = "NAME", default_value = OPERATOR)]
    nats_user: String,
    /// A file with its password [default: $NATTER_OPERATOR_PASSWORD, else that of the running natter dev]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["nkey_file", "creds_file"])]
    password_file: Option<PathBuf>,
    /// Sign in with the NKey seed in this file instead
    #[arg(long, value_name = "FILE", conflicts_with = "creds_file")]
    nkey_file: Option<PathBuf>,
    /// Sign in with this credentials file instead
    #[arg(long, value_name = "FILE")]
    creds_file: Option<PathBuf>,
    /// How long nodes have to answer, in milliseconds; less where all that are known have, and no more come for a fifth of it
    #[arg(long, value_name = "MS", default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    wait: u64,
}

/// A connection to the nodes.
pub(super) struct Nodes {
    operator: Operator,
    wait: Duration,
}

/// What several nodes said, in the order of their names.
#[derive(Debug)]
pub(super) struct Gathered<T> {
    /// Those that answered.
    pub answers: Vec<(String, T)>,
    /// Those that could not, and why.
    pub refusals: Vec<(String, String)>,
}

impl<T> Gathered<T> {
    /// Which of the nodes that others know said nothing.
    pub(super) fn silent(&self, peers: impl Fn(&T) -> &[String]) -> Vec<String> {
        let answered: BTreeSet<&str> = self
            .answers
            .iter()
            .map(|(node, _)| node)
            .chain(self.refusals.iter().map(|(node, _)| node))
            .map(String::as_str)
            .collect();
        let known: BTreeSet<&String> = self.answers.iter().flat_map(|(_, answer)| peers(answer)).collect();
        known.into_iter().filter(|node| !answered.contains(node.as_str())).cloned().collect()
    }

    /// Says on standard error what nodes refused.
    pub(super) fn show_refusals(&self) {
        for (node, words) in &self.refusals {
            eprintln!("natter: {node}: {words}");
        }
    }
}

impl Account {
    /// Connects.
    ///
    /// # Errors
    /// When there is no password, no server, or the account is refused: with what to do.
    pub(super) async fn connect(&self, global: &Global) -> anyhow::Result<Nodes> {
        let loaded = global.load()?;
        let dev = self.running(&loaded)?;
        let mut options = NatsOptions::from_config(OPERATOR, &loaded.config.nats);
        if !self.nats.is_empty() {
            options.urls = self.nats.iter().map(ServerUrl::new).collect();
        } else if let Some(url) = dev.as_ref().and_then(|dev| dev.nats.as_ref()) {
            options.urls = vec![ServerUrl::new(url)];
        }
        options.urls = options.urls.iter().map(ServerUrl::anonymous).collect();
        options.auth = self.auth(dev.as_ref())?;
        options.inbox_prefix = OPERATOR_INBOX.to_owned();
        let shown = options.urls.iter().map(ServerUrl::masked).collect::<Vec<_>>().join(", ");
        let operator = Operator::connect(&options).await.map_err(|error| hinted(error, &shown))?;
        Ok(Nodes { operator, wait: Duration::from_millis(self.wait) })
    }

    /// The running dev, where neither a flag nor the configuration says where NATS is.
    fn running(&self, loaded: &Loaded) -> anyhow::Result<Option<RunningDev>> {
        let is_said = ["nats.urls", "nats.cells"].iter().any(|key| loaded.origins.contains_key(*key));
        if !self.nats.is_empty() || is_said {
            return Ok(None);
        }
        running::find(&[], &loaded.config.store.embedded.data_dir)
    }

    fn auth(&self, dev: Option<&RunningDev>) -> anyhow::Result<NatsAuth> {
        if let Some(file) = &self.nkey_file {
            return Ok(NatsAuth::NKey(file.clone()));
        }
        if let Some(file) = &self.creds_file {
            return Ok(NatsAuth::Creds(file.clone()));
        }
        let variable = std::env::var(PASSWORD).ok().filter(|password| !password.is_empty());
        let file = self.password_file.as_ref().or(match &variable {
            Some(_) => None,
            None => dev.and_then(|dev| dev.operator.as_ref()),
        });
        let password = match (file, variable) {
            (Some(file), _) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                Secret::of_text(&text).expose().to_owned()
            }
            (None, Some(password)) => password,
            (None, None) => {
                let what = anyhow!("no password for the account {} at NATS", self.nats_user);
                return Err(Hint::on(
                    what,
                    format!("set {PASSWORD}, or give --password-file, --nkey-file or --creds-file"),
                ));
            }
        };
        Ok(NatsAuth::Password { user: self.nats_user.clone(), password })
    }
}

fn hinted(error: OperatorError, servers: &str) -> anyhow::Error {
    let what = anyhow::Error::new(error.clone()).context(format!("cannot ask the nodes over {servers}"));
    match error {
        OperatorError::Account(_) => Hint::on(
            what,
            format!("check --nats-user and {PASSWORD} against accounts.conf of the servers (nats/README.md)"),
        ),
        OperatorError::Away(_) => Hint::on(what, "start NATS, or say where it is: --nats"),
        OperatorError::Forbidden(_) => {
            Hint::on(what, "connect as the user operator of nats/accounts.conf, or give this one its permissions")
        }
        OperatorError::Options(_) => what,
    }
}

impl Nodes {
    /// Asks all nodes.
    ///
    /// # Errors
    /// When the account may not, no node answers, or one says what cannot be read.
    pub(super) async fn ask_all<T: DeserializeOwned>(
        &self,
        what: &str,
        asked: &impl Serialize,
    ) -> anyhow::Result<Gathered<T>> {
        let gathered = self.gather(&Subject::nodes(what), asked, usize::MAX).await?;
        if gathered.answers.is_empty() && gathered.refusals.is_empty() {
            let what = anyhow!("no node answered within {:?}", self.wait);
            return Err(Hint::on(what, "is one running, on this NATS? natter doctor looks; --wait gives them longer"));
        }
        Ok(gathered)
    }

    /// Asks one node; `None` where it does not answer.
    ///
    /// # Errors
    /// When the account may not, or the node refuses, in its words.
    pub(super) async fn ask_one<T: DeserializeOwned>(
        &self,
        node: &str,
        what: &str,
        asked: &impl Serialize,
    ) -> anyhow::Result<Option<T>> {
        let gathered: Gathered<T> = self.gather(&Subject::command(node, what), asked, 1).await?;
        if let Some((node, words)) = gathered.refusals.into_iter().next() {
            return Err(anyhow!("{node}: {words}"));
        }
        Ok(gathered.answers.into_iter().next().map(|(_, answer)| answer))
    }

    async fn gather<T: DeserializeOwned>(
        &self,
        subject: &Subject,
        asked: &impl Serialize,
        most: usize,
    ) -> anyhow::Result<Gathered<T>> {
        let payload = Bytes::from(serde_json::to_vec(asked)?);
        let heard = self.operator.ask(subject, payload, self.wait, most, are_all).await;
        let heard = heard.map_err(|error| hinted(error, "NATS"))?;
        let mut gathered = Gathered { answers: Vec::new(), refusals: Vec::new() };
        for payload in heard {
            let answered = serde_json::from_slice::<Answered<T>>(&payload).with_context(|| {
                format!("a node of another version answered: {}", String::from_utf8_lossy(&payload))
            })?;
            match answered.said {
                Said::Ok(answer) => gathered.answers.push((answered.node, answer)),
                Said::Error(words) => gathered.refusals.push((answered.node, words)),
            }
        }
        gathered.answers.sort_by(|(one, _), (other, _)| one.cmp(other));
        gathered.refusals.sort();
        Ok(gathered)
    }

    /// The connection itself.
    pub(super) fn operator(&self) -> &Operator {
        &self.operator
    }
}

/// Whether all nodes answered that those who did know of.
fn are_all(payloads: &[Bytes]) -> bool {
    let answers: Vec<Value> = payloads.iter().filter_map(|payload| serde_json::from_slice(payload).ok()).collect();
    let names: BTreeSet<&str> = answers.iter().filter_map(|answer| answer["node"].as_str()).collect();
    let mut peers = answers.iter().filter_map(|answer| answer["ok"]["peers"].as_array()).flatten();
    peers.all(|peer| peer.as_str().is_none_or(|name| names.contains(name)))
}

/// A name that nobody else hears under.
pub(super) fn token() -> String {
    format!("{:016x}", rand::random::<u64>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_that_others_know_and_that_said_nothing_are_silent() {
        let heard = |node: &str, peers: &[&str]| (node.to_owned(), peers.iter().map(|&peer| peer.to_owned()).collect());
        let gathered: Gathered<Vec<String>> = Gathered {
            answers: vec![heard("n1", &["n2", "n3", "n4"]), heard("n2", &["n1", "n3"])],
            refusals: vec![("n4".to_owned(), "busy".to_owned())],
        };
        assert_eq!(gathered.silent(|peers| peers), ["n3"]);
    }

    #[test]
    fn all_have_answered_when_nobody_knows_of_more() {
        let said = |text: &str| Bytes::from(text.to_owned());
        let one = || said(r#"{"node":"n1","ok":{"peers":["n2"]}}"#);
        assert!(!are_all(&[one()]));
        assert!(are_all(&[one(), said(r#"{"node":"n2","error":"busy"}"#)]));
        assert!(are_all(&[said(r#"{"node":"n1","ok":{"sessions":[]}}"#)]));
    }

    #[test]
    fn the_nodes_password_is_not_the_operators() {
        for (url, wanted) in [
            ("nats://node:p@ss@db:4222", "nats://db:4222"),
            ("node:secret@db", "db"),
            ("tls://db:4222", "tls://db:4222"),
        ] {
            assert_eq!(ServerUrl::new(url).anonymous().expose(), wanted);
        }
    }
}
