//! Whole imports, against a daemon that fails on command.

mod daemon;
mod once;

use daemon::{Daemon, Fault, Kept};
use tempfile::TempDir;

use super::*;

/// A daemon, and a folder for files.
struct Place {
    daemon: Daemon,
    folder: TempDir,
}

/// The result of a run.
struct Outcome {
    summary: anyhow::Result<Summary>,
    said: Vec<String>,
}

impl Outcome {
    /// Rows, skipped, recorded, refused.
    #[track_caller]
    fn counts(&self) -> (u64, u64, u64, u64) {
        let summary = self.summary.as_ref().unwrap();
        (summary.rows, summary.skipped, summary.recorded, summary.refused)
    }

    #[track_caller]
    fn error(&self) -> &SendError {
        self.summary.as_ref().unwrap_err().downcast_ref().unwrap()
    }
}

impl Place {
    fn new(kept: Kept) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { daemon: Daemon::start(folder.path(), kept), folder }
    }

    fn failing(faults: impl IntoIterator<Item = Fault>) -> Self {
        Self::new(Kept { faults: faults.into_iter().collect(), ..Kept::default() })
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Imports a file, in frames of ten records.
    fn import(&self, path: &Path) -> Outcome {
        self.import_and(path, &[], |_| {})
    }

    /// As [`Self::import`], with arguments of `--map`. `before_sending` runs after the file was digested.
    fn import_and(&self, path: &Path, map: &[&str], before_sending: impl FnOnce(&Path)) -> Outcome {
        import_into(self.daemon.socket(), path, map, before_sending)
    }

    /// The numbers of the recorded rows, in the order of recording.
    fn recorded(&self) -> Vec<u64> {
        self.daemon.with(|kept| kept.rows.iter().map(|(number, ..)| *number).collect())
    }
}

fn import_into(socket: &Path, path: &Path, map: &[&str], before_sending: impl FnOnce(&Path)) -> Outcome {
    let map: Vec<_> = map.iter().map(ToString::to_string).collect();
    let mapping = Mapping::parse(&map, &["provider=claude".to_owned()]).unwrap();
    import_with(socket, path, mapping, before_sending)
}

fn import_with(socket: &Path, path: &Path, mapping: Mapping, before_sending: impl FnOnce(&Path)) -> Outcome {
    let format = format_of(path).unwrap();
    let snapshot = Snapshot::take(path).unwrap();
    let secret = secret(&snapshot, &mapping, format);
    let target = Target {
        endpoint: Endpoint::unix(socket),
        producer: identity::import_name(&secret),
        secret,
        wait: Duration::from_millis(400),
        batch: 10,
    };
    let mut talk = Talk::new(snapshot.bytes(), true);
    before_sending(path);
    let source = ImportFile { snapshot: &snapshot, format, mapping };
    let summary = import(&target, &source, socket.parent().unwrap(), &mut talk);
    Outcome { summary, said: talk.said }
}

/// This many rows, with their numbers as tokens.
fn csv(rows: u64) -> String {
    let lines = (1..=rows).map(|row| format!("m,{row}\n"));
    format!("model,input_tokens\n{}", lines.collect::<String>())
}

#[test]
fn every_row_arrives_once_and_a_second_run_adds_nothing() {
    let place = Place::failing([]);
    let file = place.file("calls.csv", &csv(1_003));
    assert_eq!(place.import(&file).counts(), (1_003, 0, 1_003, 0));
    assert_eq!(place.recorded(), (1..=1_003).collect::<Vec<_>>());
    place.daemon.with(|kept| assert!(kept.rows.iter().all(|(row, _, tokens)| i128::from(*row) == *tokens)));

    let again = place.import(&file);
    assert_eq!(again.counts(), (1_003, 1_003, 0, 0));
    assert_eq!(sentence(again.summary.as_ref().unwrap()), "nothing to do: all 1,003 rows were there already");
    assert_eq!(place.recorded().len(), 1_003);

    // A copy is the same file; a file that is read in another way is not.
    let copy = place.file("copy.csv", &csv(1_003));
    assert_eq!(place.import(&copy).counts(), (1_003, 1_003, 0, 0));
    assert_eq!(
        place.import_and(&copy, &["output_tokens=input_tokens,input_tokens=input_tokens"], |_| {}).counts().2,
        1_003
    );
}

#[test]
fn a_connection_that_is_cut_is_made_again_and_no_row_is_lost_or_doubled() {
    for cuts in [
        vec![Fault::CutAfter(7)],
        vec![Fault::CutBefore(7)],
        vec![Fault::CutBefore(1), Fault::CutAfter(1), Fault::CutAfter(30), Fault::CutBefore(3)],
        vec![Fault::Error(7, "shutting_down"), Fault::Error(2, "internal")],
        // The last frame's ack is lost, so the welcome settles it.
        vec![Fault::CutAfter(50)],
    ] {
        let place = Place::failing(cuts);
        let outcome = place.import(&place.file("calls.csv", &csv(500)));
        assert_eq!(outcome.counts(), (500, 0, 500, 0));
        assert_eq!(place.recorded(), (1..=500).collect::<Vec<_>>());
        assert!(outcome.said.iter().any(|said| said.ends_with("; connecting again")), "{:?}", outcome.said);
    }
}

#[test]
fn an_interrupted_import_is_resumed_by_the_same_command() {
    // One connection takes six frames; after it the daemon dies of every first frame, more often than any import
    // retries. The death may show while the frame is sent or after.
    let deaths = std::iter::repeat_with(|| Fault::CutBefore(1)).take(10_000);
    let place = Place::failing(std::iter::once(Fault::CutBefore(7)).chain(deaths));
    let file = place.file("calls.csv", &csv(300));
    let lost = place.import(&file);
    assert!(matches!(lost.error(), SendError::Lost { acknowledged: 60, .. }), "{}", lost.error());
    assert!(lost.error().hint().unwrap().contains("the same command resumes"));

    place.daemon.with(|kept| kept.faults.clear());
    assert_eq!(place.import(&file).counts(), (300, 60, 240, 0));
    assert_eq!(place.recorded(), (1..=300).collect::<Vec<_>>());
}

#[test]
fn a_row_has_the_same_id_in_every_run_and_its_own_if_it_brings_one() {
    let ids = |text: &str| {
        let place = Place::failing([]);
        place.import(&place.file("calls.csv", text)).summary.unwrap();
        place.daemon.with(|kept| kept.ids.clone())
    };
    let made = ids(&csv(20));
    assert_eq!(made, ids(&csv(20)));
    assert_eq!(made.iter().collect::<std::collections::BTreeSet<_>>().len(), 20);
    let given = ids("id,model,input_tokens\n0190f3a4-5b6c-7d8e-9f01-23456789abcd,m,1\n");
    assert!(
        given[0].contains(&format!("{:?}", 0x0190_f3a4_5b6c_7d8e_9f01_2345_6789_abcd_u128.to_be_bytes())),
        "{given:?}"
    );
}

#[test]
fn refused_rows_are_told_and_the_others_go_on() {
    let place = Place::new(Kept { refuse: [2, 15].into(), ..Kept::default() });
    let text = csv(25).replace("m,4\n", "m,four\n").replace("m,11\n", "m,11,\n");
    let file = place.file("calls.csv", &text);
    let outcome = place.import(&file);
    assert_eq!(outcome.counts(), (25, 0, 21, 4));
    let mut said = outcome.said;
    said.sort();
    let expected = [
        "row 11 (line 12) was refused: the row has 3 cells, the first line has 2",
        "row 15 (line 16) was refused: status: on command (range)",
        "row 2 (line 3) was refused: status: on command (range)",
        "row 4 (line 5) was refused: input_tokens: \"four\" is not a whole number from 0 on that fits",
    ];
    assert_eq!(said, expected);
    let gaps = [2, 4, 11, 15];
    assert_eq!(place.recorded(), (1..=25).filter(|row| !gaps.contains(row)).collect::<Vec<_>>());
    // A frame has consecutive numbers, so each gap ends one.
    let frames = place.daemon.with(|kept| kept.frames.clone());
    assert_eq!(frames, [(1, 3), (5, 6), (12, 10), (22, 4)]);
    // Rows that cannot be read are refused in every run.
    assert_eq!(place.import(&file).counts(), (25, 23, 0, 2));
}

#[test]
fn only_the_first_refused_rows_are_told_one_by_one() {
    let place = Place::failing([]);
    let outcome = place.import(&place.file("calls.csv", &csv(100).replace("m,", "m,-")));
    assert_eq!(outcome.counts(), (100, 0, 0, 100));
    assert_eq!(outcome.said.len(), 21);
    assert_eq!(outcome.said[20], "… and 80 more refused rows");
}

#[test]
fn lines_of_json_are_imported_under_their_own_names_or_mapped_ones() {
    let place = Place::failing([Fault::CutAfter(1)]);
    let lines = (1..=30).map(|row| format!("{{\"usage\":{row},\"model\":\"m\",\"user_id\":\"u\"}}\n"));
    let file = place.file("calls.ndjson", &lines.collect::<String>());
    assert_eq!(place.import_and(&file, &["input_tokens=usage"], |_| {}).counts(), (30, 0, 30, 0));
    place.daemon.with(|kept| assert_eq!(kept.rows[29], (30, "m".to_owned(), 30)));
    assert_eq!(place.recorded(), (1..=30).collect::<Vec<_>>());
}

#[test]
fn frames_keep_to_what_the_daemon_takes() {
    let place = Place::new(Kept { max: (4, 0), ..Kept::default() });
    place.import(&place.file("calls.csv", &csv(9))).summary.unwrap();
    assert_eq!(place.daemon.with(|kept| kept.frames.clone()), [(1, 4), (5, 4), (9, 1)]);

    // Three rows of 1,000 bytes fit into 4,000 bytes; one of 5,000 fits into no frame.
    let place = Place::new(Kept { max: (0, 4_000), ..Kept::default() });
    let wide = (1..=7).map(|row| format!("{},{row}\n", "x".repeat(if row == 4 { 5_000 } else { 1_000 })));
    let file = place.file("calls.csv", &format!("model,input_tokens\n{}", wide.collect::<String>()));
    let outcome = place.import(&file);
    assert_eq!(outcome.counts(), (7, 0, 6, 1));
    assert_eq!(place.daemon.with(|kept| kept.frames.clone()), [(1, 3), (5, 3)]);
    assert!(outcome.said[0].starts_with("row 4 (line 5) was refused: the row is larger than a frame"));
}

#[test]
fn another_import_of_the_file_ends_this_one_at_once() {
    let place = Place::failing([Fault::Error(3, "fenced")]);
    let outcome = place.import(&place.file("calls.csv", &csv(500)));
    assert!(matches!(outcome.error(), SendError::Fenced), "{}", outcome.error());
    assert_eq!(place.recorded().len(), 20);
}

#[test]
fn a_file_that_changes_is_not_imported_further() {
    let place = Place::failing([]);
    let file = place.file("calls.csv", &csv(500));
    let outcome = place.import_and(&file, &[], |path| {
        let mut file = std::fs::File::options().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut file, b"m,501\n").unwrap();
    });
    assert!(matches!(outcome.error(), SendError::Changed(_)), "{}", outcome.error());
    assert_eq!(place.recorded(), [0; 0]);
}

#[test]
fn without_a_daemon_the_import_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("calls.csv");
    std::fs::write(&file, csv(1)).unwrap();
    let outcome = import_into(&folder.path().join("no.sock"), &file, &[], |_| {});
    assert!(matches!(outcome.error(), SendError::NoDaemon(_)), "{}", outcome.error());
}
