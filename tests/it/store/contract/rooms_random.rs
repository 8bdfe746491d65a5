//! Random lives of rooms: whatever is asked in whatever batches, the answers are those of the model, and the tables are what
//! the log makes of them.

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::{rooms::*, *};

const CIDS: u32 = 300;
const USERS: [&str; 5] = ["alice", "bob", "carol", "dave", "eve"];

/// Another each time.
pub fn dice() -> StdRng {
    StdRng::seed_from_u64(rand::random())
}

/// Something that somebody might ask. Of few cids some come again now and then.
pub fn asked(dice: &mut StdRng, cids: u32) -> NewMessage {
    let one = |dice: &mut StdRng| USERS[dice.random_range(0..USERS.len())];
    let (sender, cid) = (one(dice), format!("c{}", dice.random_range(0..cids)));
    let about = user(one(dice));
    let change = match dice.random_range(0..20) {
        0 => created(true),
        1..4 => Change::Joined,
        4..6 => Change::Left,
        6..8 => Change::Invited { user: about },
        8..10 => Change::Kicked { user: about },
        10..12 => {
            let role = [Role::Member, Role::Moderator, Role::Owner][dice.random_range(0..3)];
            Change::Role { user: about, role }
        }
        12 => Change::Topic { topic: format!("topic {}", dice.random_range(0..3)).parse().ok() },
        13 => Change::Lifetime { lifetime: format!("{}", dice.random_range(0..3)).parse().ok() },
        _ => return message(sender, &cid),
    };
    event(sender, &cid, &change)
}

/// What the model answers.
#[derive(Default)]
struct Model {
    folded: Folded,
    stored: BTreeMap<(UserId, String), (Seq, Body)>,
    top: Seq,
}

impl Model {
    fn answer(&mut self, asked: &NewMessage) -> StoreResult<(Seq, bool)> {
        let cid = (asked.sender.clone(), asked.cid.as_str().to_owned());
        if let Some((seq, body)) = self.stored.get(&cid) {
            let same = *body == asked.body;
            return if same { Ok((*seq, false)) } else { Err(StoreError::CidReused { seq: *seq }) };
        }
        let seq = self.top + 1;
        let taken = self.folded.take(seq, asked.kind, &asked.sender, asked.ts, &asked.body);
        taken.map_err(StoreError::Denied)?;
        self.top = seq;
        self.stored.insert(cid, (seq, asked.body.clone()));
        Ok((seq, true))
    }
}

pub async fn one_after_the_other_as_the_model_says(bed: &mut impl Bed) {
    let seed = rand::random();
    println!("seed {seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    for round in 0..3 {
        let (hall, mut model, mut accepted) = (room(&format!("hall{round}")), Model::default(), 0);
        let store = bed.store();
        for _ in 0..40 {
            let batch: Vec<_> = (0..dice.random_range(1..12)).map(|_| asked(&mut dice, CIDS)).collect();
            let expected: Vec<_> = batch.iter().map(|asked| model.answer(asked)).collect();
            accepted += expected.iter().filter(|answer| matches!(answer, Ok((_, true)))).count();
            let answers = store.logs.append(&ConvId::room(&hall), batch.clone()).await;
            let answers = answers.into_iter().map(|answer| answer.map(|stored| (stored.seq, stored.fresh)));
            assert_eq!(answers.collect::<Vec<_>>(), expected, "{batch:?}");
        }
        assert_eq!(checked(&store, &hall).await.len(), accepted);
        bed.reopen().await;
        checked(&bed.store(), &hall).await;
    }
}

pub async fn many_at_once_are_some_order(bed: &mut impl Bed) {
    many_at_once(&[bed.store()]).await;
}

/// Six writers, over these nodes by turns.
pub async fn many_at_once(stores: &[Store]) {
    let (store, hall) = (&stores[0], room("hall"));
    change(store, &hall, "alice", &created(true)).await.unwrap();
    let writers = stores.iter().cycle().take(6).map(|store| {
        let (store, conv) = (store.clone(), ConvId::room(&hall));
        tokio::spawn(async move {
            let (mut dice, mut stored) = (dice(), Vec::new());
            for _ in 0..30 {
                let batch: Vec<_> = (0..dice.random_range(1..6)).map(|_| asked(&mut dice, CIDS)).collect();
                let answers = store.logs.append(&conv, batch.clone()).await;
                for (asked, answer) in batch.into_iter().zip(answers) {
                    match answer {
                        Ok(answer) => stored.push((answer.seq, asked)),
                        Err(StoreError::Denied(_) | StoreError::CidReused { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            stored
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut stored = Vec::new();
    for writer in writers {
        stored.extend(writer.await.unwrap());
    }
    let rows = checked(store, &hall).await;
    for (seq, asked) in stored {
        let row = &rows[seq as usize - 1];
        assert_eq!((&row.sender, &row.cid, &row.body), (&asked.sender, &asked.cid, &asked.body));
    }
}
