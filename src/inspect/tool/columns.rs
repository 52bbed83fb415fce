//! Tables of text in aligned columns. Where the terminal is too narrow, every row continues in
//! indented lines, broken at the same columns.

use std::io;

use super::terminal::{Paint, Terminal};

/// A column.
#[derive(Clone, Copy, Debug)]
pub(super) struct Column {
    /// Heading of the column.
    pub heading: &'static str,
    /// Whether the cells are aligned at the right, as numbers are.
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

/// Number of spaces between two columns.
const GAP: usize = 2;

/// Number of spaces before the first column of a continued line.
const INDENT: usize = 6;

/// Prints headings and rows. The rows are made twice, first to measure the widths: keeping them
/// would take more memory than the file.
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

/// Returns, for each column, whether it starts a continued line.
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

/// Returns one row as text, in one line or several.
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
