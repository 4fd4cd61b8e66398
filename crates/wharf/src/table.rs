//! Tables for people: as wide as their widest cells, cut where the terminal ends.

use std::io::{IsTerminal, Write};

/// Prints rows under their heads.
///
/// # Errors
/// If standard output is closed.
pub(crate) fn print(heads: &[&str], rows: &[Vec<String>]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let width =
        out.is_terminal().then(|| rustix::termios::tcgetwinsize(&out).ok().map(|size| usize::from(size.ws_col)));
    let width = width.flatten().filter(|width| *width > 0);
    for line in lines(heads, rows) {
        match width {
            Some(width) => writeln!(out, "{}", cut(&line, width))?,
            None => writeln!(out, "{line}")?,
        }
    }
    Ok(())
}

fn lines(heads: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let head = heads.iter().map(|head| (*head).to_owned()).collect::<Vec<_>>();
    let all: Vec<_> = std::iter::once(&head).chain(rows).collect();
    let widths: Vec<_> = (0..heads.len())
        .map(|column| all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    all.iter()
        .map(|row| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        })
        .collect()
}

fn cut(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    line.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::{cut, lines};

    #[test]
    fn columns_line_up_and_long_lines_are_cut() {
        let rows = [vec!["node1".to_owned(), "10".to_owned()], vec!["n".to_owned(), "2".to_owned()]];
        assert_eq!(lines(&["NAME", "COUNT"], &rows), ["NAME   COUNT", "node1  10", "n      2"]);
        assert_eq!((cut("äöü", 3).as_str(), cut("äöüß", 3).as_str()), ("äöü", "äö…"));
    }
}
