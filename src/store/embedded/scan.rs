//! Reads a table of the engine block by block, stepping over what cannot be read. Called by [`super::rescue`] and by
//! [`super::verify`]; everything else stops at the first damaged block, as the engine does.

use std::{cmp::Reverse, collections::BinaryHeap};

use fjall::{AbstractTree as _, Keyspace, Slice};

use crate::store::{StoreError, StoreResult};

/// What could not be read.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    /// Blocks, of some ten rows each.
    pub(super) blocks: u64,
    /// The files that they are in, below the engine's folder, each with what is wrong with it.
    pub(super) files: Vec<String>,
}

/// Gives every row of a table that can be read, the newest version of each, in the order of the keys. What was only in
/// memory is written out first.
pub(super) fn each_row(
    table: &Keyspace,
    mut row: impl FnMut(Slice, Slice) -> StoreResult<()>,
) -> StoreResult<Unreadable> {
    let mut lost = Unreadable::default();
    table.tree.flush_active_memtable(0).map_err(StoreError::unavailable)?;
    let version = table.tree.current_version();
    let mut files: Vec<_> = version.iter_tables().map(|file| (file.id(), file.iter())).collect();
    // The smallest key first, of equal ones the newest; where that is a removal there is no row.
    let mut next = BinaryHeap::new();
    let mut advance = |place: usize, next: &mut BinaryHeap<_>| {
        let (file, rows) = &mut files[place];
        let mut failed = None;
        for read in rows {
            match read {
                Ok(row) => {
                    let is_removed = row.is_tombstone();
                    next.push(Reverse((row.key.user_key, Reverse(row.key.seqno), place, is_removed, row.value)));
                    break;
                }
                Err(error) => {
                    lost.blocks += 1;
                    failed = Some(error);
                }
            }
        }
        if let Some(error) = failed {
            let name = format!("data/keyspaces/{}/tables/{file}", table.id());
            if !lost.files.iter().any(|known| known.starts_with(&name)) {
                lost.files.push(format!("{name}: {error}"));
            }
        }
    };
    for place in 0..version.iter_tables().count() {
        advance(place, &mut next);
    }
    let mut last: Option<Slice> = None;
    while let Some(Reverse((key, _, place, is_removed, value))) = next.pop() {
        advance(place, &mut next);
        if last.as_ref() != Some(&key) {
            if !is_removed {
                row(key.clone(), value)?;
            }
            last = Some(key);
        }
    }
    Ok(lost)
}
