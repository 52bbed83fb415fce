//! Keys as the records of a linked object list them, and as a kernel presets them.

use patchlet::Goal;
use patchlet::branch::Key;

use crate::branch_image::{Branch, BranchImage};
use crate::platforms::one_cpu;

/// Returns a branch of the key of this index; no two overlap.
const fn branch(key: usize) -> Branch {
    Branch { at: 0x200 + 0x10 * key, key, jumps_when_on: true, target: 0x1000 }
}

/// A record has the length of its key's name, in fours. `key10` is one letter longer than what
/// stands before it, so the keys behind it are found only by who counts that.
#[test]
fn a_key_is_found_behind_names_of_any_length() {
    const KEYS: usize = 14;
    let image = BranchImage::new(&[], &[false; KEYS]);
    (0..KEYS).for_each(|key| image.branch(branch(key)));
    let mut patcher = image.patcher(image.image.second_mapping());
    let plan = patcher.plan(Goal::Patched).unwrap();
    let names: Vec<_> = plan.outcomes().map(|outcome| outcome.name).collect();
    assert_eq!(names, (0..KEYS).map(|key| format!("key{key}")).collect::<Vec<_>>());
    for key in 0..KEYS {
        let report = one_cpu(|cpu| patcher.change(&mut [image.to(key, true)], cpu)).unwrap();
        assert_eq!(report.changed, 1, "{key}");
        assert_eq!(image.image.at(branch(key).at, 5), image.bytes_of(branch(key), true));
    }
}

/// Presetting a key patches nothing, and what is patched next follows it.
#[test]
fn branches_follow_a_key_that_was_preset() {
    let image = BranchImage::new(&[], &[false, true]);
    (0..2).for_each(|key| image.branch(branch(key)));
    let mut patcher = image.patcher(image.image.second_mapping());
    for states in [[true, false], [true, true], [false, false], [false, true]] {
        let before = image.image.bytes();
        for (index, on) in states.into_iter().enumerate() {
            // SAFETY: a key was written there, and stays; both types of it have one layout.
            let key = unsafe { &*std::ptr::from_ref(image.counted(index)).cast::<Key<false>>() };
            key.preset(on);
            assert_eq!(key.is_enabled(), on);
            assert_eq!(image.image.at(branch(index).at, 5), before[branch(index).at..][..5]);
        }
        one_cpu(|cpu| patcher.apply(cpu)).unwrap();
        for (index, on) in states.into_iter().enumerate() {
            let expected = image.bytes_of(branch(index), on);
            assert_eq!(image.image.at(branch(index).at, 5), expected, "{states:?}: {index}");
        }
    }
}
