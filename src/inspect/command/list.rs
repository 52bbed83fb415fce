//! `patchlet list`

use std::path::Path;

use serde::Serialize;

use super::output::{Stream, count, print_findings, print_json};
use super::{Exit, Stop, Terminal, fail};
use crate::inspect::archive::{is_archive, members};
use crate::inspect::arguments::List;
use crate::inspect::columns::{self, Paint, number, text};
use crate::inspect::finding::Finding;
use crate::inspect::map::map;
use crate::inspect::patchlets::patchlets_of;
use crate::inspect::read::parse;
use crate::inspect::views::PatchletView;

pub(super) fn list(arguments: &List, terminal: &mut Terminal<'_>) -> Result<Exit, Stop> {
    let mut exit = Exit::Holds;
    for path in &arguments.files {
        let one = match map(path) {
            Ok(data) => list_file(arguments.json, path, &data, terminal)?,
            Err(error) => fail(terminal, &format!("{}: {error}", path.display())),
        };
        exit = exit.max(one);
    }
    Ok(exit)
}

/// A file, or each object of an archive. JSON is one document for each of them.
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
    let mut exit = Exit::Holds;
    for (member, data) in members {
        exit = exit.max(list_image(json, &format!("{name}({member})"), data, terminal)?);
    }
    Ok(exit)
}

fn list_image(
    json: bool,
    name: &str,
    data: &[u8],
    terminal: &mut Terminal<'_>,
) -> Result<Exit, Stop> {
    let image = match parse(data) {
        Ok(image) => image,
        Err(error) => return Ok(fail(terminal, &format!("{name}: {error}"))),
    };
    let (patchlets, findings) = patchlets_of(&image);
    let views = || patchlets.iter().map(|patchlet| PatchletView::new(&image, patchlet));
    let exit = if findings.is_empty() { Exit::Holds } else { Exit::Finding };
    if json {
        #[derive(Serialize)]
        struct Document<'v, S: Serialize> {
            file: &'v str,
            format: String,
            patchlets: S,
            findings: Vec<Finding>,
        }
        let (format, findings) = (image.words(), findings.sorted());
        print_json(terminal, &Document { file: name, format, patchlets: Stream(views), findings })?;
        return Ok(exit);
    }
    let heading = format!("{name}: {}, {}", image.words(), count(patchlets.len(), "patchlet"));
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
    }
    print_findings(terminal, findings)?;
    Ok(exit)
}
