//! Writes small MMDB files (format 2.0): enough of it for tests, nothing shared, nothing compressed.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};

#[derive(Clone, Copy)]
enum Record {
    Empty,
    Node(usize),
    /// An offset in the data section.
    Data(usize),
}

/// A database with these networks; longer prefixes must come after shorter ones that hold them.
pub(super) fn write(networks: &[(&str, Value)]) -> Vec<u8> {
    let mut nodes = vec![[Record::Empty; 2]];
    let mut data = Vec::new();
    for (network, value) in networks {
        let network: IpNet = network.parse().unwrap();
        // IPv4 lives in the first 96 zero bits.
        let (bits, length) = match network.addr() {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 96 + network.prefix_len()),
            IpAddr::V6(v6) => (u128::from(v6), network.prefix_len()),
        };
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 == 1);
            if depth == length - 1 {
                nodes[node][side] = Record::Data(data.len());
                break;
            }
            node = match nodes[node][side] {
                Record::Node(next) => next,
                other @ (Record::Empty | Record::Data(_)) => {
                    nodes.push([other; 2]);
                    let next = nodes.len() - 1;
                    nodes[node][side] = Record::Node(next);
                    next
                }
            };
        }
        encode(value, &mut data);
    }
    let mut file = Vec::new();
    for record in nodes.iter().flatten() {
        let number = match record {
            Record::Empty => nodes.len(),
            Record::Node(node) => *node,
            Record::Data(offset) => nodes.len() + 16 + offset,
        };
        file.extend_from_slice(&u32::try_from(number).unwrap().to_be_bytes()[1..]);
    }
    file.extend_from_slice(&[0; 16]);
    file.extend_from_slice(&data);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    control(7, 9, &mut file);
    for (name, kind, number) in [
        ("binary_format_major_version", UINT16, 2),
        ("binary_format_minor_version", UINT16, 0),
        ("build_epoch", UINT64, 1_700_000_000),
        ("ip_version", UINT16, 6),
        ("node_count", UINT32, nodes.len() as u64),
        ("record_size", UINT16, 24),
    ] {
        encode(&json!(name), &mut file);
        unsigned(kind, number, &mut file);
    }
    for (name, value) in [
        ("database_type", json!("Test-City")),
        ("description", json!({"en": "test"})),
        ("languages", json!(["en"])),
    ] {
        encode(&json!(name), &mut file);
        encode(&value, &mut file);
    }
    file
}

fn encode(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(members) => {
            control(7, members.len(), out);
            for (name, member) in members {
                encode(&Value::from(name.as_str()), out);
                encode(member, out);
            }
        }
        Value::Array(items) => {
            control(11, items.len(), out);
            for item in items {
                encode(item, out);
            }
        }
        Value::String(text) => {
            control(2, text.len(), out);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Number(number) => {
            if let Some(number) = number.as_u64() {
                unsigned(UINT32, number, out);
            } else {
                control(3, 8, out);
                out.extend_from_slice(&number.as_f64().unwrap().to_be_bytes());
            }
        }
        Value::Bool(_) | Value::Null => unreachable!("not needed"),
    }
}

fn unsigned(kind: u8, number: u64, out: &mut Vec<u8>) {
    let bytes = number.to_be_bytes();
    let bytes = &bytes[bytes.iter().take_while(|&&byte| byte == 0).count()..];
    control(kind, bytes.len(), out);
    out.extend_from_slice(bytes);
}

fn control(kind: u8, size: usize, out: &mut Vec<u8>) {
    let first = if size < 29 {
        u8::try_from(size).unwrap()
    } else {
        29
    };
    out.push(if kind <= 7 { kind << 5 | first } else { first });
    if kind > 7 {
        out.push(kind - 7);
    }
    if size >= 29 {
        out.push(u8::try_from(size - 29).unwrap());
    }
}

const UINT16: u8 = 5;
const UINT32: u8 = 6;
const UINT64: u8 = 9;
