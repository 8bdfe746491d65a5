//! Which replica a conditional insert goes to. The driver sends one only once, so a server that froze would
//! cost each try of a conversation its time-out; the append moves on to the next replica instead.

use std::sync::Arc;

use scylla::{
    cluster::{ClusterState, NodeRef},
    policies::load_balancing::{FallbackPlan, LoadBalancingPolicy, RoutingInfo},
    routing::Shard,
};

/// The plan of another policy, begun at a later place. That policy must not shuffle.
#[derive(Debug)]
pub(super) struct Rotated {
    /// Lists the replicas in a fixed order, then all other servers.
    pub(super) plan: Arc<dyn LoadBalancingPolicy>,
    /// How many to skip.
    pub(super) skip: usize,
}

impl LoadBalancingPolicy for Rotated {
    fn pick<'a>(&'a self, request: &'a RoutingInfo, cluster: &'a ClusterState) -> Option<(NodeRef<'a>, Option<Shard>)> {
        let all = self.plan.fallback(request, cluster).count();
        self.plan.fallback(request, cluster).nth(self.skip % all.max(1))
    }

    fn fallback<'a>(&'a self, request: &'a RoutingInfo, cluster: &'a ClusterState) -> FallbackPlan<'a> {
        self.plan.fallback(request, cluster)
    }

    fn name(&self) -> String {
        "Rotated".to_owned()
    }
}
