//! The second pass: each site is written and read back. If the platform turns out to break its
//! contract, what was written is put back.
//!
//! Unsafe code here writes to sites, through the platform's alias. What makes that sound is the
//! contract of [`Platform`], and that each site was checked to lie in text.
#![allow(unsafe_code)]

use core::ops::Range;

use super::checked_site::{CheckedSite, Run};
use super::class::ClassCache;
use super::contents::{Contents, View};
use super::fault::{Fault, SiteFault};
use super::memory;
use super::platform::Platform;
use super::site_set::Part;
use crate::error::Error;
use crate::insn::{InsnBuffer, Replacement};
use crate::site::Record;

/// How many sites are written before they are read back. A line that was just written is in the
/// first cache under the address of its alias, so reading it at its own address at once waits until
/// the line is found in the next cache. Sixteen writes later there is nothing to wait for.
const BLOCK: usize = 16;

/// Writes and reads back every site of the set that does not hold what it is to get, and returns how
/// many those were. If that fails, what was written is put back.
///
/// # Errors
/// Returns [`Error::Alias`] or [`Error::ReadBack`] if the platform breaks its contract.
pub(crate) fn write<P: Platform>(run: &Run<'_, P>, cache: &mut ClassCache) -> Result<usize, Error> {
    let mut progress = Progress { visited: 0, changed: 0 };
    for part in run.set.parts() {
        if let Err(fault) = &write_sites(run, part, cache, &mut progress) {
            return Err(undo(run, cache, progress.visited, fault));
        }
    }
    Ok(progress.changed)
}

/// The progress of a write pass, counted over all parts.
struct Progress {
    /// The number of sites that were written, or held what they are to get. Those are the first so
    /// many that are not withdrawn, so the pass can be undone without a list.
    visited: usize,
    /// The number of those that did not hold it.
    changed: usize,
}

/// Writes and reads back the sites of one part.
///
/// # Errors
/// Returns the fault of the first site that does not show what it got, or could not be written.
fn write_sites<'r, P: Platform>(
    run: &Run<'_, P>,
    part: &'r Part<'r>,
    cache: &mut ClassCache,
    progress: &mut Progress,
) -> Result<(), Fault<'r>> {
    let mut rest = part.sites().records();
    while rest.len() > 0 {
        // The sites of six bytes in this block, and the six bytes that each has now.
        let mut block = [None; BLOCK];
        let mut result = Ok(());
        for place in &mut block {
            let Some(record) = rest.next() else { break };
            run.prefetch(&rest, View::Alias);
            if let Err(fault) = write_site(run, part, record, cache, place, progress) {
                result = Err(Fault::Site(part, record, fault));
                break;
            }
        }
        // Also if a later site of the block could not be written: if one of these does not show
        // what it got, that is the fault which came first.
        for &(record, head) in block.iter().flatten() {
            let site = core::ptr::with_exposed_provenance(record.site());
            // SAFETY: the site lies in text and has six bytes, as `write_site` says.
            if unsafe { memory::read_six(site) } != head {
                return Err(Fault::Site(part, record, SiteFault::NotShown));
            }
        }
        result?;
    }
    Ok(())
}

/// Writes one site, if it does not hold what it is to get. A site of six bytes is put into its
/// place in the block, to be read back with it; another one is read back at once.
#[inline(always)]
fn write_site<'r, P: Platform>(
    run: &Run<'_, P>,
    part: &'r Part<'r>,
    record: &'r Record,
    cache: &mut ClassCache,
    place: &mut Option<(&'r Record, u64)>,
    progress: &mut Progress,
) -> Result<(), SiteFault> {
    let Some(site) = &run.site(part, record, cache) else {
        let is_withdrawn = run.set.is_withdrawn(record.site());
        return if is_withdrawn { Ok(()) } else { Err(SiteFault::Refused) };
    };
    let contents = run.contents(site, View::Alias);
    if contents == Contents::Unknown {
        return Err(SiteFault::Alias);
    }
    progress.visited += 1;
    progress.changed += usize::from(contents != Contents::New);
    if site.is_six_bytes() {
        *place = Some((record, site.new_head));
        if contents != Contents::New {
            // SAFETY: the site lies in text and has six bytes; the platform answers for the alias.
            unsafe { memory::write_six(run.platform.alias(site.address), site.new_head) };
        }
    } else if contents != Contents::New && !run.write_by_bytes(site) {
        return Err(SiteFault::NotShown);
    }
    Ok(())
}

impl<P: Platform> Run<'_, P> {
    /// Writes all bytes that the site is to get, each once, and returns whether it shows them then.
    #[cold]
    #[inline(never)]
    fn write_by_bytes(&self, site: &CheckedSite<'_, '_>) -> bool {
        let Ok(recipe) = &self.recipe(site) else { return false };
        self.put(site, &recipe.new) == self.read(site, View::Site)
    }

    /// Stores what the site was last patched for. If the site cannot hold that, because its target
    /// is out of reach from here, then it never held it, and it gets its original.
    #[cold]
    #[inline(never)]
    fn put_back(&self, site: &CheckedSite<'_, '_>) {
        let Ok(recipe) = &self.recipe(site) else { return };
        if self.put(site, &recipe.last_applied).is_empty() {
            self.put(site, &recipe.original);
        }
    }

    /// Stores all bytes of a replacement, and returns them. Stores nothing, and returns an empty
    /// buffer, if the site cannot hold it.
    #[cold]
    #[inline(never)]
    fn put(&self, site: &CheckedSite<'_, '_>, replacement: &Replacement<'_>) -> InsnBuffer {
        let bytes = self.compose_or_empty(site.record, replacement);
        self.store(site, &bytes, 0..InsnBuffer::MAX);
        bytes
    }

    /// Stores a part of these bytes of the site, each by one store.
    pub(crate) fn store(&self, site: &CheckedSite<'_, '_>, bytes: &InsnBuffer, part: Range<usize>) {
        let alias = self.platform.alias(site.address);
        let part = part.start..part.end.min(site.record.capacity().into());
        // SAFETY: the site lies in text, the part ends where it ends, and the platform answers
        // for the alias.
        unsafe { memory::write_part(alias, bytes, part) };
    }
}

/// Undoes a write pass that failed after `visited` sites, as [`Progress`] counts them, as far as
/// the platform lets it, and returns the error of the pass.
#[cold]
#[inline(never)]
fn undo<P: Platform>(
    run: &Run<'_, P>,
    cache: &mut ClassCache,
    visited: usize,
    fault: &Fault<'_>,
) -> Error {
    // Made before any site is put back. It says what the site shows, and two records may name one
    // site: putting that back by the first of them changes what the second would show.
    let error = run.error(fault);
    put_back(run, cache, visited);
    error
}

/// Puts the first so many sites back, as [`Progress`] counts them, as far as the platform lets it.
pub(super) fn put_back<P: Platform>(run: &Run<'_, P>, cache: &mut ClassCache, mut visited: usize) {
    for part in run.set.parts() {
        for record in part.sites().records() {
            if visited == 0 {
                return;
            }
            if let Some(site) = &run.site(part, record, cache) {
                visited -= 1;
                run.put_back(site);
            }
        }
    }
}
