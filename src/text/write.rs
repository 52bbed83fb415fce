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
use super::memory;
use super::platform::Platform;
use crate::error::Error;
use crate::insn::{InsnBuffer, Replacement};

/// So many sites are written before they are read back. A line that was just written is in the
/// first cache under the address of its alias; to read it at its own address right then is to
/// wait for the line to be found in the next cache. Sixteen writes later that is over.
const BLOCK: usize = 16;

/// A write pass that failed.
#[derive(Debug)]
pub(crate) struct WriteFailed {
    error: Error,
    /// So many sites, counted over all parts, may have been written.
    written: usize,
}

/// Writes and reads back every site that does not hold what it is to get, and returns how many
/// those were.
///
/// # Errors
/// - [`Error::Alias`] and [`Error::ReadBack`], from a platform that breaks its contract.
#[inline(never)]
pub(crate) fn write<P: Platform>(
    run: &Run<'_, P>,
    cache: &mut ClassCache,
) -> Result<usize, WriteFailed> {
    let (mut changed, mut written) = (0, 0);
    for part in run.parts() {
        let records = part.sites().records();
        // Where each site of the block is, and the first six bytes it got.
        let mut block = [(0, 0); BLOCK];
        for (index, record) in records.iter().enumerate() {
            run.prefetch(records, index, View::Alias);
            let site = run.site(part, index, record, cache);
            let site = match &site {
                Ok(site) => site,
                Err(error) => return Err(WriteFailed { error: *error, written }),
            };
            let contents = run.contents(site, View::Alias);
            if contents == Contents::Unknown {
                return Err(WriteFailed { error: run.no_alias(site), written });
            }
            written += 1;
            if contents == Contents::Known {
                changed += 1;
                run.write_new(site).map_err(|error| WriteFailed { error, written })?;
            }
            let place = index % BLOCK;
            block[place] = if site.is_six_bytes() { (site.address, site.new_head) } else { (0, 0) };
            let is_last = place + 1 == BLOCK || index + 1 == records.len();
            if is_last && !block_shows(&block[..=place]) {
                // If it is another one of the block, `undo` finds out.
                let error = run.read_back(site, &run.new_bytes(site));
                return Err(WriteFailed { error, written });
            }
        }
    }
    Ok(changed)
}

/// Returns whether each site of a block shows the six bytes that it got.
#[inline(always)]
fn block_shows(block: &[(usize, u64)]) -> bool {
    block.iter().all(|&(address, new_head)| {
        let site = core::ptr::with_exposed_provenance(address);
        // SAFETY: `write` puts in sites of six bytes that lie in text, and 0 for others.
        address == 0 || unsafe { memory::read_six(site) } == new_head
    })
}

impl<P: Platform> Run<'_, P> {
    /// Writes what the site is to get, each byte once. A site of six bytes is read back with its
    /// block, another one at once.
    #[inline(always)]
    fn write_new(&self, site: &CheckedSite<'_, '_>) -> Result<(), Error> {
        if site.is_six_bytes() {
            // SAFETY: the site lies in text and has six bytes; the platform answers for the alias.
            unsafe { memory::write_six(self.platform.alias(site.address), site.new_head) };
            return Ok(());
        }
        let new = self.new_bytes(site);
        self.store(site, &new, 0..InsnBuffer::MAX);
        match self.contents_by_bytes(site, View::Site) {
            Contents::New => Ok(()),
            _ => Err(self.read_back(site, &new)),
        }
    }

    /// Stores these bytes of the site, each by one store.
    pub(crate) fn store(&self, site: &CheckedSite<'_, '_>, bytes: &InsnBuffer, part: Range<usize>) {
        let alias = self.platform.alias(site.address);
        let part = part.start..part.end.min(site.record.capacity().into());
        // SAFETY: the site lies in text, the part ends where it ends, and the platform answers
        // for the alias.
        unsafe { memory::write_part(alias, bytes, part) };
    }
}

/// Undoes a write pass that failed, as far as the platform lets it, and returns its error: that of
/// the first site that does not show what it got, if there is one.
///
/// That site is looked for before any is put back, since two records may name one site, and undoing
/// by one of them would make the other look at fault.
#[cold]
pub(crate) fn undo<P: Platform>(
    run: &Run<'_, P>,
    cache: &mut ClassCache,
    failed: &WriteFailed,
) -> Error {
    let mut error = failed.error;
    // From the last site on, so that the first wrong one is the last one found.
    each_backwards(run, cache, failed.written, &mut |site| {
        if run.contents(site, View::Site) != Contents::New {
            error = run.read_back(site, &run.new_bytes(site));
        }
    });
    each_backwards(run, cache, failed.written, &mut |site| put_back(run, site));
    error
}

/// Calls `act` with each of the first `count` sites, counted over all parts, from the last one on.
#[cold]
#[inline(never)]
fn each_backwards<P: Platform>(
    run: &Run<'_, P>,
    cache: &mut ClassCache,
    count: usize,
    act: &mut dyn FnMut(&CheckedSite<'_, '_>),
) {
    let mut before = run.sets.iter().map(|set| set.len()).sum::<usize>();
    for set in run.sets.iter().rev() {
        for part in set.parts().iter().rev() {
            let records = part.sites().records();
            before -= records.len();
            let written = count.saturating_sub(before);
            for (index, record) in records.iter().enumerate().take(written).rev() {
                if let Ok(site) = &run.site(part, index, record, cache) {
                    act(site);
                }
            }
        }
    }
}

/// Stores what the site was last patched for. If this site cannot hold that, because it is out of
/// reach here, it never did: the site gets its original.
#[cold]
fn put_back<P: Platform>(run: &Run<'_, P>, site: &CheckedSite<'_, '_>) {
    let Some(recipe) = run.recipe(site) else { return };
    let put = |held: &Replacement<'_>| {
        let bytes = run.bytes(site, held);
        run.store(site, &bytes, 0..InsnBuffer::MAX);
        !bytes.is_empty()
    };
    let _ = put(&recipe.last_applied) || put(&recipe.original);
}
