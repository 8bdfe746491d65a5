//! Who may connect: places for connections that have no session yet, in all and per address, so that nobody can take
//! the descriptors that sessions and the store need. Asked by the accept loop for each connection, and by
//! [`super::accept`] once a proxy has said who the client is.
//!
//! A connection holds its place until it ends or says a good `hello`; sessions are counted by the registry. The
//! descriptor's own number is looked at too: the system gives out the lowest that is free, so a high one means that
//! as many are in use, whatever they are used for.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsRawFd, RawFd},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::Settings;
use crate::{config::Network, descriptors, metrics::Metrics};

/// Connections without a place on which probes are answered.
pub const LANE: usize = 16;
/// Between two log lines about connections that find no room.
const SAY_AGAIN: Duration = Duration::from_secs(60);

/// The connections of a node that have no session.
pub struct Places {
    most: usize,
    most_per_address: usize,
    /// Descriptors from here on are the store's.
    ceiling: RawFd,
    trusted: Vec<Network>,
    metrics: Arc<Metrics>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
    said: Option<Instant>,
    /// Turned away since the last log line.
    unsaid: u64,
}

/// Why a connection has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crowded {
    /// A short answer is possible.
    Full,
    /// Even that could cost the store a file.
    AtTheLimit,
}

/// One connection's place. Given back when it is dropped, or when the connection has become a session.
pub struct Place {
    places: Arc<Places>,
    peer: IpAddr,
    held: Mutex<Held>,
}

/// What a place still counts for.
struct Held {
    seat: bool,
    address: Option<IpAddr>,
}

impl Places {
    /// Places as the settings say; nobody is there yet.
    pub(super) fn new(settings: &Settings, metrics: Arc<Metrics>) -> Arc<Self> {
        let allowed = descriptors::allowed();
        let ceiling = allowed.saturating_sub(descriptors::reserve(allowed));
        Arc::new(Self {
            most: settings.connections,
            most_per_address: settings.connections_per_address,
            ceiling: RawFd::try_from(ceiling).unwrap_or(RawFd::MAX),
            trusted: settings.trusted_proxies.clone(),
            metrics,
            taken: Mutex::default(),
        })
    }

    /// A place for a connection from `peer`.
    ///
    /// # Errors
    /// When there is none.
    pub fn enter(self: &Arc<Self>, peer: IpAddr, connection: &impl AsRawFd) -> Result<Arc<Place>, Crowded> {
        let descriptor = connection.as_raw_fd();
        // A proxy brings many clients: they are counted once it has said who they are.
        let address = (!self.trusts(peer)).then(|| counted(peer));
        let mut taken = self.taken.lock();
        let room = descriptor < self.ceiling && taken.all < self.most;
        let room = room && address.is_none_or(|address| taken.add(address, self.most_per_address));
        if !room {
            self.turn_away(&mut taken);
            let lane = descriptor < self.ceiling.saturating_add(LANE as RawFd);
            return Err(if lane { Crowded::Full } else { Crowded::AtTheLimit });
        }
        taken.all += 1;
        let held = Mutex::new(Held { seat: true, address });
        Ok(Arc::new(Place { places: self.clone(), peer, held }))
    }

    fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.holds(peer))
    }

    /// The client of a request that came from `peer`: behind trusted proxies, the last address in the header that is
    /// not one of theirs. What stands before it is the client's own word.
    fn client(&self, peer: IpAddr, forwarded_for: &[&str]) -> Option<IpAddr> {
        if !self.trusts(peer) {
            return None;
        }
        let all = forwarded_for.iter().rev().flat_map(|line| line.rsplit(','));
        let client = all.map_while(|word| word.trim().parse().ok()).find(|address| !self.trusts(*address));
        Some(client.unwrap_or(peer))
    }

    /// Counts it, and says so now and then: an attack must not fill the log.
    fn turn_away(&self, taken: &mut Taken) {
        self.metrics.connections_crowded.inc();
        taken.unsaid += 1;
        if taken.said.is_some_and(|said| said.elapsed() < SAY_AGAIN) {
            return;
        }
        taken.said = Some(Instant::now());
        let turned_away = std::mem::take(&mut taken.unsaid);
        tracing::warn!(
            turned_away,
            held = taken.all,
            addresses = taken.by_address.len(),
            "no room for connections that have no session; only probes are answered. \
             See http.connections and http.connections_per_address, and the limit of open files"
        );
    }
}

impl Taken {
    fn add(&mut self, address: IpAddr, most: usize) -> bool {
        let count = self.by_address.entry(address).or_default();
        let room = *count < most;
        *count += usize::from(room);
        room
    }

    fn remove(&mut self, address: IpAddr) {
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

/// As what an address counts: whoever has one address of IPv6 has the whole /64.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl Place {
    /// Counts the connection as its client's where a trusted proxy says in these lines of `X-Forwarded-For` who that
    /// is. False: that client has too many.
    pub fn is_of_client(&self, forwarded_for: &[&str]) -> bool {
        let Some(client) = self.places.client(self.peer, forwarded_for).map(counted) else { return true };
        let (mut taken, mut held) = (self.places.taken.lock(), self.held.lock());
        if let Some(before) = held.address.take() {
            taken.remove(before);
        }
        let room = taken.add(client, self.places.most_per_address);
        if room {
            held.address = Some(client);
        } else {
            self.places.turn_away(&mut taken);
        }
        room
    }

    /// Gives it back: the connection is a session now, or over.
    pub fn leave(&self) {
        let (mut taken, mut held) = (self.places.taken.lock(), self.held.lock());
        if let Some(address) = held.address.take() {
            taken.remove(address);
        }
        taken.all -= usize::from(std::mem::take(&mut held.seat));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(most: usize, most_per_address: usize) -> Arc<Places> {
        Arc::new(Places {
            most,
            most_per_address,
            ceiling: 100,
            trusted: vec!["10.0.0.0/8".parse().unwrap()],
            metrics: Metrics::new("n1"),
            taken: Mutex::default(),
        })
    }

    /// A connection with this descriptor.
    struct On(RawFd);

    impl AsRawFd for On {
        fn as_raw_fd(&self) -> RawFd {
            self.0
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_leaves_room_for_others_and_all_together_for_the_store() {
        let places = places(5, 2);
        let one = ["192.0.2.1"; 3].map(|peer| places.enter(ip(peer), &On(7)));
        assert!(one[0].is_ok() && one[1].is_ok() && one[2].is_err());
        // The same /64, also where it is spelt otherwise.
        let six = ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:3"].map(|peer| places.enter(ip(peer), &On(7)));
        assert!(six[0].is_ok() && six[1].is_ok() && six[2].is_err());
        let last = places.enter(ip("192.0.2.2"), &On(7));
        assert!(last.is_ok() && places.enter(ip("192.0.2.3"), &On(7)).is_err(), "five in all");
        drop((one, six, last));
        for (descriptor, why) in [(100, Crowded::Full), (100 + LANE as RawFd, Crowded::AtTheLimit)] {
            let found = places.enter(ip("192.0.2.1"), &On(descriptor));
            assert!(found.is_err_and(|crowded| crowded == why), "descriptor {descriptor} is the store's");
        }
        let taken = places.taken.lock();
        assert!(taken.all == 0 && taken.by_address.is_empty(), "every place was given back");
        assert_eq!(places.metrics.connections_crowded.get(), 5);
    }

    #[test]
    fn a_session_gives_its_place_back_once() {
        let places = places(1, 1);
        let place = places.enter(ip("192.0.2.1"), &On(7)).unwrap();
        place.leave();
        let next = places.enter(ip("192.0.2.1"), &On(7));
        drop(place);
        assert!(next.is_ok() && places.enter(ip("192.0.2.1"), &On(7)).is_err(), "what is dropped later counts no more");
    }

    #[test]
    fn only_a_trusted_proxy_says_who_the_client_is() {
        let places = places(100, 1);
        let from = |peer: &str, lines: &[&str]| places.client(ip(peer), lines);
        assert_eq!(from("192.0.2.1", &["198.51.100.7"]), None, "nobody asked this one");
        assert_eq!(from("10.0.0.1", &["198.51.100.7"]), Some(ip("198.51.100.7")));
        assert_eq!(from("10.0.0.1", &["1.1.1.1, 198.51.100.7", "10.0.0.9"]), Some(ip("198.51.100.7")));
        assert_eq!(from("10.0.0.1", &["198.51.100.7, junk"]), Some(ip("10.0.0.1")));
        assert_eq!(from("10.0.0.1", &[]), Some(ip("10.0.0.1")));
        let [one, same, other] = [7, 8, 9].map(|descriptor| places.enter(ip("10.0.0.1"), &On(descriptor)).unwrap());
        assert!(one.is_of_client(&["198.51.100.7"]) && !same.is_of_client(&["198.51.100.7"]));
        assert!(other.is_of_client(&["198.51.100.8"]) && other.is_of_client(&["198.51.100.8"]));
        drop(one);
        assert!(same.is_of_client(&["198.51.100.7"]));
    }
}
