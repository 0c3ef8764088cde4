//! Places and networks from small databases made here.

mod mmdb;

use serde_json::json;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Puts another file in the place of one, so that it is never taken for the same.
fn put(path: &Path, bytes: &[u8]) {
    let new = path.with_extension("new");
    fs::write(&new, bytes).unwrap();
    fs::rename(new, path).unwrap();
}

fn london() -> Value {
    json!({
        "city": {"names": {"en": "London", "de": "London"}},
        "country": {"iso_code": "GB", "names": {"en": "United Kingdom"}},
        "location": {"latitude": 51.5142, "longitude": -0.0931, "accuracy_radius": 10},
        "subdivisions": [{"iso_code": "ENG", "names": {"en": "England"}}],
        "traits": {"autonomous_system_organization": "Andrews & Arnold"},
    })
}

fn here() -> Value {
    json!({"country_code": "NL", "city": "Delft", "state1": "South Holland", "latitude": 52.01, "longitude": 4.36})
}

/// Both shapes give the same kind of place, for IPv4 in all its clothes and IPv6.
#[test]
fn both_shapes_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("places.mmdb");
    put(
        &file,
        &mmdb::write(&[
            ("81.2.69.160/27", london()),
            ("127.0.0.0/8", here()),
            ("2001:db8::/32", here()),
            (
                "10.0.0.0/8",
                json!({"autonomous_system_organization": "Harbour Net"}),
            ),
            ("11.0.0.0/8", json!({"unrelated": "x"})),
        ]),
    );
    let geoip = GeoIp::open(Some(&file));
    let expected = Place {
        country_code: Some("GB".to_owned()),
        city: Some("London".to_owned()),
        subdivision: Some("England".to_owned()),
        latitude_micro: Some(51_514_200),
        longitude_micro: Some(-93_100),
        radius_km: Some(10),
        network: Some("Andrews & Arnold".to_owned()),
    };
    assert_eq!(geoip.place(ip("81.2.69.160")), Some(expected.clone()));
    assert_eq!(geoip.place(ip("::ffff:81.2.69.160")), Some(expected));
    let delft = geoip.place(ip("127.0.0.1")).unwrap();
    assert_eq!(delft.country_code.as_deref(), Some("NL"));
    assert_eq!(delft.city.as_deref(), Some("Delft"));
    assert_eq!(delft.subdivision.as_deref(), Some("South Holland"));
    assert_eq!(
        (delft.latitude_micro, delft.longitude_micro),
        (Some(52_010_000), Some(4_360_000))
    );
    assert_eq!(geoip.place(ip("2001:db8::1")), Some(delft));
    let network = geoip.place(ip("10.1.2.3")).unwrap();
    assert_eq!(network.network.as_deref(), Some("Harbour Net"));
    assert_eq!(geoip.place(ip("11.1.2.3")), None);
    assert_eq!(geoip.place(ip("9.9.9.9")), None);
}

/// Members of the wrong type or out of range are missing ones.
#[test]
fn odd_records_give_what_they_can() {
    let record = json!({
        "country": {"iso_code": "TOO LONG"}, "city": {"names": {"en": "x\u{7}".repeat(500)}},
        "location": {"latitude": 1e300, "longitude": 4.0, "accuracy_radius": -1}, "subdivisions": "x",
    });
    let place = place(&record).unwrap();
    assert_eq!(place.city.unwrap(), "x".repeat(TEXT_BYTES_MAX));
    assert_eq!(
        (
            place.country_code,
            place.latitude_micro,
            place.longitude_micro
        ),
        (None, None, None)
    );
    assert_eq!(super::place(&json!([1])), None);
    assert_eq!(super::place(&json!({"latitude": "52"})), None);
}

/// No file, half a file, another file: no place, and never a failure.
#[test]
fn unusable_files_mean_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let whole = mmdb::write(&[("127.0.0.0/8", here())]);
    let file = dir.path().join("places.mmdb");
    for bytes in [
        &whole[..whole.len() / 2],
        &whole[..whole.len() - 1],
        b"<html>",
        b"",
    ] {
        put(&file, bytes);
        assert_eq!(GeoIp::open(Some(&file)).place(ip("127.0.0.1")), None);
    }
    assert_eq!(
        GeoIp::open(Some(&dir.path().join("none"))).place(ip("127.0.0.1")),
        None
    );
    assert_eq!(GeoIp::open(Some(dir.path())).place(ip("127.0.0.1")), None);
    assert_eq!(GeoIp::open(None).place(ip("127.0.0.1")), None);
    // Damage in the middle: every address is still answered.
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0xff;
        put(&file, &damaged);
        let geoip = GeoIp::open(Some(&file));
        for address in ["127.0.0.1", "::1", "255.255.255.255", "2001:db8::1"] {
            let _ = geoip.place(ip(address));
        }
    }
}

/// A newer file takes the old one's place; a bad one does not; none does.
#[test]
fn reload_swaps() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("places.mmdb");
    put(&file, &mmdb::write(&[("127.0.0.0/8", here())]));
    let geoip = GeoIp::open(Some(&file));
    let city = || geoip.place(ip("127.0.0.1")).and_then(|place| place.city);
    put(&file, &mmdb::write(&[("127.0.0.0/8", london())]));
    assert_eq!(city().as_deref(), Some("Delft"));
    geoip.reload();
    assert_eq!(city().as_deref(), Some("London"));
    put(&file, b"half written");
    geoip.reload();
    assert_eq!(city().as_deref(), Some("London"));
    fs::remove_file(&file).unwrap();
    geoip.reload();
    assert_eq!(city(), None);
    put(&file, &mmdb::write(&[("127.0.0.0/8", here())]));
    geoip.reload();
    assert_eq!(city().as_deref(), Some("Delft"));
}
