//! Limits of the store, kept before something is written: room is made first, and where that is not enough it is
//! said what takes the room.
//!
//! Nothing is looked at unless something is about to be written, and without limits that is one statfs(2). While a
//! step writes, [`RoomWatch`] looks again. What is removed is what nobody needs and was not used for longest: pieces of
//! the build cache, then images without a name. Without a limit that was set nothing is. Not here: which pieces (`choose`), and how they go (`beside`).

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::choose::{CacheFilter, Free, PruneRequest, choose};
use super::entries::bytes_together;
use super::error::failed;
use super::measure::measured;
use super::{CacheEntry, CacheKind, Store, StoreError, locked};

/// What must be free of the file system where nothing else was said: with less, a step would but break off midway.
const LEAST_FREE: Free = Free { bytes: 64 << 20, inodes: 1000 };

/// How often what is too old is looked for.
const BETWEEN_AGES: Duration = Duration::from_secs(3600);

/// The limits of a store. A limit that is not set is none, but that a little must be free to begin with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quota {
    /// What all files of the store together may take, in bytes.
    pub max_used_space: Option<u64>,
    /// What must stay free of the store's file system, in bytes; 0: nothing.
    pub min_free_space: Option<u64>,
    /// As much of the build cache is never removed to make room, in bytes.
    pub reserved_space: u64,
    /// How many inodes must stay free; 0: none.
    pub min_free_inodes: Option<u64>,
    /// After how many days without use a piece of the build cache goes.
    pub keep_days: Option<u32>,
}

impl Quota {
    /// Tells whether there is a limit for whose sake something may be removed.
    fn is_set(&self) -> bool {
        self.max_used_space.is_some() || self.min_free_space.is_some() || self.min_free_inodes.is_some()
    }

    fn least_free(&self) -> Free {
        Free {
            bytes: self.min_free_space.unwrap_or(LEAST_FREE.bytes),
            inodes: self.min_free_inodes.unwrap_or(LEAST_FREE.inodes),
        }
    }
}

/// Which limit is in the way, in bytes or inodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    Bytes { free: u64, needed: u64, least: u64 },
    Inodes { free: u64, least: u64 },
    Store { used: u64, needed: u64, most: u64 },
}

/// Why nothing may be written, and what takes the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoRoom {
    limit: Limit,
    /// Whether it was said that this much is to stay free.
    was_set: bool,
    root: PathBuf,
    images: u64,
    registry: u64,
    cache: u64,
    cache_in_use: u64,
    /// What running steps and containers wrote.
    written: u64,
    /// Whether layers stay because builds are running.
    busy: bool,
    /// Whether it is about a step that was writing.
    stopped: bool,
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.root.display();
        f.write_str(if self.stopped { "stopped, no room is left: " } else { "no room: " })?;
        match self.limit {
            Limit::Bytes { free, needed, least } => {
                write!(f, "{} are free on the file system of the store `{root}`, ", Bytes(free))?;
                if needed > 0 {
                    write!(f, "{} are to be written, ", Bytes(needed))?;
                }
                write!(f, "{} must stay free", Bytes(least))?;
                f.write_str(if self.was_set { " (min_free_space)" } else { "" })?;
            }
            Limit::Inodes { free, least } => {
                write!(f, "{free} inodes are free on the file system of the store `{root}`, ")?;
                write!(f, "{least} must stay free")?;
                f.write_str(if self.was_set { " (min_free_inodes)" } else { "" })?;
            }
            Limit::Store { used, needed, most } => {
                write!(f, "the store `{root}` takes {}, ", Bytes(used))?;
                if needed > 0 {
                    write!(f, "{} are to be written, ", Bytes(needed))?;
                }
                write!(f, "and it may take {} (max_used_space)", Bytes(most))?;
            }
        }
        write!(f, "; images take {}, the build cache {}", Bytes(self.images), Bytes(self.cache))?;
        if self.registry > 0 {
            write!(f, ", the registry {}", Bytes(self.registry))?;
        }
        if self.written > 0 {
            write!(f, ", what running steps and containers wrote {}", Bytes(self.written))?;
        }
        if self.cache_in_use > 0 {
            write!(
                f,
                "; {} of the cache are in use{}",
                Bytes(self.cache_in_use),
                if self.busy { " by running builds" } else { "" }
            )?;
        }
        Ok(())
    }
}

impl NoRoom {
    /// Returns what to do next.
    pub fn hint(&self) -> String {
        let raise = match self.limit {
            Limit::Store { .. } => "raise max_used_space",
            _ => "name a store on another file system with --root",
        };
        format!(
            "`rbuild du` and `rbuild images` show what takes room; `rbuild prune -a` and `rbuild image prune -a` free it; or {raise}"
        )
    }
}

/// Bytes for people, in decimal units.
struct Bytes(u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
        let (mut value, mut unit) = (self.0 as f64, 0);
        while value >= 999.95 && unit + 1 < units.len() {
            (value, unit) = (value / 1000.0, unit + 1);
        }
        let text = format!("{value:.1}");
        write!(f, "{}{}", text.strip_suffix(".0").unwrap_or(&text), units[unit])
    }
}

impl Store {
    /// Sets the limits that are kept from here on.
    pub fn with_quota(mut self, quota: Quota) -> Store {
        self.quota = quota;
        self
    }

    /// Returns the limits that are kept.
    pub fn quota(&self) -> &Quota {
        &self.quota
    }

    /// Makes sure that `needed` bytes, or an unknown number (0), may be written: to be called before.
    ///
    /// Where a limit that was set is in the way, pieces of the build cache go that nobody needs, also while others
    /// build. Errors: [`StoreError::NoRoom`] where that is not enough.
    pub fn make_room(&self, needed: u64) -> Result<(), StoreError> {
        if self.quota.keep_days.is_some() {
            self.remove_what_is_too_old()?;
        }
        self.make_room_within(&self.quota.least_free(), needed)
    }

    fn make_room_within(&self, least: &Free, needed: u64) -> Result<(), StoreError> {
        if self.limit_in_the_way(least, needed, false)?.is_none() {
            return Ok(());
        }
        let _one = locked(&self.room);
        // Another thread may have made room meanwhile; and what was told without measuring may be too much.
        let Some(mut limit) = self.limit_in_the_way(least, needed, true)? else { return Ok(()) };
        loop {
            let entries = self.entries_beside()?;
            if !self.quota.is_set() {
                return Err(self.no_room(limit, &entries)?);
            }
            let chosen = choose(&entries, &self.to_prune(limit, least, needed, &entries)?, &self.free()?);
            if !chosen.is_empty() && !self.remove_beside(&chosen)?.is_empty() {
                match self.limit_in_the_way(least, needed, true)? {
                    None => return Ok(()),
                    Some(other) => limit = other,
                }
            }
            // The layers of the image are cache then, and may be chosen.
            if !self.remove_oldest_unnamed()? {
                return Err(self.no_room(limit, &self.entries_beside()?)?);
            }
        }
    }

    /// Says which limit `needed` more bytes would break; `measured`: the store is measured for that.
    fn limit_in_the_way(
        &self,
        least: &Free,
        needed: u64,
        measured: bool,
    ) -> Result<Option<Limit>, StoreError> {
        let (free, disk) = self.disk()?;
        if free.bytes < least.bytes.saturating_add(needed) && least.bytes > 0 {
            return Ok(Some(Limit::Bytes { free: free.bytes, needed, least: least.bytes }));
        }
        if free.inodes < least.inodes {
            return Ok(Some(Limit::Inodes { free: free.inodes, least: least.inodes }));
        }
        let Some(most) = self.quota.max_used_space else { return Ok(None) };
        let used = match measured {
            true => self.measure_now()?.bytes,
            false => self.measured()?.now(disk),
        };
        Ok((used.saturating_add(needed) > most).then_some(Limit::Store { used, needed, most }))
    }

    /// Says what is to go for all limits at once; that of the store counts what is no cache, too.
    fn to_prune(
        &self,
        limit: Limit,
        least: &Free,
        needed: u64,
        entries: &[CacheEntry],
    ) -> Result<PruneRequest, StoreError> {
        let cache = bytes_together(entries.iter().filter(|entry| !entry.shared));
        let used = match limit {
            Limit::Store { used, .. } => Some(used),
            _ if self.quota.max_used_space.is_some() => Some(self.measured()?.bytes),
            _ => None,
        };
        let over = self.quota.max_used_space.zip(used);
        let over = over.map(|(most, used)| used.saturating_add(needed).saturating_sub(most));
        Ok(PruneRequest {
            keep: self.quota.reserved_space,
            max_used: over.map(|over| cache.saturating_sub(over)),
            min_free: (least.bytes > 0).then(|| least.bytes.saturating_add(needed)),
            min_free_inodes: (least.inodes > 0).then_some(least.inodes),
            ..PruneRequest::default()
        })
    }

    fn no_room(&self, limit: Limit, entries: &[CacheEntry]) -> Result<StoreError, StoreError> {
        let usage = self.usage()?;
        let own = || entries.iter().filter(|entry| !entry.shared);
        let used = || own().filter(|entry| entry.in_use && entry.kind != CacheKind::Internal);
        let was_set = match limit {
            Limit::Bytes { .. } => self.quota.min_free_space.is_some(),
            Limit::Inodes { .. } => self.quota.min_free_inodes.is_some(),
            Limit::Store { .. } => true,
        };
        Ok(StoreError::NoRoom(Box::new(NoRoom {
            limit,
            was_set,
            root: self.root.clone(),
            images: usage.images_size,
            registry: usage.registry.map_or(0, |registry| registry.size),
            cache: bytes_together(own()),
            cache_in_use: bytes_together(used()),
            written: measured(&self.paths.tmp).all(),
            busy: used().any(|entry| entry.kind == CacheKind::Regular),
            stopped: false,
        })))
    }

    /// Removes what was not used for the days that were set; at most once an hour looks for it.
    fn remove_what_is_too_old(&self) -> Result<(), StoreError> {
        let Some(days) = self.quota.keep_days else { return Ok(()) };
        let path = &self.paths.pruned;
        let looked = std::fs::metadata(path).ok().and_then(|m| m.modified().ok()?.elapsed().ok());
        if looked.is_some_and(|ago| ago < BETWEEN_AGES) {
            return Ok(());
        }
        let _one = locked(&self.room);
        std::fs::write(path, "").map_err(failed("write", path))?;
        let day = SignedDuration::from_hours(24);
        let until = day
            .checked_mul(i32::try_from(days).unwrap_or(i32::MAX))
            .and_then(|age| Timestamp::now().checked_sub(age).ok());
        let Some(until) = until else { return Ok(()) };
        let filter = CacheFilter { until: Some(until), ..CacheFilter::default() };
        let request = PruneRequest { filter, ..PruneRequest::default() };
        self.remove_beside(&choose(&self.entries_beside()?, &request, &Free::default()))?;
        Ok(())
    }

    /// Watches the limits while something is written; `None` where none was set.
    pub fn watch_room(&self) -> Option<RoomWatch<'_>> {
        self.quota.is_set().then(|| RoomWatch { store: self, next: Instant::now() })
    }
}

/// Looks at the limits again and again, while a step writes.
#[derive(Debug)]
pub struct RoomWatch<'s> {
    store: &'s Store,
    next: Instant,
}

impl RoomWatch<'_> {
    /// Looks if it is time, and makes room where there is none; returns when it is to be called again.
    ///
    /// The less is left, the sooner: a disk of today writes a gigabyte a second. Errors: as
    /// [`Store::make_room`]; the step must end then.
    pub fn look(&mut self) -> Result<Duration, StoreError> {
        let now = Instant::now();
        if now < self.next {
            return Ok(self.next - now);
        }
        let (store, quota) = (self.store, &self.store.quota);
        let least =
            Free { bytes: quota.min_free_space.unwrap_or(0), inodes: quota.min_free_inodes.unwrap_or(0) };
        store.make_room_within(&least, 0).map_err(|error| match error {
            StoreError::NoRoom(why) => StoreError::NoRoom(Box::new(NoRoom { stopped: true, ..*why })),
            error => error,
        })?;
        let (free, disk) = store.disk()?;
        let mut left = free.bytes.saturating_sub(least.bytes);
        if let Some(most) = quota.max_used_space {
            left = left.min(most.saturating_sub(store.measured()?.now(disk)));
        }
        // A hundred thousand new files a second are many.
        let by_inodes = free.inodes.saturating_sub(least.inodes) / 100;
        let pause = Duration::from_millis((left >> 20).min(by_inodes).clamp(20, 1000));
        self.next = Instant::now() + pause;
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{images, testing};
    use super::*;
    use crate::image::{CacheKey, Digest, OpDigest, SnapshotId};

    #[test]
    fn bytes_for_people() {
        let check = |bytes: u64, expect: &str| assert_eq!(Bytes(bytes).to_string(), expect);
        check(0, "0B");
        check(999, "999B");
        check(1000, "1kB");
        check(1234, "1.2kB");
        check(999_960, "1MB");
        check(64 << 20, "67.1MB");
        check(u64::MAX, "18.4EB");
    }

    /// Makes a layer of so many bytes that a record speaks of, last used so many hours ago.
    fn cached(store: &Store, name: &str, bytes: usize, hours: u64) -> SnapshotId {
        let layer = testing::layer(store, name, &"x".repeat(bytes));
        store
            .publish_record(&OpDigest(Digest::of(name)), &CacheKey(Digest::of("k")), Some(&layer), b"")
            .unwrap();
        let past = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        let meta = store.paths.snapshot(&layer).join("meta");
        std::fs::File::open(meta).unwrap().set_modified(past).unwrap();
        layer
    }

    #[test]
    fn room_is_made_of_the_oldest_and_what_is_needed_stays() {
        let directory = tempfile::tempdir().unwrap();
        let (old, older, image) = {
            let store = testing::open(directory.path());
            let image = images::testing::image(&store, "a", &["image"]);
            store.tag(&"named".parse().unwrap(), &image).unwrap();
            (cached(&store, "old", 100_000, 1), cached(&store, "older", 100_000, 2), image)
        };
        let open = |quota: Quota| testing::open(directory.path()).with_quota(quota);
        let at_most = |bytes: u64| Quota {
            max_used_space: Some(bytes),
            min_free_space: Some(0),
            min_free_inodes: Some(0),
            ..Quota::default()
        };
        let there = |id: &SnapshotId| open(Quota::default()).has_snapshot(id).unwrap();
        // What running processes hold does not stop it; nothing is measured where nothing is limited.
        let running = open(Quota::default());
        running.hold().unwrap();
        running.make_room(0).unwrap();
        assert!(!running.paths.size.exists());
        open(at_most(300_000)).make_room(0).unwrap();
        assert!(there(&old) && there(&older));
        open(at_most(300_000)).make_room(120_000).unwrap();
        assert!(there(&old) && !there(&older));
        let reserved = Quota { reserved_space: 90_000, ..at_most(50_000) };
        let error = open(reserved).make_room(0).unwrap_err().to_string();
        assert!(error.contains("and it may take 50kB (max_used_space); images take "), "{error}");
        assert!(there(&old));
        open(at_most(50_000)).make_room(0).unwrap();
        assert!(!there(&old));
        assert!(matches!(open(at_most(1)).make_room(0), Err(StoreError::NoRoom(_))));
        assert!(open(Quota::default()).image(&image).is_ok());
    }

    #[test]
    fn unnamed_images_go_when_the_cache_is_not_enough() {
        let directory = tempfile::tempdir().unwrap();
        let past = std::time::SystemTime::now() - Duration::from_secs(3600);
        let (named, unnamed) = {
            let store = testing::open(directory.path());
            let named = images::testing::image(&store, "a", &["named"]);
            store.tag(&"named".parse().unwrap(), &named).unwrap();
            let unnamed = images::testing::image(&store, "b", &["unnamed"]);
            for id in [&named, &unnamed] {
                let layer = store.image(id).unwrap().layers[0].clone();
                for path in [store.paths.image(id), store.paths.snapshot(&layer).join("meta")] {
                    std::fs::File::open(path).unwrap().set_modified(past).unwrap();
                }
            }
            (named, unnamed)
        };
        let store =
            testing::open(directory.path()).with_quota(Quota { max_used_space: Some(1), ..Quota::default() });
        assert!(store.make_room(0).is_err());
        assert!(store.image(&named).is_ok() && store.image(&unnamed).is_err());
    }

    #[test]
    fn nothing_is_removed_where_nothing_was_set() {
        let directory = tempfile::tempdir().unwrap();
        let layer = {
            let store = testing::open(directory.path());
            cached(&store, "a", 10, 1)
        };
        let store = testing::open(directory.path());
        let all = Free { bytes: u64::MAX, inodes: 0 };
        let error = store.make_room_within(&all, 0).unwrap_err().to_string();
        assert!(error.starts_with("no room: ") && !error.contains("min_free_space"), "{error}");
        assert!(store.has_snapshot(&layer).unwrap());
        assert!(store.watch_room().is_none());
        let with = store.with_quota(Quota { min_free_space: Some(1), ..Quota::default() });
        assert!(with.watch_room().unwrap().look().unwrap() >= Duration::from_millis(20));
    }
}
