use std::collections::BTreeMap;
use std::thread;

use serde_json::Value;
use tallyd_protocol::record::Text;

use super::folder::{adopt, files};
use super::*;

fn hello() -> HelloOptions {
    HelloOptions {
        secret: "000102030405060708090a0b0c0d0e0f".into(),
        ..HelloOptions::new("web@host-1-0011223344556677")
    }
}

fn spool(folder: &Path, area: usize) -> Spool {
    let own = Own { app: Text::Borrowed(""), tags: Vec::new() };
    Spool::with_area(folder, area, &hello(), own).unwrap()
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap().as_bytes();
    hex.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// A file of `clients/vectors/spool.json`.
fn file(vector: &Value) -> Vec<u8> {
    let mut file = vec![0; usize::try_from(vector["bytes"].as_u64().unwrap()).unwrap()];
    for part in vector["parts"].as_array().unwrap() {
        let (at, part) = (usize::try_from(part["at"].as_u64().unwrap()).unwrap(), bytes(&part["hex"]));
        file[at..at + part.len()].copy_from_slice(&part);
    }
    file
}

fn vectors() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../vectors/spool.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn files_are_read_as_the_vectors_say() {
    let vectors = vectors();
    assert!(vectors.len() >= 16);
    for vector in vectors {
        let (name, file) = (&vector["name"], file(&vector));
        let got = format::read(&file);
        if vector["error"] == true {
            assert!(got.is_err(), "{name}");
            continue;
        }
        let (head, entries) = got.unwrap_or_else(|why| panic!("{name}: {why}"));
        assert_eq!((&*head.producer, &*head.secret), (&*hello().producer, &*hello().secret), "{name}");
        let wanted: Vec<_> = vector["entries"].as_array().unwrap().iter().collect();
        let wanted: Vec<_> = wanted.iter().map(|one| (one["seq"].as_u64().unwrap(), bytes(&one["record"]))).collect();
        let got: Vec<_> = entries.iter().map(|entry| (entry.seq, entry.record.to_vec())).collect();
        assert_eq!(got, wanted, "{name}");
    }
}

#[test]
fn a_file_is_written_as_the_vectors_say() {
    let vectors = vectors();
    let vector = vectors.iter().find(|vector| vector["name"] == "three records").unwrap();
    let wanted = file(vector);
    let dir = tempfile::tempdir().unwrap();
    let mut spool = spool(dir.path(), wanted.len() - HEAD_BYTES);
    // The salt is random: this is the one of the vectors.
    spool.salted = crc32fast::hash(&wanted[24..32]);
    for entry in vector["entries"].as_array().unwrap() {
        assert!(spool.append(&mut bytes(&entry["record"])));
    }
    let got = fs::read(&spool.path).unwrap();
    assert_eq!(got[HEAD_BYTES..], wanted[HEAD_BYTES..]);
    assert_eq!(got[64..HEAD_BYTES], wanted[64..HEAD_BYTES]);
    assert_eq!(got[..12], wanted[..12]);
    assert_eq!(Head::read(&got).unwrap().area, wanted.len() - HEAD_BYTES);
}

/// A record's bytes that state its writer and number, of a length that varies.
fn numbered(writer: u32, number: u32) -> Vec<u8> {
    let text = format!("{writer}:{number}:");
    let length = text.len() + (number as usize * 37 + writer as usize * 11) % 300;
    let mut bytes = text.into_bytes();
    bytes.resize(length, b'x');
    bytes
}

#[test]
fn many_writers_lose_nothing_while_the_room_is_used_again_and_again() {
    const WRITERS: u32 = 4;
    const RECORDS: u32 = 5_000;
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(dir.path(), 64 * 1024);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let spool = &spool;
            scope.spawn(move || {
                for number in 0..RECORDS {
                    while !spool.append(&mut numbered(writer, number)) {
                        thread::yield_now();
                    }
                }
            });
        }
        let mut next = BTreeMap::<u32, u32>::new();
        for seq in 1..=u64::from(WRITERS * RECORDS) {
            let record = loop {
                if let Some((got, record)) = spool.next() {
                    assert_eq!(got, seq);
                    break record;
                }
                thread::yield_now();
            };
            let text = std::str::from_utf8(record).unwrap();
            let mut parts = text.split(':');
            let writer: u32 = parts.next().unwrap().parse().unwrap();
            let number: u32 = parts.next().unwrap().parse().unwrap();
            let expected = next.entry(writer).or_default();
            assert_eq!((number, record), (*expected, &*numbered(writer, number)));
            *expected += 1;
            // Unevenly, so that the room is sometimes nearly full.
            if seq % 50 == 0 {
                spool.settle(seq - 20);
            }
        }
    });
    let all = u64::from(WRITERS * RECORDS);
    assert!(spool.next().is_none());
    assert_eq!((spool.pushed(), spool.taken()), (all, all));
    spool.settle(all);
    let file = fs::read(&spool.path).unwrap();
    assert_eq!(format::read(&file).unwrap().1, []);
    assert!(file[HEAD_BYTES..].chunks(UNIT).all(|unit| unit[..8] == [0; 8]), "a free unit has a number");
}

#[test]
fn a_full_spool_gives_records_back_and_takes_more_once_some_are_settled() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(dir.path(), 10 * UNIT);
    // Three units each: the fourth does not fit into the last unit.
    let record = || vec![b'x'; 150];
    let kept = (0..5).filter(|_| spool.append(&mut record())).count();
    assert_eq!(kept, 3);
    assert!(!spool.has_room());
    let mut large = Record { metadata: Some("x".repeat(700).into()), ..Record::rentcast("/avm") };
    assert!(!spool.push(&mut large));
    assert!(large.made_id, "it was completed first");
    assert!((1..=3).all(|seq| spool.next().is_some_and(|(got, _)| got == seq)));
    spool.settle(1);
    // The first entry's room is free, but the last unit is left empty.
    assert!(spool.append(&mut record()) && !spool.append(&mut record()));
    assert_eq!(spool.next().map(|(seq, record)| (seq, record.len())), Some((4, 150)));
    let file = fs::read(&spool.path).unwrap();
    let seqs: Vec<u64> = format::read(&file).unwrap().1.iter().map(|entry| entry.seq).collect();
    assert_eq!(seqs, [2, 3, 4]);
}

#[test]
fn a_file_is_adopted_once_and_only_without_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let spool = spool(dir.path(), 4096);
    assert!(spool.push(&mut Record::rentcast("/avm")));
    let path = files(dir.path()).unwrap().pop().unwrap();
    assert!(adopt(path.clone()).unwrap().is_none(), "its recorder lives");
    drop(spool);
    let orphan = adopt(path.clone()).unwrap().unwrap();
    assert!(adopt(path.clone()).unwrap().is_none(), "it has an owner");
    assert_eq!(format::read(orphan.bytes()).unwrap().1.len(), 1);
    orphan.remove().unwrap();
    assert!(adopt(path).unwrap().is_none());
    // One whose process ended before it had written anything.
    fs::write(dir.path().join("empty.spool"), "").unwrap();
    assert!(adopt(dir.path().join("empty.spool")).unwrap().is_none());
    assert_eq!(files(dir.path()).unwrap(), [] as [PathBuf; 0]);
}
