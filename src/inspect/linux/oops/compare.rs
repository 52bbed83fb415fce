//! The comparison of the bytes of one oops with the file.

use super::forms::{Forms, SiteForm};
use super::lines;
use super::log::LoggedOops;
use super::outcome::{ComparedOops, OopsDifference};
use super::place::{Slide, SlideFrom};
use crate::insn::Width;
use crate::inspect::elf::little_endian;
use crate::inspect::explain::Verdict;
use crate::inspect::linux::kernel::LinuxKernel;
use crate::inspect::linux::site_groups::SiteGroup;
use crate::inspect::linux::unpack::bounds;

/// The comparison while it is made.
struct OopsComparison<'a, 'd> {
    kernel: &'a LinuxKernel<'d>,
    oops: &'a LoggedOops,
    start: u64,
    end: u64,
    slide: Option<Slide>,
    forms: Forms<'a, 'd>,
    differences: Vec<OopsDifference>,
}

/// Compares an oops whose first byte is at `start` in the file and whose failing instruction is at
/// `address`.
pub(super) fn compare(
    kernel: &LinuxKernel<'_>,
    oops: &LoggedOops,
    start: u64,
    address: u64,
    slide: Option<Slide>,
) -> ComparedOops {
    let end = start + oops.code.len() as u64;
    let distance = slide.map_or(0, |slide| slide.distance);
    let forms = Forms::new(kernel, &(start..end), distance);
    let differences = vec![];
    let mut comparison = OopsComparison { kernel, oops, start, end, slide, forms, differences };
    comparison.run();
    let OopsComparison { forms, differences, .. } = comparison;
    let known = oops.code.iter().filter(|byte| byte.is_some()).count();
    let unexplained = differences.iter().filter(|of| of.verdict == Verdict::Unexplained);
    let wrong: usize = unexplained
        .map(|of| {
            of.seen.iter().zip(&of.file).filter(|(seen, file)| **seen != Some(**file)).count()
        })
        .sum();
    let lines = lines::lines(kernel, oops, &forms, &differences, start, address);
    ComparedOops {
        address_in_file: address,
        slide,
        bytes: (oops.code.len(), known),
        differences,
        lines,
        is_other_file: wrong * 2 > known,
    }
}

impl OopsComparison<'_, '_> {
    fn run(&mut self) {
        let sites = self.forms.sites.clone();
        let mut at = self.start;
        for site in &sites {
            self.plain(at, site.start.min(self.end));
            self.site(site);
            at = at.max(site.end);
        }
        self.plain(at, self.end);
    }

    /// Returns the byte in the log for an address of the file.
    fn seen(&self, address: u64) -> Option<u8> {
        let at = usize::try_from(address.checked_sub(self.start)?).ok()?;
        self.oops.code.get(at).copied().flatten()
    }

    fn file(&self, address: u64) -> Option<u8> {
        self.forms.moved(address, 1)?.first().copied()
    }

    /// Returns whether the log has another byte than the file at an address.
    fn differs(&self, address: u64) -> bool {
        self.seen(address).is_some_and(|seen| self.file(address) != Some(seen))
    }

    /// Compares the bytes between sites.
    fn plain(&mut self, start: u64, end: u64) {
        let mut at = start;
        while at < end {
            if !self.differs(at) {
                at += 1;
                continue;
            }
            if let Some(behind) = self.moved_address(at, start, end) {
                let verdict = match self.slide.map(|slide| slide.from) {
                    Some(SlideFrom::Log | SlideFrom::Address) => Verdict::Proven,
                    _ => Verdict::Allowed,
                };
                let words = "an address that moved with the kernel".to_owned();
                self.difference(at..behind, "moved-address", verdict, words);
                at = behind;
                continue;
            }
            let mut behind = at + 1;
            while behind < end && self.differs(behind) {
                behind += 1;
            }
            if self.seen(at) == Some(0xcc) && behind == at + 1 {
                let words = "an INT3, as a probe puts one there".to_owned();
                self.difference(at..behind, "probe", Verdict::Allowed, words);
            } else {
                let words = "no record says that anything is written here".to_owned();
                self.difference(at..behind, "none", Verdict::Unexplained, words);
            }
            at = behind;
        }
    }

    /// Returns the end of an address that moved with the kernel and has the byte at `at` in it, for
    /// a file that does not say which places these are.
    fn moved_address(&self, at: u64, from: u64, to: u64) -> Option<u64> {
        if self.kernel.relocated.is_some() {
            return None;
        }
        let slide = self.slide.filter(|slide| slide.distance != 0)?.distance as u32;
        let bounds = bounds(&self.kernel.image);
        (0..4).filter_map(|back| at.checked_sub(back)).find_map(|start| {
            if start < from || start + 4 > to {
                return None;
            }
            let seen: Option<Vec<u8>> = (start..start + 4).map(|at| self.seen(at)).collect();
            let file = little_endian(self.forms.moved(start, 4)?) as u32;
            let extended = match self.kernel.image.width() {
                Width::Bits64 => i64::from(file.cast_signed()).cast_unsigned(),
                Width::Bits32 => u64::from(file),
            };
            let moved = little_endian(&seen?) as u32 == file.wrapping_add(slide);
            (moved && bounds.contains(&extended)).then_some(start + 4)
        })
    }

    /// Compares the bytes of a site, as far as they are in the log.
    fn site(&mut self, site: &SiteGroup) {
        if !(site.start..site.end).any(|at| self.differs(at)) {
            return;
        }
        let seen: Vec<Option<u8>> = (site.start..site.end).map(|at| self.seen(at)).collect();
        let forms = self.forms.of(site, &seen);
        let is_form = |form: &&SiteForm, from: usize| {
            let bytes = form.bytes.iter().zip(&seen).skip(from);
            form.bytes.len() == seen.len()
                && bytes.into_iter().all(|(form, seen)| seen.is_none_or(|seen| seen == *form))
        };
        let (verdict, words) = if let Some(form) = forms.iter().find(|form| is_form(form, 0)) {
            (Verdict::Allowed, form.condition.clone())
        } else if seen.first() == Some(&Some(0xcc)) && forms.iter().any(|form| is_form(&form, 1)) {
            let words = "an INT3: the site is being patched, or has a probe".to_owned();
            (Verdict::Allowed, words)
        } else if self.slide.is_none() && self.has_addresses(site) {
            let words = "the site has addresses that moved, and the log does not say how far";
            (Verdict::Unexplained, words.to_owned())
        } else {
            let words = "none of the forms that the site can have".to_owned();
            (Verdict::Unexplained, words)
        };
        let mut causes: Vec<&str> = site.tables.iter().map(|table| table.kind.name()).collect();
        causes.dedup();
        let causes = causes.join("+");
        let first = self.differences.len();
        self.difference(site.start..site.end, &causes, verdict, words);
        if let Some(of) = self.differences.get_mut(first) {
            of.forms = forms;
            of.depends = self.kernel.depends_of(&site.tables);
        }
    }

    /// Returns whether the kernel's list has a place in a site.
    fn has_addresses(&self, site: &SiteGroup) -> bool {
        self.kernel.relocated.as_ref().is_some_and(|relocated| {
            let mut places = relocated.added.iter().chain(&relocated.subtracted);
            places.any(|place| (site.start..site.end).contains(place))
        })
    }

    fn difference(
        &mut self,
        range: std::ops::Range<u64>,
        cause: &str,
        verdict: Verdict,
        words: String,
    ) {
        let len = usize::try_from(range.end - range.start).unwrap_or(0);
        self.differences.push(OopsDifference {
            address_in_file: range.start,
            function: self.kernel.names.place(range.start),
            cause: cause.to_owned(),
            depends: String::new(),
            file: self.forms.moved(range.start, len).unwrap_or_default().to_vec(),
            seen: range.map(|at| self.seen(at)).collect(),
            verdict,
            words,
            forms: vec![],
        });
    }
}
