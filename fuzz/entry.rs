// The functions that are fuzzed with arbitrary bytes. The fuzz targets use them, and the test that
// replays their corpus (tests/tool/replay.rs).

use std::sync::LazyLock;

use patchlet::inspect::{
    BranchForm, CpuSpec, Edit, FileError, LinuxKernel, Model, ModuleFile, PlacedModule,
    PlatformSpec, RawAddress, Reference, SiteFilter, SiteState, Unpacked, audit_linux, diff, edits,
    edits_of_branches, explain_linux, explain_oopses, explain_running, is_archive, keys_of,
    members, ops_of, parse, patchlets_of, plan, plan_branches, plan_keys, plan_keys_revert,
    plan_linux, plan_revert, raw, unpack, unpack_module, variants_of, write_edited,
};

/// Does what `patchlet list` does: finds the patchlets of a file, or of each object in an archive.
pub fn list(data: &[u8]) {
    let objects = if is_archive(data) { members(data) } else { Ok(vec![(String::new(), data)]) };
    for (_, object) in objects.unwrap_or_default() {
        if let Ok(image) = parse(object) {
            let Ok((patchlets, findings)) = patchlets_of(&image) else { continue };
            assert!(patchlets.iter().all(|patchlet| !patchlet.bytes.is_empty()));
            findings.sorted().iter().for_each(|finding| drop(finding.to_string()));
            let (keys, _) = keys_of(&image);
            assert!(keys.iter().all(|key| !key.name.is_empty()));
            let (variants, _) = variants_of(&image);
            assert!(variants.is_sorted_by_key(|variant| (variant.slot, variant.place)));
            drop(ops_of(&image));
        }
    }
}

fn model(data: &[u8]) -> Option<Model<'_>> {
    Model::new(parse(data).ok()?).ok()
}

/// Does what `patchlet sites` does: finds the op and the state of each site.
pub fn sites(data: &[u8]) {
    let Some(model) = model(data) else { return };
    for record in model.records() {
        drop(model.function(record.site));
        let present = model.present(record);
        assert!(present.is_some() || model.state(record) == SiteState::Foreign);
        assert!(model.op(record).is_some());
    }
    for branch in model.branches() {
        drop(model.function(branch.target));
        let present = model.branch_bytes(branch);
        assert!(present.is_some() || model.branch_form(branch) == BranchForm::Foreign);
        assert!(model.key(branch).is_none_or(|key| key.address == Some(branch.key)));
    }
}

/// Does what `patchlet verify` and `patchlet raw` do: makes all findings.
pub fn verify(data: &[u8]) {
    let Some(model) = model(data) else { return };
    let reference = Reference::native(&model);
    let findings = patchlet::inspect::verify(&model, &reference, &mut |_, _| ());
    for instruction in raw(&model, &mut |_, _| ()) {
        drop(model.function(instruction.address));
    }
    for finding in findings.sorted() {
        assert_eq!(finding.to_string().lines().count(), 1, "{finding}");
    }
}

/// Does what `patchlet plan`, `apply` and `diff` do. A file without findings is patched, must have
/// no findings then, and must come back byte for byte by a revert.
pub fn patch(data: &[u8]) {
    let Some(model) = model(data) else { return };
    for platform in ["native", "save_fl=nop,irq_disable=0x100000", "own_ops[1]=null"] {
        let platform: PlatformSpec = platform.parse().expect("a platform");
        let _ = plan(&model, &platform);
    }
    assert!(diff(&model, &model).is_empty());
    let reference = Reference::native(&model);
    if !patchlet::inspect::verify(&model, &reference, &mut |_, _| ()).is_empty() {
        return;
    }
    // A key in zeroed memory cannot be changed, nor a site with a relocation.
    let Ok(back) = revert(&model) else { return };
    let original = written(data, &back);
    // Every key is switched, and variants are selected.
    let cpu = CpuSpec::model("Broadwell", None).expect("a model");
    let keys = model.keys().iter().filter_map(|key| Some((key.address?, key.state? == 0)));
    let switched = keys.fold(PlatformSpec::native().on_cpu(cpu), |platform, (address, is_on)| {
        platform.with_key(&format!("{address:#x}"), is_on)
    });
    for platform in [PlatformSpec::native(), switched] {
        let Ok(all) = apply(&model, &platform) else { continue };
        let patched = written(data, &all);
        assert_eq!(patched.len(), data.len());
        let again = Model::new(parse(&patched).expect("still ELF")).expect("still linked");
        let findings = patchlet::inspect::verify(&again, &reference, &mut |_, _| ());
        assert!(findings.is_empty(), "{:?}", findings.sorted());
        let back = revert(&again).expect("what holds can be reverted");
        assert!(written(&patched, &back) == original, "patched and reverted is not what it was");
    }
}

/// Returns the edits that patch a file for a platform.
fn apply(model: &Model<'_>, platform: &PlatformSpec) -> Result<Vec<Edit>, FileError> {
    let (sites, keys) = (plan(model, platform)?, plan_keys(model, platform)?);
    let mut all = edits(model, &sites)?;
    all.extend(edits_of_branches(model, &plan_branches(model, &keys)?, &keys)?);
    Ok(all)
}

/// Returns the edits that give a file its original sites and keys back.
fn revert(model: &Model<'_>) -> Result<Vec<Edit>, FileError> {
    let (sites, keys) = (plan_revert(model)?, plan_keys_revert(model));
    let mut all = edits(model, &sites)?;
    all.extend(edits_of_branches(model, &plan_branches(model, &keys)?, &keys)?);
    Ok(all)
}

/// Returns a file with edits.
fn written(data: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut edits = edits.to_vec();
    edits.sort_by_key(|edit| edit.offset);
    let mut file = Vec::new();
    write_edited(data, &edits, &mut file).expect("memory takes everything");
    file
}

/// Reads what a command line says of a CPU, and a dump.
pub fn cpu(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let line = text.lines().next().unwrap_or_default();
    for cpu in [CpuSpec::model(line, None), CpuSpec::dump(line, &text)].into_iter().flatten() {
        if let Ok(features) = cpu.features(&[]) {
            assert!(!features.has("no feature has this name"));
        }
    }
}

/// Returns the file and the dump in an input for `explain`.
fn file_and_dump(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let (units, rest) = data.split_first_chunk::<2>()?;
    Some(rest.split_at(rest.len().min(usize::from(u16::from_le_bytes(*units)) * 16)))
}

/// Does what `patchlet explain` does. The first two bytes say how long the kernel's file is, in
/// units of 16 bytes; the dump follows, with a header or, if the length is odd, without one.
pub fn explain(data: &[u8]) {
    let Some((file, dump)) = file_and_dump(data) else { return };
    let Ok(unpacked) = unpack(file) else { return };
    let Ok(kernel) = LinuxKernel::new(&unpacked) else { return };
    assert!(!kernel.tables().is_empty());
    let is_raw = data.first().is_some_and(|low| low % 2 == 1);
    let raw = is_raw.then_some(RawAddress::Physical(0x60_0000));
    if let Ok(explanation) = explain_linux(&kernel, dump, raw, true) {
        let ranges: usize = explanation.counts.values().map(|count| count.ranges).sum();
        assert_eq!(ranges, explanation.list.len());
    }
}

/// Unpacks a boot image: its header and each form of compression.
pub fn boot(data: &[u8]) {
    if let Ok(unpacked) = unpack(data) {
        // Nothing asks for memory out of proportion to the file.
        assert!(unpacked.elf().len() <= data.len() * 64);
    }
}

/// Reads the file of a Linux kernel: its tables, names and names of features.
pub fn vmlinux(data: &[u8]) {
    let Ok(unpacked) = unpack(data) else { return };
    if let Ok(kernel) = LinuxKernel::new(&unpacked) {
        assert!(kernel.tables().iter().all(|table| table.2 > 0));
        let cpu = CpuSpec::model("Haswell,-smap", None).expect("a model");
        assert!(kernel.words().starts_with("ELF") && kernel.on_cpu(&cpu).is_ok());
    }
}

/// Does what `patchlet audit`, `sites` and `plan` do with a Linux kernel or a module.
pub fn audit(data: &[u8]) {
    let Ok(object) = unpack_module(data) else { return };
    assert!(object.len() <= data.len() * 64);
    if let Ok(module) = PlacedModule::new(&object) {
        if let Ok(kernel) = LinuxKernel::of_module(&module) {
            look_at(&kernel);
        }
        return;
    }
    let Ok(unpacked) = unpack(&object) else { return };
    if let Ok(kernel) = LinuxKernel::new(&unpacked) {
        look_at(&kernel);
    }
}

fn look_at(kernel: &LinuxKernel<'_>) {
    let audit = audit_linux(kernel, &mut |_, _| ());
    assert!(audit.findings.is_sorted_by_key(|finding| finding.address));
    assert_eq!(audit.counts().values().sum::<usize>(), audit.findings.len());
    let records: usize = kernel.tables().iter().map(|table| table.3).sum();
    let sites = kernel.sites(&SiteFilter::default());
    assert_eq!(sites.len(), records);
    for site in &sites {
        assert!(kernel.listed(site).bytes.len() <= 255);
    }
    for plan in plan_linux(kernel, &[(0, true)], |_| true) {
        assert_eq!(plan.before.len(), plan.after.len());
    }
}

/// Explains the oopses of any log, with the kernel of a seed.
pub fn oops(log: &[u8]) {
    const SEED: &[u8] = include_bytes!("corpus/audit/tables-Bits64");
    static UNPACKED: LazyLock<Unpacked<'static>> =
        LazyLock::new(|| unpack(SEED).expect("the seed's kernel"));
    thread_local! {
        static KERNEL: LinuxKernel<'static> = LinuxKernel::new(&UNPACKED).expect("a kernel");
    }
    KERNEL.with(|kernel| {
        let Ok(explained) = explain_oopses(kernel, log) else { return };
        assert!(!explained.oopses.is_empty());
        for compared in explained.oopses.iter().filter_map(|oops| oops.outcome.as_ref().ok()) {
            for of in &compared.differences {
                assert_eq!(of.file.len(), of.seen.len());
            }
        }
    });
}

/// Explains any dump, with the kernel of a seed. The first byte says whether the dump has a header
/// (2 and more), or what the address of its first byte is: virtual (0) or physical (1).
pub fn dump(data: &[u8]) {
    const SEED: &[u8] = include_bytes!("corpus/explain/core");
    static UNPACKED: LazyLock<Unpacked<'static>> = LazyLock::new(|| {
        let (file, _) = file_and_dump(SEED).expect("a seed");
        unpack(file).expect("the seed's kernel")
    });
    thread_local! {
        static KERNEL: LinuxKernel<'static> = LinuxKernel::new(&UNPACKED).expect("a kernel");
    }
    let Some((kind, dump)) = data.split_first() else { return };
    let raw = match kind {
        0 => Some(RawAddress::Virtual(0xffff_ffff_8100_0000)),
        1 => Some(RawAddress::Physical(0x60_0000)),
        _ => None,
    };
    KERNEL.with(|kernel| {
        if let Ok(explanation) = explain_linux(kernel, dump, raw, true) {
            let ranges: usize = explanation.counts.values().map(|count| count.ranges).sum();
            assert_eq!(ranges, explanation.list.len());
        }
    });
}

/// Reads names from read-only data, in a file of 64 bit with nothing else but a table of one record.
/// The tables of names are far too large for a fuzzer to find them in a whole file.
pub fn kallsyms(data: &[u8]) {
    let names = b"\0.text\0.rodata\0.smp_locks\0.shstrtab\0";
    let text = 0xffff_ffff_8100_0000_u64;
    let record = (text.wrapping_sub(text + 0x1000) as u32).to_le_bytes();
    // Name, flags, address, offset and size: text, read-only data, the table, and the names.
    let locks = 64;
    let strings = locks + 4;
    let rodata = strings + names.len();
    let headers = (rodata + data.len()).next_multiple_of(8);
    let sections = [
        (0, 0, 0, 0, 0, 0),
        (1, 1, 6, text, 0, 64),
        (7, 1, 2, text + 0x2000, rodata, data.len()),
        (15, 1, 2, text + 0x1000, locks, 4),
        (26, 3, 0, 0, strings, names.len()),
    ];
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // ET_EXEC, EM_X86_64, version, no entry, no segments, sections behind all else.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend([0; 16]);
    file.extend((headers as u64).to_le_bytes());
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 0, 0, 64, 0, 5, 0, 4, 0]);
    file.extend(record);
    file.extend(names);
    file.extend(data);
    file.resize(headers, 0);
    for (name, kind, flags, address, offset, size) in sections {
        file.extend(u32::to_le_bytes(name));
        file.extend(u32::to_le_bytes(kind));
        for field in [flags, address, offset as u64, size as u64] {
            file.extend(field.to_le_bytes());
        }
        file.extend([0; 8]);
        file.extend(1_u64.to_le_bytes());
        file.extend([0; 8]);
    }
    // The data can have a boot image's magic number in its place.
    let Ok(unpacked) = unpack(&file) else { return };
    let kernel = LinuxKernel::new(&unpacked).expect("a table of one record");
    assert!(kernel.words().starts_with("ELF64"));
}

/// Does what `patchlet explain` does with a kernel that has the crate: explains it, without a module
/// and with itself as one.
pub fn running(data: &[u8]) {
    let Some((file, dump)) = file_and_dump(data) else { return };
    let Some(model) = model(file) else { return };
    let is_raw = data.first().is_some_and(|low| low % 2 == 1);
    let raw = is_raw.then_some(RawAddress::Virtual(0x10_0000));
    for modules in [&[][..], &[ModuleFile::new("itself", file)]] {
        if let Ok(explanation) = explain_running(&model, file, dump, raw, modules, true) {
            let ranges: usize = explanation.counts.values().map(|count| count.ranges).sum();
            assert_eq!(ranges, explanation.list.len());
        }
    }
}
