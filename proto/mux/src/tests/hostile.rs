//! What an agent that means harm can put on the wire: each ends the connection, and nothing else.

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;
use crate::record::Record;

fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
    let mut bytes = vec![0, kind];
    bytes.extend(flags.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

fn data(flags: u16, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = frame(DATA, flags, stream, u32::try_from(body.len()).unwrap());
    bytes.extend(body);
    bytes
}

/// Sends the bytes to an edge and gives what it made of them.
async fn ended_by(bytes: Vec<u8>) -> Ended {
    let (mut attacker, io) = duplex(1 << 20);
    let (edge, driver) = start(io, Side::Edge, None);
    let driver = tokio::spawn(driver);
    let attack = async move {
        // The edge may end it before everything is out.
        let _ = attacker.write_all(&bytes).await;
        let mut sink = vec![0; 4096];
        while matches!(attacker.read(&mut sink).await, Ok(1..)) {}
    };
    within(attack).await;
    let ended = within(driver).await.expect("no panic");
    assert_eq!(within(edge.closed()).await, ended);
    ended
}

const DATA: u8 = 0;
const WINDOW: u8 = 1;
const PING: u8 = 2;
const SYN: u16 = 1;
const ACK: u16 = 2;

#[tokio::test]
async fn each_ends_the_connection() {
    let flood = (0..3000)
        .flat_map(|at| frame(WINDOW, SYN, 2 * at + 3, 0))
        .collect();
    let overflow = {
        let mut bytes = data(SYN, 3, &vec![0; 256 * 1024]);
        bytes.extend(data(0, 3, &[0; 16]));
        bytes
    };
    let records = |records: &mut dyn Iterator<Item = Record>| {
        let body: Vec<u8> = records.flat_map(Record::encode).collect();
        let mut bytes = data(SYN, 1, &[]);
        for piece in body.chunks(64 * 1024) {
            bytes.extend(data(0, 1, piece));
        }
        bytes
    };
    let unknown_streams = records(&mut (0..20_000).map(|at| Record::Gone {
        stream: 2 * at + 101,
        code: 0,
    }));
    let credit = {
        let mut bytes = data(SYN, 3, b"x");
        bytes.extend(frame(WINDOW, 0, 3, u32::MAX));
        bytes
    };
    let table: [(&str, Vec<u8>); 12] = [
        ("garbage", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec()),
        ("another version", vec![9; 12]),
        ("another type", frame(7, 0, 0, 0)),
        ("2 GiB announced", frame(DATA, SYN, 3, 1 << 31)),
        ("a stray pong", frame(PING, ACK, 0, 77)),
        ("a flood of streams", flood),
        // CVE-2026-32314
        (
            "a first frame above the window",
            data(SYN, 3, &vec![0; 256 * 1024 + 1]),
        ),
        ("more than the window", overflow),
        ("credit that overflows", credit),
        ("a stream of our own number", data(SYN, 2, b"x")),
        ("records of streams that never come", unknown_streams),
        (
            "a record of an end",
            records(&mut std::iter::once(Record::Close { code: 7 })),
        ),
    ];
    for (what, bytes) in table {
        let ended = ended_by(bytes).await;
        let is_told = matches!(
            ended,
            Ended::Violation(_) | Ended::Closed(_) | Ended::Lost(_)
        );
        assert!(is_told, "{what}: {ended:?}");
        assert_ne!(ended, Ended::Silent, "{what}");
    }
}

/// A truncated frame is no end by itself; that it stays away is.
#[tokio::test]
async fn a_frame_that_stays_away_is_silence() {
    let (mut attacker, io) = duplex(1024);
    let (_edge, driver) = start_timed(io, Side::Edge, None, QUICK);
    attacker.write_all(&frame(DATA, SYN, 3, 100)).await.unwrap();
    assert_eq!(within(driver).await, Ended::Silent);
}

/// Questions without end are answered as fast as they are read, and no faster.
#[tokio::test]
async fn a_flood_of_questions_is_held_back() {
    let (mut attacker, io) = duplex(16 * 1024);
    let (edge, driver) = start(io, Side::Edge, None);
    let driver = tokio::spawn(driver);
    attacker.write_all(&data(SYN, 1, &[])).await.unwrap();
    let questions: Vec<u8> = (0..4000)
        .flat_map(|token| Record::Ping { token }.encode())
        .collect();
    let flood = async {
        for _ in 0..2000 {
            if attacker.write_all(&data(0, 1, &questions)).await.is_err() {
                return;
            }
        }
    };
    // Nobody reads the answers.
    let _ = tokio::time::timeout(Duration::from_secs(1), flood).await;
    assert!(edge.common.records_waiting() <= 16 * 2048 + 4096);
    edge.close(0);
    drop(attacker);
    within(driver).await.expect("no panic");
}

/// What overtakes a stream's first bytes counts when they come.
#[tokio::test]
async fn records_may_overtake_their_stream() {
    let (mut peer, io) = duplex(1 << 16);
    let (edge, driver) = start(io, Side::Edge, None);
    tokio::spawn(driver);
    let mut bytes = data(
        SYN,
        1,
        &Record::Finish {
            stream: 3,
            bytes: 2,
        }
        .encode(),
    );
    bytes.extend(data(0, 1, &Record::Gone { stream: 3, code: 1 }.encode()));
    bytes.extend(data(SYN, 3, b"ok"));
    peer.write_all(&bytes).await.unwrap();
    let mut stream = within(edge.accept()).await.unwrap();
    let mut got = String::new();
    within(stream.receive.read_to_string(&mut got))
        .await
        .unwrap();
    assert_eq!(got, "ok");
    drop(stream);
    assert_eq!(edge.common.ledger.len(), 0);
}
