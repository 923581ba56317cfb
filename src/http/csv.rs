//! Answers as CSV, streamed a page at a time, so that an export is never in memory as a whole.
//!
//! A file that breaks off must not look complete: if a page cannot be read, or the bound is reached, the connection is
//! closed in the middle of the body, which every client reports.
//!
//! Users choose their ids and endpoints, so a cell that a spreadsheet would run as a formula gets a `'` in front.
//! Spreadsheets skip blanks before a formula, and read its full-width forms.

use std::borrow::Cow;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::error::ApiError;
use tallyd_model::json::{self, Raw, scan};
use tallyd_model::quote;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// JSON.
    #[default]
    Json,
    /// CSV with a header line.
    Csv,
}

/// Rows of one page of a stream.
pub(crate) const PAGE: i64 = 5_000;
/// Rows of one file; at this bound the file breaks off.
const ROWS_MAX: usize = 1_000_000;

/// Rows as the texts of JSON objects. `next` fetches the next page; none after the last.
pub(crate) struct Page {
    pub rows: Vec<String>,
    pub next: Option<NextPage>,
}

pub(crate) type PageFuture = Pin<Box<dyn Future<Output = Result<Page, ApiError>> + Send>>;
pub(crate) type NextPage = Box<dyn FnOnce() -> PageFuture + Send>;

/// Rows as the texts of JSON objects.
///
/// # Errors
/// None for the rows of this API, which are objects of texts and numbers.
pub(crate) fn objects<T: Serialize>(rows: &[T]) -> Result<Vec<String>, ApiError> {
    let object = |row: &T| json::to_string(row).map_err(|error| ApiError::body(error.to_string(), "report this"));
    rows.iter().map(object).collect()
}

/// A short list as a file, in one page.
///
/// # Errors
/// As [`objects`].
pub(crate) fn whole<T: Serialize>(
    name: &str,
    columns: &'static [&'static str],
    rows: &[T],
) -> Result<Response, ApiError> {
    Ok(stream(name, columns, Page { rows: objects(rows)?, next: None }))
}

/// As [`whole`], with a column for the time zone of the rows' days.
///
/// # Errors
/// As [`objects`].
pub(crate) fn zoned<T: Serialize>(
    name: &str,
    columns: &'static [&'static str],
    rows: &[T],
    zone: tallyd_model::zone::Tz,
) -> Result<Response, ApiError> {
    Ok(stream(name, columns, Page { rows: zoned_objects(rows, zone)?, next: None }))
}

/// The column with the time zone of a file's days.
pub(crate) const ZONE: &str = "time_zone";

/// Rows with the zone of their days in [`ZONE`].
///
/// # Errors
/// As [`objects`].
pub(crate) fn zoned_objects<T: Serialize>(rows: &[T], zone: tallyd_model::zone::Tz) -> Result<Vec<String>, ApiError> {
    // An object of this API has members, and a zone's name needs no escapes in JSON.
    let add = |row: String| format!("{{\"{ZONE}\":\"{zone}\",{}", row.strip_prefix('{').unwrap_or_default());
    Ok(objects(rows)?.into_iter().map(add).collect())
}

/// Streams pages under these columns. The caller has fetched the first page, so a failure there has a status of its
/// own.
pub(crate) fn stream(name: &str, columns: &[&str], first: Page) -> Response {
    let head = header(columns);
    let columns: Arc<[String]> = columns.iter().map(|column| (*column).to_owned()).collect();
    let state = (Some(Ok(first)), 0usize, Some(head), columns);
    let body = futures_util::stream::unfold(state, |(page, sent, head, columns)| async move {
        let page = match page? {
            Ok(page) => page,
            Err(error) => return Some((Err(error), (None, sent, None, columns))),
        };
        let sent = sent + page.rows.len();
        let bytes = Bytes::from(render(&columns, &page.rows, head.unwrap_or_default()));
        let next = match page.next {
            Some(_) if sent >= ROWS_MAX => {
                Some(Err(std::io::Error::other("the file is at its bound; narrow the range")))
            }
            Some(next) => Some(next().await.map_err(|error| std::io::Error::other(error.code()))),
            None => None,
        };
        Some((Ok(bytes), (next, sent, None, columns)))
    });
    // A compressing body polls once more after the end, and `unfold` would panic.
    let body = body.fuse();
    let disposition = format!("attachment; filename=\"{name}.csv\"");
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
        (CONTENT_DISPOSITION, disposition),
        (CACHE_CONTROL, "no-store".to_owned()),
    ];
    (headers, Body::from_stream(body)).into_response()
}

/// The header line.
pub(crate) fn header(columns: &[&str]) -> Vec<u8> {
    let mut head = csv::Writer::from_writer(Vec::new());
    // Writing into memory does not fail.
    let _ = head.write_record(columns);
    head.into_inner().unwrap_or_default()
}

/// Rows as lines, after `head`.
pub(crate) fn render(columns: &[impl AsRef<str>], rows: &[String], head: Vec<u8>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(head);
    for row in rows {
        // [`objects`] wrote this text, so it parses.
        let fields: HashMap<Cow<'_, str>, Raw<'_>> = json::from_str(row).unwrap_or_default();
        // Writing into memory does not fail, and each record has as many fields as there are columns.
        let _ = writer
            .write_record(columns.iter().map(|column| fields.get(column.as_ref()).map_or_else(String::new, cell)));
    }
    writer.into_inner().unwrap_or_default()
}

fn cell(value: &Raw<'_>) -> String {
    let text = value.get();
    match value.kind() {
        b'n' => String::new(),
        b'"' => {
            let text = scan::unquote(text);
            if runs(&text) { format!("'{text}") } else { text.into_owned() }
        }
        _ => text.to_owned(),
    }
}

/// Whether a spreadsheet may run the text as a formula.
fn runs(text: &str) -> bool {
    let is_blank = |c: char| c.is_whitespace() || quote::line(c.encode_utf8(&mut [0; 4])).len() > c.len_utf8();
    let formula = ['=', '+', '-', '@', '＝', '＋', '－', '−', '﹣', '﹢', '﹦', '＠', '﹫', '|', '%'];
    // A negative amount is not a formula, but -1-2 is.
    let amount = text.strip_prefix('-').is_some_and(|rest| {
        let (whole, decimals) = rest.split_once('.').unwrap_or((rest, "0"));
        [whole, decimals].iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    !amount && text.starts_with(|c: char| is_blank(c) || formula.contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_data_and_never_formulas() {
        // A number keeps its digits, and metadata its text.
        let rows = [r#"{"a": "=1+1", "b": "-1.05", "c": {"k":[1]}}"#, r#"{"a": "x,\"y\"", "b": null, "c": 1.50}"#];
        let rows = rows.map(str::to_owned);
        let text = String::from_utf8(render(&["a", "b", "c"], &rows, Vec::new())).unwrap();
        assert_eq!(text, "'=1+1,-1.05,\"{\"\"k\"\":[1]}\"\n\"x,\"\"y\"\"\",,1.50\n");
    }

    #[test]
    fn formulas_are_found_behind_blanks_and_in_other_widths() {
        for text in [
            "=1",
            "+1",
            "-1-2",
            "-x",
            "-",
            "@x",
            "＝1",
            "＋1",
            "－1",
            "＠x",
            "\t=1",
            "\r=1",
            "\n=1",
            " =1",
            "\u{3000}＝1",
        ] {
            assert!(runs(text), "{text:?}");
        }
        for text in ["\u{feff}=1", "\u{200b}=1", "\u{1b}=1", " x", "\nx", "|cmd", "%0A"] {
            assert!(runs(text), "{text:?}");
        }
        for text in ["", "x", "a=b", "-1", "-1.05", "1.5", "/v1/x", "gpt-4.1", "日本"] {
            assert!(!runs(text), "{text:?}");
        }
    }
}
