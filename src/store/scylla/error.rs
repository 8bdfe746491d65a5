//! Why the cluster cannot be used at all: what a node says when it starts. Once it runs, everything is a
//! [`StoreError`](crate::store::StoreError).

use scylla::errors::NewSessionError;

/// Why connecting or migrating failed.
#[derive(Debug, thiserror::Error)]
pub enum ScyllaError {
    /// An option that cannot be right.
    #[error("store option {0}")]
    Option(&'static str),
    /// A certificate or key cannot be used.
    #[error("tls: {0}; check the PEM files of the store's options")]
    Tls(String),
    /// No contact point answers, or it refuses.
    #[error("no server of the store's cluster can be used: {0}; check contact_points, user and tls")]
    Connect(#[source] Box<NewSessionError>),
    /// No server is in the datacenter of the options.
    #[error(
        "no server of the cluster is in datacenter {wanted:?}, they are in {found}; set datacenter to one of those"
    )]
    Datacenter {
        /// The datacenter of the options.
        wanted: String,
        /// Those of the cluster.
        found: String,
    },
    /// A statement failed.
    #[error("the store's cluster refused or did not answer `{cql}`: {cause}")]
    Statement {
        /// What was asked.
        cql: String,
        /// What the driver said.
        cause: String,
    },
    /// There is no schema yet.
    #[error("keyspace {keyspace} has no natter schema; run `natter migrate` first, or start with --migrate")]
    SchemaMissing {
        /// The keyspace of the options.
        keyspace: String,
    },
    /// The schema is older than this build.
    #[error("the schema has version {have}, this build needs {want}; run `natter migrate`, or start with --migrate")]
    SchemaOlder {
        /// The version of the cluster.
        have: i32,
        /// The version of this build.
        want: i32,
    },
    /// The schema is more than one version newer than this build.
    #[error(
        "the schema has version {have}, this build knows {want} and runs on one version more at most; run a newer natter"
    )]
    SchemaNewer {
        /// The version of the cluster.
        have: i32,
        /// The version of this build.
        want: i32,
    },
    /// Another node holds the migration lock for too long.
    #[error("another node is migrating the schema and does not finish; see its log, then try again")]
    Locked,
    /// The migration lock ran out while this node migrated.
    #[error("the migration took so long that another node took it over; run it again")]
    LockLost,
}

impl ScyllaError {
    /// Names the statement that failed, for `map_err`.
    pub(super) fn statement<E: std::fmt::Display>(cql: &str) -> impl Fn(E) -> Self {
        move |cause| Self::Statement { cql: cql.to_owned(), cause: cause.to_string() }
    }
}
