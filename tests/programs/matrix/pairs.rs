//! Chooses the configurations to build: every pair of values, by a greedy search with the same
//! result every time, and every combination of a few factors.

use std::collections::BTreeSet;

use super::factors::{Config, FACTORS, broken_rule, factor};

/// A value of a factor.
type Value = (usize, usize);
/// Two of them, of different factors, the lower factor first.
pub type Pair = (Value, Value);
/// A configuration in the making.
type Partial = Vec<Option<usize>>;

/// What to build for one width, and what cannot be.
#[derive(Debug)]
pub struct Plan {
    /// The configurations.
    pub configs: Vec<Config>,
    /// Pairs that no configuration can have.
    pub impossible: Vec<Pair>,
}

/// Makes a plan that covers every pair of values, and every combination of the factors `full`.
pub fn full(width: usize, full: &[&str]) -> Plan {
    let mut plan = Planner::new(width);
    for seed in plan.combinations(full) {
        plan.add(seed);
    }
    while let Some((one, other)) = plan.missing.first().copied() {
        let mut seed = plan.seed();
        seed[one.0] = Some(one.1);
        seed[other.0] = Some(other.1);
        plan.add(seed);
    }
    Plan { configs: plan.configs, impossible: plan.impossible }
}

/// Makes a plan for a short run, which covers every value and every combination of the factors
/// `full`. Each configuration covers as many new pairs as it can.
pub fn short(width: usize, full: &[&str]) -> Plan {
    let mut plan = Planner::new(width);
    for seed in plan.combinations(full) {
        plan.add(seed);
    }
    for value in all_values(width) {
        let has = |config: &Config| config.0[value.0] == value.1;
        let mut seed = plan.seed();
        seed[value.0] = Some(value.1);
        if !plan.configs.iter().any(has) && completable(&seed) {
            plan.add(seed);
        }
    }
    Plan { configs: plan.configs, impossible: plan.impossible }
}

/// Returns all values for a width.
fn all_values(width: usize) -> impl Iterator<Item = Value> {
    FACTORS.iter().enumerate().flat_map(move |(index, factor)| {
        let values = if index == 0 { width..width + 1 } else { 0..factor.values.len() };
        values.map(move |value| (index, value))
    })
}

/// Returns all pairs of values in a configuration.
pub fn pairs_of(config: &Config) -> impl Iterator<Item = Pair> {
    let values = || config.0.iter().copied().enumerate();
    values().flat_map(move |one| values().skip(one.0 + 1).map(move |other| (one, other)))
}

/// Returns whether the values chosen so far can be completed to a configuration.
pub fn completable(partial: &[Option<usize>]) -> bool {
    if broken_rule(partial).is_some() {
        return false;
    }
    let Some(open) = partial.iter().position(Option::is_none) else { return true };
    let mut next = partial.to_vec();
    (0..FACTORS[open].values.len()).any(|value| {
        next[open] = Some(value);
        completable(&next)
    })
}

struct Planner {
    width: usize,
    missing: BTreeSet<Pair>,
    impossible: Vec<Pair>,
    configs: Vec<Config>,
}

impl Planner {
    fn new(width: usize) -> Self {
        let values: Vec<Value> = all_values(width).collect();
        let mut plan =
            Self { width, missing: BTreeSet::new(), impossible: Vec::new(), configs: Vec::new() };
        for &one in &values {
            for &other in values.iter().filter(|other| one.0 < other.0) {
                let mut partial = plan.seed();
                partial[one.0] = Some(one.1);
                partial[other.0] = Some(other.1);
                if completable(&partial) {
                    plan.missing.insert((one, other));
                } else {
                    plan.impossible.push((one, other));
                }
            }
        }
        plan
    }

    fn seed(&self) -> Partial {
        let mut partial = vec![None; FACTORS.len()];
        partial[0] = Some(self.width);
        partial
    }

    /// Returns every possible combination of these factors.
    fn combinations(&self, names: &[&str]) -> Vec<Partial> {
        let mut seeds = vec![self.seed()];
        for name in names {
            let index = factor(name);
            seeds = seeds
                .into_iter()
                .flat_map(|seed| {
                    (0..FACTORS[index].values.len()).map(move |value| {
                        let mut seed = seed.clone();
                        seed[index] = Some(value);
                        seed
                    })
                })
                .filter(|seed| completable(seed))
                .collect();
        }
        seeds
    }

    /// Completes a seed: factor by factor the value that brings the most missing
    /// pairs with what is chosen already; of equals, the least used.
    fn add(&mut self, mut partial: Partial) {
        for index in 0..partial.len() {
            if partial[index].is_some() {
                continue;
            }
            let best = (0..FACTORS[index].values.len())
                .filter(|value| {
                    let mut next = partial.clone();
                    next[index] = Some(*value);
                    completable(&next)
                })
                .max_by_key(|value| {
                    let used = self.configs.iter().filter(|config| config.0[index] == *value);
                    let gain = partial.iter().enumerate().filter(|(other, chosen)| {
                        chosen.is_some_and(|chosen| {
                            let (one, other) = ((index, *value), (*other, chosen));
                            self.missing.contains(&(one.min(other), one.max(other)))
                        })
                    });
                    (gain.count(), usize::MAX - used.count())
                });
            partial[index] = best;
        }
        let config = Config(partial.into_iter().flatten().collect());
        for pair in pairs_of(&config) {
            self.missing.remove(&pair);
        }
        self.configs.push(config);
    }
}
