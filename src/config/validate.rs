//! What a value must be beyond its type: ranges, and keys that depend on each other. Lists every fault.

use std::{fmt::Display, net::IpAddr, path::PathBuf};

use super::{
    Auth, Config, Events, Hook, Http, Limits, MAX_LEEWAY_SECS, MAX_STORE_WAIT_MS, MIN_SECRET_BYTES, Nats, Node,
    Presence, Queue, Scylla, Sealing, Secret, ServerUrl, StoreKind, Timing, Webhook,
    fault::{ConfigErrors, Fault},
    mask_url,
    source::Source,
};
use crate::protocol::event::EventKind;

/// A NATS message may have 1 MiB by default, and a body travels with a frame around it.
const MAX_BODY_BYTES: usize = 960 << 10;

impl Config {
    /// Checks a configuration that was built in code instead of loaded.
    ///
    /// # Errors
    /// All faults at once.
    pub fn validate(&self) -> Result<(), ConfigErrors> {
        let faults = self.faults();
        if faults.is_empty() { Ok(()) } else { Err(ConfigErrors(faults)) }
    }

    pub(super) fn faults(&self) -> Vec<Fault> {
        let mut check = Checks(Vec::new());
        node(&self.node, &mut check);
        http(&self.http, &mut check);
        nats(&self.nats, &mut check);
        let cache = self.store.embedded.cache_bytes;
        check.that(cache >= 1 << 20, "store.embedded.cache_bytes", cache, "must be at least 1048576");
        if self.store.kind == StoreKind::Scylla {
            scylla(&self.store.scylla, &mut check);
        }
        auth(&self.auth, &mut check);
        limits(&self.limits, &mut check);
        timing(&self.timing, &mut check);
        presence(&self.presence, &mut check);
        queue(&self.queue, &mut check);
        events(&self.events, &mut check);
        sealing(&self.sealing, &mut check);
        for (name, one) in &self.webhooks {
            webhook(&format!("webhooks.{name}"), one, &mut check);
        }
        hook(&self.hook, &mut check);
        let filter = &self.log.filter;
        let parsed = tracing_subscriber::EnvFilter::try_new(filter);
        check.that(parsed.is_ok(), "log.filter", quoted(filter), "must be like info or info,natter::session=debug");
        check.0
    }
}

struct Checks(Vec<Fault>);

impl Checks {
    fn that(&mut self, good: bool, key: &str, value: impl Display, problem: impl Into<String>) {
        if !good {
            let value = Some(value.to_string());
            self.0.push(Fault { key: key.to_owned(), value, problem: problem.into(), source: Source::Default });
        }
    }

    fn range(&mut self, key: &str, value: u64, range: std::ops::RangeInclusive<u64>) {
        let (low, high) = (range.start(), range.end());
        self.that(range.contains(&value), key, value, format!("must be from {low} to {high}"));
    }

    /// Two keys of which neither makes sense alone.
    fn pair<A, B>(&mut self, (one, has_one): (&str, &Option<A>), (other, has_other): (&str, &Option<B>)) {
        for (key, missing, lone) in [
            (one, other, has_one.is_some() && has_other.is_none()),
            (other, one, has_other.is_some() && has_one.is_none()),
        ] {
            if lone {
                let problem = format!("needs {missing} as well");
                self.0.push(Fault { key: key.to_owned(), value: None, problem, source: Source::Default });
            }
        }
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn node(node: &Node, check: &mut Checks) {
    check.range("node.killed_after_secs", node.killed_after_secs, 0..=86_400);
}

fn http(http: &Http, check: &mut Checks) {
    for origin in &http.allowed_origins {
        let good = is_origin(origin);
        check.that(good, "http.allowed_origins", quoted(origin), "must be like https://chat.example.org");
    }
    for origin in &http.cors_origins {
        let good = origin == "*" || is_framing(origin);
        check.that(good, "http.cors_origins", quoted(origin), "must be * or like https://admin.example.org");
    }
    for ancestor in &http.frame_ancestors {
        let good = ancestor == "self" || is_framing(ancestor);
        check.that(good, "http.frame_ancestors", quoted(ancestor), "must be self or like https://intranet.example.org");
    }
    check.range("http.connections", http.connections.into(), 1..=1_000_000);
    check.range("http.connections_per_address", http.connections_per_address.into(), 1..=1_000_000);
    check.range("http.request_timeout_secs", http.request_timeout_secs, 1..=600);
    check.range("http.connection_secs", http.connection_secs, 1..=86_400);
}

fn nats(nats: &Nats, check: &mut Checks) {
    servers(&nats.urls, "nats.urls", check);
    let count = nats.cells.len();
    check.that(count <= Nats::CELLS, "nats.cells", count, format!("must be at most {} clusters", Nats::CELLS));
    let is_one_of_them = nats.cells.is_empty() || nats.urls == Nats::default().urls;
    check.that(is_one_of_them, "nats.urls", "set", "is not used beside nats.cells: name those servers there, keep one");
    for cell in &nats.cells {
        servers(cell, "nats.cells", check);
    }
    let password = given(&nats.password, &nats.password_file);
    check.pair(("nats.user", &nats.user), ("nats.password", &password));
    check.pair(("nats.tls_cert_file", &nats.tls_cert_file), ("nats.tls_key_file", &nats.tls_key_file));
    let ways = [
        ("nats.user", nats.user.is_some()),
        ("nats.token", given(&nats.token, &nats.token_file).is_some()),
        ("nats.nkey_file", nats.nkey_file.is_some()),
        ("nats.creds_file", nats.creds_file.is_some()),
    ];
    let mut given = ways.iter().filter(|(_, is)| *is).map(|(key, _)| *key);
    if let Some(first) = given.next() {
        for other in given {
            let problem = format!("is a second way to sign in besides {first}, keep one");
            check.0.push(Fault { key: other.to_owned(), value: None, problem, source: Source::Default });
        }
    }
    check.range("nats.connect_timeout_ms", nats.connect_timeout_ms, 50..=60_000);
    let token = |t: &str| !t.is_empty() && !t.contains(['*', '>', ' ', '\t']);
    let good = nats.inbox_prefix.split('.').all(token);
    check.that(good, "nats.inbox_prefix", quoted(&nats.inbox_prefix), "must be a subject without wildcards");
}

fn servers(urls: &[ServerUrl], key: &str, check: &mut Checks) {
    check.that(!urls.is_empty(), key, "[]", "must name at least one server");
    for url in urls {
        check.that(
            is_server(url.expose()),
            key,
            quoted(&url.masked()),
            "must be like nats://host:4222 or tls://host:4222, a password in it percent-encoded (or nats.password)",
        );
    }
}

fn scylla(scylla: &Scylla, check: &mut Checks) {
    check.that(!scylla.contact_points.is_empty(), "store.scylla.contact_points", "[]", "must name at least one host");
    for point in &scylla.contact_points {
        let good = !point.trim().is_empty() && !point.contains("://");
        check.that(good, "store.scylla.contact_points", quoted(point), "must be like host:9042");
    }
    let name = &scylla.keyspace;
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    let good = plain && name.starts_with(|c: char| c.is_ascii_lowercase()) && name.len() <= 48;
    check.that(good, "store.scylla.keyspace", quoted(name), "must be 1 to 48 of a-z, 0-9 and _, a letter first");
    let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b' ');
    let center = &scylla.datacenter;
    let good = !center.is_empty() && center.bytes().all(word);
    check.that(good, "store.scylla.datacenter", quoted(center), "must be the name of a datacenter");
    check.range("store.scylla.replication_factor", scylla.replication_factor.into(), 1..=15);
    let password = given(&scylla.password, &scylla.password_file);
    check.pair(("store.scylla.user", &scylla.user), ("store.scylla.password", &password));
    check.pair(
        ("store.scylla.tls_cert_file", &scylla.tls_cert_file),
        ("store.scylla.tls_key_file", &scylla.tls_key_file),
    );
    if scylla.tls_cert_file.is_some() && scylla.tls_ca_file.is_none() {
        let problem = "needs store.scylla.tls_ca_file as well".to_owned();
        let key = "store.scylla.tls_cert_file".to_owned();
        check.0.push(Fault { key, value: None, problem, source: Source::Default });
    }
    check.range("store.scylla.request_timeout_ms", scylla.request_timeout_ms, 50..=MAX_STORE_WAIT_MS);
    check.range("store.scylla.writes_at_once", scylla.writes_at_once as u64, 1..=1024);
}

fn auth(auth: &Auth, check: &mut Checks) {
    let secrets =
        [("auth.hs256_secret", &auth.hs256_secret), ("auth.hs256_previous_secret", &auth.hs256_previous_secret)];
    for (key, secret) in secrets.into_iter().filter_map(|(key, secret)| Some((key, secret.as_ref()?))) {
        let long = secret.expose().len() >= MIN_SECRET_BYTES;
        let problem = format!("has {} bytes, must have at least {MIN_SECRET_BYTES}", secret.expose().len());
        check.that(long, key, quoted(&Secret::to_string(secret)), problem);
    }
    let previous = given(&auth.hs256_previous_secret, &auth.hs256_previous_secret_file);
    if previous.is_some() && given(&auth.hs256_secret, &auth.hs256_secret_file).is_none() {
        let problem = "needs auth.hs256_secret or auth.hs256_secret_file as well: the secret in force".to_owned();
        let key = "auth.hs256_previous_secret".to_owned();
        check.0.push(Fault { key, value: None, problem, source: Source::Default });
    }
    if let Some(url) = &auth.jwks_url {
        let problem = "must be like https://login.example.org/keys, without a user; http:// only for this machine";
        check.that(is_key_set_url(url), "auth.jwks_url", quoted(&mask_url(url)), problem);
    }
    for (key, file) in [("auth.jwks_ca_file", &auth.jwks_ca_file), ("auth.jwks_copy_file", &auth.jwks_copy_file)] {
        if file.is_some() && auth.jwks_url.is_none() {
            let problem = "needs auth.jwks_url as well".to_owned();
            check.0.push(Fault { key: key.to_owned(), value: None, problem, source: Source::Default });
        }
    }
    check.range("auth.jwks_refresh_secs", auth.jwks_refresh_secs, 10..=86_400);
    let claim = &auth.user_claim;
    check.that(!claim.is_empty(), "auth.user_claim", quoted(claim), "must be the name of a claim, such as sub");
    check.range("auth.leeway_secs", auth.leeway_secs, 0..=MAX_LEEWAY_SECS);
}

fn limits(limits: &Limits, check: &mut Checks) {
    let count = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
    check.range("limits.body_bytes", count(limits.body_bytes), 1..=count(MAX_BODY_BYTES));
    let more = format!("must be more than limits.body_bytes ({}), or 0", limits.body_bytes);
    check.that(limits.max_frame_bytes() > limits.body_bytes, "limits.frame_bytes", limits.frame_bytes, more);
    check.range("limits.frame_bytes", count(limits.frame_bytes), 0..=16 << 20);
    check.range("limits.window", limits.window.into(), 1..=65_536);
    check.range("limits.sessions_per_user", limits.sessions_per_user.into(), 1..=10_000);
    check.range("limits.devices_per_user", limits.devices_per_user.into(), 2..=1_000);
    check.range("limits.members_per_room", limits.members_per_room.into(), 2..=1_000_000);
    check.range("limits.rooms_per_user", limits.rooms_per_user.into(), 1..=100_000);
    check.range("limits.blocks_per_user", limits.blocks_per_user.into(), 1..=100_000);
    let backlog = limits.backlog_per_conversation;
    check.range("limits.backlog_per_conversation", backlog.into(), 1..=u32::MAX.into());
    check.range("limits.sessions_per_node", limits.sessions_per_node.into(), 1..=10_000_000);
    check.range("limits.appends_in_flight_per_session", limits.appends_in_flight_per_session.into(), 1..=65_536);
    check.range("limits.signal_bytes", count(limits.signal_bytes), 1..=count(MAX_BODY_BYTES));
    check.range("limits.waiting_bytes", count(limits.waiting_bytes), 1 << 20..=1 << 40);
    check.range("limits.rows_in_flight", limits.rows_in_flight.into(), 64..=1 << 24);
    check.range("limits.logins_at_once", limits.logins_at_once.into(), 1..=65_536);
    check.range("limits.logins_waiting", limits.logins_waiting.into(), 0..=1_000_000);
    check.range("limits.push_members", limits.push_members.into(), 0..=1_000);
    check.range("limits.recovery_per_sec", limits.recovery_per_sec.into(), 1..=1_000_000);
    check.range("limits.out_buffer_bytes", count(limits.out_buffer_bytes), 4_096..=16 << 20);
}

fn timing(timing: &Timing, check: &mut Checks) {
    check.range("timing.hello_timeout_ms", timing.hello_timeout_ms, 50..=60_000);
    check.range("timing.ping_secs", timing.ping_secs, 1..=3_600);
    let idle = timing.idle_secs;
    let more = format!("must be more than two pings (timing.ping_secs is {})", timing.ping_secs);
    check.that(idle / 2 >= timing.ping_secs && idle > 2 * timing.ping_secs.min(86_400), "timing.idle_secs", idle, more);
    check.range("timing.idle_secs", idle, 2..=86_400);
    check.range("timing.stall_secs", timing.stall_secs, 1..=86_400);
    check.range("timing.ack_coalesce_ms", timing.ack_coalesce_ms, 0..=60_000);
    check.range("timing.hole_after_secs", timing.hole_after_secs, 1..=86_400);
    check.range("timing.offline_after_secs", timing.offline_after_secs, 1..=86_400);
    check.range("timing.push_coalesce_ms", timing.push_coalesce_ms, 10..=600_000);
    check.range("timing.recheck_ms", timing.recheck_ms, 10..=60_000);
    check.range("timing.reconcile_secs", timing.reconcile_secs, 0..=86_400);
    check.range("timing.full_reconcile_secs", timing.full_reconcile_secs, 0..=86_400);
    check.range("timing.reconcile_spread_secs", timing.reconcile_spread_secs, 0..=3_600);
    check.range("timing.blocks_known_ms", timing.blocks_known_ms, 0..=3_600_000);
    check.range("timing.login_wait_ms", timing.login_wait_ms, 100..=60_000);
    check.range("timing.reconcile_rows_per_sec", timing.reconcile_rows_per_sec.into(), 100..=u32::MAX.into());
    check.range("timing.drain_min_secs", timing.drain_min_secs, 0..=3_600);
    check.range("timing.drain_secs", timing.drain_secs, 0..=3_600);
}

fn queue(queue: &Queue, check: &mut Checks) {
    check.range("queue.replicas", queue.replicas.into(), 1..=5);
    check.range("queue.max_bytes", queue.max_bytes, 1 << 20..=1 << 50);
    check.range("queue.dead_max_bytes", queue.dead_max_bytes, 1 << 20..=1 << 50);
    check.range("queue.dead_days", queue.dead_days.into(), 1..=3_650);
    check.range("queue.tries", queue.tries.into(), 1..=1_000_000);
    check.range("queue.retry_ms", queue.retry_ms, 1..=queue.retry_max_ms);
    check.range("queue.retry_max_ms", queue.retry_max_ms, 1..=3_600_000);
    check.range("queue.in_hand", queue.in_hand.into(), 1..=10_000);
}

fn presence(presence: &Presence, check: &mut Checks) {
    check.range("presence.quiet_ms", presence.quiet_ms, 0..=60_000);
    check.range("presence.probe_ms", presence.probe_ms, 100..=3_600_000);
    check.range("presence.probes_per_sec", presence.probes_per_sec.into(), 1..=1_000_000);
    check.range("presence.last_seen_secs", presence.last_seen_secs, 1..=86_400);
    check.range("presence.watches_per_session", presence.watches_per_session.into(), 1..=100_000);
    check.range("presence.watches_per_node", presence.watches_per_node.into(), 1..=10_000_000);
}

fn events(events: &Events, check: &mut Checks) {
    let public = !events.kinds.contains(&EventKind::Message);
    let problem = "must not have \"message\": every service would read every message; give one services.<name>.feed";
    check.that(public, "events.kinds", "[… \"message\" …]", problem);
}

fn webhook(path: &str, of: &Webhook, check: &mut Checks) {
    let key = |key: &str| format!("{path}.{key}");
    let (secure, plain) = (is_key_set_url(&of.url), of.plaintext && is_http_url(&of.url));
    let problem = "must be like https://push.example.org/natter, without a user; http:// only for this machine, or with \
                   plaintext = true";
    check.that(secure || plain, &key("url"), quoted(&mask_url(&of.url)), problem);
    check.that(!of.kinds.is_empty(), &key("kinds"), "[]", "must name at least one kind of event, such as \"offline\"");
    let given = given(&of.secret, &of.secret_file).is_some();
    check.that(
        given,
        &key("secret"),
        "not set",
        "must be set, or secret_file: whsec_ and the base64 of 24 to 64 bytes",
    );
    if let Some(secret) = &of.secret {
        let problem = "must be whsec_ and the base64 of 24 to 64 bytes, as of: openssl rand -base64 32";
        check.that(webhook_key(secret).is_some(), &key("secret"), quoted(&Secret::to_string(secret)), problem);
    }
    check.range(&key("at_once"), of.at_once.into(), 1..=64);
    check.range(&key("queue"), of.queue.into(), 1..=1_000_000);
    check.range(&key("timeout_ms"), of.timeout_ms, 100..=60_000);
    check.range(&key("retry_ms"), of.retry_ms, 10..=60_000);
}

/// The key in a webhook's secret; `None` where it is not in the form of Standard Webhooks.
pub fn webhook_key(secret: &Secret) -> Option<Vec<u8>> {
    let key = data_encoding::BASE64.decode(secret.expose().strip_prefix("whsec_")?.as_bytes()).ok()?;
    (24..=64).contains(&key.len()).then_some(key)
}

fn sealing(sealing: &Sealing, check: &mut Checks) {
    check.range("sealing.known_ms", sealing.known_ms, 10..=60_000);
    let Some(key) = &sealing.master_key else { return };
    let problem = master_keys(key).err();
    check.that(problem.is_none(), "sealing.master_key", quoted(&key.to_string()), problem.unwrap_or_default());
}

/// The keys in `sealing.master_key`: one a line, each the base64 of 32 bytes.
///
/// # Errors
/// Which line is none, in words. Never the line itself.
pub fn master_keys(text: &Secret) -> Result<Vec<[u8; 32]>, String> {
    let lines = text.expose().lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty());
    let key = |(at, line): (usize, &str)| {
        let bytes = data_encoding::BASE64.decode(line.as_bytes()).ok();
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(|| format!("line {} is not the base64 of 32 bytes, as of: openssl rand -base64 32", at + 1))
    };
    lines.map(key).collect()
}

fn hook(hook: &Hook, check: &mut Checks) {
    check.range("hook.timeout_ms", hook.timeout_ms, 10..=10_000);
    check.range("hook.at_once", hook.at_once.into(), 1..=65_536);
}

/// `scheme://host` with an optional port and nothing after it: what browsers send as `Origin`.
fn is_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    !scheme.is_empty() && !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ', '*'])
}

/// An origin that goes into a header as it is: nothing in it may end the list or begin another rule.
fn is_framing(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || ":/.-[]".contains(c);
    is_origin(text) && (text.starts_with("https://") || text.starts_with("http://")) && text.chars().all(plain)
}

/// A secret that is given either as text or as a file.
fn given(text: &Option<Secret>, file: &Option<PathBuf>) -> Option<()> {
    (text.is_some() || file.is_some()).then_some(())
}

/// Keys that came unencrypted over a network could be anybody's.
fn is_key_set_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<hyper::Uri>() else { return false };
    let Some(authority) = uri.authority().filter(|authority| !authority.as_str().contains('@')) else { return false };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    !host.is_empty() && (uri.scheme_str() == Some("https") || (uri.scheme_str() == Some("http") && here))
}

fn is_http_url(url: &str) -> bool {
    let Ok(uri) = url.parse::<hyper::Uri>() else { return false };
    let named =
        uri.authority().is_some_and(|authority| !authority.as_str().contains('@') && !authority.host().is_empty());
    named && uri.scheme_str() == Some("http")
}

fn is_server(url: &str) -> bool {
    let (scheme, rest) = url.split_once("://").unwrap_or(("nats", url));
    // What ends the host's part of a URL must be encoded in a password.
    let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
    let port_good = match host.rsplit_once(':') {
        Some((_, port)) if !port.ends_with(']') => port.parse::<u16>().is_ok_and(|port| port > 0),
        _ => true,
    };
    matches!(scheme, "nats" | "tls")
        && !user.contains(['/', '?', '#', ' '])
        && !host.is_empty()
        && !host.starts_with(':')
        && !host.contains(['/', ' '])
        && port_good
}
