//! Tables, and the display of results in a notebook.

use std::borrow::Borrow;
use std::fmt::{self, Write as _};

use serde::Serialize;
use serde_json::Value;

/// Implements `evcxr_display`, so that a notebook cell that ends in a value shows it: `as table` by
/// its method `table`, whose title becomes its one-line `Debug`; `as chart` by its method `chart`;
/// `as fields` as a table of its serialised fields; `as text` by its `Display`.
macro_rules! show {
    (impl [$($generics:tt)*] $type:ty as table) => {
        impl<$($generics)*> $type {
            /// Shows the value in a notebook whose cell ends in it; evcxr calls this.
            pub fn evcxr_display(&self) {
                self.table().evcxr_display();
            }
        }

        impl<$($generics)*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.table().title())
            }
        }
    };
    ($($type:ty),+ as fields) => {$(
        impl $type {
            /// Shows the value in a notebook whose cell ends in it; evcxr calls this.
            pub fn evcxr_display(&self) {
                $crate::base::table::fields(stringify!($type), self).evcxr_display();
            }
        }
    )+};
    ($($type:ty),+ as text) => {$(
        impl $type {
            /// Shows the value in a notebook whose cell ends in it; evcxr calls this.
            pub fn evcxr_display(&self) {
                evcxr_runtime::mime_type("text/plain").text(self.to_string());
            }
        }
    )+};
    (impl [$($generics:tt)*] $type:ty as chart) => {
        impl<$($generics)*> $type {
            /// Shows the value in a notebook whose cell ends in it; evcxr calls this.
            pub fn evcxr_display(&self) {
                match self.chart() {
                    Ok(chart) => chart.evcxr_display(),
                    Err(error) => println!("{error}"),
                }
            }
        }
    };
}

pub(crate) use show;

/// Implements a `Debug` of one line, so that a forgotten `?` in a notebook does not print all
/// pixels.
macro_rules! one_line {
    (impl [$($generics:tt)*] $type:ty: $this:ident, $($line:tt)+) => {
        impl<$($generics)*> std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let $this = self;
                write!(f, $($line)+)
            }
        }
    };
}

pub(crate) use one_line;

/// Small table with a title: plain text in a terminal, HTML in a notebook.
#[derive(Clone, PartialEq, Eq)]
pub struct Table {
    title: String,
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    /// What a reader must know of the rows.
    note: Option<&'static str>,
}

impl Table {
    /// Creates a table without rows.
    pub fn new<const N: usize>(title: impl Into<String>, header: [&str; N]) -> Self {
        Self::of(title, header, [])
    }

    /// Creates a table with these rows.
    pub(crate) fn of<H: Into<String>>(
        title: impl Into<String>,
        header: impl IntoIterator<Item = H>,
        rows: impl IntoIterator<Item = Vec<String>>,
    ) -> Self {
        Self {
            title: title.into(),
            header: header.into_iter().map(Into::into).collect(),
            rows: rows.into_iter().collect(),
            note: None,
        }
    }

    /// The table with a note below its rows.
    pub(crate) fn noted(self, note: Option<&'static str>) -> Self {
        Self { note, ..self }
    }

    /// Returns the title of the table.
    pub(crate) fn title(&self) -> &str {
        &self.title
    }

    /// Appends a row; missing cells stay empty, and cells beyond the header are dropped.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells = cells.into_iter().chain(std::iter::repeat(String::new()));
        self.rows.push(cells.take(self.header.len()).collect());
    }

    /// Returns the table as HTML, with its text escaped.
    pub fn html(&self) -> String {
        let row = |cells: &[String], tag: &str| {
            let cells = cells.iter().map(|c| format!("<{tag}>{}</{tag}>", escape(c)));
            format!("<tr>{}</tr>", cells.collect::<String>())
        };
        let rows: String = self.rows.iter().map(|cells| row(cells, "td")).collect();
        let columns = self.header.len();
        let note = self.note.map_or_else(String::new, |note| {
            format!("<tfoot><tr><td colspan=\"{columns}\">{}</td></tr></tfoot>", escape(note))
        });
        format!(
            "<table><caption>{}</caption><thead>{}</thead><tbody>{rows}</tbody>{note}</table>",
            escape(&self.title),
            row(&self.header, "th"),
        )
    }

    /// Shows the table in a notebook whose cell ends in it; evcxr calls this.
    pub fn evcxr_display(&self) {
        evcxr_runtime::mime_type("text/html").text(self.html());
        evcxr_runtime::mime_type("text/plain").text(self.to_string());
    }
}

one_line!(impl [] Table: table, "{}: {} rows", table.title, table.rows.len());

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = vec![0; self.header.len()];
        for cells in std::iter::once(&self.header).chain(&self.rows) {
            for (width, cell) in widths.iter_mut().zip(cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        writeln!(f, "{}", self.title)?;
        for cells in std::iter::once(&self.header).chain(&self.rows) {
            let mut line = String::new();
            for (&width, cell) in widths.iter().zip(cells) {
                write!(line, "  {cell:width$}")?;
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        self.note.map_or(Ok(()), |note| writeln!(f, "{note}"))
    }
}

/// Returns a table of the serialised fields of a value, each by its name.
pub(crate) fn fields(title: &str, value: &impl Serialize) -> Table {
    fn add(table: &mut Table, name: &str, value: &Value) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(field, value)| {
                let dot = if name.is_empty() { "" } else { "." };
                add(table, &format!("{name}{dot}{field}"), value);
            }),
            Value::String(text) => table.row([name.into(), text.clone()]),
            Value::Null => table.row([name.into(), "none".into()]),
            other => table.row([name.into(), other.to_string()]),
        }
    }
    let mut table = Table::new(title, ["field", "value"]);
    let value = serde_json::to_value(value).unwrap_or_default();
    add(&mut table, "", &value);
    table
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Formats a latency in timesteps for display.
pub(crate) fn latency_text(latency: Option<usize>) -> String {
    latency.map_or("never".into(), |latency| latency.to_string())
}

/// Collects rows that are given by value or by reference.
pub(crate) fn owned<R: Clone>(rows: impl IntoIterator<Item: Borrow<R>>) -> Vec<R> {
    rows.into_iter().map(|row| row.borrow().clone()).collect()
}

/// Returns each item once, in the order in which they first occur.
pub(crate) fn distinct<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for item in items {
        if !distinct.contains(&item) {
            distinct.push(item);
        }
    }
    distinct
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_escaped() {
        let mut table = Table::new("a < b", ["name", "n"]);
        table.row(["long name".into(), "1".into()]);
        table.row(["x".into()]);
        assert_eq!(table.to_string(), "a < b\n  name       n\n  long name  1\n  x\n");
        let noted = table.clone().noted(Some("1 < 2"));
        assert_eq!(noted.to_string(), format!("{table}1 < 2\n"));
        assert!(noted.html().contains("<td colspan=\"2\">1 &lt; 2</td>"));
        assert!(table.html().starts_with("<table><caption>a &lt; b</caption>"));
    }
}
