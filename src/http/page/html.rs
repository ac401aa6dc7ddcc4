//! Writing HTML: everything that is not a constant of the source is escaped.

use crate::broker::look::{Condition, LastOperation};

use humantime::format_rfc3339_seconds;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::{self, Write as _};
use std::time::{Duration, SystemTime};

/// Text, as it may stand between tags and in quoted attributes.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // Neither controls nor marks that turn the direction of what follows.
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    f.write_char('\u{fffd}')?;
                }
                c if c.is_control() && !matches!(c, '\n' | '\t') => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Text as one segment of a path, or as a value of a query.
pub fn encoded(text: &str) -> impl fmt::Display {
    const KEPT: &AsciiSet = &NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    // A browser takes a segment of dots for a step.
    match text {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        text => utf8_percent_encode(text, KEPT).to_string(),
    }
}

/// A document in the making.
pub struct Html(String);

/// Stands in the place of every style but the document's own.
const STYLE: &str = include_str!("style.css");

impl Html {
    /// `nonce` is what the header of the answer lets the style through by. `nav`: links of operators, below this prefix.
    pub fn new(title: &str, nonce: &str, nav: Option<&str>) -> Html {
        let title = Escaped(title);
        let mut html = Html(String::with_capacity(16 * 1024));
        html.put(format_args!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · brokerlet</title>\n\
             <style nonce=\"{nonce}\">{STYLE}</style>\n</head>\n<body>\n"
        ));
        if let Some(prefix) = nav {
            let prefix = Escaped(prefix);
            html.put(format_args!(
                "<header><nav aria-label=\"Pages\"><a href=\"{prefix}/\">Overview</a> \
                 <a href=\"{prefix}/instances\">Service instances</a></nav></header>\n"
            ));
        }
        html.put(format_args!("<main>\n<h1>{title}</h1>\n"));
        html
    }

    /// Writes what was escaped before, or needs no escaping.
    pub fn put(&mut self, text: impl fmt::Display) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "{text}");
    }

    pub fn heading(&mut self, text: &'static str) {
        self.put(format_args!("<h2>{text}</h2>\n"));
    }

    pub fn note(&mut self, text: &str) {
        self.put(format_args!("<p class=\"note\">{}</p>\n", Escaped(text)));
    }

    /// Begins a table, called so for those who cannot see it.
    pub fn table(&mut self, caption: &'static str, columns: &'static [&'static str]) -> Table<'_> {
        self.put(format_args!(
            "<table>\n<caption>{caption}</caption>\n<thead><tr>"
        ));
        for column in columns {
            self.put(format_args!("<th scope=\"col\">{column}</th>"));
        }
        self.put("</tr></thead>\n<tbody>\n");
        Table {
            html: self,
            columns,
        }
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.put("</main>\n</body>\n</html>\n");
        self.0.into_bytes()
    }
}

pub struct Table<'h> {
    html: &'h mut Html,
    columns: &'static [&'static str],
}

impl Table<'_> {
    /// A row. Its cells are HTML, such as of [`text`].
    pub fn row(&mut self, cells: &[String]) {
        self.html.put("<tr>");
        for (column, cell) in self.columns.iter().zip(cells) {
            // A phone shows the name of the column beside each cell.
            self.html.put(format_args!(
                "<td data-column=\"{column}\"><div>{cell}</div></td>"
            ));
        }
        self.html.put("</tr>\n");
    }

    pub fn end(self) {
        self.html.put("</tbody>\n</table>\n");
    }
}

/// Text as a cell.
pub fn text(text: &str) -> String {
    match text {
        "" => "–".to_owned(),
        text => Escaped(text).to_string(),
    }
}

pub fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "not counted yet".to_owned(), |number| number.to_string())
}

/// A link. Its text is escaped, and so is its address, whose parts were [`encoded`] before.
pub fn link(address: &str, text: &str) -> String {
    format!("<a href=\"{}\">{}</a>", Escaped(address), Escaped(text))
}

/// How long ago something was, with the moment itself.
pub fn age(at: SystemTime) -> String {
    let moment = format_rfc3339_seconds(at);
    let age = SystemTime::now().duration_since(at).unwrap_or_default();
    format!(
        "<time datetime=\"{moment}\" title=\"{moment}\">{} ago</time>",
        rough(age)
    )
}

/// `3 days`, `1 hour`, `20 seconds`.
fn rough(age: Duration) -> String {
    let seconds = age.as_secs();
    let (count, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..3600 => (seconds / 60, "minute"),
        3600..86_400 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    match count {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

/// Whether something can be used, and what is told of that.
pub fn condition(operation: &LastOperation) -> String {
    let class = match operation.condition {
        Condition::Ready => "ready",
        Condition::InProgress => "busy",
        Condition::Failed => "failed",
        Condition::Kept => "busy",
    };
    let mut cell = format!(
        "<strong class=\"{class}\">{}</strong>",
        operation.condition.name()
    );
    // Writing to a string does not fail.
    if operation.condition != Condition::Ready {
        let _ = write!(cell, " ({})", operation.kind.name());
    }
    if let Some(since) = operation.since {
        let _ = write!(cell, ", begun {}", age(since));
    }
    if let Some(text) = &operation.text {
        let _ = write!(cell, "<br>{}", Escaped(text));
    }
    cell
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_be_markup_is_none() {
        let escaped = Escaped("<b a=\"1\" c='2'>&\u{0}\u{202e}é\n").to_string();
        assert_eq!(
            escaped,
            "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;\u{fffd}\u{fffd}é\n"
        );
    }

    #[test]
    fn what_could_be_another_path_is_none() {
        for (text, wanted) in [
            ("a/b?c#d", "a%2Fb%3Fc%23d"),
            ("..", "%2E%2E"),
            ("a.b", "a.b"),
        ] {
            assert_eq!(encoded(text).to_string(), wanted);
        }
    }

    #[test]
    fn ages_are_short() {
        let ages = [0, 1, 59, 60, 7199, 86_400, 1_000_000].map(|s| rough(Duration::from_secs(s)));
        let wanted = [
            "0 seconds",
            "1 second",
            "59 seconds",
            "1 minute",
            "1 hour",
            "1 day",
            "11 days",
        ];
        assert_eq!(ages, wanted.map(str::to_owned));
    }
}
