//! Rows of every kind for the models of sessions and of delivery: each is handed out in its place, whatever it is.

use crate::model::{Kind, Reacting, Refs, Row, Target};

/// The row as one of the kinds, by its seq: about the one before it, or a message that has expired.
pub(super) fn of_any_kind(row: Row) -> Row {
    let before = Row { seq: row.seq.saturating_sub(1), ..row.clone() };
    let about = || Target::of(&before, None, 0).map(Refs::about);
    match row.seq % 6 {
        2 => Row { kind: Kind::Edit, refs: about(), ..row },
        3 => {
            let reaction = "+1".parse().ok();
            let body = reaction.map(|reaction| Reacting { reaction, set: true }.to_body());
            Row { kind: Kind::Reaction, refs: about(), body: body.unwrap_or(row.body.clone()), ..row }
        }
        4 => Row { kind: Kind::Delete, refs: about(), ..row },
        5 => Row { refs: Refs { expires: Some(1), ..Refs::default() }.boxed(), ..row },
        _ => row,
    }
}
