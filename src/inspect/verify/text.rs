//! The checks that need every instruction of text: each site starts where an instruction starts,
//! and so does what a branch site jumps to; no branch leads into the middle of a site; and no call
//! or jump goes through an ops table without a record.

use std::collections::HashSet;

use iced_x86::Instruction;

use super::followed::Followed;
use super::overlap::place;
use crate::disassemble::branch_target;
use crate::inspect::finding::{FindingCode, Findings};
use crate::inspect::model::Model;
use crate::inspect::sweep::{RecordImage, TextSite, Visitor, sweep};

/// Checks all text. `sites` are the sites in executable sections, sorted by address, each once.
pub(super) fn check(
    model: &Model<'_>,
    sites: &[TextSite<'_>],
    progress: &mut dyn FnMut(u64, u64),
    findings: &mut Findings,
) {
    let followed = Followed::new(model);
    let jumps = sites.iter().filter_map(|site| match site.record {
        RecordImage::Branch(record) => Some(record.target),
        RecordImage::Op(_) => None,
    });
    // A target outside of text is a finding of its own.
    let in_text = |&target: &u64| {
        model.image().section_at(target).is_some_and(|section| section.is_executable())
    };
    let targets = jumps.filter(in_text).collect();
    let mut check = Check { model, sites, followed, targets, progress, findings };
    sweep(model, sites, &mut check);
    check.targets_not_seen();
}

/// The visitor that makes these checks.
struct Check<'s, 'd> {
    model: &'s Model<'d>,
    /// The sites, sorted by address.
    sites: &'s [TextSite<'s>],
    followed: Followed<'s, 'd>,
    /// The targets of branch sites at which no instruction and no site was seen so far.
    targets: HashSet<u64>,
    progress: &'s mut dyn FnMut(u64, u64),
    findings: &'s mut Findings,
}

impl Visitor for Check<'_, '_> {
    fn begin(&mut self) {
        self.followed.begin();
    }

    fn boundary(&mut self, at: u64) {
        if !self.targets.is_empty() {
            self.targets.remove(&at);
        }
    }

    fn instruction(&mut self, at: u64, instruction: &Instruction) {
        if let Some(target) = branch_target(instruction) {
            self.branch(at, target);
        }
        if let Some(slot) = self.followed.step(instruction) {
            self.unrecorded(at, slot);
        }
    }

    fn site_inside_instruction(&mut self, site: &TextSite<'_>, at: u64) {
        self.findings.add(
            FindingCode::SiteBoundary,
            Some(site.start),
            place(self.model, site),
            format!("it starts in the middle of the instruction at {at:#x}"),
            "emit sites by the macros of patchlet only; give assembly functions .type and .size",
        );
    }

    fn start_inside_site(&mut self, site: &TextSite<'_>, start: u64) {
        self.findings.add(
            FindingCode::SiteBoundary,
            Some(site.start),
            place(self.model, site),
            format!("{} starts in the middle of it, at {start:#x}", self.model.function(start)),
            "emit sites by the macros of patchlet only, with the capacity they say",
        );
    }

    fn progress(&mut self, done: u64, of: u64) {
        (self.progress)(done, of);
    }
}

impl Check<'_, '_> {
    /// Adds a finding if the branch at `at` leads into the middle of a site.
    fn branch(&mut self, at: u64, target: u64) {
        let behind = self.sites.partition_point(|site| site.start < target);
        let Some(site) = behind.checked_sub(1).and_then(|before| self.sites.get(before)) else {
            return;
        };
        if target < site.end {
            self.findings.add(
                FindingCode::SiteBranch,
                Some(site.start),
                place(self.model, site),
                format!(
                    "the branch at {at:#x} ({}) leads into the middle of it, to {target:#x}",
                    self.model.function(at)
                ),
                "put the label before the site or behind it",
            );
        }
    }

    /// Adds a finding for each branch site whose target is no instruction.
    fn targets_not_seen(&mut self) {
        for site in self.sites {
            let RecordImage::Branch(record) = site.record else { continue };
            if self.targets.contains(&record.target) {
                self.findings.add(
                    FindingCode::BranchTarget,
                    Some(site.start),
                    place(self.model, site),
                    format!(
                        "its target {:#x} ({}) is not the start of an instruction",
                        record.target,
                        self.model.function(record.target)
                    ),
                    "let a branch go to a label of its own function only",
                );
            }
        }
    }

    /// Adds a finding for the call or jump at `at`, which goes through `slot` without a record.
    fn unrecorded(&mut self, at: u64, slot: u64) {
        let Some((table, offset)) = self.model.tables.containing(slot) else { return };
        let index = offset / self.model.image.width().pointer_size();
        let op = self.model.name_of_slot(slot, u16::try_from(index).unwrap_or(u16::MAX));
        let table = self
            .model
            .tables
            .list
            .get(table)
            .map_or_else(String::new, |found| found.words().into());
        self.findings.add(
            FindingCode::Unrecorded,
            Some(at),
            format!("{at:#x} ({op}, {})", self.model.function(at)),
            format!(
                "it calls or jumps through slot {slot:#x} of {table}, and no record says so: it stays indirect"
            ),
            "use the op's function, `site_asm!`, or PATCHLET_CALL and PATCHLET_JMP of patchlet.h",
        );
    }
}
