//! What stands beside the logs: [`Folds`], from the rows that the homes keep there (R25). And how a row keeps what it refers
//! to.

use futures_util::future::try_join;

use super::{
    Inner, ScyllaStore, at_most, bucket_of,
    pages::to_row,
    rooms::{decode, encode},
    rows::CqlError,
    signed, unsigned,
};
use crate::{
    model::{ConvId, FoldedPart, Kind, Millis, Reacting, Refs, Row, Seq, UserId},
    store::{Behind, Folds, StoreFuture, StoreResult, fence::Told},
};

/// Most users that are named in what was made of one page.
const NAMES: usize = 2_500;

impl Folds for ScyllaStore {
    fn folded<'a>(&'a self, conv: &'a ConvId, from: Seq, upto: Seq) -> StoreFuture<'a, FoldedPart> {
        self.bounded(async move {
            // A part of a log ends where the log does; a page that was read goes no further than what is known.
            let top = self.inner.settled(conv, upto).await?;
            self.inner.folded(conv, from, upto.min(top)).await
        })
    }

    fn behind<'a>(&'a self, user: &'a UserId, conv: &'a ConvId, after: Seq, now: Millis) -> StoreFuture<'a, Behind> {
        self.bounded(self.inner.behind(user, conv, after, now))
    }
}

/// A fold row: the message, the row that says it, that row's kind, sender, whether that is a service, cid, time, body.
type Columns = (i64, i64, i8, String, bool, String, i64, Vec<u8>);

/// The message that a fold is of, and the row that says it.
fn to_fold((re, seq, kind, sender, service, cid, ts, body): Columns) -> Result<(Seq, Row), CqlError> {
    let row = to_row((seq, kind, sender, service, cid, ts, body, 0, 0, None))?;
    Ok((unsigned(re), row))
}

/// Of the rows about one message the last of each of these counts. In the order of reactions and, of each, of users: 00 is in
/// neither and below everything. `None` for a row that is about no message.
pub(super) fn fold_key(row: &Row) -> Option<(Seq, String)> {
    let re = row.refs.as_ref()?.re.as_ref()?.seq();
    let key = match row.kind {
        Kind::Edit => "e".to_owned(),
        Kind::Delete => "d".to_owned(),
        Kind::Reaction => format!("r{}\0{}", Reacting::of_row(row.kind, &row.body)?.reaction, row.sender),
        Kind::Message | Kind::Event => return None,
    };
    Some((re, key))
}

/// What a row refers to and whom it told, as they stand in the row: empty where it refers to nothing, never null.
pub(super) fn encode_refs(refs: Option<&Refs>, told: Told) -> StoreResult<Vec<u8>> {
    refs.map_or_else(|| Ok(Vec::new()), |refs| encode(&(refs, told)))
}

/// Of what [`encode_refs`] wrote; null in rows that are older than the column.
pub(super) fn decode_refs(stored: Option<&[u8]>) -> Result<Option<(Box<Refs>, Told)>, CqlError> {
    stored.filter(|stored| !stored.is_empty()).map(decode).transpose()
}

impl Inner {
    /// One slice for each bucket of the part.
    pub(super) async fn folded(&self, conv: &ConvId, from: Seq, upto: Seq) -> StoreResult<FoldedPart> {
        let (mut part, mut names) = (FoldedPart::default(), NAMES);
        if from > upto {
            return Ok(part);
        }
        for bucket in bucket_of(from)..=bucket_of(upto) {
            let values = (conv.as_str(), signed(bucket), signed(from), signed(upto));
            for columns in self.all_pages::<Columns>(&self.cql.folds, values).await? {
                let (re, row) = to_fold(columns)?;
                part.scanned += 1;
                part.of.entry(re).or_default().take(&row, &mut names);
            }
        }
        part.of.retain(|_, folded| !folded.is_empty());
        Ok(part)
    }

    async fn behind(&self, user: &UserId, conv: &ConvId, after: Seq, now: Millis) -> StoreResult<Behind> {
        let most = at_most(Behind::LOOK);
        let mentions =
            self.all_pages::<(i64,)>(&self.cql.mentions, (user.as_str(), conv.as_str(), signed(after), most));
        let expiring = self.all_pages::<(i64, String)>(&self.cql.expiring, (conv.as_str(), signed(after), most));
        let (mentions, expiring) = try_join(mentions, expiring).await?;
        let is_there = |expires: i64| expires == 0 || unsigned(expires) > now;
        // In a room one's own messages are counted as unread, too.
        let counts = |sender: &str| conv.is_room() || sender != user.as_str();
        let expired = expiring.iter().filter(|(expires, sender)| !is_there(*expires) && counts(sender)).count();
        Ok(Behind {
            mentions: mentions.iter().filter(|(expires,)| is_there(*expires)).count() as u64,
            expired: expired as u64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Body, Cid, Counts, Target};

    fn row(kind: Kind, sender: &str, body: Body) -> Row {
        let (sender, cid) = (UserId::new(sender).unwrap(), Cid::new("c").unwrap());
        Row { seq: 7, kind, sender, service: false, cid, ts: 1, body, counts: Counts::default(), refs: None }
    }

    fn about(kind: Kind, sender: &str, body: Body) -> Row {
        let target = Target::of(&row(Kind::Message, "bob", Body::text("hi")), None, 1).unwrap();
        Row { seq: 8, refs: Some(Refs::about(target)), ..row(kind, sender, body) }
    }

    fn key(reaction: &str, sender: &str) -> String {
        let body = Reacting { reaction: reaction.parse().unwrap(), set: true }.to_body();
        fold_key(&about(Kind::Reaction, sender, body)).unwrap().1
    }

    /// As the folding needs them: users of one reaction side by side.
    #[test]
    fn reactions_are_grouped_by_what_they_are() {
        let keys = [key("a", "al"), key("a", "zed"), key("a b", "al"), key("a/b", "carl"), key("aa", "al")];
        assert!(keys.is_sorted(), "{keys:?}");
        assert_eq!(fold_key(&about(Kind::Edit, "bob", Body::text("x"))), Some((7, "e".to_owned())));
        assert_eq!(fold_key(&about(Kind::Delete, "bob", Body::text("x"))), Some((7, "d".to_owned())));
        assert_eq!(fold_key(&about(Kind::Message, "bob", Body::text("x"))), None);
        assert_eq!(fold_key(&row(Kind::Edit, "bob", Body::text("x"))), None);
    }

    #[test]
    fn what_a_row_refers_to_comes_back() {
        let refs = Refs { reply_to: Some(4), expires: Some(9), ..Refs::default() };
        let stored = encode_refs(Some(&refs), Told::default()).unwrap();
        assert_eq!(decode_refs(Some(&stored)).unwrap(), Some((Box::new(refs), Told::default())));
        assert_eq!(encode_refs(None, Told::default()).unwrap(), Vec::<u8>::new());
        assert_eq!(decode_refs(Some(&[])).unwrap(), None);
        assert_eq!(decode_refs(None).unwrap(), None, "a row of before");
        for cut in 1..stored.len() {
            assert!(decode_refs(Some(&stored[..cut])).is_err(), "cut at {cut}");
        }
    }
}
