//! The command `patchlet list`: lists the patchlets and keys in objects, archives and linked files,
//! and the variants of ops in linked files.

use std::path::Path;

use serde::Serialize;

use crate::inspect::elf::{Linkage, is_archive, members, parse};
use crate::inspect::finding::{Finding, FindingCode, Findings};
use crate::inspect::formats::{keys_of, ops_of, patchlets_of, variants_of};
use crate::inspect::tool::arguments::ListArguments;
use crate::inspect::tool::branch_views::{KeyView, VariantView};
use crate::inspect::tool::columns::{self, number, text};
use crate::inspect::tool::open::read;
use crate::inspect::tool::output::{Stream, count, print_findings, print_json};
use crate::inspect::tool::places;
use crate::inspect::tool::stop::{Stop, fail};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};
use crate::inspect::tool::views::PatchletView;

pub(in crate::inspect::tool) fn list(
    arguments: &ListArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let mut exit = Exit::Holds;
    for path in &arguments.files {
        let one = match read(path) {
            Ok(data) => list_file(arguments.json, path, &data, terminal)?,
            Err(Stop::Failed(message)) => fail(terminal, &message),
            Err(Stop::Closed) => return Err(Stop::Closed),
        };
        exit = exit.or_worse(one);
    }
    Ok(exit)
}

/// The JSON document of one object or linked file.
#[derive(Serialize)]
struct Document<'v, S: Serialize> {
    file: &'v str,
    format: String,
    patchlets: S,
    variants: Vec<VariantView>,
    keys: Vec<KeyView<'v>>,
    findings: Vec<Finding>,
}

/// Lists the patchlets of a file, or of each object in an archive. With `--json`, each object
/// gets a document of its own.
fn list_file(
    json: bool,
    path: &Path,
    data: &[u8],
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let name = path.display().to_string();
    if !is_archive(data) {
        return list_image(json, &name, data, terminal);
    }
    let members = match members(data) {
        Ok(members) => members,
        Err(error) => return Ok(fail(terminal, &format!("{name}: {error}"))),
    };
    if members.is_empty() {
        return empty_archive(json, &name, terminal);
    }
    let mut exit = Exit::Holds;
    for (member, data) in members {
        let name = format!("{name}({member})");
        exit = exit.or_worse(list_image(json, &name, data, terminal)?);
    }
    Ok(exit)
}

fn empty_archive(json: bool, name: &str, terminal: &mut Terminal<'_>) -> Result<Exit, Stop> {
    let mut findings = Findings::default();
    findings.add(
        FindingCode::ArchiveEmpty,
        None,
        format!("archive {name}"),
        "has no ELF file in it".to_owned(),
        "build it from ELF objects; LLVM bitcode is none before it is linked",
    );
    if json {
        let (format, findings) = ("archive".to_owned(), findings.sorted());
        let patchlets: [PatchletView<'_>; 0] = [];
        let (file, variants, keys) = (name, vec![], vec![]);
        print_json(terminal, &Document { file, format, patchlets, variants, keys, findings })?;
    } else {
        print_findings(terminal, findings)?;
    }
    Ok(Exit::Finding)
}

fn list_image(
    json: bool,
    name: &str,
    data: &[u8],
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let found = parse(data).and_then(|image| {
        let found = patchlets_of(&image)?;
        Ok((image, found))
    });
    let (image, (patchlets, mut findings)) = match found {
        Ok(found) => found,
        Err(error) => return Ok(fail(terminal, &format!("{name}: {error}"))),
    };
    let (keys, of_keys) = keys_of(&image);
    findings.append(of_keys);
    let mut variants = Vec::new();
    // In an object, the addresses in records are not known before it is linked.
    if image.kind() != Linkage::Object {
        let (ops, of_ops) = ops_of(&image);
        let (found, of_variants) = variants_of(&image);
        findings.append(of_ops);
        findings.append(of_variants);
        let ops = ops.iter().map(|op| (op.slot, op.name)).collect();
        let natives = patchlets.iter().filter_map(|found| Some((found.native?, found.name)));
        let natives = natives.collect();
        let view = |variant| VariantView::new(&image, &ops, &natives, variant);
        variants = found.iter().map(view).collect();
    }
    let keys: Vec<_> = keys.iter().map(|key| KeyView::new(&image, key)).collect();
    let views = || patchlets.iter().map(|patchlet| PatchletView::new(&image, patchlet));
    let exit = if findings.is_empty() { Exit::Holds } else { Exit::Finding };
    if json {
        let (file, format, findings) = (name, image.words(), findings.sorted());
        let patchlets = Stream(views);
        print_json(terminal, &Document { file, format, patchlets, variants, keys, findings })?;
        return Ok(exit);
    }
    let addresses = image.address_words().map_or_else(String::new, |words| format!("; {words}"));
    let mut counts = vec![count(patchlets.len(), "patchlet")];
    let others = [(variants.len(), "variant"), (keys.len(), "key")];
    counts.extend(others.iter().filter(|(all, _)| *all > 0).map(|(all, of)| count(*all, of)));
    let heading = format!("{name}: {}, {}{addresses}", image.words(), counts.join(", "));
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &heading))?;
    if !patchlets.is_empty() {
        let columns = [
            text("ADDRESS"),
            number("LEN"),
            text("NAME"),
            text("SECTION"),
            text("BYTES"),
            text("INSTRUCTIONS"),
        ];
        columns::print(terminal, &columns, || views().map(PatchletView::row))?;
        places::print(terminal, &patchlets)?;
    }
    if !variants.is_empty() {
        let columns = [text("ADDRESS"), text("OP"), text("CONDITION"), text("VARIANT")];
        columns::print(terminal, &columns, || variants.iter().cloned().map(VariantView::row))?;
    }
    if !keys.is_empty() {
        let columns = [
            text("ADDRESS"),
            text("KEY"),
            text("KIND"),
            text("INITIALLY"),
            text("NOW"),
            text("STATIC"),
        ];
        columns::print(terminal, &columns, || keys.iter().cloned().map(KeyView::row))?;
    }
    print_findings(terminal, findings)?;
    Ok(exit)
}
