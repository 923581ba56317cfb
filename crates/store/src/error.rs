//! Sorts failures of PostgreSQL into classes, each with one remedy.
//!
//! The flusher retries a failure that passes by itself, isolates a row that PostgreSQL refuses, and stops (without
//! dropping anything) where a person has to act.
//!
//! | class | SQLSTATE | examples | remedy |
//! |---|---|---|---|
//! | [`Transient`](FailureClass::Transient) | 08, 53, 57, 58, 55006, 25P03, 25P04, 26000; no SQLSTATE: closed, timed out, I/O | restart, failover, disk full, too many connections, a statement cancelled | reconnect and retry, with jitter, for ever |
//! | [`Serialization`](FailureClass::Serialization) | 40, 55P03 | deadlock, lock timeout | retry the transaction at once |
//! | [`MissingPartition`](FailureClass::MissingPartition) | 23514 without a constraint's name | no partition holds the row | make it, retry |
//! | [`Data`](FailureClass::Data) | 21, 22, 23, 44, 54, but for those below | a value out of range, a violated constraint, a row too large | bisect to the row at fault |
//! | [`Hold`](FailureClass::Hold) | 22P03, 23502, 0A, 25, 28, 3D, 3F, 42, P0, XX and all others; no SQLSTATE: a certificate, a setting | wrong password, a missing table or one with other columns, read-only, corruption, a parameter that a pooler refuses | stop, alarm, check again now and then |
//!
//! Citus reports every worker's error in COPY as an internal error (XX000): a row that the worker refuses, or the end
//! of the worker. Such an error is [`Data`](FailureClass::Data), because a smaller batch tells the two apart. A row at
//! fault fails alone, under its savepoint. A lost worker ends the transaction, and the next connection reports it
//! (08006).
//!
//! A full disk (53100) is transient: somebody makes room, and the work goes on. An unknown failure is held: to retry it
//! at full speed, or to reject a row for it, would be a guess. A binary value of another type (22P03) and a NULL in a
//! nullable column of the schema (23502) are not a row's fault either: the table was changed, and every row would be
//! rejected.

use std::error::Error as StdError;
use std::io;

use tokio_postgres::error::SqlState;

/// The remedy for a failure; the module's table lists the failures of each class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureClass {
    /// It passes by itself. Reconnect and retry.
    Transient,
    /// Two transactions were in each other's way. Retry this one.
    Serialization,
    /// The call log has no partition for a row. Make it and retry.
    MissingPartition,
    /// PostgreSQL refuses a value. Other rows are fine.
    Data,
    /// A person has to act.
    Hold,
}

impl FailureClass {
    /// All classes.
    pub const ALL: [Self; 5] = [Self::Transient, Self::Serialization, Self::MissingPartition, Self::Data, Self::Hold];

    /// The class in metrics and in the daemon log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Serialization => "serialization",
            Self::MissingPartition => "missing_partition",
            Self::Data => "data",
            Self::Hold => "hold",
        }
    }
}

/// Classifies a failure.
#[must_use]
pub fn classify(error: &tokio_postgres::Error) -> FailureClass {
    match error.as_db_error() {
        Some(db) if pooler_refusal(db.message()).is_some() => FailureClass::Hold,
        Some(db) if is_of_a_worker(db.code(), db.routine()) => FailureClass::Data,
        Some(db) => classify_state(db.code(), db.constraint().is_some()),
        None => classify_local(error.source()),
    }
}

/// True if Citus passes on a worker's error in COPY. It is recognised by the routine: the message is the worker's, and
/// translated.
fn is_of_a_worker(state: &SqlState, routine: Option<&str>) -> bool {
    *state == SqlState::INTERNAL_ERROR && routine == Some("ReportCopyError")
}

/// Classifies an error that the server reported. A violated CHECK names its constraint; a row without a partition has
/// the same SQLSTATE and does not name one. (The message would tell as well, but it is translated.)
fn classify_state(state: &SqlState, names_a_constraint: bool) -> FailureClass {
    let code = state.code();
    match code {
        "23514" if !names_a_constraint => FailureClass::MissingPartition,
        "55P03" => FailureClass::Serialization,
        "22P03" | "23502" => FailureClass::Hold,
        "55006" | "25P03" | "25P04" | "26000" => FailureClass::Transient,
        _ => match code.get(..2).unwrap_or_default() {
            "08" | "53" | "57" | "58" => FailureClass::Transient,
            "40" => FailureClass::Serialization,
            "21" | "22" | "23" | "44" | "54" => FailureClass::Data,
            _ => FailureClass::Hold,
        },
    }
}

/// The remedy for a failure that holds the work, if one is known. Printed after the server's message.
#[must_use]
pub fn advice(state: &SqlState) -> Option<&'static str> {
    Some(match state.code() {
        "28P01" | "28000" => {
            "check the user and the password in database.url (or database.password_file) and the server's pg_hba.conf; once the server accepts them, \
             loading goes on by itself"
        }
        "3D000" => "create the database, or correct its name in database.url",
        "3F000" | "42P01" | "42703" | "42883" | "42P10" => {
            "the schema is not complete: a daemon that has just started makes it, so try again in a moment; otherwise put back the missing \
             objects, or run `tallyd migrate` on a new database; loading goes on by itself then"
        }
        "42501" => "the role must own tallyd's tables, or be granted their use; loading goes on by itself then",
        "22P03" | "23502" | "42804" | "42P16" => {
            "a column of tallyd's tables was changed: change it back; loading goes on by itself then"
        }
        "25006" => "the server takes no writes: connect to the primary, or end its read-only mode",
        "XX001" | "XX002" => "the database is damaged: restore it; records wait in the WAL meanwhile",
        _ => return None,
    })
}

/// The remedy where a pooler refuses a parameter of the address. PgBouncer has one SQLSTATE for all its messages, and
/// does not translate them.
#[must_use]
pub fn pooler_refusal(message: &str) -> Option<&'static str> {
    message.contains("unsupported startup parameter").then_some(
        "a pooler stands between, and does not pass this parameter of database.url on: take it out of the URL (ALTER ROLE \
         … SET sets the same in the database), or name it in the pooler's ignore_startup_parameters",
    )
}

/// Classifies a failure that the server did not report, by its cause. Closed connections, timeouts and unexpected
/// messages have no cause.
fn classify_local(cause: Option<&(dyn StdError + 'static)>) -> FailureClass {
    if cause.is_none() {
        return FailureClass::Transient;
    }
    if let Some(tls) = cause.and_then(tls_error) {
        return match tls {
            rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => FailureClass::Hold,
            _ => FailureClass::Transient,
        };
    }
    if chain(cause).any(|error| error.is::<io::Error>()) { FailureClass::Transient } else { FailureClass::Hold }
}

/// The remedy for a certificate that was not accepted.
#[must_use]
pub fn certificate_advice(error: &tokio_postgres::Error) -> Option<&'static str> {
    use rustls::CertificateError as Fault;
    let rustls::Error::InvalidCertificate(fault) = error.source().and_then(tls_error)? else { return None };
    Some(match fault {
        // Bad signature: another authority of the same name, one that was made anew.
        Fault::UnknownIssuer | Fault::BadSignature => {
            "nobody who is trusted here has signed the server's certificate: give the authority's as database.ca_file (PEM), \
             or set that file right; loading goes on by itself then"
        }
        Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
            "the certificate is another host's: put the name that it is made for into database.url, or have one made for this \
             name"
        }
        Fault::Expired | Fault::ExpiredContext { .. } => {
            "renew the server's certificate (and compare this machine's clock); loading goes on by itself then"
        }
        Fault::NotValidYet | Fault::NotValidYetContext { .. } => {
            "compare the clocks of this machine and the authority's"
        }
        _ => "have the server given a certificate that holds",
    })
}

/// The TLS library's error in a chain of causes.
fn tls_error<'e>(cause: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    chain(Some(cause)).find_map(|error| {
        // An I/O error's `source` skips the error that it wraps; `get_ref` returns that one.
        let inner = match error.downcast_ref::<io::Error>() {
            Some(error) => error.get_ref().map(|inner| inner as &(dyn StdError + 'static)),
            None => Some(error),
        };
        inner.and_then(|inner| inner.downcast_ref::<rustls::Error>())
    })
}

/// An error, and its causes.
fn chain<'e>(first: Option<&'e (dyn StdError + 'static)>) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(first, |error: &&'e (dyn StdError + 'static)| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(code: &str) -> FailureClass {
        classify_state(&SqlState::from_code(code), true)
    }

    #[test]
    fn what_the_server_reports_falls_into_its_class() {
        use FailureClass::{Data, Hold, Serialization, Transient};
        let table = [
            (Transient, "08006 08P01 53100 53200 53300 57P01 57P02 57P03 57014 58030 55006 25P03 26000"),
            (Serialization, "40001 40P01 55P03"),
            (Data, "22P04 22003 22021 23505 23514 54000 21000 44000"),
            (Hold, "22P03 23502 28P01 28000 3D000 3F000 42P01 42501 42703 0A000 25006 25P02 P0001 XX000 XX001 99999"),
        ];
        for (class, codes) in table {
            for code in codes.split(' ') {
                assert_eq!(state(code), class, "{code}");
            }
        }
        assert_eq!(classify_state(&SqlState::CHECK_VIOLATION, false), FailureClass::MissingPartition);
        assert_eq!(classify_state(&SqlState::UNIQUE_VIOLATION, false), Data);
    }

    #[test]
    fn what_citus_passes_on_of_a_copy_is_narrowed_and_other_internal_errors_hold() {
        assert!(is_of_a_worker(&SqlState::INTERNAL_ERROR, Some("ReportCopyError")));
        assert!(!is_of_a_worker(&SqlState::INTERNAL_ERROR, Some("elog_finish")));
        assert!(!is_of_a_worker(&SqlState::INTERNAL_ERROR, None));
        assert!(!is_of_a_worker(&SqlState::FEATURE_NOT_SUPPORTED, Some("ReportCopyError")));
    }

    #[test]
    fn whatever_has_an_advice_is_for_a_person() {
        let codes = "28P01 28000 3D000 3F000 42P01 42703 42883 42P10 42501 22P03 23502 42804 42P16 25006 XX001 XX002";
        for code in codes.split(' ') {
            assert!(advice(&SqlState::from_code(code)).is_some(), "{code}");
            assert_eq!(state(code), FailureClass::Hold, "{code}");
        }
        assert_eq!(advice(&SqlState::T_R_DEADLOCK_DETECTED), None);
    }

    #[test]
    fn what_a_pooler_says_is_told_apart_by_its_words() {
        assert!(pooler_refusal("unsupported startup parameter: options").is_some());
        for passes in ["query_wait_timeout", "server login has been failing, try again later (server_login_retry)"] {
            assert_eq!(pooler_refusal(passes), None);
        }
    }

    #[test]
    fn what_happens_on_this_side_is_transient_unless_a_person_has_to_act() {
        assert_eq!(classify_local(None), FailureClass::Transient);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(classify_local(Some(&reset)), FailureClass::Transient);
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::Expired);
        assert_eq!(classify_local(Some(&io::Error::other(expired))), FailureClass::Hold);
        let garbled = rustls::Error::DecryptError;
        assert_eq!(classify_local(Some(&io::Error::other(garbled))), FailureClass::Transient);
        assert_eq!(classify_local(Some(&std::fmt::Error)), FailureClass::Hold);
    }
}
