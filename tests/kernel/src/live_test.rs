//! The test of live switches. One CPU switches sites from every kind to every other, by each
//! protocol, while the other CPUs run them and check every result (`live_sites`). `-append soak=N`
//! sets the number of switches. Meanwhile a module is loaded and unloaded again and again, and its
//! sites are switched with the kernel's; `-append modules=N` sets how often.
//!
//! With only one CPU, the writer runs the sites itself, between the steps of the INT3 protocol.

use core::hint;

use interface::OF_KERNEL;
use patchlet::{Error, Goal, branch, live::Rendezvous, text::Report};

use crate::{
    apic, command_line, cpu,
    live::{self, AllText, Int3Writer, Parking, Shared},
    live_broken::Broken,
    live_readers,
    live_sites::{self, Kind},
    module::{
        file,
        joined::{self, Joined},
    },
    println, smp, stop, sync,
};

/// The number of switches: each pair of kinds by each of three protocols, three times.
const SWITCHES: usize = 9 * Kind::ROUND;

/// How often the module is loaded, so that each protocol switches its sites.
const MODULES: usize = 6;

/// The number of branches in the kernel by the key that the module has, too. Other branches of the
/// kernel are by keys that are not switched here.
const BRANCHES_BY_KEY: usize = 1;

/// Returns whether the kernel's key is on, by the kernel's branch.
#[inline(never)]
fn by_kernels_key() -> bool {
    branch!(OF_KERNEL)
}

pub fn run() {
    // SAFETY: this is the boot CPU, and the others wait for a job.
    let live = unsafe { live::shared() };
    let switches = command_line::number("soak").unwrap_or(SWITCHES);
    assert!(switches >= 3 * Kind::ROUND, "soak={switches}: less than a round by each protocol");
    let modules = command_line::number("modules").unwrap_or(MODULES);
    // Without a file it must be said: a run without the module must not look as if it had passed.
    assert!(modules == 0 || !file::bytes().is_empty(), "there is no module; -append modules=0");
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
            None => Writers::new(live).run(switches, modules),
        });
    });
    // Put the native functions back, as later tests expect them: by the switch with which a round
    // ends, so that the sites go on being checked.
    let last = switches.next_multiple_of(Kind::ROUND) - 1;
    assert_eq!(Kind::at(last + 1), Kind::Native);
    live_sites::announce(last, || {
        Kind::Native.select();
        live::rendezvous(live).apply().unwrap_or_else(|error| panic!("{error}"));
    });

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
    live: &'static Shared,
    rendezvous: Rendezvous<'static, AllText, Parking>,
    int3_outside: Int3Writer,
    int3: Int3Writer,
    /// The number of switches by each protocol. `int3` refuses those that its rule does not admit.
    counts: [usize; 3],
    refused: usize,
    /// The number of switches while the module was loaded.
    with_module: usize,
}

impl Writers {
    fn new(live: &'static Shared) -> Self {
        Self {
            live,
            rendezvous: live::rendezvous(live),
            int3_outside: live::int3_outside(live),
            int3: live::int3(live),
            counts: [0; 3],
            refused: 0,
            with_module: 0,
        }
    }

    /// Makes so many switches. The module is loaded so often, for half of the time.
    fn run(&mut self, switches: usize, modules: usize) {
        let each = switches.checked_div(modules).unwrap_or(switches);
        assert!(modules == 0 || each >= 4, "modules={modules}: too many for {switches} switches");
        let (mut number, mut loaded) = (0, 0);
        while number < switches {
            // Not while the kernel's sites are indirect: those of the module would not be.
            let is_due = loaded < modules && number >= loaded * each;
            if is_due && Kind::at(number) != Kind::Indirect {
                let end = number + each / 2;
                self.with_module(number, loaded, end);
                (number, loaded) = (end, loaded + 1);
            } else {
                self.switch(number, None);
                number += 1;
            }
        }
        assert_eq!(loaded, modules);
        if modules > 0 {
            println!(
                "  module loaded and unloaded {loaded} times, {} switches while it was loaded",
                self.with_module
            );
        }
        let [rendezvous, int3_outside, int3] = self.counts;
        println!(
            "  {rendezvous} by rendezvous, {int3_outside} by INT3 with nobody inside, {int3} by INT3"
        );
        println!("  {} refused by INT3, as the rule says", self.refused);
    }

    /// Makes the switches from `number` to `end` while the module is loaded for the time after
    /// `loaded`, each time elsewhere.
    fn with_module(&mut self, number: usize, loaded: usize, end: usize) {
        joined::while_joined(self.live, joined::page(loaded), Kind::at(number), |module| {
            self.switch_keys(loaded, module);
            stop::at("module");
            for number in number..end {
                self.switch(number, Some(module));
            }
        });
        self.with_module += end - number;
    }

    fn switch(&mut self, number: usize, module: Option<&Joined>) {
        let report = switch(number, |goal| self.write(number, goal, module.is_some()));
        check(number, &report, self.live.sets()[0].len(), module);
    }

    /// Switches the kernel's key and that of the module on and off, each time both at once.
    fn switch_keys(&mut self, loaded: usize, module: &Joined) {
        let own = module.interface.key;
        let mut impossible = [OF_KERNEL.on(), own.decrement()];
        assert!(matches!(self.int3.change(&mut impossible), Err(Error::Count { .. })));
        let mut changes = [OF_KERNEL.on(), own.increment()];
        for on in [false, true, false] {
            if on != by_kernels_key() {
                // A list of changes that were made is the one that undoes them.
                let report = if loaded.is_multiple_of(2) {
                    self.int3.change(&mut changes)
                } else {
                    self.rendezvous.change(&mut changes)
                };
                let report = report.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(report.changed, BRANCHES_BY_KEY + joined::BRANCHES);
            }
            let of_module = [module.interface.by_kernels_key, module.interface.by_own_key];
            assert_eq!((by_kernels_key(), of_module.map(|branch| branch())), (on, [on; 2]));
            assert_eq!((OF_KERNEL.is_enabled(), own.count()), (on, on.into()));
        }
    }

    /// Makes the switch by one of the protocols; a round by each in turn.
    fn write(&mut self, number: usize, goal: Goal, with_module: bool) -> Report {
        let protocol = number / Kind::ROUND % self.counts.len();
        let result = match (protocol, goal) {
            (0, Goal::Patched) => self.rendezvous.apply(),
            (0, Goal::Original) => self.rendezvous.revert(),
            (1, _) => self.by_int3_outside(goal),
            (_, Goal::Patched) => self.int3.apply(),
            (_, Goal::Original) => self.int3.revert(),
        };
        let (from, to) = (Kind::at(number), Kind::at(number + 1));
        // The module's other sites have patchlets, and a reader may be inside.
        let is_admitted = is_admitted(from, to) && !(with_module && to == Kind::Indirect);
        match result {
            Ok(report) => {
                assert!(protocol < 2 || is_admitted, "{from:?} to {to:?} was written");
                self.counts[protocol] += 1;
                report
            }
            Err(Error::ThreadInside { .. }) if protocol == 2 && !is_admitted => {
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

/// Checks the report of a switch. The kernel's set has so many sites and branches.
fn check(number: usize, report: &Report, of_kernel: usize, module: Option<&Joined>) {
    let kinds = [Kind::at(number), Kind::at(number + 1)];
    let the_same = cfg!(target_arch = "x86")
        && kinds.iter().all(|kind| matches!(kind, Kind::Nops | Kind::Identity));
    // The branches are not switched with the kinds. The module's other sites have what they had, but
    // for the indirect call.
    let (switched, calls, of_module) = match module {
        Some(module) => (module.switched, module.sites - joined::BRANCHES, module.sites),
        None => (0, 0, 0),
    };
    let (all, all_calls) = (live_sites::count() + switched, live_sites::count() + calls);
    let changed = if kinds.contains(&Kind::Indirect) { all_calls } else { all };
    assert_eq!(report.sites, of_kernel + of_module);
    assert_eq!(report.changed, if the_same { 0 } else { changed }, "{kinds:?}");
    assert_eq!(
        report.indirect,
        if kinds[1] == Kind::Indirect { all_calls } else { 0 },
        "{kinds:?}"
    );
}
