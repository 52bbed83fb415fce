//! The test of live switches. One CPU switches sites from every kind to every other, by each
//! protocol, while the other CPUs run them and check every result (`live_sites`). `-append soak=N`
//! sets the number of switches.
//!
//! With only one CPU, the writer runs the sites itself, between the steps of the INT3 protocol.

use core::hint;

use patchlet::{Error, Goal, live::Rendezvous, text::Report};

use crate::{
    apic, command_line, cpu,
    live::{self, Int3Writer, Parking, Shared},
    live_broken::Broken,
    live_readers,
    live_sites::{self, Kind},
    println, smp, sync,
};

/// The number of switches: each pair of kinds by each of three protocols, three times.
const SWITCHES: usize = 9 * Kind::ROUND;

pub fn run() {
    // SAFETY: this is the boot CPU, and the others wait for a job.
    let live = unsafe { live::shared() };
    let switches = command_line::number("soak").unwrap_or(SWITCHES);
    assert!(switches >= 3 * Kind::ROUND, "soak={switches}: less than a round by each protocol");
    println!("test live switching: {switches} switches of {} sites", live_sites::count());

    // The writer runs sites as well, and the result of the op `flags` is checked with the interrupt
    // flag set.
    cpu::with_interrupts_on(|| {
        live_readers::while_reading(|| match Broken::named(live) {
            Some(mut broken) => {
                for number in 0..switches {
                    switch(number, |goal| broken.switch(goal));
                }
                broken.not_caught();
            }
            None => Writers::new(live).run(switches),
        });
    });
    // Put the native functions back, as later tests expect them.
    Kind::Native.select();
    live::rendezvous(live).apply().unwrap_or_else(|error| panic!("{error}"));

    for cpu in 0..smp::count() {
        let breakpoints = live::breakpoints(cpu);
        // A wrong result, or a trap that was not expected, would have ended the kernel.
        println!(
            "  CPU {cpu}: {} executions, 0 wrong, {breakpoints} by #BP, {} ticks, {} IPIs",
            live_sites::executions(cpu),
            apic::ticks(cpu),
            sync::interrupts(cpu)
        );
        assert!(breakpoints > 0, "no site was run while it was being switched");
    }
}

/// Makes switch `number` by `write`: sets the slots, lets the readers run, and records the
/// progress.
fn switch<R>(number: usize, write: impl FnOnce(Goal) -> R) -> R {
    // Vary where the readers are when the switch begins: each PAUSE here lets a reader run up to
    // its next PAUSE, and each function that a reader calls has one.
    for _ in 0..number % (2 * live_sites::count()) {
        hint::spin_loop();
    }
    let to = Kind::at(number + 1);
    let goal = if to == Kind::Indirect { Goal::Original } else { Goal::Patched };
    live_sites::announce(number, || {
        to.select();
        write(goal)
    })
}

struct Writers {
    rendezvous: Rendezvous<'static, patchlet::SecondMapping, Parking>,
    int3_outside: Int3Writer,
    int3: Int3Writer,
    /// The number of switches by each protocol. `int3` refuses those that its rule does not admit.
    counts: [usize; 3],
    refused: usize,
}

impl Writers {
    fn new(live: &'static Shared) -> Self {
        Self {
            rendezvous: live::rendezvous(live),
            int3_outside: live::int3_outside(live),
            int3: live::int3(live),
            counts: [0; 3],
            refused: 0,
        }
    }

    fn run(&mut self, switches: usize) {
        for number in 0..switches {
            let report = switch(number, |goal| self.write(number, goal));
            check(number, &report);
        }
        let [rendezvous, int3_outside, int3] = self.counts;
        println!(
            "  {rendezvous} by rendezvous, {int3_outside} by INT3 with nobody inside, {int3} by INT3"
        );
        println!("  {} refused by INT3, as the rule says", self.refused);
    }

    /// Makes the switch by one of the protocols; a round by each in turn.
    fn write(&mut self, number: usize, goal: Goal) -> Report {
        let protocol = number / Kind::ROUND % self.counts.len();
        let result = match (protocol, goal) {
            (0, Goal::Patched) => self.rendezvous.apply(),
            (0, Goal::Original) => self.rendezvous.revert(),
            (1, _) => self.by_int3_outside(goal),
            (_, Goal::Patched) => self.int3.apply(),
            (_, Goal::Original) => self.int3.revert(),
        };
        let (from, to) = (Kind::at(number), Kind::at(number + 1));
        match result {
            Ok(report) => {
                assert!(protocol < 2 || is_admitted(from, to), "{from:?} to {to:?} was written");
                self.counts[protocol] += 1;
                report
            }
            Err(Error::ThreadInside { .. }) if protocol == 2 && !is_admitted(from, to) => {
                self.refused += 1;
                self.counts[1] += 1;
                self.by_int3_outside(goal).unwrap_or_else(|error| panic!("{error}"))
            }
            Err(error) => panic!("{from:?} to {to:?}: {error}"),
        }
    }

    fn by_int3_outside(&mut self, goal: Goal) -> Result<Report, Error> {
        match goal {
            Goal::Patched => self.int3_outside.apply(),
            Goal::Original => self.int3_outside.revert(),
        }
    }
}

/// Returns whether a switch is admitted while a reader may be inside a site of 6 bytes: the rule of
/// `patchlet::live`, written once more.
fn is_admitted(from: Kind, to: Kind) -> bool {
    match from {
        // One instruction fills the site, so no reader can be inside.
        Kind::Indirect | Kind::Nops => true,
        // On 32 bit these are NOPs as well.
        Kind::Identity => cfg!(target_arch = "x86"),
        // A call of five bytes and a NOP, so a reader can be before the NOP. It must stay one.
        Kind::A | Kind::B => matches!(to, Kind::A | Kind::B),
        Kind::Native => false,
    }
}

fn check(number: usize, report: &Report) {
    let kinds = [Kind::at(number), Kind::at(number + 1)];
    let the_same = cfg!(target_arch = "x86")
        && kinds.iter().all(|kind| matches!(kind, Kind::Nops | Kind::Identity));
    let all = live_sites::count();
    assert_eq!(report.sites, all);
    assert_eq!(report.changed, if the_same { 0 } else { all }, "{kinds:?}");
    assert_eq!(report.indirect, if kinds[1] == Kind::Indirect { all } else { 0 }, "{kinds:?}");
}
