// The functions that are fuzzed with arbitrary bytes. The fuzz targets use them, and the test that
// replays their corpus (tests/tool/replay.rs).

use patchlet::inspect::{
    BranchForm, CpuSpec, Edit, FileError, LinuxKernel, Model, PlatformSpec, RawAddress, Reference,
    SiteState, diff, edits, edits_of_branches, explain_linux, is_archive, keys_of, members, ops_of,
    parse, patchlets_of, plan, plan_branches, plan_keys, plan_keys_revert, plan_revert, raw,
    unpack, variants_of, write_edited,
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

/// Does what `patchlet explain` does. The first two bytes say how long the kernel's file is, in
/// units of 16 bytes; the dump follows, with a header or, if the length is odd, without one.
pub fn explain(data: &[u8]) {
    let Some((&[low, high], rest)) = data.split_first_chunk::<2>() else { return };
    let units = usize::from(u16::from_le_bytes([low, high]));
    let (file, dump) = rest.split_at(rest.len().min(units * 16));
    let Ok(unpacked) = unpack(file) else { return };
    let Ok(kernel) = LinuxKernel::new(&unpacked) else { return };
    assert!(!kernel.tables().is_empty());
    let raw = (units % 2 == 1).then_some(RawAddress::Physical(0x60_0000));
    if let Ok(explanation) = explain_linux(&kernel, dump, raw, true) {
        let ranges: usize = explanation.counts.values().map(|count| count.ranges).sum();
        assert_eq!(ranges, explanation.list.len());
    }
}
