//! Whether a folder holds all that it must, found before the engine opens it: the engine cuts and deletes what it does
//! not understand. Called when a store is opened, and by `natter verify`.
//!
//! What must be there (I1): each commit from the one after the last *settled* one (those are in tables, and their
//! journals were let go) up to the *last durable* one, which the watermark names, and every later commit too. A commit
//! is missing ⟹ something was lost that may have been answered. Commits above the last durable one were not answered:
//! a crash may take them, and does so without a word.

use std::{
    collections::BTreeSet,
    fs, io,
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use super::{
    folder::{DATA, Folder},
    journal::{self, Journal},
    manifest,
    tables::TABLES,
    watermark::{self, Mark},
};

/// What was found in a folder.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What is missing or damaged, in words; empty when nothing is.
    pub(super) problems: Vec<String>,
    /// The watermark, where it can be read.
    pub(super) mark: Option<Mark>,
    /// The highest number of a commit that is known in any way.
    pub(super) last: u64,
    /// Bytes of the last journal that no answered commit wrote: its path and how much of it holds.
    pub(super) torn: Option<(PathBuf, u64)>,
}

/// Looks into a folder that was created completely. Changes nothing.
pub(super) fn inspect(folder: &Folder) -> io::Result<Found> {
    let data = folder.data();
    let mark = watermark::read(&folder.watermark_path())?;
    let mut found = Found { mark, ..Found::default() };
    if mark.is_none() {
        found.problems.push("WATERMARK, which says what the folder must hold, is missing or damaged".into());
    }
    if !data.is_dir() {
        found.problems.push(format!("the folder {DATA} is missing"));
        return Ok(found);
    }
    let listed = mark.map(|mark| manifest::compare(&data, &folder.manifest_path(), mark.opens)).transpose()?;
    let listed = listed.unwrap_or_default();
    found.problems.extend(if listed.is_empty() { structure(&data)? } else { listed });
    journals(&data, &mut found)?;
    Ok(found)
}

/// The engine deletes a table, or all of them, where one of these files is missing.
fn structure(data: &Path) -> io::Result<Vec<String>> {
    let mut problems = Vec::new();
    let mut missing = |name: String| problems.push(format!("{DATA}/{name} is missing or damaged"));
    if !data.join("version").is_file() {
        missing("version".into());
    }
    // The engine's own list of tables is number 0.
    for table in 0..=TABLES {
        let folder = format!("keyspaces/{table}");
        match fs::read(data.join(&folder).join("current")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing(format!("{folder}/current")),
            other => {
                let current = other?;
                let version = current.first_chunk().map(|version| u64::from_le_bytes(*version));
                let Some(version) = version else {
                    missing(format!("{folder}/current"));
                    continue;
                };
                if !fs::metadata(data.join(&folder).join(format!("v{version}"))).is_ok_and(|file| file.len() > 0) {
                    missing(format!("{folder}/v{version}"));
                }
            }
        }
    }
    Ok(problems)
}

/// Counts the commits in the journals.
fn journals(data: &Path, found: &mut Found) -> io::Result<()> {
    let ids = journal::list(data)?;
    let (mut numbers, mut durable, mut damaged) = (BTreeSet::new(), 0, Vec::new());
    for id in &ids {
        let (journal, _) = journal::read(data, *id, found.mark.map(|mark| mark.store))?;
        for commit in journal.commits() {
            numbers.insert(commit.number);
            durable = durable.max(commit.durable);
        }
        if !journal.unreadable.is_empty() {
            damaged.push(journal);
        }
    }
    let settled = found.mark.map(|mark| mark.settled);
    let first = settled.map_or_else(|| numbers.first().copied().unwrap_or(1), |settled| settled + 1);
    let last = durable.max(found.mark.map_or(0, |mark| mark.number));
    let missing = missing_of(&numbers, first..=last);
    found.last = last.max(numbers.last().copied().unwrap_or(0));
    if missing.is_empty() {
        // Whatever cannot be read was never answered.
        let torn = damaged.pop().filter(|journal| Some(&journal.id) == ids.last());
        found.torn = torn.map(|journal| (journal::path_of(data, journal.id), journal.first_end() as u64));
        return Ok(());
    }
    found.problems.extend(missing.iter().map(|range| {
        let count = range.end() - range.start() + 1;
        format!("{count} commits are missing: {} to {} of {last}", range.start(), range.end())
    }));
    found.problems.extend(damaged.iter().map(words_of));
    Ok(())
}

fn words_of(journal: &Journal) -> String {
    let places = journal.unreadable.iter().map(|bytes| format!("{}–{}", bytes.start, bytes.end));
    format!("{DATA}/{} cannot be read at bytes {}", journal.name(), places.collect::<Vec<_>>().join(", "))
}

/// The ranges of `expected` that are not among the numbers.
fn missing_of(numbers: &BTreeSet<u64>, expected: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
    let mut missing = Vec::new();
    let (mut next, end) = (*expected.start(), *expected.end());
    if next > end {
        return missing;
    }
    for number in numbers.range(expected) {
        if *number > next {
            missing.push(next..=number - 1);
        }
        next = number + 1;
    }
    if next <= end {
        missing.push(next..=end);
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_in_ranges() {
        let numbers = BTreeSet::from([3, 4, 7, 9, 12]);
        assert_eq!(missing_of(&numbers, 3..=4), []);
        assert_eq!(missing_of(&numbers, RangeInclusive::new(13, 12)), []);
        assert_eq!(missing_of(&numbers, 1..=10), [1..=2, 5..=6, 8..=8, 10..=10]);
        assert_eq!(missing_of(&BTreeSet::new(), 1..=2), [1..=2]);
    }
}
