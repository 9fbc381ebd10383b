//! Which pieces of the build cache are to go. Pure: pieces and limits in, pieces out.
//!
//! The limits are BuildKit's: what is reserved is never gone below, what may be used at most and what shall be free
//! say how much goes. Not here: how pieces go (`prune`, `beside`).

use jiff::Timestamp;

use super::entries::{Freeing, bytes_together};
use super::{CacheEntry, CacheKind};

/// Which pieces are meant; of each that is said all must hold.
#[derive(Debug, Clone, Default)]
pub struct CacheFilter {
    /// Only what was last used before.
    pub until: Option<Timestamp>,
    /// Only pieces whose id starts with one of these; empty for all.
    pub ids: Vec<String>,
    /// Only these kinds ([`CacheKind::as_str`]); empty for all.
    pub kinds: Vec<String>,
    /// Only those whose description has one of these texts; empty for all.
    pub descriptions: Vec<String>,
    /// Only those right above a layer whose id starts with one of these; empty for all.
    pub parents: Vec<String>,
    pub shared: Option<bool>,
    pub in_use: Option<bool>,
    pub mutable: Option<bool>,
}

impl CacheFilter {
    /// Tells whether a piece is meant.
    pub fn matches(&self, entry: &CacheEntry) -> bool {
        let one_of = |texts: &[String], is_it: &dyn Fn(&str) -> bool| {
            texts.is_empty() || texts.iter().any(|text| is_it(text))
        };
        self.until.is_none_or(|until| entry.used < until)
            && one_of(&self.ids, &|id| entry.id.starts_with(id))
            && one_of(&self.kinds, &|kind| entry.kind.as_str() == kind)
            && one_of(&self.descriptions, &|text| entry.description.contains(text))
            && one_of(&self.parents, &|id| entry.parents.iter().any(|parent| parent.starts_with(id)))
            && self.shared.is_none_or(|shared| entry.shared == shared)
            && self.in_use.is_none_or(|in_use| entry.in_use == in_use)
            && self.mutable.is_none_or(|mutable| entry.is_mutable() == mutable)
    }
}

/// Which pieces of the build cache are to go.
#[derive(Debug, Clone, Default)]
pub struct PruneRequest {
    /// Also what images share, and what rbuild keeps for itself.
    pub all: bool,
    pub filter: CacheFilter,
    /// Bytes of cache that stay. With a further limit no piece goes that would leave less; alone, pieces go until
    /// no more than this is left.
    pub keep: u64,
    /// Bytes of cache that may stay.
    pub max_used: Option<u64>,
    /// Bytes that shall be free on the file system.
    pub min_free: Option<u64>,
    /// Inodes that shall be free on the file system.
    pub min_free_inodes: Option<u64>,
}

/// What a file system has left for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Free {
    pub bytes: u64,
    /// As many as there can be, where the file system does not count them.
    pub inodes: u64,
}

/// Chooses the pieces that go, those first that were not used for longest, until every limit is kept; all that
/// are meant where there is no limit.
pub fn choose(entries: &[CacheEntry], request: &PruneRequest, free: &Free) -> Vec<CacheEntry> {
    let counted = || entries.iter().filter(|entry| !entry.shared);
    let mut left = bytes_together(counted());
    let has_target =
        request.max_used.is_some() || request.min_free.is_some() || request.min_free_inodes.is_some();
    let (target, floor) = match has_target {
        true => {
            let to_free = request.min_free.map_or(0, |wanted| wanted.saturating_sub(free.bytes));
            (request.max_used.unwrap_or(u64::MAX).min(left.saturating_sub(to_free)), request.keep)
        }
        false => (request.keep, 0),
    };
    let mut inodes_to_free = request.min_free_inodes.map_or(0, |wanted| wanted.saturating_sub(free.inodes));
    let is_limited = has_target || request.keep > 0;
    let wanted = |entry: &&CacheEntry| {
        !entry.in_use
            && (request.all || !(entry.shared || entry.kind == CacheKind::Internal))
            && request.filter.matches(entry)
    };
    let mut candidates: Vec<&CacheEntry> = entries.iter().filter(wanted).collect();
    candidates.sort_by(|a, b| (a.used, &a.id).cmp(&(b.used, &b.id)));
    let mut freeing = Freeing::new(counted());
    let mut chosen = Vec::new();
    for entry in candidates {
        if is_limited && left <= target && inodes_to_free == 0 {
            break;
        }
        // The pieces of images are not counted: that they go from the cache frees nothing.
        if !entry.shared {
            if left.saturating_sub(entry.size.saturating_sub(entry.held)) < floor {
                continue;
            }
            left = left.saturating_sub(freeing.without(entry));
            inodes_to_free = inodes_to_free.saturating_sub(entry.inodes);
        }
        chosen.push(entry.clone());
    }
    chosen
}

#[cfg(test)]
pub(super) fn piece(id: &str, kind: CacheKind, size: u64, used: i64) -> CacheEntry {
    let used = Timestamp::from_second(used).unwrap();
    CacheEntry {
        id: id.to_owned(),
        kind,
        description: format!("the {id} piece"),
        size,
        created: used,
        used,
        shared: false,
        in_use: false,
        inodes: 10,
        parents: Vec::new(),
        uses: None,
        held: 0,
        linked: Vec::new(),
        place: super::entries::Place::Records,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::measure::Linked;
    use super::*;

    const FREE: Free = Free { bytes: 1000, inodes: 1000 };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn chooses_what_was_asked_for_oldest_first() {
        let entries = [
            piece("new", CacheKind::Regular, 10, 400),
            CacheEntry { shared: true, ..piece("image", CacheKind::Regular, 99, 300) },
            piece("mount", CacheKind::CacheMount, 20, 200),
            piece("log", CacheKind::Internal, 5, 150),
            CacheEntry { in_use: true, ..piece("used", CacheKind::Git, 7, 100) },
            CacheEntry { parents: vec!["new".into()], ..piece("old", CacheKind::Git, 30, 50) },
        ];
        let check = |request: PruneRequest, expect: &str| {
            let ids: Vec<String> = choose(&entries, &request, &FREE).into_iter().map(|e| e.id).collect();
            assert_eq!(ids.join(" "), expect, "{request:?}");
        };
        let none = PruneRequest::default;
        check(none(), "old mount new");
        check(PruneRequest { all: true, ..none() }, "old log mount image new");
        // 72 bytes in all: what goes goes until as much is left.
        check(PruneRequest { keep: 42, ..none() }, "old");
        check(PruneRequest { keep: 41, ..none() }, "old mount");
        check(PruneRequest { keep: 72, ..none() }, "");
        check(PruneRequest { max_used: Some(60), ..none() }, "old");
        check(PruneRequest { min_free: Some(1000), ..none() }, "");
        check(PruneRequest { min_free: Some(1031), ..none() }, "old mount");
        check(PruneRequest { min_free_inodes: Some(1000), ..none() }, "");
        check(PruneRequest { min_free_inodes: Some(1011), ..none() }, "old mount");
        check(PruneRequest { min_free_inodes: Some(9999), min_free: Some(0), ..none() }, "old mount new");
        // What is reserved stays, whatever else is asked.
        check(PruneRequest { max_used: Some(0), keep: 40, ..none() }, "old");
        check(PruneRequest { max_used: Some(0), keep: 50, ..none() }, "mount");
        check(PruneRequest { max_used: Some(0), keep: 72, ..none() }, "");
        check(PruneRequest { min_free: Some(5000), keep: 12, ..none() }, "old mount new");
    }

    #[test]
    fn filters() {
        let entries = [
            piece("new", CacheKind::Regular, 10, 400),
            CacheEntry { shared: true, ..piece("image", CacheKind::Regular, 99, 300) },
            CacheEntry { in_use: true, ..piece("used", CacheKind::Git, 7, 100) },
            CacheEntry { parents: vec!["new".into()], ..piece("old", CacheKind::Regular, 30, 50) },
        ];
        let check = |filter: CacheFilter, expect: &str| {
            let ids: Vec<&str> = entries.iter().filter(|e| filter.matches(e)).map(|e| &*e.id).collect();
            assert_eq!(ids.join(" "), expect, "{filter:?}");
        };
        let all = CacheFilter::default;
        check(all(), "new image used old");
        check(CacheFilter { until: Some(at(300)), ..all() }, "used old");
        check(CacheFilter { kinds: vec!["regular".into()], ..all() }, "new image old");
        check(CacheFilter { ids: vec!["ne".into(), "ol".into()], ..all() }, "new old");
        check(CacheFilter { descriptions: vec!["the old".into()], ..all() }, "old");
        check(CacheFilter { parents: vec!["n".into()], ..all() }, "old");
        check(CacheFilter { shared: Some(true), ..all() }, "image");
        check(CacheFilter { in_use: Some(false), ..all() }, "new image old");
        check(CacheFilter { mutable: Some(true), ..all() }, "used");
        check(CacheFilter { mutable: Some(false), shared: Some(false), ..all() }, "new old");
    }

    #[test]
    fn a_file_of_two_pieces_is_free_when_both_are_gone() {
        let linked = vec![Linked { file: (1, 7), bytes: 90 }];
        let entries = [
            CacheEntry { linked: linked.clone(), ..piece("one", CacheKind::Regular, 100, 1) },
            CacheEntry { linked, ..piece("two", CacheKind::Regular, 95, 2) },
            // Of this one images have 40 bytes, too.
            CacheEntry { held: 40, ..piece("three", CacheKind::Regular, 60, 3) },
        ];
        assert_eq!(bytes_together(&entries), 165);
        let count = |max: u64| {
            let request = PruneRequest { max_used: Some(max), ..PruneRequest::default() };
            choose(&entries, &request, &FREE).len()
        };
        assert_eq!(
            (count(165), count(164), count(155), count(154), count(60), count(59)),
            (0, 1, 1, 2, 2, 3)
        );
    }

    prop_compose! {
        fn pieces()(parts in proptest::collection::vec(
            (0u64..100, 0i64..50, 0u64..20, any::<bool>(), any::<bool>(), 0u64..4), 0..24
        )) -> Vec<CacheEntry> {
            let part = |(number, (size, used, inodes, shared, in_use, file)): (usize, _)| {
                let file: u64 = file;
                let linked = (file > 0).then_some(Linked { file: (1, file), bytes: file }).into_iter().collect();
                let size = if file > 0 { size + file } else { size };
                let one = piece(&format!("p{number}"), CacheKind::Regular, size, used);
                CacheEntry { inodes, shared, in_use, linked, ..one }
            };
            parts.into_iter().enumerate().map(part).collect()
        }
    }

    proptest! {
        #[test]
        fn limits_are_kept_with_the_least_that_must_go(
            entries in pieces(),
            keep in 0u64..400,
            max in proptest::option::of(0u64..400),
            min in proptest::option::of(900u64..1400),
            inodes in proptest::option::of(900u64..1100),
        ) {
            let request = PruneRequest {
                keep, max_used: max, min_free: min, min_free_inodes: inodes, ..PruneRequest::default()
            };
            let chosen = choose(&entries, &request, &FREE);
            let gone = |e: &CacheEntry| chosen.iter().any(|c| c.id == e.id);
            prop_assert!(chosen.iter().all(|e| !e.in_use && !e.shared));
            let counted = || entries.iter().filter(|e| !e.shared);
            let total = bytes_together(counted());
            let left = |gone: &dyn Fn(&CacheEntry) -> bool| bytes_together(counted().filter(|e| !gone(e)));
            let limited = max.is_some() || min.is_some() || inodes.is_some();
            let kept = |gone: &dyn Fn(&CacheEntry) -> bool| {
                let left = left(gone);
                if !limited {
                    return keep > 0 && left <= keep;
                }
                let freed: u64 = counted().filter(|e| gone(e)).map(|e| e.inodes).sum();
                max.is_none_or(|max| left <= max)
                    && min.is_none_or(|min| 1000 + (total - left) >= min)
                    && inodes.is_none_or(|inodes| 1000 + freed >= inodes)
            };
            // Never below what is reserved, unless there was less already.
            prop_assert!(!limited || left(&gone) >= keep.min(total));
            // Without the last that goes some limit would not be kept.
            if let Some(last) = chosen.last() {
                prop_assert!(!kept(&|e| gone(e) && e.id != last.id));
            }
            // Where a limit is not kept, nothing that may go is left but what would leave too little.
            if !kept(&gone) {
                for e in counted().filter(|e| !e.in_use && !gone(e)) {
                    prop_assert!(limited && left(&gone).saturating_sub(e.size) < keep, "{} stays", e.id);
                }
            }
        }
    }
}
