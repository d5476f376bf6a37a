//! Which states a power cut may leave.

use super::disk::{Change, Disk, Inode};
use super::record::{Event, Recording};
use std::collections::HashMap;
use std::rc::Rc;

/// Of so many changes that may be lost, every combination is made; of more, each alone, all but each, and
/// chance.
const EVERY_COMBINATION: usize = 8;

/// How many combinations chance adds at one moment.
const BY_CHANCE: u64 = 6;

/// A state that a power cut may leave: what the program did up to a moment, without some of what was not
/// durable then.
#[derive(Debug)]
pub struct State {
    moment: usize,
    /// For each change that may be lost, whether it is there.
    keep: Vec<bool>,
    /// Whether half of the last write is missing.
    torn: bool,
    /// Whether it is also what a program finds that was killed: nothing is lost then.
    killed: bool,
}

/// The states of a recording, each once, in the order of time.
#[derive(Debug)]
pub struct States<'a> {
    recording: &'a Recording,
    /// The states.
    pub all: Vec<State>,
}

impl<'a> States<'a> {
    /// Of a recording; `seed` decides where chance does.
    pub fn of(recording: &'a Recording, seed: u64) -> Self {
        let mut known = HashMap::new();
        let mut states = Self {
            recording,
            all: Vec::new(),
        };
        let mut random = seed | 1;
        for moment in 0..=recording.events.len() {
            let lost = may_be_lost(&recording.events[..moment]);
            for keep in choices(lost.len(), &mut random) {
                for torn in [false, true] {
                    let state = State {
                        moment,
                        killed: !torn && keep.iter().all(|kept| *kept),
                        keep: keep.clone(),
                        torn,
                    };
                    let next = states.all.len();
                    let at = *known
                        .entry(states.disk(&state).fingerprint())
                        .or_insert(next);
                    match states.all.get_mut(at) {
                        Some(known) => known.killed |= state.killed,
                        None => states.all.push(state),
                    }
                }
            }
        }
        states
    }

    /// How many moments there were.
    pub fn moments(&self) -> usize {
        self.recording.events.len() + 1
    }

    /// What a program finds that was killed before or after any of its file operations, while its machine
    /// went on.
    pub fn of_kills(&self) -> impl Iterator<Item = &State> {
        self.all.iter().filter(|state| state.killed)
    }

    /// At most so many of the states, spread over the time, the first and the last among them.
    pub fn sample(&self, most: usize) -> impl Iterator<Item = &State> {
        let count = self.all.len();
        let step = move |n: usize| n * (most - 1) / (count - 1).max(1);
        self.all.iter().enumerate().filter_map(move |(n, state)| {
            (count <= most || n == 0 || step(n) != step(n - 1)).then_some(state)
        })
    }

    /// What is on disk then.
    pub fn disk(&self, state: &State) -> Disk {
        let events = &self.recording.events[..state.moment];
        let lost = may_be_lost(events);
        let kept = |n: &&usize| state.keep[lost.binary_search(n).unwrap()];
        let is_write = |n: &&usize| matches!(&events[**n], Event::Change(Change::Write(_, _, b)) if b.len() > 1);
        let torn = lost.iter().rev().find(|n| is_write(n) && kept(n));
        let torn = torn.filter(|_| state.torn);
        let mut disk = self.recording.before.clone();
        disk.adopt(&self.recording.fresh);
        for (n, event) in events.iter().enumerate() {
            let kept = lost.binary_search(&n).map_or(true, |at| state.keep[at]);
            match event {
                Event::Change(Change::Write(inode, at, bytes)) if kept && torn == Some(&n) => {
                    let half = Rc::new(bytes[..bytes.len() / 2].to_vec());
                    disk.apply(&Change::Write(*inode, *at, half));
                }
                Event::Change(change) if kept => disk.apply(change),
                _ => {}
            }
        }
        disk
    }

    /// When it was, and what was lost.
    pub fn what(&self, state: &State) -> String {
        let lines = &self.recording.lines;
        let last = match state.moment {
            0 => "before everything".to_owned(),
            n => format!("after {} ({n})", lines[n - 1]),
        };
        let lost = may_be_lost(&self.recording.events[..state.moment]);
        let gone = lost.iter().zip(&state.keep).filter(|(_, kept)| !**kept);
        let gone: Vec<_> = gone.map(|(n, _)| lines[*n].as_str()).collect();
        let torn = if state.torn {
            ", the last write torn"
        } else {
            ""
        };
        format!("{last}; lost: [{}]{torn}", gone.join(" | "))
    }
}

/// The changes that no sync has made durable, by their places.
fn may_be_lost(events: &[Event]) -> Vec<usize> {
    let mut lost = Vec::new();
    for (n, event) in events.iter().enumerate() {
        match event {
            Event::Change(_) => lost.push(n),
            Event::Sync(inode) => lost.retain(|n| match &events[*n] {
                Event::Change(change) => !is_covered(change, *inode),
                _ => false,
            }),
            Event::SyncAll => lost.clear(),
        }
    }
    lost
}

/// Whether the sync of a file or directory makes a change durable.
fn is_covered(change: &Change, synced: Inode) -> bool {
    match change {
        Change::Link(dir, ..) | Change::Unlink(dir, ..) | Change::Rename(_, (dir, _), _) => {
            *dir == synced
        }
        Change::Exchange((one, ..), (other, ..)) => *one == synced || *other == synced,
        Change::Write(inode, ..) | Change::Resize(inode, _) | Change::Mode(inode, _) => {
            *inode == synced
        }
    }
}

/// Which of so many changes are kept: one vector a state.
fn choices(count: usize, random: &mut u64) -> Vec<Vec<bool>> {
    if count <= EVERY_COMBINATION {
        return (0..1_u32 << count)
            .map(|bits| (0..count).map(|n| bits & (1 << n) != 0).collect())
            .collect();
    }
    let mut found = vec![vec![false; count], vec![true; count]];
    for n in 0..count {
        found.push((0..count).map(|it| it == n).collect());
        found.push((0..count).map(|it| it != n).collect());
        // What a file system leaves that keeps the order.
        found.push((0..count).map(|it| it < n).collect());
    }
    for _ in 0..BY_CHANCE {
        found.push(
            (0..count)
                .map(|_| {
                    // Xorshift (Marsaglia 2003): the same for the same seed.
                    *random ^= *random << 13;
                    *random ^= *random >> 7;
                    *random ^= *random << 17;
                    *random & (1 << 20) != 0
                })
                .collect(),
        );
    }
    found
}
