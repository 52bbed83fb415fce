//! The patcher: checks everything, then writes, then reads back.

use super::change::{self, Change};
use super::check::check;
use super::checked_site::Run;
use super::class::ClassCache;
use super::one_cpu::OneCpu;
use super::plan::Plan;
use super::platform::Platform;
use super::report::{Goal, Report};
use super::site_set::SiteSet;
use super::source::{Follow, Subject};
use super::write::{put_back, write};
use crate::error::Error;

/// The patcher: a site set, and the platform by which its text is written.
///
/// ```no_run
/// use patchlet::{OneCpu, Patcher, SecondMapping, pv};
/// # let (text, offset) = (0..1, 0);
///
/// patchlet::site_set! {
///     /// Every site of this kernel, and the ops tables that they go through.
///     static KERNEL = [pv];
/// }
///
/// // SAFETY: the kernel's text and its place in the direct map.
/// let platform = unsafe { SecondMapping::new(text, offset) };
/// let mut patcher = Patcher::new(&KERNEL, platform);
/// // SAFETY: boot: one CPU, in ring 0, and the NMI handler has no site.
/// let report = unsafe { OneCpu::with_interrupts_off(|cpu| patcher.apply(cpu)) }?;
/// assert_eq!(report.indirect, 0);
/// # Ok::<(), patchlet::Error>(())
/// ```
#[derive(Debug)]
pub struct Patcher<'a, P> {
    set: &'a SiteSet<'a>,
    platform: P,
}

impl<'a, P: Platform> Patcher<'a, P> {
    /// Makes the patcher of this set.
    pub const fn new(set: &'a SiteSet<'a>, platform: P) -> Self {
        Self { set, platform }
    }

    /// Checks everything and writes nothing: what [`apply`](Self::apply) or
    /// [`revert`](Self::revert) would do now.
    ///
    /// # Errors
    /// Returns those of [`apply`](Self::apply) but [`Error::Alias`] and [`Error::ReadBack`].
    pub fn plan(&self, goal: Goal) -> Result<Plan<'_, P>, Error> {
        let run = Run { set: self.set, platform: &self.platform, follow: goal.present() };
        check(core::iter::once(self.set), run.platform, run.follow, &mut ClassCache::new())?;
        Ok(Plan { run })
    }

    /// Patches every site for what its slot holds now. Every record, site and replacement is
    /// checked before the first byte is written, and no alias is written to that shows what such
    /// a site cannot hold. Applying again changes nothing, unless slots were set meanwhile.
    ///
    /// # Errors
    /// Returns every variant of [`Error`] but those of [`live`](crate::live). Text is then as it
    /// was before, and was not written at all. The exceptions are [`Error::Alias`] and
    /// [`Error::ReadBack`], by which a platform that broke its contract is found while text is
    /// written; they say what text holds then.
    pub fn apply(&mut self, cpu: &OneCpu<'_>) -> Result<Report, Error> {
        self.set.begin();
        self.write(Goal::Patched.batch(), cpu)
    }

    /// Gives every site its indirect call or jump back.
    ///
    /// # Errors
    /// Returns the same errors as [`apply`](Self::apply).
    pub fn revert(&mut self, cpu: &OneCpu<'_>) -> Result<Report, Error> {
        // No `begin`: what the assembler wrote does not depend on what slots hold.
        self.write(Goal::Original.batch(), cpu)
    }

    /// Makes these changes of keys and slots and patches every site, as one transaction: on an
    /// error, neither keys nor slots nor text have changed. Apart from the changes this is
    /// [`apply`](Self::apply).
    ///
    /// A list whose changes were made is that of the changes which undo them.
    ///
    /// # Errors
    /// Returns
    /// - [`Error::KeyNotFollowed`] or [`Error::SlotNotFollowed`] for a key or slot that the set does
    ///   not know;
    /// - [`Error::Count`] if a counted key cannot count on, up or down;
    /// - the others as for [`apply`](Self::apply).
    pub fn change(
        &mut self,
        changes: &mut [Change<'_>],
        cpu: &OneCpu<'_>,
    ) -> Result<Report, Error> {
        make_changes(core::iter::once(self.set), changes)?;
        let result = self.apply(cpu);
        if result.is_err() {
            change::undo(changes);
        }
        result
    }

    fn write(&mut self, follow: Follow, cpu: &OneCpu<'_>) -> Result<Report, Error> {
        write_sets(core::iter::once(self.set), &mut self.platform, follow, cpu)
    }
}

/// Makes these changes. `sets` are those whose sites follow.
///
/// # Errors
/// Returns, if one of them cannot be made, one of these; then none was.
/// - [`Error::KeyNotFollowed`] or [`Error::SlotNotFollowed`], if no set follows it;
/// - [`Error::Count`].
pub(crate) fn make_changes<'r>(
    mut sets: impl Iterator<Item = &'r SiteSet<'r>> + Clone,
    changes: &mut [Change<'_>],
) -> Result<(), Error> {
    for subject in changes.iter().map(Change::subject) {
        if !sets.clone().any(|set| set.follows(subject)) {
            return Err(match subject {
                Subject::Slot { address, name } => Error::SlotNotFollowed { slot: address, name },
                Subject::Key { address, .. } => Error::KeyNotFollowed { key: address },
            });
        }
    }
    change::make(changes).map_err(|(key, count)| {
        let name = sets.find_map(|set| set.name_of(key)).unwrap_or_default();
        Error::Count { key, name, count }
    })
}

/// Checks all sets, writes them, and notes what their sites have now. For [`Follow::Batch`],
/// [`SiteSet::begin`] was called before.
pub(crate) fn write_sets<'r, P: Platform>(
    sets: impl Iterator<Item = &'r SiteSet<'r>> + Clone,
    platform: &mut P,
    follow: Follow,
    _: &OneCpu<'_>,
) -> Result<Report, Error> {
    let mut cache = ClassCache::new();
    // The report is changed in place and `result` returned as a whole: taking it apart and putting
    // it together again takes copies, and code.
    let mut result = check(sets.clone(), platform, follow, &mut cache);
    #[allow(clippy::question_mark, reason = "as above")]
    if result.is_err() {
        return result;
    }
    platform.unlock();
    let mut changed = 0;
    for set in sets.clone() {
        match write(&Run { set, platform, follow }, &mut cache) {
            Ok(count) => changed += count,
            Err(error) => {
                // The sets before this one were written as a whole.
                for earlier in sets.clone() {
                    if core::ptr::eq(earlier, set) {
                        break;
                    }
                    put_back(&Run { set: earlier, platform, follow }, &mut cache, usize::MAX);
                }
                result = Err(error);
                break;
            }
        }
    }
    platform.lock();
    platform.serialize();
    if let Ok(report) = &mut result {
        report.changed = changed;
        for set in sets {
            set.finish(follow);
        }
    }
    result
}
