//! Breadth first through all worlds, then backwards from the settled ones.

use crate::Rules;
use crate::machines::Machines;
use crate::moves::{Kind, Moves};
use crate::world::World;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

/// A fast hash; worlds are small and nobody attacks the test.
#[derive(Default)]
struct Fast(u64);

impl Hasher for Fast {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }
    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }
    fn write_u16(&mut self, n: u16) {
        self.write_u64(u64::from(n));
    }
    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }
    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }
    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u64);
    }
}

/// What a search found.
pub(crate) enum Found {
    /// Nothing wrong.
    Clean { states: usize, settled: usize, edges: usize },
    /// An invariant broke; what, and the shortest way there.
    Broken { states: usize, what: Vec<&'static str>, trace: Vec<String> },
    /// From some world there is no way on without further faults.
    Stuck { states: usize, stuck: usize, trace: Vec<String> },
}

impl Found {
    /// What is wrong, in words.
    pub(crate) fn violations(&self) -> Vec<&'static str> {
        match self {
            Found::Clean { .. } => Vec::new(),
            Found::Broken { what, .. } => what.clone(),
            Found::Stuck { .. } => vec!["stuck"],
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::Clean { states, settled, edges } => {
                write!(f, "clean, {states} states, {settled} settled, {edges} moves")
            }
            Found::Broken { states, what, trace } => {
                write!(f, "BROKEN among {states} states: {}\n  {}", what.join("; "), trace.join("\n  "))
            }
            Found::Stuck { states, stuck, trace } => {
                write!(f, "STUCK {stuck} of {states} states, the first:\n  {}", trace.join("\n  "))
            }
        }
    }
}

struct Graph {
    rules: Rules,
    attempts: usize,
    wanted: &'static str,
    machines: Machines,
    worlds: Vec<World>,
    parents: Vec<u32>,
    /// Fair moves only, as (to, from): what the way back walks.
    fair: Vec<(u32, u32)>,
    edges: usize,
    broken: Vec<(&'static str, u32)>,
}

/// Explores every world that can be reached with at most `faults` faults on a path, up to the first break whose words
/// contain `wanted` (empty: any).
pub(crate) fn search(rules: Rules, attempts: usize, faults: u8, wanted: &'static str) -> Found {
    let mut graph = Graph {
        rules,
        attempts,
        wanted,
        machines: Machines::new(rules),
        worlds: Vec::new(),
        parents: Vec::new(),
        fair: Vec::new(),
        edges: 0,
        broken: Vec::new(),
    };
    graph.explore(World::new(faults));
    let states = graph.worlds.len();
    if let Some((_, at)) = graph.broken.first().copied() {
        let mut what: Vec<_> = graph.broken.iter().map(|(what, _)| *what).collect();
        what.sort_unstable();
        what.dedup();
        return Found::Broken { states, trace: graph.trace(at), what };
    }
    let settled: Vec<u32> = (0..states as u32).filter(|i| graph.worlds[*i as usize].settled()).collect();
    let reached = graph.backwards(&settled);
    match reached.iter().position(|reached| !reached) {
        None => Found::Clean { states, settled: settled.len(), edges: graph.edges },
        Some(first) => {
            let stuck = reached.iter().filter(|reached| !**reached).count();
            Found::Stuck { states, stuck, trace: graph.trace(first as u32) }
        }
    }
}

impl Graph {
    fn moves(&mut self, at: u32, labelled: bool) -> Vec<crate::moves::Move> {
        let from = self.worlds[at as usize];
        let mut moves = Moves {
            machines: &mut self.machines,
            rules: self.rules,
            attempts: self.attempts,
            from,
            out: Vec::new(),
            labelled,
        };
        moves.collect();
        moves.out
    }

    fn explore(&mut self, start: World) {
        let mut known: HashMap<World, u32, BuildHasherDefault<Fast>> = HashMap::default();
        known.insert(start, 0);
        self.worlds.push(start);
        self.parents.push(0);
        let mut at = 0;
        while (at as usize) < self.worlds.len() {
            if !self.broken.is_empty() {
                break;
            }
            for step in self.moves(at, false) {
                let to = match step.to {
                    Ok(to) => to,
                    Err(what) => {
                        if what.contains(self.wanted) {
                            self.broken.push((what, at));
                        }
                        continue;
                    }
                };
                let next = self.worlds.len() as u32;
                let id = *known.entry(to).or_insert(next);
                if id == next {
                    self.worlds.push(to);
                    self.parents.push(at);
                }
                self.edges += 1;
                if step.kind == Kind::Fair {
                    self.fair.push((id, at));
                }
            }
            at += 1;
        }
    }

    fn backwards(&mut self, settled: &[u32]) -> Vec<bool> {
        let mut reached = vec![false; self.worlds.len()];
        self.fair.sort_unstable();
        let mut todo = settled.to_vec();
        while let Some(to) = todo.pop() {
            if std::mem::replace(&mut reached[to as usize], true) {
                continue;
            }
            let first = self.fair.partition_point(|edge| edge.0 < to);
            todo.extend(self.fair[first..].iter().take_while(|edge| edge.0 == to).map(|edge| edge.1));
        }
        reached
    }

    /// The shortest way from the start to a world, in words, and what breaks there.
    fn trace(&mut self, at: u32) -> Vec<String> {
        let mut path = vec![at];
        while path.last() != Some(&0) {
            let last = path[path.len() - 1];
            path.push(self.parents[last as usize]);
        }
        path.reverse();
        let mut lines = Vec::new();
        for pair in path.windows(2) {
            let to = self.worlds[pair[1] as usize];
            let step = self.moves(pair[0], true).into_iter().find(|step| step.to == Ok(to));
            lines.push(step.map_or("?".to_owned(), |step| step.label));
        }
        let broken = self.moves(at, true).into_iter().find_map(|step| {
            let what = step.to.err().filter(|what| what.contains(self.wanted))?;
            Some((step.label, what))
        });
        lines.extend(broken.map(|(label, what)| format!("{label}  ── {what}")));
        lines.push(format!("{:?}", self.worlds[at as usize]));
        lines
    }
}
