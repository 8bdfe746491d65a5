//! What a conditional statement answered. Used where the right to write changes hands, and for new devices.

use scylla::{
    response::query_result::QueryRowsResult,
    value::{CqlValue, Row as CqlRow},
};

use super::rows::CqlError;

/// Whether a conditional statement was applied. This column is in every answer; the others are not: Cassandra
/// returns them only for rows that existed already, ScyllaDB always.
pub(super) fn applied(result: &QueryRowsResult) -> Result<bool, CqlError> {
    let names: Vec<&str> = result.column_specs().iter().map(|spec| spec.name()).collect();
    let mut row = result.first_row::<CqlRow>().map_err(CqlError::new)?;
    let place = names.iter().position(|name| *name == "[applied]");
    match place.and_then(|place| row.columns.get_mut(place)?.take()) {
        Some(CqlValue::Boolean(applied)) => Ok(applied),
        _ => Err(CqlError::new("the answer to a conditional statement has no [applied]")),
    }
}
