//! The command `patchlet verify`: proves what can be proven of a linked file.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

use crate::contract;
use crate::inspect::elf::{objects, parse};
use crate::inspect::error::FileError;
use crate::inspect::finding::Finding;
use crate::inspect::formats::{PatchletImage, patchlets_of};
use crate::inspect::model::Model;
use crate::inspect::tool::arguments::VerifyArguments;
use crate::inspect::tool::open::{compared_with, linked, module, placed, read, slots};
use crate::inspect::tool::output::{count, print_findings, print_json};
use crate::inspect::tool::progress::verify_with_progress;
use crate::inspect::tool::stop::{Stop, in_file};
use crate::inspect::tool::terminal::{Exit, Paint, Terminal};
use crate::inspect::verify::Reference;

pub(in crate::inspect::tool) fn verify(
    arguments: &VerifyArguments,
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let path = &arguments.file;
    let data = read(path)?;
    let platform = slots(&arguments.platform)?;
    let module = if arguments.module { Some(module(path, &data)?) } else { None };
    let model = match &module {
        Some(module) => placed(path, module)?,
        None => linked(path, &data)?,
    };
    let model = compared_with(model, &platform, path)?;
    let against = match &arguments.against {
        Some(path) => Some((path, read(path)?)),
        None => None,
    };
    let from_object = match &against {
        Some((path, data)) => reference_patchlets(&model, data).map_err(in_file(path))?,
        None => vec![],
    };
    let mut reference = match against {
        Some(_) => Reference::object(&from_object),
        None => Reference::native(&model),
    };
    reference.required =
        arguments.require.iter().map(|name| &**name).filter(|name| !name.is_empty()).collect();
    reference.sites = arguments.expect_sites;
    reference.branches = arguments.expect_branches;
    for path in &arguments.contracts {
        let bad = |why: String| in_file(path)(FileError::new(why));
        let source = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
        let contracts = contract::parse(&source, model.image().width())
            .map_err(|error| bad(error.to_string()))?;
        let blobs = contract::parse_blobs(&source, model.image().width())
            .map_err(|error| bad(error.to_string()))?;
        if contracts.is_empty() && blobs.is_empty() {
            return Err(bad("there is no patchlet in it".to_owned()));
        }
        reference.contracts.extend(contracts);
        reference.blobs.extend(blobs);
    }
    let findings = verify_with_progress(&model, &reference, terminal);
    let exit = if findings.is_empty() { Exit::Holds } else { Exit::Finding };
    if arguments.json {
        #[derive(Serialize)]
        struct Document<'v> {
            file: String,
            format: String,
            holds: bool,
            patchlets: usize,
            sites: usize,
            tables: usize,
            variants: usize,
            branches: usize,
            keys: usize,
            counts: BTreeMap<&'v str, usize>,
            findings: Vec<Finding>,
        }
        let counts = findings.counts().into_iter();
        let document = Document {
            file: path.display().to_string(),
            format: model.image().words(),
            holds: findings.is_empty(),
            patchlets: model.patchlets().len(),
            sites: model.records().len(),
            tables: model.tables().len(),
            variants: model.variants().len(),
            branches: model.branches().len(),
            keys: model.keys().len(),
            counts: counts.map(|(code, count)| (code.name(), count)).collect(),
            findings: findings.sorted(),
        };
        print_json(terminal, &document)?;
        return Ok(exit);
    }
    let total = findings.total();
    print_findings(terminal, findings)?;
    if model.is_without_patchlet() {
        return Ok(exit);
    }
    let verdict = match total {
        0 => terminal.paint(Paint::Good, "everything holds"),
        _ => terminal.paint(Paint::Bad, &count(total, "finding")),
    };
    let mut counts = vec![
        count(model.patchlets().len(), "patchlet"),
        count(model.records().len(), "site"),
        count(model.tables().len(), "ops table"),
    ];
    // What not every kernel has is counted where there is any.
    let others = [
        (model.variants().len(), "variant"),
        (model.branches().len(), "branch site"),
        (model.keys().len(), "key"),
    ];
    counts.extend(others.iter().filter(|(all, _)| *all > 0).map(|(all, of)| count(*all, of)));
    let (path, format) = (path.display(), model.image().words());
    writeln!(terminal.out, "{path}: {format}, {}: {verdict}", counts.join(", "))?;
    Ok(exit)
}

/// Returns the patchlets of an object or archive, with which the file is compared.
fn reference_patchlets<'d>(
    model: &Model<'_>,
    data: &'d [u8],
) -> Result<Vec<PatchletImage<'d>>, FileError> {
    let mut patchlets = Vec::new();
    for (_, object) in objects(data)? {
        let image = parse(object)?;
        if image.width() != model.image().width() {
            return Err(FileError::new(format!(
                "{}, but the file to verify is {}",
                image.words(),
                model.image().words()
            )));
        }
        patchlets.extend(patchlets_of(&image)?.0);
    }
    if patchlets.is_empty() {
        return Err(FileError::new("there is no patchlet to compare with"));
    }
    Ok(patchlets)
}
