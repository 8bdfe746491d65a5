//! Asking, and rows out of the answers. An answer that does not decode is an error like any other: the caller
//! could not tell it from an empty one.

use scylla::{
    deserialize::row::DeserializeRow,
    response::query_result::{QueryResult, QueryRowsResult},
    serialize::row::SerializeRow,
    statement::prepared::PreparedStatement,
};

use super::Inner;
use crate::store::StoreError;

/// Why a statement gave nothing that can be used, in the driver's words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct CqlError(String);

impl CqlError {
    pub(super) fn new(cause: impl std::fmt::Display) -> Self {
        Self(cause.to_string())
    }
}

impl From<CqlError> for StoreError {
    fn from(error: CqlError) -> Self {
        Self::unavailable(error)
    }
}

impl Inner {
    /// Runs a statement whose answer is small or none.
    pub(super) async fn ask(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow,
    ) -> Result<QueryResult, CqlError> {
        self.session.execute_unpaged(statement, values).await.map_err(CqlError::new)
    }
}

/// All rows, owned.
pub(super) fn all<R: for<'f> DeserializeRow<'f, 'f>>(result: QueryResult) -> Result<Vec<R>, CqlError> {
    let rows = rows_of(result)?;
    let typed = rows.rows::<R>().map_err(CqlError::new)?;
    typed.map(|row| row.map_err(CqlError::new)).collect()
}

/// The first row, if there is one.
pub(super) fn first<R: for<'f> DeserializeRow<'f, 'f>>(result: QueryResult) -> Result<Option<R>, CqlError> {
    rows_of(result)?.maybe_first_row::<R>().map_err(CqlError::new)
}

/// The rows before they are decoded.
pub(super) fn rows_of(result: QueryResult) -> Result<QueryRowsResult, CqlError> {
    result.into_rows_result().map_err(CqlError::new)
}
