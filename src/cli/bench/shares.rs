//! What people do, and how often: the kinds of the scenario `mixed` and their shares.

use std::{fmt, str::FromStr};

/// Something that a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message to one other; until that one has it.
    Direct,
    /// A message to a room; until each of the others has it.
    Room,
    /// A read mark; until the other side sees it.
    Read,
    /// A page of history; until the answer.
    History,
    /// A signal; until the other side has it.
    Typing,
    /// The connection ends, and the client comes back; from its first packet to `caught_up`.
    Reconnect,
}

/// All of them.
pub(super) const KINDS: [Kind; 6] =
    [Kind::Direct, Kind::Room, Kind::Read, Kind::History, Kind::Typing, Kind::Reconnect];

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Room => "room",
            Self::Read => "read",
            Self::History => "history",
            Self::Typing => "typing",
            Self::Reconnect => "reconnect",
        }
    }

    /// Never stored: who is away does not see it.
    pub(super) fn is_of_the_moment(self) -> bool {
        matches!(self, Self::Read | Self::Typing)
    }
}

/// How often each is done, as parts of the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shares([u32; KINDS.len()]);

impl Default for Shares {
    fn default() -> Self {
        Self([35, 10, 25, 5, 24, 1])
    }
}

impl Shares {
    pub(super) fn of(&self, kind: Kind) -> u32 {
        self.0[kind as usize]
    }

    /// The kind at a place between 0 and 1.
    pub(super) fn pick(&self, place: f64) -> Kind {
        let mut left = place * f64::from(self.0.iter().sum::<u32>());
        for kind in KINDS {
            left -= f64::from(self.of(kind));
            if left < 0.0 {
                return kind;
            }
        }
        Kind::Direct
    }
}

impl fmt::Display for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, kind) in KINDS.into_iter().enumerate() {
            write!(f, "{}{}={}", if at == 0 { "" } else { "," }, kind.word(), self.of(kind))?;
        }
        Ok(())
    }
}

impl FromStr for Shares {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut shares = Self::default();
        for part in text.split(',') {
            let (word, share) = part.split_once('=').ok_or_else(|| format!("{part:?} is not KIND=N"))?;
            let kind = KINDS
                .into_iter()
                .find(|kind| kind.word() == word)
                .ok_or_else(|| format!("there is no kind {word:?}, only {}", KINDS.map(Kind::word).join(", ")))?;
            let share = share.parse::<u32>().ok().filter(|share| *share <= 1_000);
            shares.0[kind as usize] =
                share.ok_or_else(|| format!("the share of {word} must be a number up to 1000"))?;
        }
        if shares.0.iter().sum::<u32>() == 0 {
            return Err("one share must not be 0".into());
        }
        Ok(shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_written() {
        let shares: Shares = "typing=0,reconnect=5".parse().unwrap();
        assert_eq!(shares.to_string(), "direct=35,room=10,read=25,history=5,typing=0,reconnect=5");
        assert_eq!(shares.to_string().parse(), Ok(shares));
        for (text, words) in [("a", "not KIND=N"), ("a=1", "no kind"), ("room=x", "must be a number")] {
            assert!(text.parse::<Shares>().unwrap_err().contains(words), "{text}");
        }
        let none = "direct=0,room=0,read=0,history=0,typing=0,reconnect=0".parse::<Shares>();
        assert!(none.unwrap_err().contains("must not be 0"));
    }

    #[test]
    fn kinds_are_picked_by_their_shares() {
        let shares = Shares::default();
        let picks: Vec<_> = (0..100).map(|n| shares.pick((f64::from(n) + 0.5) / 100.0)).collect();
        for kind in KINDS {
            assert_eq!(picks.iter().filter(|pick| **pick == kind).count(), shares.of(kind) as usize, "{kind:?}");
        }
    }
}
