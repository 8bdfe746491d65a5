//! The rules of home and fence against three replicas that do the worst they may: every write reaches each replica late,
//! early, in pieces or never; reads sample two replicas at different moments; homes stop at any step and go on later, or
//! never; a compare-and-set may win long after its proposer gave up on it.
//!
//! After each step everything that any reader could see is compared with what was ever visible and with what was
//! answered. Each rule has a [`Mutant`] that breaks it; the simulation must catch every one of them.

mod check;
mod folds;
mod home;
mod rooms;
mod world;

use world::World;

/// A rule, broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// F1: a restarted process takes its incarnation again.
    SameIncarnation,
    /// F2: the slot is taken while the fence is decided but on no quorum.
    FenceNotCommitted,
    /// F2: the slot is taken without a fence.
    NoFence,
    /// F3: a row above the head belongs to the log whatever its `pw` says.
    AnyRowFollows,
    /// F3: a row belongs to the log when its epoch is not below its predecessor's.
    GrowingEpochsFollow,
    /// F3: what is found above the head is not written again.
    NoAdoption,
    /// F3: what is adopted gets this epoch as its `w`.
    AdoptAsOwn,
    /// F3: adopted rows count without a validation.
    AdoptionNotValidated,
    /// F3: the rows are read before the fence.
    RowsBeforeFence,
    /// F4: nothing is known of what was stored before.
    NoDedupe,
    /// F4: a cid row counts although the row it names holds another message.
    CidRowAlone,
    /// F4: a batch counts when one replica has it.
    OneReplica,
    /// F5: nothing is validated.
    NoValidation,
    /// F5: a validation may have been read before the write was acknowledged.
    EarlyValidation,
    /// F6: the answer comes before the heads.
    AnswerBeforeHeads,
    /// F6: the answer waits for one of the two heads.
    OneHead,
    /// F7: a conversation is forgotten, and recovered in the same epoch, while a write is under way.
    ForgetUnacked,
    /// F7: a home that gets a slot back goes on with what it knew.
    KeepState,
    /// F8: the role goes on while its hand-over is proposed.
    HandOverInFlight,
    /// F9: readers look above the heads.
    ReadAboveHead,
    /// F3: what is placed is counted from the row of the head on, whatever was adopted.
    CountsOfHead,
    /// F6: a service's head stays where a row of its own is the last, though somebody wrote to it below.
    SpareService,
    /// A mend is answered though the incarnation was fenced meanwhile.
    MendNotValidated,
    /// F10: whoever the store is asked about is a member.
    AnybodyIsMember,
    /// F10: a refusal is answered though the incarnation was fenced meanwhile.
    RefusalNotValidated,
    /// F10, R25: the heads are raised before members and folds are at quorums.
    ApplyNotAwaited,
    /// F10: members are written before the row is validated.
    ApplyUnvalidated,
    /// F10: a recovery does not write what no table has.
    CatchUpNotWritten,
    /// F10: a recovery applies the last event only.
    LastEventOnly,
    /// F10: the head is written without the room as of there.
    HeadWithoutRoom,
    /// R25: folds are written before their rows are validated.
    FoldUnvalidated,
    /// R25: a recovery does not write the folds of what it adopts.
    AdoptedNotFolded,
}

impl Mutant {
    const ALL: [Self; 23] = [
        Self::SameIncarnation,
        Self::FenceNotCommitted,
        Self::NoFence,
        Self::AnyRowFollows,
        Self::GrowingEpochsFollow,
        Self::NoAdoption,
        Self::AdoptAsOwn,
        Self::AdoptionNotValidated,
        Self::RowsBeforeFence,
        Self::NoDedupe,
        Self::CidRowAlone,
        Self::OneReplica,
        Self::NoValidation,
        Self::EarlyValidation,
        Self::AnswerBeforeHeads,
        Self::OneHead,
        Self::ForgetUnacked,
        Self::KeepState,
        Self::HandOverInFlight,
        Self::ReadAboveHead,
        Self::CountsOfHead,
        Self::SpareService,
        Self::MendNotValidated,
    ];
}

impl Mutant {
    /// The rules of rooms.
    const OF_ROOMS: [Self; 7] = [
        Self::AnybodyIsMember,
        Self::RefusalNotValidated,
        Self::ApplyNotAwaited,
        Self::ApplyUnvalidated,
        Self::CatchUpNotWritten,
        Self::LastEventOnly,
        Self::HeadWithoutRoom,
    ];

    /// The rules of what stands beside the log.
    const OF_FOLDS: [Self; 3] = [Self::ApplyNotAwaited, Self::FoldUnvalidated, Self::AdoptedNotFolded];
}

/// What the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scene {
    Direct,
    Room,
    /// A direct one in which people react.
    Folds,
}

/// A small generator: a schedule is its seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) % bound as u64) as usize
    }

    pub(crate) fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }
}

/// Steps of one schedule.
const STEPS: usize = 160;

/// Runs one schedule: what was broken, and what happened.
fn run(seed: u64, mutant: Option<Mutant>, scene: Scene) -> Option<String> {
    let mut world = World::new(seed, mutant, scene);
    (0..STEPS).find_map(|_| world.step().err()).map(|fault| format!("{fault}\n{}", world.history()))
}

/// Runs schedules until one breaks a promise.
fn search(mutant: Option<Mutant>, schedules: u64, scene: Scene) -> Option<(u64, String)> {
    (1..=schedules).find_map(|seed| run(seed, mutant, scene).map(|fault| (seed, fault)))
}

/// As many as the environment says: for a long run of a release build.
fn schedules(default: u64) -> u64 {
    std::env::var("NATTER_SCHEDULES").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

#[test]
fn nothing_is_lost_doubled_or_changed_whatever_happens() {
    if let Some((seed, fault)) = search(None, schedules(20_000), Scene::Direct) {
        panic!("schedule {seed}: {fault}");
    }
}

#[test]
fn schedules_get_somewhere() {
    let (mut answered, mut epochs, mut adopted, mut mended) = (0, 0, 0, 0);
    for seed in 1..=500 {
        let mut world = World::new(seed, None, Scene::Direct);
        (0..STEPS).for_each(|_| world.step().unwrap());
        answered += world.answered();
        epochs += world.epochs();
        adopted += world.adopted();
        mended += world.mended();
    }
    assert!(
        answered > 500 && epochs > 1_000 && adopted > 100 && mended > 100,
        "{answered} answers, {epochs} epochs, {adopted} adoptions, {mended} mends"
    );
}

/// Schedules that break what is rarely broken; should they not any more, the search below is the long one.
const RARE: [(Mutant, u64); 2] = [(Mutant::GrowingEpochsFollow, 77_944), (Mutant::AdoptionNotValidated, 39_116)];

#[test]
fn every_rule_is_needed() {
    let is_caught = |mutant: Mutant| {
        let known =
            RARE.iter().find(|(rare, _)| *rare == mutant).and_then(|(_, seed)| run(*seed, Some(mutant), Scene::Direct));
        known.is_some() || search(Some(mutant), schedules(400_000), Scene::Direct).is_some()
    };
    let missed: Vec<_> = Mutant::ALL.into_iter().filter(|mutant| !is_caught(*mutant)).collect();
    assert!(missed.is_empty(), "the simulation does not see these broken: {missed:?}");
}

#[test]
fn nobody_writes_to_a_room_who_may_not_whatever_happens() {
    if let Some((seed, fault)) = search(None, schedules(20_000), Scene::Room) {
        panic!("schedule {seed}: {fault}");
    }
}

#[test]
fn schedules_of_rooms_get_somewhere() {
    let (mut answered, mut denied, mut adopted) = (0, 0, 0);
    for seed in 1..=500 {
        let mut world = World::new(seed, None, Scene::Room);
        (0..STEPS).for_each(|_| world.step().unwrap());
        answered += world.answered();
        denied += world.denied();
        adopted += world.adopted();
    }
    assert!(
        answered > 200 && denied > 300 && adopted > 50,
        "{answered} answers, {denied} refusals, {adopted} adoptions"
    );
}

/// Those that no schedule catches.
fn missed(mutants: &[Mutant], scene: Scene) -> Vec<Mutant> {
    let is_caught = |mutant: Mutant| {
        let found = search(Some(mutant), schedules(100_000), scene);
        if let Some((seed, fault)) = &found {
            println!("{mutant:?}, schedule {seed}: {}", fault.lines().next().unwrap_or_default());
        }
        found.is_some()
    };
    mutants.iter().copied().filter(|mutant| !is_caught(*mutant)).collect()
}

#[test]
fn every_rule_of_rooms_is_needed() {
    assert_eq!(missed(&Mutant::OF_ROOMS, Scene::Room), [], "the simulation does not see these broken");
}

#[test]
fn what_stands_beside_a_log_is_that_of_its_rows_whatever_happens() {
    if let Some((seed, fault)) = search(None, schedules(20_000), Scene::Folds) {
        panic!("schedule {seed}: {fault}");
    }
}

#[test]
fn every_rule_of_what_stands_beside_a_log_is_needed() {
    assert_eq!(missed(&Mutant::OF_FOLDS, Scene::Folds), [], "the simulation does not see these broken");
}
