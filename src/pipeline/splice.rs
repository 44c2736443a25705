//! Puts the numbered messages that come over several lines into one order: the first arrival of each number goes on, in order,
//! and the rest is dropped. Pure: time is a parameter, and what is ordered can be anything.
//!
//! With one line everything goes on as it comes, and holes in its numbers are told. With several, a message behind a hole is held
//! until another line has filled the hole, or all lines are past it, or those that are not have been silent for too long.
//! Invariant: within one generation of a stream, the numbers that go on only grow.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rustc_hash::FxBuildHasher;

use crate::metrics::LineStats;
use crate::router::Sequence;

/// See the module. `T` is what waits behind a hole.
pub(super) struct Splice<T> {
    streams: HashMap<u64, Stream<T>, FxBuildHasher>,
    /// Those that are live; none is named where there is only one.
    lines: Vec<Line>,
    hold_ns: u64,
    /// Streams with something held.
    holding: Vec<u64>,
    watch: Option<Watch>,
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It goes on, and this is missing before it.
    Pass(Option<Hole>),
    /// It has gone on before.
    Repeat,
    /// It is to be [held](Splice::hold).
    Hold,
}

/// Numbers that no line has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hole {
    pub(super) stream: u64,
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Looks how far a line has come that is to take over: see [`Splice::watch`].
#[derive(Debug, Clone, Copy)]
struct Watch {
    line: u8,
    coverage: Coverage,
}

/// How far the watched line has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Streams that it brings without a hole behind what had gone on.
    pub(crate) covered: usize,
    /// Streams that others have brought, and it not yet.
    pub(crate) uncovered: usize,
    /// Those among them that something came for since the watch began.
    pub(crate) active: usize,
}

#[derive(Debug, Clone)]
struct Line {
    index: u8,
    stats: Option<Arc<LineStats>>,
}

struct Stream<T> {
    /// The last number that went on.
    last: Option<u64>,
    /// Counts how often the venue began its numbers anew.
    generation: u32,
    /// What each line has shown, by its index.
    views: Vec<View>,
    held: BTreeMap<(u32, u64), Held<T>>,
    /// The last numbers that went on, and when; kept while there are several lines.
    recent: VecDeque<(u64, u64)>,
    passed_ns: u64,
    covered: bool,
    active: bool,
}

/// How far one line has come in one stream.
#[derive(Debug, Clone, Copy, Default)]
struct View {
    shown: bool,
    first: u64,
    last: u64,
    generation: u32,
    /// When it showed something last.
    heard_ns: u64,
    /// It has kept the others waiting: nobody waits for it until it shows something again.
    benched: bool,
}

struct Held<T> {
    line: u8,
    last: u64,
    since_ns: u64,
    item: T,
}

impl<T> Stream<T> {
    fn new() -> Self {
        Self {
            last: None,
            generation: 0,
            views: Vec::new(),
            held: BTreeMap::new(),
            recent: VecDeque::new(),
            passed_ns: 0,
            covered: false,
            active: false,
        }
    }

    fn view(&self, line: u8) -> View {
        self.views.get(usize::from(line)).copied().unwrap_or_default()
    }

    /// Notes what a line shows; true where its numbers began anew with it.
    fn show(&mut self, line: u8, sequence: Sequence, now_ns: u64) -> bool {
        let generation = self.generation;
        let view = self.view_mut(line);
        let anew = view.shown && sequence.last < view.last;
        if !view.shown {
            (view.first, view.generation) = (sequence.first, generation);
        } else if anew {
            view.generation += 1;
            view.first = sequence.first;
        }
        (view.shown, view.last, view.heard_ns, view.benched) = (true, sequence.last, now_ns, false);
        anew
    }

    fn view_mut(&mut self, line: u8) -> &mut View {
        let index = usize::from(line);
        if index >= self.views.len() {
            self.views.resize(index + 1, View::default());
        }
        &mut self.views[index]
    }

    /// When a message that is held since then, behind a hole before `first`, need not wait for this line any more; `None` where it
    /// does not wait for it. A line that goes on bringing messages is late, not silent, and is given more time.
    fn patience_ends_ns(&self, line: u8, first: u64, since_ns: u64, hold_ns: u64) -> Option<u64> {
        let heard_ns = self.view(line).heard_ns.max(since_ns);
        let ends_ns = heard_ns.saturating_add(hold_ns);
        self.may_fill(line, first).then(|| ends_ns.min(since_ns.saturating_add(hold_ns.saturating_mul(LATEST))))
    }

    /// Whether a line that has come so far can still bring a number below `first`.
    fn may_fill(&self, line: u8, first: u64) -> bool {
        let view = self.view(line);
        !view.benched && (!view.shown || view.generation == self.generation && view.last.saturating_add(1) < first)
    }

    fn passed(&mut self, last: u64, now_ns: u64, several: bool) {
        self.last = Some(last);
        self.passed_ns = now_ns;
        if several {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((last, now_ns));
        }
    }

    /// When this number went on, where that is still known.
    fn passed_at(&self, last: u64) -> Option<u64> {
        let at = self.recent.partition_point(|&(known, _)| known < last);
        self.recent.get(at).map(|&(_, ns)| ns)
    }

    fn hole_before(&self, stream: u64, first: u64) -> Option<Hole> {
        let last = self.last.filter(|&last| first > last.saturating_add(1))?;
        Some(Hole { stream, first: last + 1, last: first - 1 })
    }
}

impl<T> Splice<T> {
    /// For one line. `hold`: how long a message waits behind a hole, once there are more.
    pub(super) fn new(hold: Duration) -> Self {
        let hold_ns = u64::try_from(hold.as_nanos()).unwrap_or(u64::MAX);
        Self { streams: HashMap::default(), lines: Vec::new(), hold_ns, holding: Vec::new(), watch: None }
    }

    /// Whether more than one line is live.
    pub(super) fn has_several_lines(&self) -> bool {
        self.lines.len() > 1
    }

    /// Whether something waits for another line.
    pub(super) fn is_holding(&self) -> bool {
        !self.holding.is_empty()
    }

    /// Whether a message without a number goes on that this line has brought: of several lines, those of the first do.
    pub(super) fn takes_unnumbered(&self, line: u8) -> bool {
        self.lines.first().is_none_or(|first| first.index == line)
    }

    /// A line is live. The first to bring messages need not join, as long as it is the only one.
    pub(super) fn join(&mut self, line: u8, stats: Option<Arc<LineStats>>) {
        if self.lines.iter().all(|known| known.index != line) {
            self.lines.push(Line { index: line, stats });
        }
    }

    /// A line is gone. What it has brought counts; what it has not, nobody waits for.
    pub(super) fn leave(&mut self, line: u8) {
        self.lines.retain(|known| known.index != line);
        for stream in self.streams.values_mut() {
            if let Some(view) = stream.views.get_mut(usize::from(line)) {
                *view = View::default();
            }
        }
    }

    /// No line is live.
    pub(super) fn leave_all(&mut self) {
        while let Some(line) = self.lines.first() {
            self.leave(line.index);
        }
    }

    /// The feed is lost: what comes next has nothing to do with what came before. Nothing is held by then, since no line is left
    /// that it could wait for.
    pub(super) fn forget(&mut self) {
        debug_assert!(self.holding.is_empty(), "held messages must go on before the loss is told");
        self.streams.clear();
        self.holding.clear();
        self.watch = None;
    }

    /// Looks from now on how far this line comes.
    pub(super) fn watch(&mut self, line: u8) {
        let coverage = Coverage { uncovered: self.streams.len(), ..Coverage::default() };
        let mut watch = Watch { line, coverage };
        for stream in self.streams.values_mut() {
            (stream.covered, stream.active) = (false, false);
            note_coverage(stream, &mut watch, false);
        }
        self.watch = Some(watch);
    }

    pub(super) fn unwatch(&mut self) {
        self.watch = None;
    }

    /// How far the watched line has come; all zero where none is watched.
    pub(super) fn coverage(&self) -> Coverage {
        self.watch.map_or_else(Coverage::default, |watch| watch.coverage)
    }

    /// Judges a message that a line has brought. What passes counts as gone on.
    pub(super) fn judge(&mut self, line: u8, sequence: Sequence, now_ns: u64) -> Verdict {
        let watch = &mut self.watch;
        let stream = self.streams.entry(sequence.stream).or_insert_with(|| {
            if let Some(watch) = watch {
                watch.coverage.uncovered += 1;
            }
            Stream::new()
        });
        // What a line that has left was waiting for is still to be put in order.
        let verdict = if self.lines.len() > 1 || !stream.held.is_empty() {
            judge_one_of_several(stream, &self.lines, line, sequence, now_ns)
        } else {
            judge_only(stream, &self.lines, line, sequence, now_ns)
        };
        if let Some(watch) = &mut self.watch {
            note_coverage(stream, watch, matches!(verdict, Verdict::Pass(_)));
        }
        verdict
    }

    /// Keeps a message that was judged so.
    pub(super) fn hold(&mut self, line: u8, sequence: Sequence, now_ns: u64, item: T) {
        let Some(stream) = self.streams.get_mut(&sequence.stream) else { return };
        let generation = stream.view(line).generation;
        if stream.held.is_empty() {
            self.holding.push(sequence.stream);
        }
        stream.held.insert((generation, sequence.first), Held { line, last: sequence.last, since_ns: now_ns, item });
    }

    /// The next message that need not wait any more, with the line that brought it and what is missing before it. To be asked
    /// until it says `None`, after every change.
    pub(super) fn release(&mut self) -> Option<(T, Option<Hole>)> {
        if self.holding.is_empty() {
            return None;
        }
        for at in 0..self.holding.len() {
            let id = self.holding[at];
            let stream = self.streams.get_mut(&id)?;
            let released = release_from(stream, id, &self.lines);
            if let Some(watch) = &mut self.watch {
                note_coverage(stream, watch, released.is_some());
            }
            if stream.held.is_empty() {
                self.holding.swap_remove(at);
                if released.is_none() {
                    // The rest of the list has moved.
                    return self.release();
                }
            }
            if released.is_some() {
                return released;
            }
        }
        None
    }

    /// Waits no longer for lines that have been silent for too long. To be called when all that had arrived by then was judged, or
    /// what had come while nobody looked would count as late.
    pub(super) fn expire(&mut self, now_ns: u64) {
        for id in &self.holding {
            let Some(stream) = self.streams.get_mut(id) else { continue };
            let Some((&(_, first), &Held { since_ns, .. })) = stream.held.first_key_value() else { continue };
            for line in &self.lines {
                let ends_ns = stream.patience_ends_ns(line.index, first, since_ns, self.hold_ns);
                if ends_ns.is_some_and(|ends_ns| now_ns >= ends_ns) {
                    stream.view_mut(line.index).benched = true;
                }
            }
        }
    }

    /// When [`expire`](Self::expire) is due.
    pub(super) fn next_expiry_ns(&self) -> Option<u64> {
        let streams = self.holding.iter().filter_map(|id| self.streams.get(id));
        let ends = streams.filter_map(|stream| {
            let (&(_, first), &Held { since_ns, .. }) = stream.held.first_key_value()?;
            let lines = self.lines.iter();
            lines.filter_map(|line| stream.patience_ends_ns(line.index, first, since_ns, self.hold_ns)).min()
        });
        ends.min()
    }
}

/// The only line: everything goes on, but what an earlier line had brought before it.
fn judge_only<T>(stream: &mut Stream<T>, lines: &[Line], line: u8, sequence: Sequence, now_ns: u64) -> Verdict {
    let before = stream.view(line);
    let anew = stream.show(line, sequence, now_ns);
    if let Some(last) = stream.last
        && sequence.last <= last
        && !anew
        && !(before.shown && before.last >= last)
        && now_ns.saturating_sub(stream.passed_ns) < ANEW_AFTER_NS
    {
        return repeat(lines, line, None);
    }
    count_pass(stream, lines, line, sequence.first, sequence.last);
    let hole = if anew { None } else { stream.hole_before(sequence.stream, sequence.first) };
    stream.passed(sequence.last, now_ns, false);
    Verdict::Pass(hole)
}

fn judge_one_of_several<T>(
    stream: &mut Stream<T>,
    lines: &[Line],
    line: u8,
    sequence: Sequence,
    now_ns: u64,
) -> Verdict {
    let before = stream.view(line);
    let anew = stream.show(line, sequence, now_ns);
    let generation = stream.view(line).generation;
    if !anew && before.shown && before.generation == stream.generation {
        // What it has left out and another had brought.
        let through = stream.last.unwrap_or(0).min(sequence.first.saturating_sub(1));
        count_filled(lines, line, through.saturating_sub(before.last));
    }
    if generation < stream.generation {
        return Verdict::Repeat;
    }
    if generation > stream.generation {
        if !stream.held.is_empty() {
            return Verdict::Hold;
        }
        begin_anew(stream, generation);
        return pass(stream, lines, line, sequence, now_ns);
    }
    let Some(last) = stream.last else {
        let others_may_precede = lines.iter().any(|other| other.index != line && !stream.view(other.index).shown);
        return if others_may_precede || !stream.held.is_empty() {
            Verdict::Hold
        } else {
            pass(stream, lines, line, sequence, now_ns)
        };
    };
    if sequence.last <= last {
        // No line is as far as what went on last, and that for long: the numbers must have begun anew while nobody looked.
        let anew = lines.iter().all(|line| stream.view(line.index).last < last)
            && now_ns.saturating_sub(stream.passed_ns) >= ANEW_AFTER_NS;
        if anew {
            begin_anew(stream, stream.generation + 1);
            for view in &mut stream.views {
                view.generation = stream.generation;
            }
            return pass(stream, lines, line, sequence, now_ns);
        }
        let lag_ns = stream.passed_at(sequence.last).map(|then| now_ns.saturating_sub(then));
        return repeat(lines, line, lag_ns);
    }
    if let Some(held) = stream.held.get(&(generation, sequence.first))
        && held.last >= sequence.last
    {
        return repeat(lines, line, Some(now_ns.saturating_sub(held.since_ns)));
    }
    if sequence.first <= last.saturating_add(1) {
        return pass(stream, lines, line, sequence, now_ns);
    }
    Verdict::Hold
}

fn begin_anew<T>(stream: &mut Stream<T>, generation: u32) {
    stream.generation = generation;
    stream.last = None;
    stream.recent.clear();
}

fn pass<T>(stream: &mut Stream<T>, lines: &[Line], line: u8, sequence: Sequence, now_ns: u64) -> Verdict {
    let hole = stream.hole_before(sequence.stream, sequence.first);
    count_pass(stream, lines, line, sequence.first, sequence.last);
    stream.passed(sequence.last, now_ns, true);
    Verdict::Pass(hole)
}

fn count_pass<T>(stream: &Stream<T>, lines: &[Line], line: u8, first: u64, last: u64) {
    for known in lines {
        let Some(stats) = &known.stats else { continue };
        if known.index == line {
            stats.wins.add_shared(1);
            continue;
        }
        let view = stream.view(known.index);
        // It is past these numbers and has not brought them, or they would have gone on already.
        if view.shown && view.generation == stream.generation && view.last >= last && view.first < first {
            stats.filled.add_shared(last - first + 1);
        }
    }
}

fn count_filled(lines: &[Line], line: u8, numbers: u64) {
    if numbers > 0
        && let Some(Line { stats: Some(stats), .. }) = lines.iter().find(|known| known.index == line)
    {
        stats.filled.add_shared(numbers);
    }
}

fn repeat(lines: &[Line], line: u8, lag_ns: Option<u64>) -> Verdict {
    if let Some(Line { stats: Some(stats), .. }) = lines.iter().find(|known| known.index == line) {
        stats.repeats.add_shared(1);
        if let Some(lag_ns) = lag_ns {
            stats.lag.record_ns(lag_ns);
        }
    }
    Verdict::Repeat
}

fn release_from<T>(stream: &mut Stream<T>, id: u64, lines: &[Line]) -> Option<(T, Option<Hole>)> {
    loop {
        let newest = stream.held.last_key_value()?.0.0;
        let (&(generation, first), _) = stream.held.first_key_value()?;
        if generation == stream.generation {
            let ready = match stream.last {
                Some(last) => first <= last.saturating_add(1),
                None => false,
            };
            if !ready {
                let waits = lines.iter().any(|line| stream.may_fill(line.index, first));
                if waits && newest == generation && stream.held.len() <= MOST_HELD {
                    return None;
                }
            }
        }
        let held = stream.held.pop_first()?.1;
        if generation == stream.generation && stream.last.is_some_and(|last| held.last <= last) {
            continue;
        }
        let hole = if generation > stream.generation {
            begin_anew(stream, generation);
            None
        } else {
            stream.hole_before(id, first)
        };
        count_pass(stream, lines, held.line, first, held.last);
        stream.passed(held.last, held.since_ns, lines.len() > 1);
        return Some((held.item, hole));
    }
}

fn note_coverage<T>(stream: &mut Stream<T>, watch: &mut Watch, passed: bool) {
    if stream.covered {
        return;
    }
    let view = stream.view(watch.line);
    if view.shown && stream.last.is_some_and(|last| view.first <= last.saturating_add(1)) {
        stream.covered = true;
        watch.coverage.covered += 1;
        watch.coverage.uncovered -= 1;
        watch.coverage.active -= usize::from(stream.active);
    } else if passed && !stream.active {
        stream.active = true;
        watch.coverage.active += 1;
    }
}

/// So many numbers are remembered with their time, for the lag of those that repeat them.
const RECENT: usize = 1024;
/// A line that is late but not silent is waited for this many times as long as one that is silent.
const LATEST: u64 = 10;
/// More than this are not held in one stream, whatever may still come.
const MOST_HELD: usize = 65_536;
/// Numbers that stay below what went on this long ago are no repeats: the venue has begun anew.
const ANEW_AFTER_NS: u64 = 10_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests_random::Random;

    const HOLD: Duration = Duration::from_secs(1);
    const HOLD_NS: u64 = 1_000_000_000;

    fn at(first: u64, last: u64) -> Sequence {
        Sequence { stream: 7, first, last }
    }

    fn hole(first: u64, last: u64) -> Option<Hole> {
        Some(Hole { stream: 7, first, last })
    }

    /// What went on, in order, and the holes that were told.
    #[derive(Default)]
    struct Onward {
        numbers: Vec<u64>,
        holes: Vec<Hole>,
    }

    impl Onward {
        fn note(&mut self, number: u64, hole: Option<Hole>) {
            self.holes.extend(hole);
            self.numbers.push(number);
        }

        fn offer(&mut self, splice: &mut Splice<u64>, line: u8, number: u64, now_ns: u64) {
            match splice.judge(line, at(number, number), now_ns) {
                Verdict::Pass(hole) => self.note(number, hole),
                Verdict::Repeat => {}
                Verdict::Hold => splice.hold(line, at(number, number), now_ns, number),
            }
            self.drain(splice);
        }

        fn drain(&mut self, splice: &mut Splice<u64>) {
            while let Some((number, hole)) = splice.release() {
                self.note(number, hole);
            }
        }
    }

    fn two_lines() -> (Splice<u64>, Onward) {
        let mut splice = Splice::new(HOLD);
        splice.join(0, None);
        splice.join(1, None);
        (splice, Onward::default())
    }

    #[test]
    fn one_line_passes_whole_with_its_repeats_and_its_new_beginnings_and_its_holes_are_told() {
        let mut splice = Splice::<u64>::new(HOLD);
        for (first, last, missing) in
            [(5, 5, None), (6, 8, None), (8, 8, None), (12, 12, hole(9, 11)), (1, 1, None), (2, 3, None)]
        {
            assert_eq!(splice.judge(0, at(first, last), 0), Verdict::Pass(missing), "{first}..={last}");
        }
    }

    #[test]
    fn the_first_arrival_wins_and_what_only_one_line_has_fills_the_other_ones_hole() {
        let (mut splice, mut onward) = two_lines();
        onward.offer(&mut splice, 0, 1, 0);
        assert!(onward.numbers.is_empty(), "the other might have an earlier one");
        onward.offer(&mut splice, 1, 1, 1);
        for (line, number) in [(0, 2), (1, 2), (0, 4), (0, 5), (1, 3), (1, 4), (1, 6), (0, 6)] {
            onward.offer(&mut splice, line, number, 2);
        }
        assert_eq!((onward.numbers, onward.holes), ((1..=6).collect(), Vec::new()));
    }

    #[test]
    fn what_no_line_has_is_told_as_soon_as_all_are_past_it() {
        let (mut splice, mut onward) = two_lines();
        for (line, number) in [(0, 1), (1, 1), (0, 4), (1, 2)] {
            onward.offer(&mut splice, line, number, 0);
        }
        assert_eq!(onward.numbers, [1, 2]);
        onward.offer(&mut splice, 1, 5, 0);
        assert_eq!((onward.numbers, onward.holes), (vec![1, 2, 4, 5], hole(3, 3).into_iter().collect()));
    }

    #[test]
    fn a_line_that_leaves_or_is_silent_keeps_nobody_waiting() {
        let (mut splice, mut onward) = two_lines();
        for (line, number) in [(0, 1), (1, 1), (0, 3)] {
            onward.offer(&mut splice, line, number, 0);
        }
        assert_eq!(splice.next_expiry_ns(), Some(HOLD_NS));
        splice.expire(HOLD_NS);
        onward.drain(&mut splice);
        assert_eq!(onward.numbers, [1, 3], "for a second, no longer");
        onward.offer(&mut splice, 0, 5, HOLD_NS + 1);
        assert_eq!(onward.numbers, [1, 3, 5], "and not again while it is silent");
        onward.offer(&mut splice, 1, 2, HOLD_NS + 2);
        onward.offer(&mut splice, 0, 7, HOLD_NS + 3);
        assert_eq!(onward.numbers, [1, 3, 5], "it speaks again");
        splice.leave(1);
        onward.drain(&mut splice);
        assert_eq!(onward.numbers, [1, 3, 5, 7]);
    }

    #[test]
    fn a_line_that_is_late_but_not_silent_is_waited_for_ten_times_as_long() {
        let (mut splice, mut onward) = two_lines();
        for (line, number) in [(0, 1), (1, 1), (0, 9)] {
            onward.offer(&mut splice, line, number, 0);
        }
        for second in 1..10 {
            // It has lost every second message, and 5 is what it comes to at last.
            onward.offer(&mut splice, 1, if second < 9 { 2 } else { 5 }, second * HOLD_NS - 1);
            splice.expire(second * HOLD_NS);
            onward.drain(&mut splice);
        }
        assert_eq!((&onward.numbers[..], splice.next_expiry_ns()), (&[1, 2, 5][..], Some(10 * HOLD_NS - 1)));
        splice.expire(10 * HOLD_NS - 1);
        onward.drain(&mut splice);
        assert_eq!(onward.numbers, [1, 2, 5, 9]);
    }

    #[test]
    fn numbers_that_begin_anew_are_followed_once_whichever_line_shows_it_first() {
        let (mut splice, mut onward) = two_lines();
        for (line, number) in [(0, 100), (1, 100), (0, 1), (1, 101), (0, 2), (1, 1), (1, 2), (1, 3), (0, 3)] {
            onward.offer(&mut splice, line, number, 0);
        }
        assert_eq!(onward.numbers, [100, 1, 2, 3], "101 belongs to what is over");
    }

    #[test]
    fn a_line_that_takes_over_repeats_nothing_until_it_has_caught_up_and_then_is_like_any_other() {
        let mut splice = Splice::new(HOLD);
        let mut onward = Onward::default();
        (1..=9).for_each(|number| onward.offer(&mut splice, 0, number, 0));
        splice.join(0, None);
        splice.join(1, None);
        splice.watch(1);
        assert_eq!(splice.coverage(), Coverage { covered: 0, uncovered: 1, active: 0 });
        onward.offer(&mut splice, 1, 12, 1);
        onward.offer(&mut splice, 0, 10, 1);
        assert_eq!(splice.coverage(), Coverage { covered: 0, uncovered: 1, active: 1 }, "11 is missing yet");
        onward.offer(&mut splice, 0, 11, 1);
        assert_eq!(splice.coverage(), Coverage { covered: 1, uncovered: 0, active: 0 });
        (12..=20).for_each(|number| onward.offer(&mut splice, 0, number, 1));
        splice.leave(0);
        splice.unwatch();
        for number in [13, 14, 19, 20, 21, 21, 22] {
            onward.offer(&mut splice, 1, number, 2);
        }
        let mut expected: Vec<u64> = (1..=21).collect();
        expected.extend([21, 22]);
        assert_eq!(onward.numbers, expected, "the second 21 is the venue's own repeat");
    }

    #[test]
    fn random_lines_with_losses_deaths_and_returns_give_what_any_of_them_had_once_and_in_order() {
        for seed in 0..400 {
            let mut random = Random(seed);
            let lines = 2 + random.index(3);
            let mut splice = Splice::new(HOLD);
            let mut onward = Onward::default();
            // Where each line is, and whether it is up.
            let mut ends = vec![(0_u64, true); lines];
            (0..lines).for_each(|line| splice.join(line as u8, None));
            let mut brought = std::collections::BTreeSet::new();
            let mut newest = 0;
            for now_ns in 0..3_000 {
                let line = random.index(lines);
                let (at, up) = &mut ends[line];
                if !*up {
                    // It comes back where the venue is now.
                    (*at, *up) = (newest, true);
                    splice.join(line as u8, None);
                    continue;
                }
                if random.one_in(200) {
                    *up = false;
                    splice.leave(line as u8);
                    onward.drain(&mut splice);
                    if splice.lines.is_empty() {
                        splice.forget();
                    }
                    continue;
                }
                // No line is far ahead of those that are up.
                let slowest = ends.iter().filter(|(_, up)| *up).map(|(at, _)| *at).min().unwrap_or(0);
                let (at, _) = &mut ends[line];
                if *at > slowest + 40 {
                    continue;
                }
                *at += 1;
                newest = newest.max(*at);
                if random.one_in(20) {
                    continue;
                }
                brought.insert(*at);
                onward.offer(&mut splice, line as u8, *at, now_ns);
            }
            (0..lines).for_each(|line| splice.leave(line as u8));
            onward.drain(&mut splice);
            assert!(onward.numbers.is_sorted_by(|a, b| a < b), "seed {seed}: not in order, or twice");
            let gone_on = onward.numbers.into_iter().collect();
            let missing: Vec<_> = brought.symmetric_difference(&gone_on).collect();
            assert!(missing.is_empty() && gone_on.len() > 100, "seed {seed}: {missing:?} of {}", gone_on.len());
        }
    }
}
