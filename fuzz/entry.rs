// The functions that are fuzzed with arbitrary bytes. The fuzz targets use them, and the test that
// replays their corpus (tests/tool/replay.rs).

use patchlet::inspect::{
    Model, PlatformSpec, Reference, SiteState, diff, edits, is_archive, members, parse,
    patchlets_of, plan, plan_revert, raw, write_edited,
};

/// Does what `patchlet list` does: finds the patchlets of a file, or of each object in an archive.
pub fn list(data: &[u8]) {
    let objects = if is_archive(data) { members(data) } else { Ok(vec![(String::new(), data)]) };
    for (_, object) in objects.unwrap_or_default() {
        if let Ok(image) = parse(object) {
            let Ok((patchlets, findings)) = patchlets_of(&image) else { continue };
            assert!(patchlets.iter().all(|patchlet| !patchlet.bytes.is_empty()));
            findings.sorted().iter().for_each(|finding| drop(finding.to_string()));
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
    let native = plan(&model, &PlatformSpec::native()).expect("what holds can be patched");
    let Ok(edits_to_native) = edits(&model, &native) else { return };
    let mut patched = Vec::new();
    write_edited(data, &edits_to_native, &mut patched).expect("memory takes everything");
    assert_eq!(patched.len(), data.len());
    let again = Model::new(parse(&patched).expect("still ELF")).expect("still linked");
    assert!(patchlet::inspect::verify(&again, &reference, &mut |_, _| ()).is_empty());

    let back = plan_revert(&model).expect("what holds can be reverted");
    let edits_back = edits(&model, &back).expect("as above");
    let mut indirect = Vec::new();
    write_edited(data, &edits_back, &mut indirect).expect("memory takes everything");
    let back = plan_revert(&again).expect("what holds can be reverted");
    let edits_back = edits(&again, &back).expect("as above");
    let mut reverted = Vec::new();
    write_edited(&patched, &edits_back, &mut reverted).expect("memory takes everything");
    assert!(reverted == indirect, "patched and reverted is not what it was");
}
