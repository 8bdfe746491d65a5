//! What stands around the pods of the chart: services, budget, network, hooks and monitoring, and whom each of them means.

use std::collections::BTreeSet;

use serde_yaml_ng::Value;

use super::{
    super::compose::files::read,
    rendered::{Release, rendered},
};

/// Whether a selector picks a pod.
fn picks(selector: &Value, pod: &Value) -> bool {
    let wanted = selector.as_mapping().unwrap_or_else(|| panic!("{selector:?} selects nothing"));
    assert!(!wanted.is_empty());
    wanted.iter().all(|(key, value)| &pod["metadata"]["labels"][key] == value)
}

fn hook(one: &Value) -> Option<&str> {
    one["metadata"]["annotations"]["helm.sh/hook"].as_str()
}

#[tokio::test]
async fn everything_selects_the_nodes_and_not_the_job() {
    let Some(said) = rendered() else { return };
    for release in [&said.plain, &said.full] {
        let (pod, migrate) = (release.pod(), release.migrate());
        let mut seen = BTreeSet::new();
        for one in &release.objects {
            let (kind, spec) = (one["kind"].as_str().unwrap(), &one["spec"]);
            let selector = match kind {
                "Service" => &spec["selector"],
                "StatefulSet" | "PodDisruptionBudget" => &spec["selector"]["matchLabels"],
                "NetworkPolicy" if hook(one).is_none() => &spec["podSelector"]["matchLabels"],
                _ => continue,
            };
            assert!(picks(selector, pod) && !picks(selector, migrate), "{kind}: {selector:?}");
            seen.insert(kind);
        }
        assert_eq!(seen.len(), 4, "{seen:?}");
        for spread in pod["spec"]["topologySpreadConstraints"].as_sequence().unwrap() {
            assert!(picks(&spread["labelSelector"]["matchLabels"], pod), "{spread:?}");
        }
        // Of two releases each has its own.
        assert!(picks(&release.object("Service")["spec"]["selector"], pod));
        let budget = &release.object("PodDisruptionBudget")["spec"];
        assert_eq!(
            (&budget["maxUnavailable"], &budget["unhealthyPodEvictionPolicy"]),
            (&1.into(), &"AlwaysAllow".into())
        );
        // The set's own service gives the pods their names, and names nodes that are not ready yet.
        let own = release.named("Service", release.object("StatefulSet")["spec"]["serviceName"].as_str().unwrap());
        assert!(own["spec"]["clusterIP"] == "None" && own["spec"]["publishNotReadyAddresses"] == true);
        let ports = release.all("Service").map(|one| &one["spec"]["ports"][0]["targetPort"]);
        assert!(ports.into_iter().all(|port| port == "http"));
    }
    let foreign = &said.full.object("Service")["spec"]["selector"];
    assert!(!picks(foreign, said.plain.pod()), "another release's nodes");
    let spreads = said.full.pod()["spec"]["topologySpreadConstraints"].as_sequence().unwrap();
    assert_eq!(spreads.len(), 1, "null leaves one out");
}

/// What a policy lets out: protocol, port, and whether everybody is meant.
fn open(policy: &Value) -> BTreeSet<(String, u64, bool)> {
    let rules = policy["spec"]["egress"].as_sequence().unwrap().iter();
    let ports = rules.flat_map(|rule| {
        let anybody = rule["to"].is_null();
        rule["ports"].as_sequence().unwrap().iter().map(move |port| (port, anybody))
    });
    ports
        .map(|(p, anybody)| (p["protocol"].as_str().unwrap().to_owned(), p["port"].as_u64().unwrap(), anybody))
        .collect()
}

#[tokio::test]
async fn the_network_lets_through_what_nodes_need_and_nothing_else() {
    let Some(said) = rendered() else { return };
    let tcp = |port: u64, anybody: bool| ("TCP".to_owned(), port, anybody);
    let names = [("UDP".to_owned(), 53, false), tcp(53, false)];
    let plain: BTreeSet<_> = [tcp(4222, true), tcp(9042, true)].into_iter().chain(names.clone()).collect();
    // An address without a port has the usual one; the identity provider and webhooks are asked too; what is
    // named more, is.
    let more =
        [tcp(5222, false), tcp(4222, false), tcp(9142, false), tcp(8443, true), tcp(9443, true), tcp(4318, true)];
    let full: BTreeSet<_> = more.into_iter().chain(names).collect();
    for (release, wanted) in [(&said.plain, plain), (&said.full, full)] {
        for (name, pod) in
            [(release.name.to_owned(), release.pod()), (format!("{}-migrate", release.name), release.migrate())]
        {
            let policy = release.named("NetworkPolicy", &name);
            assert!(picks(&policy["spec"]["podSelector"]["matchLabels"], pod), "{name}");
            assert_eq!(open(policy), wanted, "{name}");
            assert_eq!(policy["spec"]["policyTypes"].as_sequence().unwrap().len(), 2, "{name}");
        }
        let ingress = &release.object("NetworkPolicy")["spec"]["ingress"];
        assert_eq!((ingress.as_sequence().unwrap().len(), &ingress[0]["ports"][0]["port"]), (1, &"http".into()));
        assert!(release.named("NetworkPolicy", &format!("{}-migrate", release.name))["spec"]["ingress"].is_null());
    }
    assert!(said.full.object("NetworkPolicy")["spec"]["ingress"][0]["from"].is_sequence());
}

#[tokio::test]
async fn the_schema_is_migrated_before_the_nodes_and_never_at_a_rollback() {
    let Some(said) = rendered() else { return };
    let name = "natter-migrate";
    let weight = |kind: &str| {
        let one = said.plain.named(kind, name);
        assert_eq!(hook(one), Some("pre-install,pre-upgrade"), "{kind}");
        one["metadata"]["annotations"]["helm.sh/hook-weight"].as_str().unwrap().parse::<i32>().unwrap()
    };
    // Hooks come before everything else: what the job needs is one too, and earlier.
    assert!(weight("ConfigMap") < weight("Job") && weight("NetworkPolicy") < weight("Job"));
    assert_eq!(said.plain.objects.iter().filter(|one| hook(one).is_some()).count(), 3);
    let job = &said.plain.named("Job", name)["spec"];
    // helm waits for five minutes, if not told otherwise.
    assert!(job["activeDeadlineSeconds"].as_u64().unwrap() < 300);
    assert_eq!(job["template"]["spec"]["restartPolicy"], "Never", "its log would be gone");
}

#[tokio::test]
async fn the_alerts_are_those_of_deploy_and_find_the_nodes_that_are_scraped() {
    let Some(said) = rendered() else { return };
    let all: Value = serde_yaml_ng::from_str(&read("deploy/alerts.yml")).unwrap();
    assert_eq!(said.full.object("PrometheusRule")["spec"]["groups"], all["groups"]);
    let kinds = |release: &Release| {
        release.objects.iter().filter(|one| one["apiVersion"] == "monitoring.coreos.com/v1").count()
    };
    assert_eq!((kinds(&said.plain), kinds(&said.full)), (0, 2), "not asked for");
    let monitor = &said.full.object("ServiceMonitor")["spec"];
    let scraped: Vec<_> =
        said.full.all("Service").filter(|one| picks(&monitor["selector"]["matchLabels"], one)).collect();
    assert_eq!(scraped.len(), 1, "each node once");
    assert_eq!(scraped[0]["spec"]["clusterIP"], "None");
    // The name of the job that the alerts ask for.
    let label = monitor["jobLabel"].as_str().unwrap();
    let job = scraped[0]["metadata"]["labels"][label].as_str().unwrap();
    assert!(read("deploy/alerts.yml").contains(&format!("up{{job=\"{job}\"}}")), "{job}");
    assert_eq!(monitor["endpoints"][0]["relabelings"][0]["targetLabel"], "instance");
    // Theirs is the operator's, which picks by labels.
    assert_eq!(said.full.object("ServiceMonitor")["metadata"]["labels"]["release"], "prometheus");
}
