//! A page of a listing of which some rows are passed over: what is read next, and where the next page begins. No I/O. Called by
//! the listings of rooms, members and readers.

/// Reads that may bring nothing to show before the answer is given without.
const READS: usize = 4;

/// A page on its way. It may come out smaller than asked for, and have a next one.
pub(super) struct Paged<K, T> {
    /// The last row that was read; `None` where none is left behind it.
    after: Option<K>,
    limit: usize,
    shown: Vec<T>,
    reads: usize,
    is_last: bool,
}

impl<K: Clone, T> Paged<K, T> {
    /// At most `limit`, at least one, behind `after`.
    pub(super) fn new(after: Option<K>, limit: usize) -> Self {
        Self { after, limit, shown: Vec::new(), reads: 0, is_last: false }
    }

    /// How many rows to read next, behind [`Paged::after`]; `None` where the page is done.
    pub(super) fn wanted(&self) -> Option<usize> {
        let goes_on = !self.is_last && self.reads < READS && self.shown.len() < self.limit;
        goes_on.then(|| self.limit - self.shown.len())
    }

    pub(super) fn after(&self) -> Option<&K> {
        self.after.as_ref()
    }

    /// These rows were read: as many as wanted, or the last ones. What is shown of them follows.
    pub(super) fn on_read<R>(&mut self, rows: &[(K, R)]) {
        self.reads += 1;
        self.is_last = rows.len() < self.limit - self.shown.len();
        self.after = rows.last().map(|(key, _)| key.clone()).filter(|_| !self.is_last);
    }

    /// What is shown of the rows that were read last.
    pub(super) fn show(&mut self, shown: impl IntoIterator<Item = T>) {
        self.shown.extend(shown);
    }

    /// What is shown, and behind what the next page begins, if there is one.
    pub(super) fn end(self) -> (Vec<T>, Option<K>) {
        (self.shown, self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads numbers up to `top` and shows those that are multiples of `every`.
    fn page(top: u32, every: u32, after: Option<u32>, limit: usize) -> (Vec<u32>, Option<u32>, usize) {
        let (mut paged, mut scanned) = (Paged::new(after, limit), 0);
        while let Some(wanted) = paged.wanted() {
            let from = paged.after().map_or(1, |after| after + 1);
            let rows: Vec<(u32, ())> = (from..=top).take(wanted).map(|number| (number, ())).collect();
            scanned += rows.len();
            paged.on_read(&rows);
            paged.show(rows.iter().map(|(number, ())| *number).filter(|number| number % every == 0));
        }
        let (shown, next) = paged.end();
        (shown, next, scanned)
    }

    #[test]
    fn a_full_page_goes_on_behind_its_last_row() {
        assert_eq!(page(9, 1, None, 3), (vec![1, 2, 3], Some(3), 3));
        assert_eq!(page(9, 1, Some(7), 3), (vec![8, 9], None, 2));
        assert_eq!(page(0, 1, None, 3), (vec![], None, 0));
    }

    /// Nobody can know that nothing is left behind a full page.
    #[test]
    fn a_page_that_just_fits_has_a_next_one_that_is_empty() {
        assert_eq!(page(3, 1, None, 3), (vec![1, 2, 3], Some(3), 3));
        assert_eq!(page(3, 1, Some(3), 3), (vec![], None, 0));
    }

    #[test]
    fn what_is_passed_over_is_made_up_for() {
        assert_eq!(page(9, 2, None, 3), (vec![2, 4, 6], Some(6), 6));
    }

    #[test]
    fn where_little_is_to_be_shown_the_page_ends_early_and_goes_on() {
        assert_eq!(page(99, 100, None, 3), (vec![], Some(12), 12));
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (shown, next, _) = page(100, 7, after, 3);
            found.extend(shown);
            after = next;
            if after.is_none() {
                break;
            }
        }
        assert!(found.into_iter().eq((7..=100).step_by(7)));
    }
}
