//! Where the boxes and lines of a graph go: rows from top to bottom, a column of its own for each group.
//!
//! A box stands one row below the lowest it reads from; one that reads nothing stands right above the first
//! that needs it. Lines run sideways only between rows and down only beside the columns, so that none runs
//! through a box. Time and space grow with boxes and lines. Not here: what they look like (`graph`).

use std::collections::{BTreeMap, HashMap, HashSet};

/// A graph to be placed.
#[derive(Debug, Default)]
pub struct Plan {
    /// The group of each box: a number from 0.
    pub groups: Vec<usize>,
    /// From a box to a later one.
    pub lines: Vec<(usize, usize)>,
}

/// Where things are, in rows and in slots of columns.
#[derive(Debug, PartialEq, Eq)]
pub struct Placed {
    /// The row of each box, from the top.
    pub rows: Vec<usize>,
    /// The slot of each box in the column of its group, from the left.
    pub slots: Vec<usize>,
    /// How many slots the column of each group has; 0 for one without boxes.
    pub widths: Vec<usize>,
    /// How many lines run down on the right of each group's column.
    pub channels: Vec<usize>,
    /// Of each line that passes rows and boxes in them: the group it runs down beside, and its channel there.
    pub ways: Vec<Option<(usize, usize)>>,
}

/// Places a graph; lines that do not lead from a box to a later one are not placed.
pub fn place(plan: &Plan) -> Placed {
    let count = plan.groups.len();
    let is_good = |&(from, to): &(usize, usize)| from < to && to < count;
    let mut inputs: Vec<Vec<usize>> = vec![Vec::new(); count];
    let mut first_use: Vec<Option<usize>> = vec![None; count];
    for &(from, to) in plan.lines.iter().filter(|line| is_good(line)) {
        inputs[to].push(from);
    }
    let mut rows = vec![0usize; count];
    for to in 0..count {
        rows[to] = inputs[to].iter().map(|from| rows[*from] + 1).max().unwrap_or(0);
    }
    for &(from, to) in plan.lines.iter().filter(|line| is_good(line)) {
        first_use[from] = Some(first_use[from].map_or(rows[to], |row| row.min(rows[to])));
    }
    for v in 0..count {
        if inputs[v].is_empty()
            && let Some(row) = first_use[v]
        {
            rows[v] = row.saturating_sub(1);
        }
    }
    let (slots, widths, used) = slots(plan, &rows, &inputs);
    let is_free = |from: usize, to: usize| {
        let (group, slot) = (plan.groups[from], slots[from]);
        let below = (plan.groups[to], slots[to]) == (group, slot);
        below && (rows[from] + 1..rows[to]).all(|row| !used.contains(&(group, row, slot)))
    };
    let mut channels = vec![0; widths.len()];
    let mut taken: HashMap<(usize, usize), usize> = HashMap::new();
    let ways = plan.lines.iter().map(|line| {
        let &(from, to) = line;
        if !is_good(line) || rows[to] <= rows[from] + 1 || is_free(from, to) {
            return None;
        }
        // Beside the column that is left of the other: what lies between them is passed only once.
        let beside = plan.groups[from].min(plan.groups[to]);
        let channel = *taken.entry((from, beside)).or_insert_with(|| {
            channels[beside] += 1;
            channels[beside] - 1
        });
        Some((beside, channel))
    });
    let ways = ways.collect();
    Placed { rows, slots, widths, channels, ways }
}

/// Places by group, row and slot.
type Places = HashSet<(usize, usize, usize)>;

/// Gives each box a slot: what goes on from a box below it, the rest where there is room.
///
/// Returns the slots, how many each group has, and all places that are taken.
fn slots(plan: &Plan, rows: &[usize], inputs: &[Vec<usize>]) -> (Vec<usize>, Vec<usize>, Places) {
    let groups = plan.groups.iter().max().map_or(0, |most| most + 1);
    let mut widths = vec![0; groups];
    let mut used = Places::new();
    let mut slots = vec![0; plan.groups.len()];
    let mut order: BTreeMap<(usize, bool, usize), usize> = BTreeMap::new();
    for v in 0..plan.groups.len() {
        order.insert((rows[v], inputs[v].is_empty(), v), v);
    }
    for v in order.into_values() {
        let group = plan.groups[v];
        let above =
            inputs[v].first().filter(|from| plan.groups[**from] == group && !inputs[**from].is_empty());
        let mut slot = above.map_or(0, |from| slots[*from]);
        while !used.insert((group, rows[v], slot)) {
            slot += 1;
        }
        slots[v] = slot;
        widths[group] = widths[group].max(slot + 1);
    }
    (slots, widths, used)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(groups: &[usize], lines: &[(usize, usize)]) -> Placed {
        place(&Plan { groups: groups.to_vec(), lines: lines.to_vec() })
    }

    #[test]
    fn a_chain_stands_in_one_column() {
        let found = placed(&[0, 0, 0], &[(0, 1), (1, 2)]);
        assert_eq!((found.rows, found.slots, found.widths), (vec![0, 1, 2], vec![0, 0, 0], vec![1]));
        assert_eq!(found.ways, [None, None]);
    }

    #[test]
    fn what_reads_nothing_stands_above_its_first_use() {
        // An image, a step, a context, a copy of the context on the step, another copy.
        let found = placed(&[0; 5], &[(0, 1), (1, 3), (2, 3), (3, 4), (2, 4)]);
        assert_eq!(found.rows, [0, 1, 1, 2, 3]);
        assert_eq!(found.slots, [0, 0, 1, 0, 0]);
        // The second use is two rows down: it goes beside the column.
        assert_eq!(found.ways, [None, None, None, None, Some((0, 0))]);
        assert_eq!((found.widths, found.channels), (vec![2], vec![1]));
    }

    #[test]
    fn a_line_goes_straight_down_where_nothing_is_in_its_way() {
        // The second column waits for the first, which is longer.
        let found = placed(&[0, 0, 0, 1, 1, 1], &[(0, 1), (1, 2), (3, 4), (4, 5), (2, 5)]);
        assert_eq!(found.rows, [0, 1, 2, 0, 1, 3]);
        assert_eq!(found.ways, [None; 5]);
    }

    #[test]
    fn lines_of_one_box_share_a_channel() {
        let found = placed(&[0, 1, 1, 1, 1], &[(0, 1), (1, 2), (2, 3), (3, 4), (0, 3), (0, 4), (1, 4)]);
        assert_eq!(found.ways[4..], [Some((0, 0)), Some((0, 0)), Some((1, 0))]);
        assert_eq!(found.channels, [1, 1]);
    }

    #[test]
    fn lines_that_lead_nowhere_do_no_harm() {
        let found = placed(&[0, 0], &[(1, 0), (0, 9), (1, 1)]);
        assert_eq!((found.rows, found.ways), (vec![0, 0], vec![None; 3]));
        assert_eq!(placed(&[], &[]).widths, Vec::<usize>::new());
    }

    proptest::proptest! {
        /// No two boxes share a place, and each is below all it reads from.
        #[test]
        fn boxes_do_not_overlap(
            groups in proptest::collection::vec(0usize..4, 0..40),
            lines in proptest::collection::vec((0usize..40, 0usize..40), 0..80),
        ) {
            let found = placed(&groups, &lines);
            let places: HashSet<_> = (0..groups.len()).map(|v| (groups[v], found.rows[v], found.slots[v])).collect();
            proptest::prop_assert_eq!(places.len(), groups.len());
            for (from, to) in lines.into_iter().filter(|(from, to)| from < to && *to < groups.len()) {
                proptest::prop_assert!(found.rows[from] < found.rows[to]);
            }
            proptest::prop_assert!((0..groups.len()).all(|v| found.slots[v] < found.widths[groups[v]]));
        }
    }
}
