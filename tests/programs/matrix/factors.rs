//! The factors that are varied, the configurations made of them, and the combinations that cannot
//! be built, each with the reason.

use std::fmt;

/// One thing that is varied.
#[derive(Debug)]
pub struct Factor {
    /// Its name in a configuration.
    pub name: &'static str,
    /// Its values; the first is the plainest.
    pub values: &'static [&'static str],
}

/// All of them. `width` is first: each width is a matrix of its own.
pub const FACTORS: &[Factor] = &[
    Factor { name: "width", values: &["64", "32"] },
    Factor { name: "lto", values: &["off", "thin", "fat", "plugin"] },
    Factor { name: "opt", values: &["0", "1", "2", "3", "s", "z"] },
    Factor { name: "linker", values: &["ld", "ld.lld", "rust-lld", "mold"] },
    // Where the program is: a static PIE, a static process, a static process by
    // a link script with patchlet.ld in it, or that script at -2 GiB.
    Factor { name: "place", values: &["static", "pie", "script", "high"] },
    // On 64-bit the default is the target's, which is the kernel code model.
    Factor { name: "code-model", values: &["default", "small"] },
    Factor { name: "c", values: &["none", "gcc", "clang", "gcc-lto", "clang-lto"] },
    Factor { name: "gc", values: &["off", "sections", "start-stop"] },
    Factor { name: "icf", values: &["off", "all"] },
    Factor { name: "strip", values: &["none", "debuginfo", "symbols"] },
    Factor { name: "units", values: &["1", "16"] },
    Factor { name: "assembler", values: &["gcc", "clang"] },
    Factor { name: "link-opt", values: &["default", "O2"] },
    Factor { name: "debug-assertions", values: &["off", "on"] },
    Factor { name: "overflow-checks", values: &["off", "on"] },
    Factor { name: "struct-layout", values: &["default", "random"] },
];

/// The factors of which every combination is built, not only every pair.
pub const FULL: &[&str] = &["lto", "opt", "linker"];

/// Two sets of values that cannot be combined.
#[derive(Debug)]
pub struct Rule {
    /// A factor and some of its values.
    pub one: (&'static str, &'static [&'static str]),
    /// Another factor and some of its values.
    pub other: (&'static str, &'static [&'static str]),
    /// Why not.
    pub reason: &'static str,
    /// What else a build needs that shows it.
    pub beside: &'static [(&'static str, &'static str)],
    /// With which versions a build shows it: then it is tried. The others are true by
    /// definition.
    pub shown_by_build: Option<Failing>,
}

/// Which versions of a tool a combination fails with. It is never part of the matrix, whose
/// plan is the same everywhere; a full run tries it.
#[derive(Clone, Copy, Debug)]
pub struct Failing {
    /// A tool, as [`Tools`](super::tools::Tools) names it.
    pub tool: &'static str,
    /// The last major version that was seen to fail.
    pub up_to: u32,
    /// The first that was seen to build. What lies between may do either.
    pub builds_from: u32,
}

impl Failing {
    /// With every version.
    const ALWAYS: Self = Self { tool: "rustc", up_to: u32::MAX, builds_from: u32::MAX };

    /// Returns whether a build with this major version of the tool succeeds, if that is known.
    pub fn builds(self, major: u32) -> Option<bool> {
        if major <= self.up_to { Some(false) } else { (major >= self.builds_from).then_some(true) }
    }
}

/// Every combination that is not built. A full run tries them.
pub const RULES: &[Rule] = &[
    Rule {
        one: ("lto", &["plugin"]),
        other: ("linker", &["ld", "ld.lld", "mold"]),
        reason: "linker-plugin LTO needs a linker that reads rustc's own LLVM bitcode (22): rust-lld",
        beside: &[],
        shown_by_build: Some(Failing::ALWAYS),
    },
    Rule {
        one: ("c", &["gcc-lto"]),
        other: ("linker", &["ld.lld", "rust-lld"]),
        reason: "objects of `gcc -flto` need gcc's linker plugin, which LLVM's linkers do not load",
        beside: &[],
        shown_by_build: Some(Failing::ALWAYS),
    },
    Rule {
        one: ("c", &["clang-lto"]),
        other: ("linker", &["ld"]),
        reason: "the linker plugin of clang 14 stumbles over the bitcode (LLVM 22) embedded in core's objects",
        beside: &[],
        shown_by_build: Some(Failing { tool: "clang", up_to: 14, builds_from: 19 }),
    },
    Rule {
        one: ("icf", &["all"]),
        other: ("linker", &["ld"]),
        reason: "GNU ld has no --icf",
        beside: &[],
        shown_by_build: Some(Failing::ALWAYS),
    },
    Rule {
        one: ("place", &["script", "high"]),
        other: ("linker", &["mold"]),
        reason: "mold does not take link scripts",
        beside: &[],
        shown_by_build: Some(Failing::ALWAYS),
    },
    Rule {
        one: ("width", &["32"]),
        other: ("place", &["pie"]),
        reason: "a 32-bit site holds its slot's absolute address: LLVM's linkers refuse it in a PIE, \
                 GNU ld leaves it to a loader (DT_TEXTREL), and a kernel has none",
        beside: &[("linker", "rust-lld")],
        shown_by_build: Some(Failing::ALWAYS),
    },
    Rule {
        one: ("width", &["32"]),
        other: ("place", &["high"]),
        reason: "on 32-bit every address is in reach; `script` is the same link",
        beside: &[],
        shown_by_build: None,
    },
    Rule {
        one: ("width", &["32"]),
        other: ("code-model", &["small"]),
        reason: "the small and the kernel code model are 64-bit ones",
        beside: &[],
        shown_by_build: None,
    },
    Rule {
        one: ("lto", &["thin", "fat"]),
        other: ("code-model", &["small"]),
        reason: "core comes as bitcode of the kernel code model, and LLVM does not mix the two",
        beside: &[],
        shown_by_build: Some(Failing::ALWAYS),
    },
    Rule {
        one: ("place", &["high"]),
        other: ("code-model", &["small"]),
        reason: "addresses at -2 GiB are out of the small code model's reach",
        beside: &[],
        shown_by_build: Some(Failing::ALWAYS),
    },
];

/// Returns the position of a factor in [`FACTORS`].
pub fn factor(name: &str) -> usize {
    FACTORS
        .iter()
        .position(|factor| factor.name == name)
        .unwrap_or_else(|| panic!("there is no factor `{name}`"))
}

/// A value for every factor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config(pub Vec<usize>);

impl Config {
    /// Returns the value of a factor.
    pub fn get(&self, name: &str) -> &'static str {
        let factor = factor(name);
        FACTORS[factor].values[self.0[factor]]
    }

    /// Gives the factor this value, which it must have.
    pub fn set(&mut self, name: &str, value: &str) {
        let factor = factor(name);
        let value = FACTORS[factor].values.iter().position(|known| *known == value);
        self.0[factor] = value.unwrap_or_else(|| panic!("`{name}` has no such value"));
    }

    /// Returns whether a factor has this value.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.get(name) == value
    }

    /// Reads what [`Display`](fmt::Display) writes. Factors that are left out
    /// have their first value.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self(vec![0; FACTORS.len()]);
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or(format!("`{part}` has no `=`"))?;
            let factor = FACTORS
                .iter()
                .position(|factor| factor.name == name)
                .ok_or(format!("there is no factor `{name}`"))?;
            config.0[factor] = FACTORS[factor]
                .values
                .iter()
                .position(|known| *known == value)
                .ok_or(format!("`{name}` has the values {:?}", FACTORS[factor].values))?;
        }
        Ok(config)
    }

    /// Returns the values that are not the default, in the form that [`parse`](Self::parse) reads.
    #[allow(dead_code, reason = "for tests/programs/rivals")]
    pub fn short(&self) -> String {
        let words = FACTORS.iter().zip(&self.0).filter(|(_, value)| **value != 0);
        let words: Vec<_> = words
            .map(|(factor, value)| format!("{}={}", factor.name, factor.values[*value]))
            .collect();
        if words.is_empty() { "width=64".to_owned() } else { words.join(",") }
    }

    /// Returns the reason why the configuration cannot be built, if there is one.
    pub fn impossible(&self) -> Option<&'static str> {
        let partial: Vec<_> = self.0.iter().copied().map(Some).collect();
        broken_rule(&partial).map(|rule| rule.reason)
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, factor) in FACTORS.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}={}", factor.name, factor.values[self.0[index]])?;
        }
        Ok(())
    }
}

/// Returns the rule that the values chosen so far break, if they break one.
pub fn broken_rule(partial: &[Option<usize>]) -> Option<&'static Rule> {
    let has = |(name, values): (&str, &[&str])| {
        let factor = factor(name);
        partial[factor].is_some_and(|value| values.contains(&FACTORS[factor].values[value]))
    };
    RULES.iter().find(|rule| has(rule.one) && has(rule.other))
}
