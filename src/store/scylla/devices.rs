//! The devices of a user: which there are, how often the user logged in, and what becomes of those that are too many.
//! Called by [`super::traits`].
//!
//! All of it stands in the static columns of the user's inbox, so that a login reads it with the stamps in one request
//! and writes it in another. `logins` is the number of the user's last login, `devices` has an entry per device: the
//! number of its last login, its life, and the time. Everything is written at TIMESTAMP = the number, so the entry of
//! the latest login stays (R19), and a removal of an entry, at a number as well, hides none that is written later.
//!
//! A device that was retired comes back with another *life*, and cursors belong to a life: what is left of the former
//! ones, and what arrives of them late, concerns nobody. So the partition of a life is removed at the largest timestamp
//! there is. It must be dead by then, and stay so: no login may put its entry back. One that read the entry before it
//! was removed writes at the number after the one it read, so the removal is written [`AHEAD`] of all that were given
//! out: it hides that one too, whose session ends at its recheck.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use aws_lc_rs::digest;
use compact_str::{CompactString, format_compact};
use futures_util::{StreamExt, TryStreamExt, stream};
use scylla::statement::batch::{Batch, BatchType};

use super::{
    Inner,
    rows::{self, CqlError},
    signed, unsigned,
};
use crate::{
    model::{Device, DeviceId, MAX_SEQ, UserId, now_millis},
    store::{Entered, KnownDevice, Stamps, StoreError, StoreResult},
};

/// Cursors written at once for a new device.
const CURSOR_BATCH: usize = 64;
/// Such batches in flight.
const CURSOR_BATCHES: usize = 4;
/// Numbers that a removal jumps over: more than one user's logins between two requests.
const AHEAD: u64 = 1 << 20;

/// Number, life, time of the last login.
type Entry = (i64, i64, i64);
type Stored = (Option<BTreeMap<String, i64>>, Option<i64>, Option<HashMap<String, Entry>>, Option<bool>);

/// The static columns of an inbox.
#[derive(Default)]
struct Statics {
    stamps: BTreeMap<String, i64>,
    logins: u64,
    devices: HashMap<String, Entry>,
    in_rooms: bool,
}

impl Statics {
    fn life_of(&self, device: &DeviceId) -> Option<u64> {
        self.devices.get(device.as_str()).map(|(_, life, _)| unsigned(*life))
    }

    /// A hash of all entries: an inbox has one for each incarnation that wrote to it.
    fn stamps(&self, device: &Device) -> Stamps {
        let clean = self.stamps.values().all(|stamp| stamp % 2 == 0);
        let retired = self.life_of(&device.device) != Some(device.life);
        let in_rooms = self.in_rooms;
        if self.stamps.is_empty() {
            return Stamps { value: CompactString::default(), clean, retired, in_rooms };
        }
        let mut digest = digest::Context::new(&digest::SHA256);
        for (life, stamp) in &self.stamps {
            digest.update(life.as_bytes());
            digest.update(b"=");
            digest.update(&stamp.to_be_bytes());
        }
        let value = digest.finish().as_ref()[..16].iter().map(|byte| format_compact!("{byte:02x}")).collect();
        Stamps { value, clean, retired, in_rooms }
    }

    /// Those beyond `most` that logged in longest ago. The same for everybody who sees the same, so two that retire at
    /// once do not retire each other's.
    fn beyond(&self, most: usize) -> Vec<(String, Entry)> {
        let mut all: Vec<_> = self.devices.iter().map(|(name, entry)| (name.clone(), *entry)).collect();
        all.sort_unstable_by(|(a, x), (b, y)| (x.0, a).cmp(&(y.0, b)));
        all.truncate(all.len().saturating_sub(most));
        all
    }
}

impl Inner {
    pub(super) async fn stamps(&self, device: &Device) -> StoreResult<Stamps> {
        let statics = self.statics(&device.user).await?;
        if let Err(error) = self.remove_old_stamps(&device.user, &statics.stamps).await {
            tracing::debug!(user = %device.user, %error, "old stamps stay for now");
        }
        Ok(statics.stamps(device))
    }

    pub(super) async fn devices(&self, user: &UserId) -> StoreResult<Vec<KnownDevice>> {
        let known = self.statics(user).await?.devices.into_iter().map(|(name, (_, life, seen))| {
            let id = DeviceId::new(&name).map_err(CqlError::new)?;
            let device = Device { life: unsigned(life), ..Device::new(user.clone(), id) };
            Ok(KnownDevice { device, seen: unsigned(seen) })
        });
        known.collect()
    }

    /// The number is one above what a quorum knows, and a quorum has it before it is used, so it is larger than every
    /// number that was answered before (R11), of all the user's devices: no other request is needed for it than those that
    /// read and write the device. Two logins at the same moment may get the same, and R11 has other means to tell those
    /// apart.
    pub(super) async fn enter_device(&self, device: &Device, most: usize) -> StoreResult<Entered> {
        let statics = self.statics(&device.user).await?;
        let number = statics.logins + 1;
        let known = statics.life_of(&device.device);
        // Each registration has its own: of two at once the slower one moves no cursor of a device that is known.
        let life = known.unwrap_or_else(|| rand::random_range(1..MAX_SEQ));
        let device = &Device { life, ..device.clone() };
        if known.is_none() {
            self.start_at_marks(device).await?;
        }
        let entry: Entry = (signed(number), signed(life), signed(now_millis()));
        let values = (signed(number), signed(number), device.device.as_str(), entry, device.user.as_str());
        self.ask(&self.cql.enter, values).await?;
        if known.is_none() {
            self.retire_beyond(&device.user, most, &device.device).await?;
        }
        let stamps = Stamps { retired: false, ..statics.stamps(device) };
        Ok(Entered { number, life, is_new: known.is_none(), stamps })
    }

    /// As a login of a device that is known.
    pub(super) async fn refresh_device(&self, device: &Device, within: Duration) -> StoreResult<()> {
        let statics = self.statics(&device.user).await?;
        let entry = statics.devices.get(device.device.as_str());
        let Some((_, life, seen)) = entry.filter(|(_, life, _)| unsigned(*life) == device.life) else { return Ok(()) };
        let now = now_millis();
        if u128::from(now.saturating_sub(unsigned(*seen))) < within.as_millis() {
            return Ok(());
        }
        let number = signed(statics.logins + 1);
        let entry: Entry = (number, *life, signed(now));
        self.ask(&self.cql.enter, (number, number, device.device.as_str(), entry, device.user.as_str())).await?;
        Ok(())
    }

    /// Its cursors are written before its entry: whoever finds the device finds them.
    async fn start_at_marks(&self, device: &Device) -> StoreResult<()> {
        let marks: Vec<(String, Option<i64>)> = self.all_pages(&self.cql.read_marks, (device.user.as_str(),)).await?;
        let marks: Vec<(&str, i64)> = marks.iter().filter_map(|(conv, seq)| Some((conv.as_str(), (*seq)?))).collect();
        let writes: Vec<_> = marks.chunks(CURSOR_BATCH).map(|some| self.raise_cursors(device, some)).collect();
        stream::iter(writes).buffer_unordered(CURSOR_BATCHES).try_collect().await
    }

    /// After the entry of the new one: of several that come at once the last to look sees them all.
    async fn retire_beyond(&self, user: &UserId, most: usize, new: &DeviceId) -> StoreResult<()> {
        let statics = self.statics(user).await?;
        for (name, entry) in statics.beyond(most) {
            self.remove(user, &name, entry, statics.logins).await?;
            if name == new.as_str() {
                return Err(StoreError::unavailable("too many new devices of this user at once"));
            }
        }
        Ok(())
    }

    pub(super) async fn retire(&self, user: &UserId, device: &DeviceId) -> StoreResult<bool> {
        let statics = self.statics(user).await?;
        let Some(entry) = statics.devices.get(device.as_str()) else { return Ok(false) };
        self.remove(user, device.as_str(), *entry, statics.logins).await?;
        Ok(true)
    }

    /// Removes the entry, and then the cursors of its life, if it is dead.
    async fn remove(&self, user: &UserId, device: &str, (_, life, _): Entry, logins: u64) -> StoreResult<()> {
        let number = signed(logins + AHEAD);
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_is_idempotent(true);
        batch.append_statement(self.cql.count_login.clone());
        batch.append_statement(self.cql.remove_device.clone());
        let values = ((number, number, user.as_str()), (device, number, user.as_str()));
        self.session.batch(&batch, values).await.map_err(CqlError::new)?;
        // Logged in meanwhile, many times: it lives.
        let left = self.statics(user).await?.devices.get(device).copied();
        if left.is_none_or(|(_, left, _)| left != life) {
            self.ask(&self.cql.forget_cursors, (user.as_str(), device, life)).await?;
        }
        Ok(())
    }

    async fn statics(&self, user: &UserId) -> StoreResult<Statics> {
        let row = rows::first::<Stored>(self.ask(&self.cql.statics, (user.as_str(),)).await?)?;
        let (stamps, logins, devices, in_rooms) = row.unwrap_or_default();
        Ok(Statics {
            stamps: stamps.unwrap_or_default(),
            logins: logins.map_or(0, unsigned),
            devices: devices.unwrap_or_default(),
            in_rooms: in_rooms.unwrap_or(false),
        })
    }
}
