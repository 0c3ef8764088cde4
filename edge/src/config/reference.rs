//! The configuration's reference, in Markdown, from one table. A test holds it against the format.

use std::fmt::Write as _;

use super::checks::{
    BODY_TIMEOUT, CONNECTIONS_PER_ADDRESS, EXCHANGES_MAX, HEADER_TIMEOUT, IDLE_TIMEOUT, LISTEN,
    SESSION_IDLE, SESSION_LIFE,
};
use super::duration;
use super::links::UNREAD_MIB_PER_AGENT;

/// One key of `edge.yml`.
struct Entry {
    key: &'static str,
    default: String,
    meaning: &'static str,
    why: &'static str,
}

/// The documentation of `edge.yml`, as `docs/config.md` holds it.
pub(crate) fn reference() -> String {
    let mut out = INTRODUCTION.to_owned();
    for Entry {
        key,
        default,
        meaning,
        why,
    } in entries()
    {
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            "\n### `{key}`\n\n{meaning}\n\nDefault: {default}. {why}\n"
        );
    }
    out.push_str(ENVIRONMENT);
    out
}

fn entries() -> Vec<Entry> {
    let entry = |key, default: &str, meaning, why| Entry {
        key,
        default: default.to_owned(),
        meaning,
        why,
    };
    let code = |text: &str| format!("`{text}`");
    let time = |time| format!("`{}`", duration::text(time));
    vec![
        entry(
            "listen",
            &code(&LISTEN.to_string()),
            "The public port, as `ADDRESS:PORT`: TCP for browsers, UDP for agents. Port 0 takes a free one. Flag: `--listen`.",
            "Loopback, so that nothing is public by accident. Anything beyond loopback needs `domain` and `certificate`.",
        ),
        entry(
            "domain",
            "a word under `.localhost`, drawn at the first start and kept in the data folder",
            "Endpoints are `<name>.<domain>`; `auth`, `api`, `dashboard` and `connect` are the edge's own. Flag: `--domain`.",
            "Browsers resolve names under `.localhost` to the machine itself. A wildcard DNS record for your domain must lead to the edge.",
        ),
        entry(
            "public_port",
            "the port of `listen`",
            "The port that browsers use, where a port forwarding in front of the edge changes it.",
            "URLs are built from it.",
        ),
        entry(
            "data_dir",
            "`$XDG_DATA_HOME/sallyport`, else `~/.local/share/sallyport`",
            "The folder of the store, the cluster key, the certificates of its CAs (`dev-ca.pem` for browsers, `link-ca.pem` for agents) and the operator's socket. Flag: `--data-dir`, environment: `SALLYPORT_DATA_DIR`.",
            "Mode 0700 is required: it holds keys.",
        ),
        entry(
            "workers",
            "the number of cores",
            "Threads that serve connections.",
            "One per core keeps every connection on one core.",
        ),
        entry(
            "certificate.cert",
            "none: a development CA in the data folder",
            "The certificate chain, PEM. It must cover `auth.`, `api.`, `dashboard.` and the endpoints' names: a wildcard for the domain does.",
            "Picked up again when the file changes, without a restart. The development CA serves loopback only.",
        ),
        entry(
            "certificate.key",
            "none",
            "The certificate's private key, PEM, in a file of its own.",
            "Required with `certificate.cert`.",
        ),
        entry(
            "advertise",
            "on loopback the listening address, else `connect.<domain>:<public port>`",
            "Where agents are told to connect, a list of `HOST:PORT`. Authtokens carry it, so set it before you hand them out.",
            "Names under `.localhost` do not resolve everywhere.",
        ),
        entry(
            "cluster_key_file",
            "`cluster.key` in the data folder, generated at the first start",
            "A file with the cluster key: 32 random bytes as unpadded base64url.",
            "The root of cookies, of sealing and of the agents' trust: whoever has it can sign in as anybody. Keep a copy apart from backups of the store.",
        ),
        entry(
            "session_life",
            &time(SESSION_LIFE),
            "How long a session lives at most.",
            "A working day and its evening; nothing extends it.",
        ),
        entry(
            "session_idle",
            &time(SESSION_IDLE),
            "The longest pause between two requests of a session, or `off`.",
            "Half a working day. Never longer than `session_life`.",
        ),
        entry(
            "geoip",
            "none: places are not known",
            "An MMDB file (GeoLite2 City or another of that format) for places and networks.",
            "Read again every hour.",
        ),
        entry(
            "user_agent_regexes",
            "the patterns in the binary",
            "A `regexes.yaml` of the uap-core project.",
            "For browsers newer than the edge.",
        ),
        entry(
            "header_timeout",
            &time(HEADER_TIMEOUT),
            "Until a request's head is complete.",
            "Browsers need milliseconds; slow-loris attacks need minutes.",
        ),
        entry(
            "idle_timeout",
            &time(IDLE_TIMEOUT),
            "How long a connection may stay open without a request.",
            "Reusing a connection saves a handshake.",
        ),
        entry(
            "body_timeout",
            &time(BODY_TIMEOUT),
            "How long a request's body may send nothing.",
            "Long uploads and two-way streams go on as long as something moves.",
        ),
        entry(
            "connections_per_address",
            &code(&CONNECTIONS_PER_ADDRESS.to_string()),
            "Connections that one address may hold at a time.",
            "An office behind one address fits; one machine cannot take them all.",
        ),
        entry(
            "exchanges_max",
            &code(&EXCHANGES_MAX.to_string()),
            "Requests, downloads and WebSockets that may be open at a time, shared evenly by the workers.",
            "Beyond it a request is answered with 503 (`SP_5010`) before any of its body is read, so that memory is bounded. Each takes tens of kilobytes while bytes move.",
        ),
        entry(
            "congestion",
            &code("bbr"),
            "How QUIC links choose their speed: `bbr` or `cubic`.",
            "With one packet in a thousand lost, 50 ms away, BBR sends 650 Mbit/s and CUBIC 10.",
        ),
        entry(
            "unread_mib_per_agent",
            &code(&UNREAD_MIB_PER_AGENT.to_string()),
            "Memory, in MiB, for what visitors of one agent's endpoints do not read, so that they take nothing from the others. A visitor who does not read takes 4.",
            "Beyond it, whoever has not read for longest is given up, and new requests are answered with 503 meanwhile.",
        ),
        entry(
            "unread_mib",
            "a quarter of the memory",
            "The same for all agents together, in MiB.",
            "Memory is bounded whatever visitors do.",
        ),
        entry(
            "metrics",
            "none",
            "A listener for `/metrics`, `/healthz` and `/readyz`, as `ADDRESS:PORT`; see docs/metrics.md. Flag: `--metrics`.",
            "It has no login: loopback or a private network is its place.",
        ),
        entry(
            "access_log",
            "none: with the rest of the log, on standard error",
            "A file for the access log, opened anew on SIGHUP. Flag: `--access-log`.",
            "It holds addresses and paths, which the rest of the log does not; its mode is 0640.",
        ),
    ]
}

const INTRODUCTION: &str = "# Configuration of the edge

<!-- Generated by `edge docs config`; do not edit. -->

`edge serve --config edge.yml` reads this file; without one every default below holds, and the edge
runs on loopback. A key that is not listed here is refused with its line, and so is a combination that
is contradictory or unsafe. `edge config check --config edge.yml` checks without starting anything.

Durations are whole numbers with units, such as `90s`, `30m`, `24h`, `7d` or `1h30m`. Relative paths
start at the file's own folder. Flags win over the file.

```yaml
listen: 0.0.0.0:443
domain: tunnel.example.com
certificate:
  cert: /etc/sallyport/fullchain.pem
  key: /etc/sallyport/privkey.pem
geoip: /var/lib/GeoIP/GeoLite2-City.mmdb
```

The edge believes no forwarding header (`X-Forwarded-For` and its kind) and no PROXY protocol: the
address that it judges is the one that connected.

## Keys
";

const ENVIRONMENT: &str = "
## Environment

| Variable | Meaning |
|---|---|
| `SALLYPORT_DATA_DIR` | the data folder, as `--data-dir` |
| `SALLYPORT_CLUSTER_KEY` | the cluster key itself |
| `SALLYPORT_CLUSTER_KEY_FILE` | a file that holds it |

A cluster key in two places is refused.
";

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::file::Source;
    use super::*;

    /// Every key of the format is documented, and nothing else is.
    #[test]
    fn the_reference_names_every_key() {
        let error = Source::parse(PathBuf::from("edge.yml"), "no_such_key: 1\n")
            .unwrap_err()
            .to_string();
        let documented: std::collections::BTreeSet<_> = entries()
            .iter()
            .map(|entry| entry.key.split('.').next().unwrap().to_owned())
            .collect();
        for key in &documented {
            assert!(
                error.contains(&format!("`{key}`")) || error.contains(key.as_str()),
                "{key} is no key: {error}"
            );
        }
        let (_, expected) = error.split_once("there are").expect(&error);
        let (expected, _) = expected.split_once(", in `").expect(&error);
        assert_eq!(expected.split(',').count(), documented.len(), "{error}");
    }
}
