use bytes::Bytes;
use proptest::prelude::*;

use super::*;

fn columns() -> Vec<Column> {
    let kinds = [
        ("text", Kind::Text),
        ("json", Kind::Json),
        ("short", Kind::Short),
        ("long", Kind::Long),
        ("whole", Kind::Whole),
        ("usd", Kind::Usd),
        ("at", Kind::Instant),
        ("id", Kind::Uuid),
    ];
    let both = kinds.into_iter().enumerate();
    both.map(|(at, (name, kind))| Column { name, kind, nullable: at % 2 == 1 }).collect()
}

type Row = (String, Option<String>, i32, Option<i64>, i128, Option<i128>, i64, Option<[u8; 16]>);

fn cells(row: &Row) -> [Cell<'_>; 8] {
    let (text, json, short, long, whole, usd, at, id) = row;
    let optional = |cell: Option<Cell<'static>>| cell.unwrap_or(Cell::Null);
    [
        Cell::Text(text),
        json.as_deref().map_or(Cell::Null, Cell::Text),
        Cell::Int(*short),
        optional(long.map(Cell::Long)),
        Cell::Decimal(*whole),
        optional(usd.map(Cell::Decimal)),
        Cell::Long(*at),
        optional(id.map(Cell::Uuid)),
    ]
}

fn written(rows: &[Row]) -> Vec<u8> {
    let options = Options { level: 1, plain: &["long"], deltas: &["short"], sorted_by: &["text"], bloom: &["text"] };
    let mut writer = Writer::new(Vec::new(), &columns(), &options).unwrap();
    rows.iter().for_each(|row| writer.push(&cells(row)).unwrap());
    writer.finish().unwrap()
}

/// Compares a file with rows, and returns how many it has.
fn compared(file: Vec<u8>, rows: &[Row]) -> usize {
    let mut at = 0;
    let reader = Reader::new(Bytes::from(file), &columns()).unwrap();
    let each = |row: &[Cell<'_>]| {
        assert_eq!(row, cells(&rows[at]));
        at += 1;
        Ok::<(), FileError>(())
    };
    reader.each(each).unwrap();
    at
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn what_is_written_is_read(rows in proptest::collection::vec(any::<Row>(), 0..200)) {
        prop_assert_eq!(compared(written(&rows), &rows), rows.len());
    }

}

#[test]
fn a_file_of_many_row_groups_keeps_every_row() {
    let row = |n: usize| -> Row {
        let count = i64::try_from(n).unwrap();
        (
            "u".repeat(n % 7),
            n.is_multiple_of(3).then(|| "{}".to_owned()),
            1,
            Some(count),
            -1,
            None,
            count,
            Some([7; 16]),
        )
    };
    let rows: Vec<Row> = (0..GROUP_ROWS * 2 + 1).map(row).collect();
    assert_eq!(compared(written(&rows), &rows), rows.len());
}

#[test]
fn rows_that_do_not_fit_the_columns_are_refused() {
    let mut writer = Writer::new(Vec::new(), &columns(), &Options::default()).unwrap();
    assert!(matches!(writer.push(&[Cell::Null]), Err(FileError::Columns(_))));
    let row: Row = (String::new(), None, 1, None, 0, None, 0, None);
    let mut wrong = cells(&row);
    wrong[0] = Cell::Null;
    assert!(matches!(writer.push(&wrong), Err(FileError::Kind(name)) if name == "text"));
    let file = written(&[row]);
    assert!(matches!(Reader::new(Bytes::from(file), &columns()[1..]), Err(FileError::Columns(_))));
}
