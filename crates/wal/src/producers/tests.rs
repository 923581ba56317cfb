use super::*;

/// A connection of the producer with this name and number.
fn origin(name: &str, number: u8) -> Arc<ConnectionOrigin> {
    let proof = if name.starts_with(REQUEST_PREFIX) { Proof::NONE } else { Proof([number; 16]) };
    ConnectionOrigin::new(ProducerIdentity { name: name.into(), proof })
}

fn names(producers: &mut Producers, now_us: i64) -> Vec<String> {
    producers.snapshot(now_us).into_iter().map(|state| state.name).collect()
}

/// A producer that connects, has a record stored and disconnects.
fn store(producers: &mut Producers, name: &str, now_us: i64) -> Result<(), Closed> {
    let origin = origin(name, 1);
    let last_seq = producers.open_session(&origin, None, now_us);
    producers.advance(&origin, last_seq + 1, now_us)
}

#[test]
fn a_second_session_fences_off_the_first() {
    let mut producers = Producers::new(10, 1_000, Duration::ZERO);
    let (first, second) = (origin("a", 1), origin("a", 1));
    assert_eq!(producers.open_session(&first, None, 1), 0);
    assert_eq!(producers.advance(&first, 7, 2), Ok(()));
    assert_eq!(producers.open_session(&second, None, 3), 7);
    assert_eq!(producers.advance(&first, 8, 4), Err(Closed::Fenced));
    assert_eq!(producers.advance(&second, 8, 5), Ok(()));
    assert_eq!(producers.last_seq(&first.identity), 8);
    assert!(!first.takes_warning() && !second.takes_warning(), "it is one client");
}

#[test]
fn a_second_session_fences_off_the_first_also_before_any_record() {
    let mut producers = Producers::new(10, 1_000, Duration::ZERO);
    let (first, second) = (origin("a", 1), origin("a", 1));
    producers.open_session(&first, None, 1);
    producers.open_session(&second, None, 2);
    assert_eq!(producers.advance(&first, 1, 3), Err(Closed::Fenced));
    assert_eq!(producers.advance(&second, 1, 3), Ok(()));
}

#[test]
fn one_name_and_two_secrets_are_two_producers_and_both_are_warned() {
    let mut producers = Producers::new(10, 1_000, Duration::ZERO);
    let (first, second) = (origin("a", 1), origin("a", 2));
    producers.open_session(&first, None, 1);
    assert_eq!(producers.advance(&first, 40, 2), Ok(()));
    assert!(!first.takes_warning());
    assert_eq!(producers.open_session(&second, None, 3), 0);
    assert!(first.takes_warning() && second.takes_warning());
    assert!(!first.takes_warning(), "once");
    assert_eq!(producers.advance(&second, 1 << 40, 4), Ok(()));
    assert_eq!(producers.advance(&first, 41, 5), Ok(()));
    assert_eq!(producers.last_seq(&first.identity), 41);
    drop(second);
    assert_eq!(producers.open_session(&origin("a", 3), None, 6), 0, "a process of the name that comes later");
}

#[test]
fn what_an_earlier_version_knew_of_a_name_is_where_its_clients_go_on() {
    let mut producers = Producers::new(10, 1_000, Duration::ZERO);
    producers.restore(ProducerIdentity::without_secret("a"), 500, 1);
    producers.restore(ProducerIdentity::without_secret("b"), u64::MAX - 1, 1);
    let (first, second) = (origin("a", 1), origin("a", 2));
    assert_eq!(producers.open_session(&first, Some("a"), 2), 500);
    assert_eq!(producers.advance(&first, 501, 2), Ok(()));
    assert_eq!(producers.open_session(&second, Some("a"), 3), 500, "each of them");
    assert_eq!(producers.open_session(&first, Some("a"), 4), 501, "its own mark, once it has one");
    assert_eq!(producers.open_session(&origin("b", 1), Some("b"), 5), 0, "a number that nobody may say");
}

#[test]
fn greetings_alone_displace_nobody_and_are_bounded() {
    let mut producers = Producers::new(2, i64::MAX, Duration::ZERO);
    assert_eq!(store(&mut producers, "honest", 1), Ok(()));
    for number in 0..10 * GREETED_MIN {
        producers.open_session(&origin(&format!("n{number}"), 1), None, 2);
    }
    assert!(producers.greeted.len() <= GREETED_MIN && producers.names.len() <= GREETED_MIN);
    assert_eq!(names(&mut producers, 3), ["honest"]);
}

#[test]
fn who_may_send_again_is_not_displaced_and_the_new_one_is_refused() {
    let mut producers = Producers::new(2, i64::MAX, GRACE);
    let connected = origin("connected", 1);
    producers.open_session(&connected, None, 1);
    assert_eq!(producers.advance(&connected, 1, 1), Ok(()));
    assert_eq!(store(&mut producers, "away", 2), Ok(()));
    assert_eq!(store(&mut producers, "new", 3), Err(Closed::Crowded));
    assert_eq!(names(&mut producers, 3), ["away", "connected"]);
    // The same with all of them idle for long.
    producers.grace = Duration::ZERO;
    producers.crowded = [None; KINDS];
    assert_eq!(store(&mut producers, "new", 4), Ok(()));
    assert_eq!(names(&mut producers, 4), ["connected", "new"]);
    assert_eq!(producers.advance(&connected, 2, 5), Ok(()));
}

#[test]
fn requests_are_forgotten_first_and_after_a_day_and_keep_a_quarter() {
    let mut producers = Producers::new(4, 100 * REQUEST_IDLE_US, Duration::ZERO);
    producers.restore(ProducerIdentity::without_secret("import:x"), 1, 1);
    for (at, name) in [(2, "request:a"), (3, "request:b"), (4, "request:c"), (5, "request:d")] {
        assert_eq!(store(&mut producers, name, at), Ok(()));
    }
    assert_eq!(names(&mut producers, 5), ["import:x", "request:b", "request:c", "request:d"]);
    assert_eq!(store(&mut producers, "named", 5), Ok(()));
    assert_eq!(names(&mut producers, 5), ["import:x", "named", "request:c", "request:d"]);
    let connected: Vec<_> = (6..8).map(|number| origin("other", number)).collect();
    producers.open_session(&connected[0], None, 6);
    assert_eq!(producers.advance(&connected[0], 1, 6), Ok(()), "the idle name goes first");
    assert_eq!(names(&mut producers, 6), ["import:x", "other", "request:c", "request:d"]);
    producers.open_session(&connected[1], None, 7);
    assert_eq!(producers.advance(&connected[1], 1, 7), Ok(()));
    assert_eq!(names(&mut producers, 7), ["import:x", "other", "other", "request:d"]);
    assert_eq!(store(&mut producers, "one more", 8), Err(Closed::Crowded));
    assert_eq!(names(&mut producers, 6 + REQUEST_IDLE_US), ["import:x", "other", "other"]);
}

#[test]
fn imports_are_kept_and_have_a_part_of_the_table() {
    let mut producers = Producers::new(8, 1_000, Duration::ZERO);
    for (at, name) in [(1, "import:a"), (2, "import:b")] {
        assert_eq!(store(&mut producers, name, at), Ok(()));
    }
    assert_eq!(store(&mut producers, "import:c", 3), Err(Closed::Crowded));
    for number in 0..20 {
        assert_eq!(store(&mut producers, &format!("n{number}"), 4 + number), Ok(()));
    }
    assert!(names(&mut producers, 30).starts_with(&["import:a".into(), "import:b".into()]));
    assert_eq!(names(&mut producers, 5_000), ["import:a", "import:b"], "whatever the time");
    producers.crowded = [None; KINDS];
    assert_eq!(store(&mut producers, "import:c", 5_000), Ok(()), "the oldest one goes once it is idle for long");
    assert_eq!(names(&mut producers, 5_000), ["import:b", "import:c"]);
}

#[test]
fn a_clock_that_jumps_makes_nobody_idle() {
    let mut producers = Producers::new(10, 1_000, GRACE);
    let speaker = origin("a", 1);
    producers.open_session(&speaker, None, 1);
    assert_eq!(producers.advance(&speaker, 7, 2), Ok(()));
    producers.restore(ProducerIdentity::without_secret("b"), 9, 3);
    assert_eq!(producers.snapshot(i64::MAX).len(), 2);
    assert_eq!(producers.advance(&speaker, 8, i64::MAX), Ok(()), "its connection still speaks for it");
}

#[test]
fn snapshots_of_earlier_versions_are_read_and_a_proof_comes_back() {
    let old: ProducerState = serde_json::from_str(r#"{"name":"a","last_seq":7,"seen_us":1}"#).unwrap();
    assert_eq!(old.identity(), Some(ProducerIdentity::without_secret("a")));
    let mut producers = Producers::new(10, 1_000, GRACE);
    assert_eq!(store(&mut producers, "a", 1), Ok(()));
    let [new] = &producers.snapshot(2)[..] else { panic!("one") };
    let again: ProducerState = serde_json::from_str(&serde_json::to_string(new).unwrap()).unwrap();
    assert_eq!(again.identity(), Some(origin("a", 1).identity.clone()));
}
