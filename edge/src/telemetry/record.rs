//! Access records as JSON. There is one for every request, so each is written straight into the line:
//! the general formatter takes several times as long as judging the request. The form is the same.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::ingress::access_log::ACCESS;

/// Writes access records itself and leaves everything else to another formatter.
#[derive(Debug)]
pub(super) struct Records<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for Records<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if event.metadata().target() != ACCESS {
            return self.0.format_event(context, writer, event);
        }
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        write!(writer, "\",\"level\":\"{}\"", event.metadata().level())?;
        let mut fields = Fields {
            writer: &mut writer,
            outcome: Ok(()),
        };
        event.record(&mut fields);
        fields.outcome?;
        writeln!(writer, ",\"target\":\"{ACCESS}\"}}")
    }
}

struct Fields<'a, 'w> {
    writer: &'a mut Writer<'w>,
    outcome: fmt::Result,
}

impl Fields<'_, '_> {
    fn field(&mut self, field: &Field, value: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.outcome.is_ok() {
            // Names are ours: they need no escapes.
            self.outcome =
                write!(self.writer, ",\"{}\":", field.name()).and_then(|()| value(self.writer));
        }
    }
}

impl Visit for Fields<'_, '_> {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.field(field, |writer| write!(writer, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.field(field, |writer| write!(writer, "{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.field(field, |writer| write!(writer, "{value}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field, |writer| {
            writer.write_char('"')?;
            Escaped(writer).write_str(value)?;
            writer.write_char('"')
        });
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.field(field, |writer| {
            writer.write_char('"')?;
            write!(Escaped(writer), "{value:?}")?;
            writer.write_char('"')
        });
    }
}

/// Writes what RFC 8259 §7 wants escaped as escapes.
struct Escaped<'a, 'w>(&'a mut Writer<'w>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let is_special = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        if !text.bytes().any(is_special) {
            return self.0.write_str(text);
        }
        for character in text.chars() {
            match character {
                '"' => self.0.write_str("\\\"")?,
                '\\' => self.0.write_str("\\\\")?,
                control if u32::from(control) < 0x20 => {
                    write!(self.0, "\\u{:04x}", u32::from(control))?;
                }
                other => self.0.write_char(other)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::fmt::format::{Format, JsonFields};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut lines = self.0.lock().map_err(|_| io::ErrorKind::Other)?;
            lines.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// A record is JSON of the same form as any other event, whatever a client sent.
    #[test]
    fn hostile_values_stay_values() {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(lines.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Records(Format::default().json().flatten_event(true)))
            .finish();
        let path = "/a\"b\\c\u{1}\u{e4}";
        tracing::subscriber::with_default(subscriber, || {
            for (target_is_access, status) in [(true, 200_u16), (false, 404)] {
                if target_is_access {
                    tracing::info!(target: ACCESS, { http.path = path, http.host = %"h\"", http.status = status, none = None::<u64> }, "request");
                } else {
                    tracing::info!(target: "other", { http.path = path, http.host = %"h\"", http.status = status, none = None::<u64> }, "request");
                }
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let mut records = text
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let (access, other) = (records.next().unwrap(), records.next().unwrap());
        assert_eq!(access["http.path"], path);
        assert_eq!(access["target"], ACCESS);
        assert_eq!(access["http.status"], 200);
        let keys = |value: &serde_json::Value| {
            let mut keys: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&access), keys(&other));
    }
}
