//! What rows of a log make besides it, as CQL: folds of messages, mentions, what expires, and the members of rooms (R25, F10).
//! Written when the rows are validated and before a head shows them, again by a recovery that finds such rows: always the same
//! at the same timestamps. Called by `io`.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use futures_util::future::try_join_all;
use scylla::statement::batch::Batch;

use super::{
    Inner,
    entry::Entry,
    gathered::{HEAD, REGISTER, ROW, Write},
    io::{Done, Values},
};
use crate::{
    model::{Audience, ConvId, Kind, Millis, RoomId, Seq, UserId},
    store::{
        StoreResult,
        fence::{Applied, Event, Placed},
        scylla::{beside::fold_key, bucket_of, options::Step, signed, statements::Statements},
    },
};

/// Rows beside a log that are one partition.
pub(super) enum Beside {
    /// What rows make of the messages of one bucket.
    Folds { conv: ConvId, bucket: Seq, rows: Arc<[Placed]>, of: Vec<Fold> },
    /// Messages that mention a user, and when they expire.
    Mentions { user: UserId, conv: ConvId, at: Vec<(Seq, Millis)> },
    /// Messages that expire, when, and who wrote them.
    Expiring { conv: ConvId, at: Vec<(Seq, Millis, UserId)> },
    /// That one of them is the last for a user.
    Note { user: UserId, conv: ConvId, at: Seq },
    /// That one of them is the last for all of a room.
    NoteRoom { room: RoomId, at: Seq },
}

/// What one of the rows makes of one message.
pub(super) struct Fold {
    /// The place among the rows.
    row: usize,
    re: Seq,
    key: String,
}

/// Conversation, bucket, message, key, seq of the row, kind, sender, whether that is a service, cid, time, body, timestamp.
pub(super) type FoldValues<'a> = (&'a str, i64, i64, &'a str, i64, i8, &'a str, bool, &'a str, i64, &'a [u8], i64);

impl Beside {
    /// Everything that these rows put beside the log.
    fn of(conv: &ConvId, rows: &Arc<[Placed]>) -> Vec<Self> {
        let (mut folds, mut mentions) = (BTreeMap::<Seq, Vec<Fold>>::new(), HashMap::<&UserId, Vec<_>>::new());
        let (mut expiring, mut notes) = (Vec::new(), HashMap::<&UserId, Seq>::new());
        let audience = Audience::of(conv);
        for (n, Placed { row, told, .. }) in rows.iter().enumerate() {
            let Some(refs) = row.refs.as_deref() else { continue };
            if let Some((re, key)) = fold_key(row) {
                folds.entry(bucket_of(re)).or_default().push(Fold { row: n, re, key });
            }
            if row.kind != Kind::Message {
                continue;
            }
            for user in told.among(&refs.mentions) {
                mentions.entry(user).or_default().push((row.seq, refs.expires.unwrap_or(0)));
                notes.insert(user, row.seq);
            }
            if let Some(expires) = refs.expires {
                expiring.push((row.seq, expires, row.sender.clone()));
                let others = audience.iter().flat_map(|audience| audience.others(&row.sender));
                for user in others {
                    notes.insert(user, row.seq);
                }
            }
        }
        let last = expiring.last().map(|(seq, ..)| *seq);
        let note_room = conv.as_room().zip(last).map(|(room, at)| Self::NoteRoom { room, at });
        let folds = folds.into_iter();
        let folds = folds.map(|(bucket, of)| Self::Folds { conv: conv.clone(), bucket, rows: rows.clone(), of });
        let mentions = mentions.into_iter();
        let mentions = mentions.map(|(user, at)| Self::Mentions { user: user.clone(), conv: conv.clone(), at });
        let notes = notes.into_iter();
        let notes = notes.map(|(user, at)| Self::Note { user: user.clone(), conv: conv.clone(), at });
        let expiring = last.map(|_| Self::Expiring { conv: conv.clone(), at: expiring });
        folds.chain(mentions).chain(notes).chain(note_room).chain(expiring).collect()
    }

    /// What the server counts for it, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Folds { rows, of, .. } => of.iter().map(|fold| rows[fold.row].row.body.size() + ROW).sum(),
            Self::Mentions { at, .. } => at.len() * REGISTER,
            Self::Expiring { at, .. } => at.len() * REGISTER,
            Self::Note { .. } | Self::NoteRoom { .. } => HEAD,
        }
    }

    pub(super) fn add<'a>(&'a self, cql: &Statements, batch: &mut Batch, values: &mut Vec<Values<'a>>) {
        match self {
            Self::Folds { conv, bucket, rows, of } => {
                for Fold { row, re, key } in of {
                    let row = &rows[*row].row;
                    let (seq, kind, ts) = (signed(row.seq), row.kind.byte().cast_signed(), signed(row.ts));
                    let (sender, cid, body) = (row.sender.as_str(), row.cid.as_str(), row.body.as_msgpack().as_ref());
                    let (conv, bucket, re) = (conv.as_str(), signed(*bucket), signed(*re));
                    batch.append_statement(cql.write_fold.clone());
                    let fold = (conv, bucket, re, key.as_str(), seq, kind, sender, row.service, cid, ts, body, seq);
                    values.push(Values::Fold(fold));
                }
            }
            Self::Mentions { user, conv, at } => {
                for (seq, expires) in at {
                    let seq = signed(*seq);
                    batch.append_statement(cql.write_mention.clone());
                    values.push(Values::Mention((user.as_str(), conv.as_str(), seq, signed(*expires), seq)));
                }
            }
            Self::Expiring { conv, at } => {
                for (seq, expires, sender) in at {
                    let seq = signed(*seq);
                    batch.append_statement(cql.write_expiring.clone());
                    values.push(Values::Expiring((conv.as_str(), seq, signed(*expires), sender.as_str(), seq)));
                }
            }
            Self::Note { user, conv, at } => {
                batch.append_statement(cql.note.clone());
                values.push(Values::Note((user.as_str(), conv.as_str(), signed(*at), signed(*at))));
            }
            Self::NoteRoom { room, at } => {
                batch.append_statement(cql.note_room.clone());
                values.push(Values::NoteRoom((room.as_str(), signed(*at), signed(*at))));
            }
        }
    }
}

impl Inner {
    /// Writes all of it, as often as needed until quorums have it.
    pub(super) async fn apply(
        self: &Arc<Self>,
        entry: &Entry,
        Applied { members, rows }: &Applied,
        again: bool,
    ) -> StoreResult<Done> {
        let mut writes = match entry.conv.as_room() {
            Some(room) => Write::members(entry, &room, members)?,
            None => Vec::new(),
        };
        writes.extend(Beside::of(&entry.conv, rows).into_iter().map(|beside| Write::Beside(Box::new(beside))));
        match self.stop_after {
            // A member is two writes: at the room and at the user.
            Some(Step::FirstMember) => writes.truncate(2),
            Some(Step::FirstBeside) => writes.truncate(1),
            _ => {}
        }
        try_join_all(writes.into_iter().map(|write| self.write(write, again))).await?;
        let stops = matches!(self.stop_after, Some(Step::FirstMember | Step::FirstBeside | Step::Applied));
        Ok(if stops { Done::Stopped } else { Done::Event(Event::Applied) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        model::{Body, Cid, Counts, Refs, Row, Target},
        store::{fence::Told, scylla::BUCKET},
    };

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn row(seq: Seq, kind: Kind, refs: Option<Refs>) -> Row {
        let (sender, cid, counts) = (user("alice"), Cid::new("c").unwrap(), Counts::default());
        let refs = refs.map(Box::new);
        Row { seq, kind, sender, service: false, cid, ts: 1, body: Body::text("hi"), counts, refs }
    }

    fn placed(row: Row) -> Placed {
        Placed { row, w: 1, pw: 1, event: 0, made: None, told: Told::default() }
    }

    fn edit(seq: Seq, re: Seq) -> Placed {
        let target = Target::of(&row(re, Kind::Message, None), None, 1).unwrap();
        placed(row(seq, Kind::Edit, Some(*Refs::about(target))))
    }

    #[test]
    fn folds_go_where_their_messages_are() {
        let rows =
            Arc::from(vec![placed(row(1, Kind::Message, None)), edit(BUCKET + 2, 1), edit(BUCKET + 3, BUCKET + 1)]);
        let found = Beside::of(&ConvId::direct(&user("alice"), &user("bob")), &rows);
        let buckets = found.iter().map(|beside| match beside {
            Beside::Folds { bucket, of, .. } => (*bucket, of.iter().map(|fold| (fold.row, fold.re)).collect()),
            _ => panic!("an edit makes folds only"),
        });
        assert_eq!(buckets.collect::<Vec<(Seq, Vec<_>)>>(), [(0, vec![(1, 1)]), (1, vec![(2, BUCKET + 1)])]);
    }

    #[test]
    fn what_expires_is_noted_for_the_other_one_or_for_the_room() {
        let refs = Refs { expires: Some(9), ..Refs::default() };
        let rows: Arc<[Placed]> = Arc::from(vec![placed(row(4, Kind::Message, Some(refs)))]);
        let direct = Beside::of(&ConvId::direct(&user("alice"), &user("bob")), &rows);
        let noted = |beside: &Beside| matches!(beside, Beside::Note { user, at: 4, .. } if user.as_str() == "bob");
        let expires =
            |beside: &Beside| matches!(beside, Beside::Expiring { at, .. } if at[..] == [(4, 9, user("alice"))]);
        assert!(direct.len() == 2 && direct.iter().any(noted) && direct.iter().any(expires));
        let room = Beside::of(&ConvId::new("room:r").unwrap(), &rows);
        assert!(room.len() == 2 && room.iter().any(|beside| matches!(beside, Beside::NoteRoom { at: 4, .. })));
        let alone = Beside::of(&ConvId::direct(&user("alice"), &user("alice")), &rows);
        assert!(alone.len() == 1 && alone.iter().any(expires), "nobody else reads it");
    }
}
