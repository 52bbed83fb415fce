//! Columns of text: aligned, and folded at the same columns in every row where
//! the terminal is too narrow.

use std::io;

use super::terminal::{Paint, Terminal};

/// One column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Its heading.
    pub heading: &'static str,
    /// Numbers stand at the right.
    pub right: bool,
}

/// Returns a column of text.
pub(super) const fn text(heading: &'static str) -> Column {
    Column { heading, right: false }
}

/// Returns a column of numbers.
pub(super) const fn number(heading: &'static str) -> Column {
    Column { heading, right: true }
}

/// Between two columns, and before what is folded.
const GAP: usize = 2;
const INDENT: usize = 6;

/// Prints all rows. They are made twice, so that none has to be kept: a file can
/// have more of them than memory.
pub(super) fn print<I>(
    terminal: &mut Terminal<'_>,
    columns: &[Column],
    rows: impl Fn() -> I,
) -> io::Result<()>
where
    I: Iterator<Item = Vec<String>>,
{
    let mut widths: Vec<usize> = columns.iter().map(|column| column.heading.len()).collect();
    for row in rows() {
        for (width, cell) in widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let breaks = breaks(&widths, terminal.width);
    let headings: Vec<String> = columns.iter().map(|column| column.heading.to_owned()).collect();
    let headings = layout(columns, &widths, &breaks, &headings);
    writeln!(terminal.out, "{}", terminal.paint(Paint::Heading, &headings))?;
    for row in rows() {
        writeln!(terminal.out, "{}", layout(columns, &widths, &breaks, &row))?;
    }
    Ok(())
}

/// Returns which columns start a new line.
fn breaks(widths: &[usize], terminal: Option<usize>) -> Vec<bool> {
    let limit = terminal.unwrap_or(usize::MAX);
    let mut at = 0;
    let decide = |&width: &usize| {
        let folds = at > 0 && at + GAP + width > limit;
        at = match (folds, at) {
            (true, _) => INDENT + width,
            (false, 0) => width,
            (false, _) => at + GAP + width,
        };
        folds
    };
    widths.iter().map(decide).collect()
}

fn layout(columns: &[Column], widths: &[usize], breaks: &[bool], row: &[String]) -> String {
    let mut line = String::new();
    for (at, cell) in row.iter().enumerate() {
        let width = widths.get(at).copied().unwrap_or(0);
        if breaks.get(at) == Some(&true) {
            line.truncate(line.trim_end().len());
            line.push('\n');
            line.extend(std::iter::repeat_n(' ', INDENT));
        } else if at > 0 {
            line.extend(std::iter::repeat_n(' ', GAP));
        }
        let padding = std::iter::repeat_n(' ', width.saturating_sub(cell.chars().count()));
        if columns.get(at).is_some_and(|column| column.right) {
            line.extend(padding);
            line += cell;
        } else {
            line += cell;
            line.extend(padding);
        }
    }
    line.truncate(line.trim_end().len());
    line
}
