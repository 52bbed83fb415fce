//! What a kernel's patching would make of each site, computed from the file and what the command line
//! says of the CPU. Nothing is guessed: what only the kernel decides, or only its run shows, is said
//! to be so.

use super::features::KernelFeatures;
use super::file_state::in_file;
use super::kernel::LinuxKernel;
use super::oops::{Forms, SiteForm, return_thunks};
use super::rules::{Rules, feature_of};
use super::site_groups::{SiteGroup, groups_in};
use super::tables::{TableKind, TableRecord};
use super::text::Text;
use crate::inspect::linux::explain::usual;
use crate::inspect::linux::features::feature;

/// The certainty about what a site gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PlanCertainty {
    /// It follows from the file and the features that are known.
    Computed,
    /// It follows from a variable that has its first value, and can have another at any time.
    Initial,
    /// A feature decides that only the kernel knows, or of which nothing is said.
    Undecided,
    /// It depends on what is only known when the kernel runs.
    RunTime,
}

impl PlanCertainty {
    /// Returns the word by which the tool prints it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Computed => "computed",
            Self::Initial => "initial",
            Self::Undecided => "undecided",
            Self::RunTime => "run-time",
        }
    }
}

/// The bytes that a site of a Linux kernel gets.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinuxSitePlan {
    /// Address of the first byte.
    pub address: u64,
    /// The function, with the distance from its start.
    pub function: String,
    /// The kinds of its records.
    pub tables: Vec<TableKind>,
    /// What decides, as the records say it.
    pub depends: String,
    /// The bytes of the file.
    pub before: Vec<u8>,
    /// The bytes that it gets; those of the file if that is undecided.
    pub after: Vec<u8>,
    /// How sure that is.
    pub certainty: PlanCertainty,
    /// Why, in words.
    pub why: String,
    /// What an undecided alternative can get.
    pub forms: Vec<SiteForm>,
}

/// Plans what a kernel's own patching makes of its sites, on the CPU that it was told of.
/// `keys` are static keys with the state that they are taken to have. `is_wanted` says of an address
/// whether its site is.
pub fn plan(
    kernel: &LinuxKernel<'_>,
    keys: &[(u64, bool)],
    is_wanted: impl Fn(u64) -> bool,
) -> Vec<LinuxSitePlan> {
    let features = kernel.cpu.clone().unwrap_or_else(KernelFeatures::unknown);
    let size = usize::try_from(kernel.image.width().pointer_size()).unwrap_or(8);
    let state_of = |&(key, is_on): &(u64, bool)| {
        (key, u64::from(is_on).to_le_bytes().get(..size).unwrap_or_default().to_vec())
    };
    let overrides: Vec<(u64, Vec<u8>)> = keys.iter().map(state_of).collect();
    let mut text = Text::new(&kernel.image);
    in_file(kernel, &features, &overrides, |state| {
        let (image, names, tables) = (&kernel.image, &kernel.names, &*kernel.tables);
        let (habits, assumed) = (usual(kernel), vec![]);
        Rules { image, names, tables, state, habits, assumed }.apply(&mut text);
    });
    let thunks = return_thunks(kernel);
    let mut groups = groups_in(kernel, &(0..u64::MAX));
    groups.retain(|group| is_wanted(group.start));
    let plans = groups.into_iter().map(|group| {
        let len = usize::try_from(group.end - group.start).unwrap_or(0);
        let before = kernel.code(group.start, len).to_vec();
        let (certainty, why) = certainty(kernel, &features, &group, keys);
        let after = match certainty {
            PlanCertainty::Undecided | PlanCertainty::RunTime => None,
            PlanCertainty::Computed | PlanCertainty::Initial => text.expected(group.start, len),
        };
        let after = after.map_or_else(|| before.clone(), <[u8]>::to_vec);
        let has_alternative =
            group.tables.iter().any(|table| table.kind == TableKind::Alternatives);
        let forms = if certainty == PlanCertainty::Undecided && has_alternative {
            let range = group.start..group.end;
            let forms = Forms::of_groups(kernel, vec![group.clone()], &range, 0, thunks.clone());
            forms.of(&group, &vec![None; len])
        } else {
            vec![]
        };
        let mut tables: Vec<TableKind> = group.tables.iter().map(|table| table.kind).collect();
        tables.dedup();
        LinuxSitePlan {
            address: group.start,
            function: kernel.names.place(group.start),
            tables,
            depends: kernel.depends_of(&group.tables),
            before,
            after,
            certainty,
            why,
            forms,
        }
    });
    plans.collect()
}

/// Returns how sure it is what a group of records gets, with the reason: that of its record about
/// which is least sure.
fn certainty(
    kernel: &LinuxKernel<'_>,
    features: &KernelFeatures,
    group: &SiteGroup,
    keys: &[(u64, bool)],
) -> (PlanCertainty, String) {
    let mut worst = (PlanCertainty::Computed, String::new());
    // Calls of the tracer are never counted.
    let is_traced = group.tables.iter().any(|table| table.kind == TableKind::Ftrace);
    let counts = |kind| !is_traced || kind != TableKind::Calls;
    for table in group.tables.iter().filter(|table| counts(table.kind)) {
        for record in &table.records {
            let of = of_record(kernel, features, table.kind, record, keys);
            if worst.1.is_empty() || of.0 > worst.0 {
                worst = of;
            }
        }
    }
    worst
}

/// Returns the same for one record.
fn of_record(
    kernel: &LinuxKernel<'_>,
    features: &KernelFeatures,
    kind: TableKind,
    record: &TableRecord,
    keys: &[(u64, bool)],
) -> (PlanCertainty, String) {
    use PlanCertainty::{Computed, Initial, RunTime, Undecided};

    match kind {
        TableKind::Alternatives => {
            let (number, _) = feature_of(record);
            let by_feature = by_features(kernel, features, &[number]);
            match (by_feature.0, kernel.slot_of(record.site)) {
                (Computed, Some(slot)) => (Initial, kernel.while_it_has(slot)),
                _ => by_feature,
            }
        }
        TableKind::Paravirt => match kernel.slot_of_record(record) {
            Some(slot) => (Initial, kernel.while_it_has(slot)),
            None => (RunTime, "the slot of pv_ops is not known".to_owned()),
        },
        TableKind::JumpLabels => {
            let name = kernel.names.place(record.key);
            if let Some((_, is_on)) = keys.iter().find(|(key, _)| *key == record.key) {
                let state = if *is_on { "on" } else { "off" };
                return (Computed, format!("{name} is {state}, as the command line says"));
            }
            let is_on = kernel.image.bytes_at(record.key, 4).map(|key| key != [0; 4]);
            let state = match is_on {
                Some(true) => "on",
                // Memory that the file does not have is zeros.
                _ => "off",
            };
            (Initial, format!("{name} is {state} at first"))
        }
        TableKind::StaticCalls => (Initial, kernel.while_it_has(record.key)),
        TableKind::SmpLocks => (Initial, "there are several CPUs".to_owned()),
        TableKind::Retpolines => {
            by_features(kernel, features, &[feature::RETPOLINE, feature::RETPOLINE_LFENCE])
        }
        TableKind::Returns => match by_features(kernel, features, &[feature::RETHUNK]) {
            (Computed, why) if features.has(feature::RETHUNK) == Some(true) => {
                (Initial, format!("{why}, and the thunk is the one of the file"))
            }
            of => of,
        },
        TableKind::Calls => match features.has(feature::CALL_DEPTH) {
            Some(false) => (Computed, "calls are not counted".to_owned()),
            Some(true) => (Computed, "calls are counted".to_owned()),
            None => (Undecided, "whether calls are counted, 11*32+19, is not known".to_owned()),
        },
        TableKind::Endbr => (Computed, "nothing calls the function indirectly".to_owned()),
        TableKind::Cfi => (RunTime, "the form of control-flow integrity".to_owned()),
        TableKind::Ftrace => (Initial, "nothing traces the function".to_owned()),
        TableKind::RuntimePointers | TableKind::RuntimeShifts | TableKind::RuntimeMasks => {
            (RunTime, "a value that is known when the kernel has started".to_owned())
        }
    }
}

/// Returns what is known of features, in words.
fn by_features(
    kernel: &LinuxKernel<'_>,
    features: &KernelFeatures,
    numbers: &[u16],
) -> (PlanCertainty, String) {
    let word = |number: &u16| {
        let name = kernel.feature_names.words_for(*number);
        match features.has(*number) {
            Some(true) => name,
            Some(false) => format!("!{name}"),
            None => format!("{name} is not known"),
        }
    };
    let is_known = numbers.iter().all(|&number| features.has(number).is_some());
    let words: Vec<String> = numbers.iter().map(word).collect();
    let certainty = if is_known { PlanCertainty::Computed } else { PlanCertainty::Undecided };
    (certainty, words.join(", "))
}

impl LinuxKernel<'_> {
    /// Returns the function that a variable has in the file, in words.
    fn while_it_has(&self, variable: u64) -> String {
        let name = self.names.place(variable);
        match self.image.pointer_at(variable) {
            Some(0) | None => format!("{name} has no function at first"),
            Some(function) => format!("{name} has {} at first", self.names.place(function)),
        }
    }
}
