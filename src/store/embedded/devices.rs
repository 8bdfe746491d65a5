//! The rows of devices within a commit: logins, registrations, and what is retired. Called by the writer thread;
//! [`super::register`] copies a new device's cursors before, and forgets those of a retired one after.

use fjall::{Readable as _, Slice};

use super::{
    commit::Commit,
    keys,
    register::find,
    rows::{self, DeviceRow},
    tables::unavailable,
};
use crate::{
    model::{Device, DeviceId, UserId, now_millis},
    store::{Entered, Stamps, StoreError, StoreResult},
};

impl Commit<'_> {
    /// A device logs in; life 0: it was known when the caller looked. The number is that of the commit: larger than in every commit before, also before a restart.
    pub(super) fn enter(&mut self, device: &Device, most: usize) -> StoreResult<(Entered, Vec<Device>)> {
        let key = keys::device(device);
        let known = self.device(&key)?;
        if known.is_none() && device.life == 0 {
            // It was known a moment ago, so no cursors were copied for it.
            return Err(StoreError::unavailable("the device was retired at this moment, log in again"));
        }
        let life = known.map_or(device.life, |row| row.life);
        let number = self.tables.next_commit();
        self.devices.insert(key, Some(DeviceRow { number, life, seen: now_millis() }));
        let mut retired = Vec::new();
        if known.is_none() {
            self.changes_devices = true;
            retired = self.retire_beyond(&device.user, most, &device.device)?;
        }
        // Whoever asked puts in the stamps: they are no rows.
        let stamps = Stamps { value: "".into(), clean: false, retired: false, in_rooms: true };
        Ok((Entered { number, life, is_new: known.is_none(), stamps }, retired))
    }

    /// Those that logged in longest ago; never the new one, whatever others are in the same commit.
    fn retire_beyond(&mut self, user: &UserId, most: usize, new: &DeviceId) -> StoreResult<Vec<Device>> {
        let mut others = self.devices_of(user)?;
        others.retain(|(id, _)| id != new);
        others.sort_unstable_by(|(a, x), (b, y)| (x.number, a.as_str()).cmp(&(y.number, b.as_str())));
        let too_many = (others.len() + 1).saturating_sub(most.max(1));
        others.truncate(too_many);
        let retire = |(id, _): (DeviceId, DeviceRow)| self.retire(user, &id);
        Ok(others.into_iter().map(retire).collect::<StoreResult<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Makes a device unknown; returns it in the life that is over.
    pub(super) fn retire(&mut self, user: &UserId, device: &DeviceId) -> StoreResult<Option<Device>> {
        let device = Device::new(user.clone(), device.clone());
        let key = keys::device(&device);
        let Some(row) = self.device(&key)? else { return Ok(None) };
        self.devices.insert(key, None);
        self.changes_devices = true;
        Ok(Some(Device { life: row.life, ..device }))
    }

    /// As this commit has it, or as it is stored.
    pub(super) fn device(&self, key: &Slice) -> StoreResult<Option<DeviceRow>> {
        if let Some(row) = self.devices.get(key) {
            return Ok(*row);
        }
        find(self.tables, key)
    }

    fn devices_of(&self, user: &UserId) -> StoreResult<Vec<(DeviceId, DeviceRow)>> {
        let range = keys::devices(user);
        let mut found = std::collections::BTreeMap::new();
        for item in self.tables.db.snapshot().range(&self.tables.devices, range.clone()) {
            let (key, value) = item.into_inner().map_err(unavailable)?;
            found.insert(key, Some(DeviceRow::decode(&value)?));
        }
        found.extend(self.devices.range(range).map(|(key, row)| (key.clone(), *row)));
        let known = found.into_iter().filter_map(|(key, row)| Some((key, row?)));
        known.map(|(key, row)| Ok((keys::device_of(&key).ok_or_else(rows::unreadable)?, row))).collect()
    }

    /// Removes cursors of a life that is over.
    pub(super) fn forget(&mut self, keys: Vec<Slice>) {
        for key in keys {
            self.batch.remove(&self.tables.cursors, key);
        }
    }
}
