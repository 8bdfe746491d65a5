//! What a conditional statement answered. Used where the right to write changes hands.

use scylla::{
    response::query_result::QueryRowsResult,
    value::{CqlValue, Row as CqlRow},
};

use super::rows::CqlError;

/// Whether a conditional statement was applied. This column is in every answer; the others are not: Cassandra
/// returns them only for rows that existed already, ScyllaDB always, as nulls where nothing stood.
pub(super) fn applied(result: &QueryRowsResult) -> Result<bool, CqlError> {
    let names = result.column_specs();
    let row = result.first_row::<CqlRow>().map_err(CqlError::new)?;
    read(names.iter().map(|spec| spec.name()), row)
}

fn read<'a>(mut names: impl Iterator<Item = &'a str>, mut row: CqlRow) -> Result<bool, CqlError> {
    let place = names.position(|name| name == "[applied]");
    match place.and_then(|place| row.columns.get_mut(place)?.take()) {
        Some(CqlValue::Boolean(applied)) => Ok(applied),
        _ => Err(CqlError::new("the answer to a conditional statement has no [applied]")),
    }
}

#[cfg(test)]
mod tests {
    use scylla_cql::frame::{
        protocol_features::ProtocolFeatures,
        response::result::{Result as CqlResult, deserialize_with_features},
    };

    use super::*;

    // The types of protocol v4 that `slots` has.
    const BIGINT: u16 = 0x0002;
    const BOOLEAN: u16 = 0x0004;
    const INT: u16 = 0x0009;
    const VARCHAR: u16 = 0x000d;

    /// The columns of `slots`, behind `[applied]`.
    const SLOTS: [(&str, u16); 5] =
        [("[applied]", BOOLEAN), ("slot", INT), ("epoch", BIGINT), ("home", VARCHAR), ("incarnation", BIGINT)];

    fn text(frame: &mut Vec<u8>, text: &str) {
        frame.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        frame.extend(text.as_bytes());
    }

    /// The body of a RESULT frame of kind Rows, as protocol v4 defines it.
    fn frame(columns: &[(&str, u16)], rows: &[Vec<Option<Vec<u8>>>]) -> Vec<u8> {
        let int = |number: usize| i32::try_from(number).unwrap().to_be_bytes();
        let (kind_rows, one_table) = (int(2), int(1));
        let mut frame = [kind_rows, one_table, int(columns.len())].concat();
        text(&mut frame, "natter");
        text(&mut frame, "slots");
        for (name, kind) in columns {
            text(&mut frame, name);
            frame.extend(kind.to_be_bytes());
        }
        frame.extend(int(rows.len()));
        for value in rows.iter().flatten() {
            match value {
                Some(value) => frame.extend([&int(value.len())[..], &value[..]].concat()),
                None => frame.extend((-1_i32).to_be_bytes()),
            }
        }
        frame
    }

    /// The driver's own decoder, then what `applied` does with its answer.
    fn decode(columns: &[(&str, u16)], rows: &[Vec<Option<Vec<u8>>>]) -> Result<bool, CqlError> {
        let features = ProtocolFeatures::default();
        let result = deserialize_with_features(frame(columns, rows).into(), None, &features).unwrap();
        let CqlResult::Rows((raw, _)) = result else { panic!("no rows") };
        let answer = raw.deserialize_metadata().unwrap();
        let row = answer.rows_iter::<CqlRow>().unwrap().next().unwrap().unwrap();
        read(answer.metadata().col_specs().iter().map(|spec| spec.name()), row)
    }

    fn yes(applied: bool) -> Option<Vec<u8>> {
        Some(vec![u8::from(applied)])
    }

    fn standing() -> Vec<Option<Vec<u8>>> {
        let (slot, number) = (7_i32.to_be_bytes().to_vec(), 3_i64.to_be_bytes().to_vec());
        vec![Some(slot), Some(number.clone()), Some(b"n1".to_vec()), Some(number)]
    }

    #[test]
    fn cassandra_names_what_stood_only_where_something_did() {
        assert!(decode(&SLOTS[..1], &[vec![yes(true)]]).unwrap());
        let row = [vec![yes(false)], standing()].concat();
        assert!(!decode(&SLOTS, &[row]).unwrap());
    }

    #[test]
    fn scylladb_answers_with_every_column_and_nulls_where_nothing_stood() {
        let nothing = [vec![yes(true)], vec![None; 4]].concat();
        assert!(decode(&SLOTS, &[nothing]).unwrap());
        // An update that was applied shows what stood before it.
        let before = [vec![yes(true)], standing()].concat();
        assert!(decode(&SLOTS, &[before]).unwrap());
        let refused = [vec![yes(false)], standing()].concat();
        assert!(!decode(&SLOTS, std::slice::from_ref(&refused)).unwrap());
        // A row per statement: each has the fate of all.
        assert!(!decode(&SLOTS, &[refused.clone(), refused]).unwrap());
        // A condition on nothing that is there.
        let missing = [vec![yes(false)], vec![None; 4]].concat();
        assert!(!decode(&SLOTS, &[missing]).unwrap());
    }

    #[test]
    fn the_place_of_the_column_does_not_matter_and_without_it_nothing_is_believed() {
        let turned: Vec<_> = SLOTS.iter().rev().copied().collect();
        let row: Vec<_> = [vec![yes(true)], standing()].concat().into_iter().rev().collect();
        assert!(decode(&turned, &[row]).unwrap());
        assert!(decode(&SLOTS[1..], &[standing()]).is_err());
        assert!(decode(&SLOTS[..1], &[vec![None]]).is_err());
    }
}
