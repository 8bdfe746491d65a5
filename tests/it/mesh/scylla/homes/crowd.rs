//! Senders of whom every node is home of some of the conversations, and what their waits may be.

use std::{collections::BTreeSet, time::Duration};

use natter::model::ConvId;

use crate::mesh::scylla::{
    fleet::Fleet,
    people::{Person, check_logs, direct},
    traffic::{Traffic, Waits},
};

/// The aim: when a home dies or stops, nobody waits longer than this.
pub const TAKE_OVER: Duration = Duration::from_secs(1);
/// What a send of nobody's misfortune may take on a machine that runs other tests as well; see [`Crowd::may_take`].
const SLOWNESS: u32 = 4;
/// Three nodes, a CQL server, NATS and the senders share two processors here: a take-over is a second where each has its
/// own, and was seen to take up to 1.7 s here.
const SHORTAGE: u32 = 3;

/// Whom each sender writes to, besides the other senders: so many that every node is home of some.
const OFFLINE: usize = 10;
/// Senders of one user at once, each to its own part of these.
const LANES: usize = 4;
/// Milliseconds between an answer and the next send.
const PAUSE: std::ops::Range<u64> = 0..20;

/// See the module.
pub struct Crowd {
    people: Vec<Person>,
    convs: BTreeSet<ConvId>,
    pub traffic: Traffic,
    /// As long as nothing happened to any node.
    peace: Waits,
}

impl Crowd {
    /// One user at each of these nodes, who stays there whatever happens.
    pub async fn staying(fleet: &Fleet, nodes: &[usize]) -> Self {
        Self::of(nodes.iter().map(|node| vec![fleet.nodes[*node].url()]).collect()).await
    }

    /// Three users who go to another node when theirs is gone.
    pub async fn moving(fleet: &Fleet) -> Self {
        Self::of((0..3).map(|first| fleet.urls(first)).collect()).await
    }

    async fn of(urls: Vec<Vec<String>>) -> Self {
        let mut crowd = Self::default();
        let users: Vec<_> = (0..urls.len()).map(|n| format!("s{n}")).collect();
        for (user, urls) in users.iter().zip(urls) {
            crowd.people.push(Person::join(urls, user, "d").await);
        }
        for person in &crowd.people {
            let offline = (0..OFFLINE).map(|n| format!("{}-{n}", person.user));
            let to: Vec<_> = users.iter().filter(|user| **user != person.user).cloned().chain(offline).collect();
            crowd.convs.extend(to.iter().map(|to| direct(&person.user, to)));
            for lane in 0..LANES {
                let own: Vec<_> = to.iter().skip(lane).step_by(LANES).map(String::as_str).collect();
                crowd.traffic.lane(person, &own, PAUSE);
            }
        }
        crowd.traffic.flows(150).await;
        crowd.traffic.waits();
        crowd.traffic.flows(150).await;
        crowd.peace = crowd.traffic.waits();
        println!("in peace: {:?}", crowd.peace);
        crowd
    }

    /// What a send may take whose home is lost: [`TAKE_OVER`], and several times what one took here while all was well.
    pub fn may_take(&self) -> Duration {
        TAKE_OVER * SHORTAGE + self.peace.longest * SLOWNESS
    }

    /// Prints the waits since the last time, and checks the longest.
    pub fn waited(&self, what: &str, at_most: Duration) {
        let waits = self.traffic.waits();
        println!("{what}: {waits:?}, {at_most:?} are allowed");
        assert!(waits.count > 0 && waits.longest <= at_most, "{what}: {waits:?}, {at_most:?} are allowed");
    }

    /// Lets all senders end, and checks every log with what they were told and what they received.
    pub async fn check(self, fleet: &Fleet, more: impl IntoIterator<Item = ConvId>) {
        let ledger = self.traffic.stop().await;
        let convs = self.convs.into_iter().chain(more).collect();
        check_logs(&fleet.store, &ledger, &convs, &self.people.iter().collect::<Vec<_>>()).await;
    }
}

impl Default for Crowd {
    fn default() -> Self {
        let (traffic, peace) = (Traffic::default(), Waits::default());
        Self { people: Vec::new(), convs: BTreeSet::new(), traffic, peace }
    }
}
