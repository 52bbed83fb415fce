//! Changes: what decides is set and text is patched in one transaction.

use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};

use super::source::Subject;

/// A change of something that decides what sites get: of a key or a slot. Front ends make the
/// value; [`Patcher::change`](crate::Patcher::change) and the writers of [`live`](crate::live)
/// make the change, and patch its sites.
///
/// A change that was made becomes the one that undoes it.
#[derive(Debug)]
#[must_use = "a writer makes the change"]
pub struct Change<'a>(Setting<'a>);

/// A thing that is changed, and what it is to be.
#[derive(Debug)]
enum Setting<'a> {
    /// A slot, the address it is to hold, and the name of its op.
    Address(&'a AtomicPtr<()>, *mut (), &'static str),
    /// A key that is on or off, and which of the two it is to be.
    Flag(KeyRef<'a>, bool),
    /// A counted key, and whether it is to count one more or one less.
    Count(KeyRef<'a>, bool),
}

/// A key, as far as a change knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyRef<'a> {
    /// The state, or the count. Its address is that of the key.
    pub(crate) now: &'a AtomicU32,
    /// Whether branches of the key were ever patched.
    pub(crate) has_patched_branches: &'a AtomicBool,
}

impl<'a> Change<'a> {
    /// Makes the change that puts this address into a slot, which is that of the op of this name.
    pub(crate) const fn of_address(
        slot: &'a AtomicPtr<()>,
        address: *const (),
        name: &'static str,
    ) -> Self {
        Self(Setting::Address(slot, address.cast_mut(), name))
    }

    /// Makes the change that turns a key on or off.
    pub(crate) const fn of_flag(flag: KeyRef<'a>, on: bool) -> Self {
        Self(Setting::Flag(flag, on))
    }

    /// Makes the change that counts a key up or down.
    pub(crate) const fn of_count(count: KeyRef<'a>, up: bool) -> Self {
        Self(Setting::Count(count, up))
    }

    /// Returns what is changed.
    pub(super) fn subject(&self) -> Subject {
        match &self.0 {
            &Setting::Address(slot, _, name) => {
                Subject::Slot { address: core::ptr::from_ref(slot).addr(), name }
            }
            Setting::Flag(key, _) | Setting::Count(key, _) => Subject::Key {
                address: core::ptr::from_ref(key.now).addr(),
                has_patched_branches: key.has_patched_branches.load(Ordering::Relaxed),
            },
        }
    }

    /// Makes the change, which becomes the one that undoes it.
    ///
    /// # Errors
    /// Returns the address of the key and its count, if it cannot count on; nothing has changed then.
    fn make(&mut self) -> Result<(), (usize, u32)> {
        match &mut self.0 {
            Setting::Address(slot, address, _) => *address = slot.swap(*address, Ordering::AcqRel),
            Setting::Flag(flag, on) => *on = flag.now.swap((*on).into(), Ordering::AcqRel) != 0,
            Setting::Count(count, up) => {
                let step =
                    |count: u32| if *up { count.checked_add(1) } else { count.checked_sub(1) };
                let result = count.now.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
                result.map_err(|number| (core::ptr::from_ref(count.now).addr(), number))?;
                *up = !*up;
            }
        }
        Ok(())
    }
}

/// Makes all these changes, in their order.
///
/// # Errors
/// Returns the key of the first that cannot be made, and its count. Those before it are undone.
pub(super) fn make(changes: &mut [Change<'_>]) -> Result<(), (usize, u32)> {
    for position in 0..changes.len() {
        let result = changes.get_mut(position).map_or(Ok(()), Change::make);
        if result.is_err() {
            undo(changes.get_mut(..position).unwrap_or_default());
            return result;
        }
    }
    Ok(())
}

/// Undoes these changes, which were made, the last one first.
pub(crate) fn undo(changes: &mut [Change<'_>]) {
    for change in changes.iter_mut().rev() {
        // A count that was counted up can be counted down, unless somebody has preset it since;
        // then it is theirs.
        let _ = change.make();
    }
}
