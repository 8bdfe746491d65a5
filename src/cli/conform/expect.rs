//! The steps in which it is the client's turn: waits for what it must do, and says what it did instead. Called by `perform`.

use serde_json::{Map, Value};
use tokio::time::{Duration, Instant};

use super::{perform::HOUR, referee::Verdict, rules::Fault, script::Step, stage::Stage};

/// A client that does not survive what came has noticed by then.
const SHOCK: Duration = Duration::from_millis(700);

impl Stage {
    /// What the client must do.
    pub(super) async fn expect(&mut self, rule: usize, step: &Step) -> Verdict {
        match step {
            Step::Send(ids) => self.sends(rule, ids).await,
            Step::Ack { conv, seq } => {
                let (patience, what) = (self.patience, format!("an ack of {conv} up to {seq}"));
                self.until(rule, patience, &what, |stage| (stage.referee.places.acked(conv) >= *seq).then_some(()))
                    .await
            }
            Step::Token => {
                let reference =
                    self.until(rule, self.patience, "a token", |stage| stage.session.tokens.pop_front()).await?;
                self.session.refs.insert("token".into(), reference);
                Ok(())
            }
            Step::Pong => {
                let pong = |stage: &mut Self| (stage.session.pongs > 0).then(|| stage.session.pongs = 0);
                self.until(rule, self.patience, "a pong", pong).await
            }
            Step::ToldMessages { conv, seqs } => {
                let (last, what) = (*seqs.end(), format!("the program tells of {conv} up to {}", seqs.end()));
                self.until(rule, self.patience, &what, |stage| (stage.referee.places.told(conv) >= last).then_some(()))
                    .await
            }
            Step::ToldSent(ids) => self.told_end(rule, ids, "is sent").await,
            Step::ToldRefused { id, code } => {
                self.told_end(rule, std::slice::from_ref(id), &format!("is refused with {code}")).await
            }
            Step::ToldClosed(code) => {
                let told =
                    self.until(rule, self.patience, "the program tells that it is over", |stage| stage.closed.clone());
                let (told, code) = (told.await?, code.map(Value::from));
                if code.is_some_and(|code| code != told) {
                    return Err(Fault::new(rule, format!("the program told that it is over with {told}")));
                }
                Ok(())
            }
            Step::Wait(time) => self.pass(*time).await,
            Step::Quiet(time) => {
                self.pass(*time).await?;
                if self.wire.is_none() || !self.arrived.is_empty() {
                    return Err(Fault::new(rule, "it left a connection that is in order"));
                }
                Ok(())
            }
            Step::Away(time) => {
                self.pass(*time).await?;
                if self.arrived.is_empty() { Ok(()) } else { Err(Fault::new(rule, "it connected again")) }
            }
            Step::Waits { id, least } => match self.referee.refused_for(id) {
                Some(took) if took >= *least => Ok(()),
                took => {
                    let took = took.unwrap_or_default().as_millis();
                    let words = format!(
                        "all tries of {id:?} took {took} ms: with growing waits they take {} at least",
                        least.as_millis()
                    );
                    Err(Fault::new(rule, words))
                }
            },
            Step::Survives => self.survives(rule).await,
            Step::Exit => {
                let deadline = Instant::now() + self.patience;
                while self.exited.is_none() {
                    if !self.happens(deadline).await? {
                        return Err(Fault::new(rule, "the program did not end"));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What came may end the connection, and nothing more.
    async fn survives(&mut self, rule: usize) -> Verdict {
        // With its pong it has read all of it, however late the machine is.
        self.session.pongs = 0;
        if let Some(wire) = &mut self.wire {
            wire.ping().await;
        }
        let noticed = |stage: &mut Self| {
            (stage.session.pongs > 0 || stage.wire.is_none() || !stage.arrived.is_empty()).then_some(())
        };
        self.until(rule, self.patience, "a pong, or the end of the connection", noticed).await?;
        let deadline = Instant::now() + SHOCK;
        while self.wire.is_some() && self.arrived.is_empty() && self.happens(deadline).await? {}
        if self.wire.is_some() && self.arrived.is_empty() {
            return Ok(());
        }
        self.accept(rule, None).await?;
        self.welcome(25, HOUR, &Map::new()).await;
        self.caught_up(None).await;
        Ok(())
    }

    /// These come next, in this order.
    pub(super) async fn sends(&mut self, rule: usize, ids: &[String]) -> Verdict {
        for id in ids {
            let what = format!("{id:?} on the wire");
            let next = |stage: &mut Self| match (stage.session.sends.pop_front(), &stage.wire) {
                (Some(next), _) => Some(Some(next)),
                (None, None) => Some(None),
                (None, Some(_)) => None,
            };
            match self.until(rule, self.patience, &what, next).await? {
                Some(next) if next == *id => {}
                Some(next) => return Err(Fault::new(rule, format!("it sent {next:?}, {id:?} comes first"))),
                None => return Err(Fault::new(rule, format!("it left the connection before it sent {id:?}"))),
            }
        }
        Ok(())
    }

    async fn told_end(&mut self, rule: usize, ids: &[String], end: &str) -> Verdict {
        for id in ids {
            let told =
                |stage: &mut Self| stage.referee.of(id).is_none_or(|written| written.told.is_some()).then_some(());
            self.until(rule, self.patience, &format!("the program tells that {id:?} {end}"), told).await?;
        }
        Ok(())
    }
}
