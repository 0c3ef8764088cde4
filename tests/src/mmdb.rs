//! A place database of one entry: enough of the MaxMind DB format to put loopback somewhere.

use serde_json::{Value, json};

/// A database that knows `127.0.0.0/8` as this record, and nothing else.
pub fn loopback_is(record: &Value) -> Vec<u8> {
    // The tree: one node for each of the network's eight bits. What leaves the path is not found; the last
    // step leads to the record.
    const BITS: u32 = 8;
    const NETWORK: u8 = 127;
    let found = BITS + 16;
    let mut bytes = Vec::new();
    for node in 0..BITS {
        let next = if node + 1 == BITS { found } else { node + 1 };
        let bit = (NETWORK >> (BITS - 1 - node)) & 1;
        let sides = if bit == 0 { [next, BITS] } else { [BITS, next] };
        for side in sides {
            bytes.extend_from_slice(&side.to_be_bytes()[1..]);
        }
    }
    bytes.extend_from_slice(&[0; 16]);
    encode(record, &mut bytes);
    bytes.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    let metadata = json!({
        "binary_format_major_version": 2, "binary_format_minor_version": 0, "build_epoch": 1_790_000_000,
        "database_type": "Test-City", "description": { "en": "loopback" }, "ip_version": 4,
        "languages": ["en"], "node_count": BITS, "record_size": 24,
    });
    encode(&metadata, &mut bytes);
    bytes
}

/// London as City databases describe it.
pub fn london() -> Value {
    json!({
        "city": { "names": { "en": "London" } },
        "country": { "iso_code": "GB", "names": { "en": "United Kingdom" } },
        "location": { "latitude": 51.5142, "longitude": -0.0931, "accuracy_radius": 100 },
        "subdivisions": [{ "iso_code": "ENG", "names": { "en": "England" } }],
    })
}

/// A value of the data section: type and length, then the value.
fn encode(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            head(7, map.len(), bytes);
            for (key, value) in map {
                encode(&Value::String(key.clone()), bytes);
                match (key.as_str(), value.as_u64()) {
                    // Readers insist on the widths of the format's own fields.
                    ("build_epoch", Some(number)) => unsigned(9, number, bytes),
                    ("node_count", Some(number)) => unsigned(6, number, bytes),
                    _ => encode(value, bytes),
                }
            }
        }
        Value::Array(items) => {
            head(11, items.len(), bytes);
            for item in items {
                encode(item, bytes);
            }
        }
        Value::String(text) => {
            head(2, text.len(), bytes);
            bytes.extend_from_slice(text.as_bytes());
        }
        Value::Number(number) if number.is_u64() => {
            unsigned(5, number.as_u64().unwrap_or_default(), bytes);
        }
        Value::Number(number) => {
            let number = number.as_f64().expect("a number");
            head(3, 8, bytes);
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        Value::Null | Value::Bool(_) => panic!("not needed here: {value}"),
    }
}

fn unsigned(kind: u8, number: u64, bytes: &mut Vec<u8>) {
    let all = number.to_be_bytes();
    let short = &all[all.iter().take_while(|byte| **byte == 0).count()..];
    head(kind, short.len(), bytes);
    bytes.extend_from_slice(short);
}

fn head(kind: u8, len: usize, bytes: &mut Vec<u8>) {
    let (short, more) = if len < 29 {
        (u8::try_from(len).expect("small"), None)
    } else {
        (29, Some(u8::try_from(len - 29).expect("below 285")))
    };
    if kind <= 7 {
        bytes.push(kind << 5 | short);
    } else {
        bytes.extend_from_slice(&[short, kind - 7]);
    }
    bytes.extend(more);
}
