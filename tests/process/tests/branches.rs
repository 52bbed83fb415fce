//! The test of static branches in a process: keys are changed one by one and together, and all
//! branches are executed on this CPU.

use patchlet::live::{Int3, Live};
use patchlet::text::Report;
use patchlet::{Error, OneCpu, Patcher};
use patchlet_process::branches::{self, COUNTED, COUNTED_ON, IN_ASSEMBLY, IN_ASSEMBLY_ON, OFF, ON};
use patchlet_process::live::{signal, sync::Membarrier};
use patchlet_process::{PROCESS, remap};

/// The states in which the keys start, in the order of [`branches::expected`].
const AT_START: [bool; 7] = [false, true, false, true, false, false, true];

#[test]
fn branches_follow_their_keys() {
    assert_eq!(branches::directions(), branches::expected(AT_START), "before anything is patched");

    let text = remap::text_with_sites().expect("there are sites");
    // SAFETY: `text` consists of whole pages, and this is the only call in the process.
    let platform = unsafe { remap::second_mapping(text) }.expect("a second mapping");
    static LIVE: Live<'static> = Live::new(&[&PROCESS]);
    signal::install(&LIVE);
    let mut patcher = Patcher::new(&PROCESS, platform.clone());
    // SAFETY: the test has one thread with sites.
    let apply = |patcher: &mut Patcher<'_, _>| unsafe { OneCpu::assume(|cpu| patcher.apply(cpu)) };
    apply(&mut patcher).expect("at boot");
    assert_eq!(branches::directions(), branches::expected(AT_START), "applied");

    // SAFETY: the handler of SIGTRAP calls the hook, and this is the only writer.
    let mut int3 = unsafe { Int3::with_nobody_inside(&LIVE, platform, Membarrier::register()) };
    for round in 0..128_usize {
        let keys: [bool; 7] = std::array::from_fn(|key| round >> key & 1 != 0);
        let mut changes = vec![
            if keys[0] { OFF.on() } else { OFF.off() },
            if keys[1] { ON.on() } else { ON.off() },
            branches::hidden_to(keys[4]),
            if keys[5] { IN_ASSEMBLY.on() } else { IN_ASSEMBLY.off() },
            if keys[6] { IN_ASSEMBLY_ON.on() } else { IN_ASSEMBLY_ON.off() },
        ];
        for (key, on) in [(COUNTED.count(), keys[2])] {
            match (key, on) {
                (0, true) => changes.push(COUNTED.increment()),
                (1, false) => changes.push(COUNTED.decrement()),
                _ => {}
            }
        }
        match (COUNTED_ON.count(), keys[3]) {
            (0, true) => changes.push(COUNTED_ON.increment()),
            (1, false) => changes.push(COUNTED_ON.decrement()),
            _ => {}
        }
        let result: Result<Report, Error> = if round % 3 == 0 {
            // SAFETY: the test has one thread with sites.
            unsafe { OneCpu::assume(|cpu| patcher.change(&mut changes, cpu)) }
        } else {
            int3.change(&mut changes)
        };
        result.unwrap_or_else(|error| panic!("{keys:?}: {error}"));
        assert_eq!(branches::directions(), branches::expected(keys), "{keys:?}");
        let states = [OFF.is_enabled(), ON.is_enabled(), COUNTED.is_enabled()];
        assert_eq!(states, [keys[0], keys[1], keys[2]]);
    }
    int3.revert().expect("revert");
    assert_eq!(branches::directions(), branches::expected(AT_START), "reverted");
}
