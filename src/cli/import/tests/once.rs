//! A row is imported once, even if it is in several files.

use super::*;

impl Place {
    /// Imports a file with `--key`.
    fn import_by(&self, path: &Path, key: &str) -> Outcome {
        let mapping = Mapping::parse(&[], &["provider=claude".to_owned()]).unwrap();
        let mapping = Mapping { key: Some(key.to_owned()), ..mapping };
        import_with(self.daemon.socket(), path, mapping, |_| {})
    }

    /// The tokens of the recorded rows, sorted.
    fn tokens(&self) -> Vec<i128> {
        let mut tokens: Vec<i128> = self.daemon.with(|kept| kept.rows.iter().map(|(.., tokens)| *tokens).collect());
        tokens.sort_unstable();
        tokens
    }
}

#[test]
fn line_ends_the_order_of_rows_and_of_columns_and_spellings_do_not_make_other_calls() {
    let place = Place::failing([]);
    assert_eq!(place.import(&place.file("a.csv", &csv(30))).counts(), (30, 0, 30, 0));
    let windows = csv(30).replace('\n', "\r\n");
    assert_eq!(place.import(&place.file("b.csv", &windows)).counts(), (30, 30, 0, 0));
    let mut rows: Vec<_> = (1..=30).map(|row| format!("{row}.0,m\n")).collect();
    rows.reverse();
    let turned = format!("input_tokens,model\n{}", rows.concat());
    assert_eq!(place.import(&place.file("c.csv", &turned)).counts(), (30, 30, 0, 0));
    let utf16: Vec<u8> = std::iter::once(0xfeff).chain(csv(30).encode_utf16()).flat_map(u16::to_le_bytes).collect();
    let path = place.folder.path().join("d.csv");
    std::fs::write(&path, utf16).unwrap();
    assert_eq!(place.import(&path).counts(), (30, 30, 0, 0));
    let lines: String = (1..=30).map(|row| format!("{{\"model\":\"m\",\"input_tokens\":{row}}}\n")).collect();
    assert_eq!(place.import(&place.file("e.ndjson", &lines)).counts(), (30, 30, 0, 0));
    assert_eq!(place.recorded().len(), 30);
}

#[test]
fn an_export_that_overlaps_adds_what_is_new_and_equal_rows_are_as_many_calls() {
    let place = Place::failing([]);
    let file = |rows: &str| format!("model,input_tokens\n{rows}");
    let first = place.import(&place.file("may.csv", &file("m,1\nm,2\nm,2\n")));
    assert_eq!(first.counts(), (3, 0, 3, 0));
    let second = place.import(&place.file("june.csv", &file("m,2\nm,2\nm,2\nm,3\n")));
    assert_eq!(second.counts(), (4, 2, 2, 0));
    assert_eq!(place.tokens(), [1, 2, 2, 2, 3]);
}

#[test]
fn a_corrected_cell_is_read_and_the_rows_around_it_are_there_already() {
    let place = Place::failing([]);
    let ids = ["11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"];
    let file = |second: &str| format!("id,model,input_tokens\n{},m,5\n{},m,{second}\n", ids[0], ids[1]);
    assert_eq!(place.import(&place.file("calls.csv", &file("7x"))).counts(), (2, 0, 1, 1));
    assert_eq!(place.import(&place.file("calls.csv", &file("7"))).counts(), (2, 1, 1, 0));
    assert_eq!(place.tokens(), [5, 7]);
    // A recorded call is not changed, and its row is refused.
    let changed = place.import(&place.file("calls.csv", &file("8")));
    assert_eq!(changed.counts(), (2, 1, 0, 1));
    assert!(
        changed.said[0].starts_with("row 2 (line 3) was refused: its id was imported before"),
        "{:?}",
        changed.said
    );
    assert_eq!(place.tokens(), [5, 7]);
}

#[test]
fn a_row_that_the_daemon_refused_can_be_corrected() {
    let place = Place::new(Kept { refuse: [2].into(), ..Kept::default() });
    let file = |second: u32| format!("request,model,input_tokens\na,m,1\nb,m,{second}\n");
    assert_eq!(place.import_by(&place.file("calls.csv", &file(2)), "request").counts(), (2, 0, 1, 1));
    place.daemon.with(|kept| kept.refuse.clear());
    assert_eq!(place.import_by(&place.file("calls.csv", &file(3)), "request").counts(), (2, 1, 1, 0));
    assert_eq!(place.tokens(), [1, 3]);
}

#[test]
fn of_rows_with_one_key_the_last_counts() {
    let place = Place::failing([]);
    let lines = "{\"k\":{\"id\":\"a\"},\"model\":\"m\",\"input_tokens\":1}\n{\"k\":{\"id\":\"b\"},\"model\":\"m\",\"input_tokens\":5}\n\
        {\"k\":{\"id\":\"a\"},\"model\":\"m\",\"input_tokens\":9}\n{\"k\":{},\"model\":\"m\",\"input_tokens\":7}\n";
    let outcome = place.import_by(&place.file("calls.ndjson", lines), "k.id");
    let summary = outcome.summary.as_ref().unwrap();
    assert_eq!((summary.superseded, summary.recorded, summary.refused), (1, 3, 0));
    assert_eq!(place.tokens(), [5, 7, 9]);
}

#[test]
fn rows_of_an_import_that_was_cut_short_are_known_to_the_next_one_of_another_file() {
    // Six frames of ten rows are taken, the seventh kills the daemon.
    let deaths = std::iter::repeat_with(|| Fault::CutBefore(1)).take(10_000);
    let place = Place::failing(std::iter::once(Fault::CutBefore(7)).chain(deaths));
    let long = place.file("long.csv", &csv(100));
    place.import(&long).error();
    place.daemon.with(|kept| kept.faults.clear());
    // Rows 51 to 110, of which ten are already recorded.
    let rows: String = (51..=110).map(|row| format!("m,{row}\n")).collect();
    let other = place.file("other.csv", &format!("model,input_tokens\n{rows}"));
    assert_eq!(place.import(&other).counts(), (60, 10, 50, 0));
    // The first file resumes without the rows that the second has recorded.
    assert_eq!(place.import(&long).counts(), (100, 100, 0, 0));
    assert_eq!(place.tokens(), (1..=110).collect::<Vec<_>>());
}

#[test]
fn the_journal_needs_the_daemons_data_folder_and_a_damaged_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Journal::open(&folder.path().join("nowhere"), || {}).err().unwrap().to_string();
    assert!(missing.contains("there is no data folder") && missing.contains("--data-dir"), "{missing}");
    let journal = Journal::open(folder.path(), || {}).unwrap();
    std::fs::write(folder.path().join("imports/00000001.rows"), "something else").unwrap();
    let damaged = format!("{:#}", journal.each(|_, _| {}).unwrap_err());
    assert!(damaged.contains("00000001.rows is not a journal of imports"), "{damaged}");
}
