//! `patchlet audit`: each finding in a small kernel and in a module of both widths, and what is none.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use patchlet::Width;
use patchlet::inspect::{
    Audit, AuditKind, Exit, LinuxKernel, PlacedModule, SiteFilter, audit_linux, unpack,
    unpack_module,
};

use crate::kernel::{Kernel, branch, relative};
use crate::sample::{FUNC, Sample};
use crate::tool::{file, tool};

const BOTH: [Width; 2] = [Width::Bits64, Width::Bits32];

fn audit(kernel: &mut Kernel) -> Audit {
    let (file, _) = kernel.file_and_memory();
    let unpacked = unpack(&file).expect("an ELF file");
    let linux = LinuxKernel::new(&unpacked).unwrap_or_else(|error| panic!("{error}"));
    audit_linux(&linux, &mut |_, _| ())
}

/// Returns the kinds and addresses of what is found.
fn found(audit: &Audit) -> Vec<(AuditKind, u64)> {
    audit.findings.iter().map(|finding| (finding.kind, finding.address)).collect()
}

/// A kernel of which each table has a record or more, all of them right.
struct Sound {
    kernel: Kernel,
    indirect_thunk: u64,
    return_thunk: u64,
    pv_ops: u64,
    /// The sites of tables of nothing but sites, by the name of the table.
    sites: Vec<(&'static str, Vec<u64>)>,
    /// Site, replacement, length, length of the replacement.
    alternatives: Vec<(u64, u64, u8, u8)>,
    /// Site, target, key.
    labels: Vec<(u64, u64, u64)>,
    /// Site and length.
    paravirt: Vec<(u64, u8)>,
}

impl Sound {
    fn new(width: Width) -> Self {
        let mut kernel = Kernel::quiet(width);
        let register = if width == Width::Bits64 { "rax" } else { "eax" };
        let indirect_thunk = kernel.code(&[0xff, 0xe0]);
        let name = format!("__x86_indirect_thunk_{register}");
        kernel.sample.symbol(&name, indirect_thunk, 2, FUNC, ".text");
        let return_thunk = kernel.code(&[0xc3]);
        kernel.sample.symbol("__x86_return_thunk", return_thunk, 1, FUNC, ".text");
        let pv_ops = kernel.variable("pv_ops", &[0; 16], &[0; 16]);
        kernel.variable("behind_pv_ops", &[0; 8], &[0; 8]);
        let here = kernel.code(&[]);
        kernel.sample.symbol("work", here, 0, FUNC, ".text");
        let mut sound = Self {
            kernel,
            indirect_thunk,
            return_thunk,
            pv_ops,
            sites: vec![],
            alternatives: vec![],
            labels: vec![],
            paravirt: vec![],
        };
        let (thunk, returns) = (sound.indirect_thunk, sound.return_thunk);
        for (table, opcode, target) in [
            (".retpoline_sites", 0xe8, thunk),
            (".retpoline_sites", 0xe9, thunk),
            (".return_sites", 0xe9, returns),
            (".call_sites", 0xe8, here),
        ] {
            let site = sound.branch(opcode, target);
            sound.record(table, site);
        }
        let endbr: &[u8] = match width {
            Width::Bits64 => &[0xf3, 0x0f, 0x1e, 0xfa],
            Width::Bits32 => &[0xf3, 0x0f, 0x1e, 0xfb],
        };
        for (table, code) in [
            (".ibt_endbr_seal", endbr),
            (".smp_locks", &[0xf0, 0xff, 0x00]),
            ("__mcount_loc", &[0x0f, 0x1f, 0x44, 0, 0]),
        ] {
            let site = sound.kernel.code(code);
            sound.record(table, site);
        }
        // An indirect call, a lock and a return in a site that is replaced as a whole.
        let site = sound.kernel.code(&[0xff, 0xd0, 0xf0, 0xff, 0x00, 0xc3]);
        let replacement = sound.kernel.replacement(|_| vec![0xff, 0xd0]);
        sound.alternatives.push((site, replacement, 6, 2));
        sound.alternatives.push((site, replacement, 5, 1));
        sound.record(".smp_locks", site + 2);
        // A call through `pv_ops` that an alternative and a record of its own are for.
        let site = sound.pv_call();
        sound.paravirt.push((site, 6));
        sound.alternatives.push((site, replacement, 6, 2));
        let key = sound.kernel.variable("key", &[0; 8], &[0; 8]);
        let target = sound.kernel.code(&[0x31, 0xc0]);
        let site = sound.kernel.code(&[0x0f, 0x1f, 0x44, 0, 0]);
        sound.labels.push((site, target, key));
        let site = sound.branch(0xe9, target);
        sound.labels.push((site, target, key));
        sound
    }

    /// Appends a CALL or JMP, and returns its address.
    fn branch(&mut self, opcode: u8, target: u64) -> u64 {
        let site = self.kernel.code(&[0x90; 5]);
        let code = branch(opcode, site, target);
        self.kernel.sample.at(site)[..5].copy_from_slice(&code);
        site
    }

    /// Appends a call through `pv_ops`, and returns its address.
    fn pv_call(&mut self) -> u64 {
        let site = self.kernel.code(&[0x90; 6]);
        let code = self.kernel.sample.indirect(site, self.pv_ops, 0);
        self.kernel.sample.at(site)[..6].copy_from_slice(&code);
        site
    }

    /// Adds a record to a table of nothing but sites.
    fn record(&mut self, table: &'static str, site: u64) {
        match self.sites.iter_mut().find(|(name, _)| *name == table) {
            Some((_, sites)) => sites.push(site),
            None => self.sites.push((table, vec![site])),
        }
    }

    /// Writes the tables, and audits the kernel.
    fn audit(&self) -> Audit {
        audit(&mut self.with_tables())
    }

    fn with_tables(&self) -> Kernel {
        type Record = Box<dyn Fn(u64) -> Vec<u8>>;
        let mut kernel = self.kernel.clone();
        let long = kernel.sample.width.pointer_size() as usize;
        let absolute = move |address: u64| address.to_le_bytes()[..long].to_vec();
        let mut tables: Vec<(&'static str, Vec<Record>)> = vec![];
        for (table, sites) in &self.sites {
            let record = |&site: &u64| match *table {
                "__mcount_loc" => Box::new(move |_| absolute(site)) as Record,
                _ => Box::new(move |at| relative(at, site)),
            };
            tables.push((table, sites.iter().map(record).collect()));
        }
        let records = self.alternatives.iter().map(|&(site, replacement, len, other)| {
            let record = move |at: u64| {
                let mut bytes = [relative(at, site), relative(at + 4, replacement)].concat();
                bytes.extend([0x74, 0, len, other]);
                bytes
            };
            Box::new(record) as Record
        });
        tables.push((".altinstructions", records.collect()));
        let records = self.labels.iter().map(|&(site, target, key)| {
            let record = move |at: u64| {
                let mut bytes = [relative(at, site), relative(at + 4, target)].concat();
                bytes.extend(&key.wrapping_sub(at + 8).to_le_bytes()[..long]);
                bytes
            };
            Box::new(record) as Record
        });
        tables.push(("__jump_table", records.collect()));
        let records = self.paravirt.iter().map(|&(site, len)| {
            let record = move |_| {
                let mut bytes = absolute(site);
                bytes.extend([7, len]);
                bytes.resize(2 * long, 0);
                bytes
            };
            Box::new(record) as Record
        });
        tables.push((".parainstructions", records.collect()));
        for (name, records) in &tables {
            let records: Vec<&dyn Fn(u64) -> Vec<u8>> = records.iter().map(|of| &**of).collect();
            kernel.table(name, &records);
        }
        kernel
    }

    /// Checks that a change makes one finding, at the address that it returns.
    fn finds(width: Width, kind: AuditKind, change: impl FnOnce(&mut Self) -> u64) {
        let mut sound = Self::new(width);
        let address = change(&mut sound);
        let audit = sound.audit();
        assert_eq!(found(&audit), [(kind, address)], "{:#x?}", audit.findings);
        assert_eq!(audit.findings[0].function, "work");
    }
}

#[test]
fn a_sound_kernel_has_no_finding() {
    for width in BOTH {
        let audit = Sound::new(width).audit();
        assert!(audit.findings.is_empty(), "{:#x?}", audit.findings);
        let built = audit.built_with;
        assert!(built.retpolines && built.retpoline_records && built.return_thunks);
        assert!(built.paravirt && built.counted_calls);
        // The two thunks, and the replacement.
        assert_eq!(audit.exempt.get(&AuditKind::IndirectBranch), Some(&2));
        assert_eq!(audit.exempt.get(&AuditKind::Return), Some(&1));
    }
}

#[test]
fn instructions_without_a_record_are_found() {
    for width in BOTH {
        // call *%eax, jmp *%eax, call *(%eax), jmp *8(%ecx)
        for code in [&[0xff, 0xd0][..], &[0xff, 0xe0], &[0xff, 0x10], &[0xff, 0x61, 0x08]] {
            Sound::finds(width, AuditKind::IndirectBranch, |sound| sound.kernel.code(code));
        }
        for code in [&[0xc3][..], &[0xc2, 8, 0]] {
            Sound::finds(width, AuditKind::Return, |sound| sound.kernel.code(code));
        }
        Sound::finds(width, AuditKind::ParavirtCall, Sound::pv_call);
        for opcode in [0xe8, 0xe9] {
            Sound::finds(width, AuditKind::IndirectThunk, |sound| {
                sound.branch(opcode, sound.indirect_thunk)
            });
        }
        // A jump on a condition, too.
        Sound::finds(width, AuditKind::ReturnThunk, |sound| {
            let site = sound.kernel.code(&[0x0f, 0x84, 0, 0, 0, 0]);
            let to = relative(site + 6, sound.return_thunk);
            sound.kernel.sample.at(site)[2..6].copy_from_slice(&to);
            site
        });
        Sound::finds(width, AuditKind::DirectCall, |sound| {
            let target = sound.indirect_thunk - 8;
            sound.kernel.sample.symbol("target", target, 0, FUNC, ".text");
            sound.branch(0xe8, target)
        });
    }
}

#[test]
fn what_is_no_branch_of_this_kind_is_not_found() {
    for width in BOTH {
        let mut sound = Sound::new(width);
        // IRET, a far return, a call of the next instruction.
        for code in [&[0xcf][..], &[0xcb], &[0xe8, 0, 0, 0, 0]] {
            sound.kernel.code(code);
        }
        assert_eq!(found(&sound.audit()), []);
        // Without thunks and tables for them, a kernel needs no record.
        let mut kernel = Kernel::quiet(width);
        let site = kernel.code(&[0xf0, 0xff, 0xd0, 0xc3, 0xff, 0x00]);
        kernel.sample.at(site)[..6].copy_from_slice(&[0xff, 0xd0, 0xc3, 0xf0, 0xff, 0x00]);
        kernel.table(".smp_locks", &[&move |at| relative(at, site + 3)]);
        assert_eq!(found(&audit(&mut kernel)), []);
    }
}

#[test]
fn code_of_the_boot_needs_no_record() {
    for width in BOTH {
        let mut sound = Sound::new(width);
        sound.kernel.sample.section_mut(".init.text").data.extend([0xff, 0xd0, 0xc3]);
        let audit = sound.audit();
        assert_eq!(found(&audit), []);
        assert_eq!(audit.exempt.get(&AuditKind::IndirectBranch), Some(&3));
        assert_eq!(audit.exempt.get(&AuditKind::Return), Some(&2));
    }
}

#[test]
fn records_of_something_else_are_found() {
    use AuditKind::{NotAtInstruction, OtherInstruction};

    for width in BOTH {
        // One byte behind the start of an instruction of five.
        for table in [".retpoline_sites", ".return_sites", ".call_sites", "__mcount_loc"] {
            Sound::finds(width, NotAtInstruction, |sound| {
                let site = sound.kernel.code(&[0xb8, 0, 0, 0, 0]);
                sound.record(table, site + 1);
                site + 1
            });
        }
        for table in [
            ".retpoline_sites",
            ".return_sites",
            ".call_sites",
            "__mcount_loc",
            ".ibt_endbr_seal",
            ".smp_locks",
        ] {
            Sound::finds(width, OtherInstruction, |sound| {
                let site = sound.kernel.code(&[0x31, 0xc0]);
                sound.record(table, site);
                site
            });
        }
        // An alternative that ends in the middle of an instruction, and one that begins there.
        for at in [0, 1] {
            Sound::finds(width, NotAtInstruction, |sound| {
                let site = sound.kernel.code(&[0xb8, 0, 0, 0, 0]);
                let replacement = sound.alternatives[0].1;
                sound.alternatives.push((site + at, replacement, if at == 0 { 3 } else { 4 }, 2));
                if at == 0 { site + 3 } else { site + 1 }
            });
        }
        // A jump label that leads into an instruction; one whose jump leads elsewhere; one of three
        // bytes.
        Sound::finds(width, NotAtInstruction, |sound| {
            sound.labels[0].1 += 1;
            sound.labels[0].1
        });
        Sound::finds(width, OtherInstruction, |sound| {
            let site = sound.labels[1].0;
            sound.labels[1].1 += 2;
            site
        });
        Sound::finds(width, OtherInstruction, |sound| {
            let site = sound.kernel.code(&[0x0f, 0x1f, 0x00]);
            sound.labels.push((site, sound.labels[0].1, sound.labels[0].2));
            site
        });
        Sound::finds(width, AuditKind::TooShort, |sound| {
            let site = sound.kernel.code(&[0xff, 0xd0]);
            sound.paravirt.push((site, 2));
            site
        });
    }
}

#[test]
fn records_that_share_bytes_are_found() {
    for width in BOTH {
        Sound::finds(width, AuditKind::Duplicate, |sound| {
            let (_, sites) = &sound.sites[0];
            let site = sites[0];
            sound.record(sound.sites[0].0, site);
            site
        });
        Sound::finds(width, AuditKind::Duplicate, |sound| {
            sound.alternatives.push(sound.alternatives[0]);
            sound.alternatives[0].0
        });
        // Another alternative that begins inside of one.
        Sound::finds(width, AuditKind::Overlap, |sound| {
            let (site, replacement, ..) = sound.alternatives[0];
            sound.alternatives.push((site + 2, replacement, 3, 2));
            site + 2
        });
        // A jump label in an alternative, which would be overwritten or would overwrite it.
        Sound::finds(width, AuditKind::Overlap, |sound| {
            let (site, target, key) = sound.labels[0];
            sound.alternatives.push((site, sound.alternatives[0].1, 5, 2));
            sound.labels[0] = (site, target, key);
            site
        });
        // A call that two tables are for; but a call of the tracer is one of them.
        let both = |sound: &mut Sound, table: &'static str| {
            let (_, calls) = sound.sites.iter().find(|(of, _)| *of == ".call_sites").expect("it");
            let site = calls[0];
            sound.record(table, site);
            site
        };
        let mut sound = Sound::new(width);
        both(&mut sound, "__mcount_loc");
        assert_eq!(found(&sound.audit()), []);
        Sound::finds(width, AuditKind::Overlap, |sound| {
            let site = both(sound, "__mcount_loc");
            let (target, key) = (sound.labels[0].1, sound.labels[0].2);
            let jump = branch(0xe9, site, target);
            sound.kernel.sample.at(site)[..5].copy_from_slice(&jump);
            // Now it is a jump, which only the label is for.
            sound.sites.retain(|(table, _)| !matches!(*table, "__mcount_loc" | ".call_sites"));
            sound.labels.push((site, target, key));
            sound.alternatives.push((site - 2, sound.alternatives[0].1, 7, 2));
            site
        });
    }
}

/// An operand that is set at boot ends its instruction.
#[test]
fn operands_are_inside_of_instructions() {
    let mut kernel = Kernel::quiet(Width::Bits64);
    // mov $…, %rax
    let site = kernel.code(&[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8]);
    for (at, is_found) in [(2, false), (1, true), (3, true), (0, true)] {
        let mut kernel = kernel.clone();
        kernel.table("runtime_ptr_some", &[&move |of| relative(of, site + at)]);
        let expected: &[_] =
            if is_found { &[(AuditKind::NotAtInstruction, site + at)] } else { &[] };
        assert_eq!(found(&audit(&mut kernel)), expected);
    }
}

#[test]
fn the_command_counts_by_function_and_leaves_out_what_is_allowed() {
    for width in BOTH {
        let mut sound = Sound::new(width);
        let first = sound.kernel.code(&[0xff, 0xd0]);
        sound.kernel.code(&[0xff, 0xd0]);
        let start = sound.kernel.code(&[0xc3]);
        sound.kernel.sample.symbol("another", start, 0, FUNC, ".text");
        let elf = file("audit", &format!("{width:?}"), &sound.with_tables().file_and_memory().0);
        let output = tool(&["audit", &elf]);
        assert_eq!(output.exit, Exit::Finding, "{}{}", output.out, output.err);
        let row: Vec<&str> = output
            .out
            .lines()
            .find(|line| line.starts_with("work "))
            .expect("a row")
            .split_whitespace()
            .collect();
        assert_eq!(row[..4], ["work", "indirect-branch", "2", &format!("{first:#x}")]);
        for part in ["retpolines with records", "     2 indirect-branch", "3 findings"] {
            assert!(output.out.contains(part), "{part}: {}", output.out);
        }
        let all = tool(&["audit", &elf, "--all"]);
        assert!(all.out.contains("another") && all.out.contains("c3"), "{}", all.out);
        let json = tool(&["audit", &elf, "--json"]);
        assert_eq!(json.exit, Exit::Finding);
        let list = file("audit", "known", b"another # is safe\nwo*\n");
        for (allowed, exit, words) in [
            (&["--allow", "work"][..], Exit::Finding, "2 allowed: 1 finding"),
            (&["--allow", "work", "--allow", "another"], Exit::Holds, "3 allowed: nothing found"),
            (&["--allow", "a*"], Exit::Finding, "1 allowed: 2 findings"),
            (&["--allow-from", &list], Exit::Holds, "3 allowed: nothing found"),
            (&["--allow", "wor"], Exit::Finding, ": 3 findings"),
        ] {
            let output = tool(&[&["audit", &elf][..], allowed].concat());
            assert_eq!(output.exit, exit, "{allowed:?}: {}", output.out);
            assert!(output.out.contains(words), "{allowed:?}: {}", output.out);
        }
        let output = tool(&["audit", &elf, "--allow-from", "/nowhere"]);
        assert_eq!(output.exit, Exit::Failed);
        assert!(output.err.contains("/nowhere"), "{}", output.err);
    }
}

#[test]
fn other_files_are_refused() {
    let own = file("audit", "own", &Sample::new(Width::Bits64).bytes());
    let output = tool(&["audit", &own]);
    assert_eq!(output.exit, Exit::Failed);
    assert!(output.err.contains("patchlet verify"), "{}", output.err);
    let text = file("audit", "text", b"text");
    assert!(tool(&["audit", &text]).err.contains("not an ELF file"));
    let packed = file("audit", "packed.ko.xz", b"\xfd7zXZ\0nothing that it is");
    assert!(tool(&["audit", &packed]).err.contains("cannot be unpacked"));
}

/// The source of a module, of both widths. `EXTRA` is what a test adds.
const MODULE: &str = "
	.section .modinfo, \"a\"
	.asciz \"vermagic=6.6.6-test SMP mod_unload\"
	.asciz \"retpoline=Y\"
	.text
	.globl work
	.type work, @function
work:	nop
1:	call THUNK
	.pushsection .retpoline_sites, \"a\"
	.long 1b - .
	.popsection
2:	.byte 0x0f, 0x1f, 0x44, 0, 0
	.pushsection __jump_table, \"aw\"
	.balign 4
	.long 2b - ., 3f - .
	PTR key_of_the_kernel - .
	.popsection
3:	lock; incl (%REG)
	.pushsection .smp_locks, \"a\"
	.balign 4
	.long 3b - .
	.popsection
4:	jmp __x86_return_thunk
	.pushsection .return_sites, \"a\"
	.long 4b - .
	.popsection
	.size work, . - work
	EXTRA
	.section .init.text, \"ax\"
	.globl init_module
	.type init_module, @function
init_module:
	nop
	INIT
	.size init_module, . - init_module
";

/// Returns the file of a kernel that has a record of each table.
pub fn file_of_all_tables(width: Width) -> Vec<u8> {
    Sound::new(width).with_tables().file_and_memory().0
}

/// Returns a log with an oops at each site of a jump label, a retpoline and a return of that kernel.
pub fn log_of_all_tables() -> String {
    let sound = Sound::new(Width::Bits64);
    let mut kernel = sound.with_tables();
    let (_, mut memory) = kernel.file_and_memory();
    let (label, target, _) = sound.labels[0];
    let at = (label - kernel.base) as usize;
    memory[at..at + 5].copy_from_slice(&branch(0xe9, label, target));
    let site = |table: &str| {
        let (_, sites) = sound.sites.iter().find(|(name, _)| *name == table).expect(table);
        sites[0]
    };
    let sites = [label, site(".retpoline_sites"), site(".return_sites")];
    sites.map(|site| crate::oops::log(&kernel, &memory, site)).concat()
}

/// Assembles a module.
pub fn module(width: Width, name: &str, extra: &str, init: &str) -> Vec<u8> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("inspect/audit-module");
    fs::create_dir_all(&scratch).expect("a folder below CARGO_TARGET_TMPDIR");
    let (bits, register, pointer, thunk) = match width {
        Width::Bits64 => ("-m64", "rax", ".quad", "__x86_indirect_thunk_rax"),
        Width::Bits32 => ("-m32", "eax", ".long", "__x86_indirect_thunk_eax"),
    };
    let mut source = MODULE.replace("EXTRA", extra).replace("INIT", init);
    for (word, with) in [("REG", register), ("PTR", pointer), ("THUNK", thunk)] {
        source = source.replace(word, with);
    }
    let (path, object) =
        (scratch.join(format!("{name}{bits}.s")), scratch.join(format!("{name}{bits}.o")));
    fs::write(&path, source).expect("a file below CARGO_TARGET_TMPDIR");
    let output = Command::new("gcc")
        .args([bits, "-c", "-o"])
        .args([&object, &path])
        .output()
        .expect("gcc starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::read(&object).expect("the object")
}

/// Returns what is found in a module, with the functions.
fn found_in_module(object: &[u8]) -> Vec<(AuditKind, String)> {
    let object = unpack_module(object).expect("a module");
    let placed = PlacedModule::new(&object).unwrap_or_else(|error| panic!("{error}"));
    let kernel = LinuxKernel::of_module(&placed).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(kernel.release(), Some("6.6.6-test"));
    assert_eq!(kernel.tables().len(), 4);
    // The key is the kernel's, and its distance has as many bytes as a pointer.
    let sites = kernel.sites(&SiteFilter::default());
    let depends: Vec<String> = sites.iter().map(|site| kernel.listed(site).depends).collect();
    assert!(depends.contains(&"key_of_the_kernel on".to_owned()), "{depends:?}");
    let audit = audit_linux(&kernel, &mut |_, _| ());
    audit.findings.into_iter().map(|finding| (finding.kind, finding.function)).collect()
}

#[test]
fn a_module_is_laid_out_as_the_kernel_would() {
    for width in BOTH {
        let found = |extra, init| found_in_module(&module(width, "m", extra, init));
        assert_eq!(found("", ""), []);
        let work = "work".to_owned();
        let branch = "call *%REG";
        assert_eq!(found(branch, ""), [(AuditKind::IndirectBranch, work.clone())]);
        // Its start runs when there is user space already.
        assert_eq!(found("", "ret"), [(AuditKind::Return, "init_module".to_owned())]);
        assert_eq!(found("call THUNK", ""), [(AuditKind::IndirectThunk, work.clone())]);
        assert_eq!(found("jmp __x86_return_thunk", ""), [(AuditKind::ReturnThunk, work.clone())]);
        let record = "9: xorl %eax, %eax\n.pushsection .return_sites\n.long 9b - .\n.popsection";
        assert_eq!(found(record, ""), [(AuditKind::OtherInstruction, work.clone())]);
        let record = "9: xorl %eax, %eax\n.pushsection .smp_locks\n.long 9b + 1 - .\n.popsection";
        assert_eq!(found(record, ""), [(AuditKind::NotAtInstruction, work)]);
    }
}

#[test]
fn a_packed_module_is_unpacked() {
    let object = module(Width::Bits64, "packed", "ret", "");
    // One stored block of gzip (RFC 1951, "Non-compressed blocks"), with the name of the file.
    let mut packed = vec![0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 3];
    packed.extend(b"m.ko\0");
    let len = u16::try_from(object.len()).expect("a small module");
    packed.push(1);
    packed.extend(len.to_le_bytes());
    packed.extend((!len).to_le_bytes());
    packed.extend(&object);
    packed.extend([0; 8]);
    assert_eq!(unpack_module(&packed).expect("unpacked"), object);
    let path = file("audit", "m.ko.gz", &packed);
    let output = tool(&["audit", &path]);
    assert_eq!(output.exit, Exit::Finding, "{}", output.err);
    assert!(output.out.contains("module for Linux 6.6.6-test"), "{}", output.out);
    // No input asks for much more memory than it has bytes.
    let mut bomb = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    // A block of fixed codes: a zero, then the longest copy of it over and over (RFC 1951,
    // "Compressed blocks"): 258 bytes for each 13 bits.
    let mut bits: Vec<bool> = vec![true, true, false];
    bits.extend([false, false, true, true, false, false, false, false]);
    for _ in 0..2000 {
        // Length 258 is code 285, which is 11000101; distance 1 is 00000.
        bits.extend([true, true, false, false, false, true, false, true]);
        bits.extend([false; 5]);
    }
    bits.extend([false; 7]);
    bomb.extend(
        bits.chunks(8).map(|byte| {
            byte.iter().enumerate().fold(0, |sum, (at, &bit)| sum | u8::from(bit) << at)
        }),
    );
    let error = unpack_module(&bomb).expect_err("too large").to_string();
    assert!(error.contains("cannot be unpacked"), "{error}");
}
