//! A dump of tallyd's tables, out of a database that others use as well, and its way back.
//!
//! # Dump
//! `pg_dump` writes the rows of tallyd's own tables in the snapshot of a transaction that also reads the list of tables and
//! partitions. So the rollups, the call log and the watermarks belong together, while daemons load.
//!
//! # Restore
//! One transaction, in one session of `psql`: this version's migrations up to the schema of the backup, the partitions, the
//! rows from `pg_restore`. Rows that migrations write are removed first. Triggers do not run: what they would write is in
//! the dump. The text ends with COMMIT, so a restore that is killed changes nothing, and no daemon sees half of one.
//! Later migrations are applied afterwards, as to any older database.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use tokio::task::block_in_place;
use tokio_postgres::{GenericClient, IsolationLevel};

use super::{
    BackupError, BackupKind, DumpedPartition, Manifest, describe_source, failed_to_run, last_lines, name_of, run,
};
use crate::citus::is_spread;
use crate::migrate;
use crate::source::Database;

const DUMP: &str = "tallyd.dump";
/// A sequence that does not belong to a table.
const SEQUENCE: &str = "public.api_prices_added_id";
/// Settings that newer programs write, and older servers refuse. None of them is needed.
const NEWER: [&str; 1] = ["SET transaction_timeout"];

/// Remembers in which sessions each trigger runs: those that keep rows from being changed run in all (`ALWAYS`).
const TRIGGERS: &str = "CREATE TEMPORARY TABLE tallyd_triggers ON COMMIT DROP AS \
    SELECT tgrelid::regclass AS relation, tgname, tgenabled FROM pg_catalog.pg_trigger \
    WHERE NOT tgisinternal AND tgrelid IN (SELECT t FROM public.tallyd_tables() AS t);\n";
/// The statements after the rows.
const AFTER: &str = "DO $$
DECLARE item record;
BEGIN
    FOR item IN SELECT * FROM pg_temp.tallyd_triggers LOOP
        EXECUTE format('ALTER TABLE %s %s TRIGGER %I', item.relation, CASE item.tgenabled
            WHEN 'A' THEN 'ENABLE ALWAYS' WHEN 'R' THEN 'ENABLE REPLICA' WHEN 'D' THEN 'DISABLE' ELSE 'ENABLE' END, item.tgname);
    END LOOP;
END $$;
SELECT public.tallyd_protect_all();
COMMIT;
";

/// Writes the dump. Returns its manifest, still without files.
pub(super) async fn dump(db: &Database, folder: &Path) -> Result<Manifest, BackupError> {
    let mut connection = db.connect("tallyd backup").await?;
    let snapshot = connection.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
    let transaction = snapshot.start().await?;
    let mut manifest = describe_source(&transaction, BackupKind::Dump).await?;
    if is_spread(&transaction).await? {
        return Err(BackupError::Spread);
    }
    manifest.tables = tables(&transaction).await?;
    manifest.partitions = partitions(&transaction).await?;
    let rows = transaction.query_typed("SELECT pg_export_snapshot()", &[]).await?;
    let snapshot: String = rows.first().map(|row| row.get(0)).unwrap_or_default();
    let mut command = db.program("pg_dump");
    command.args(["--format=custom", "--data-only", "--no-password", "--snapshot", &snapshot, "--table", SEQUENCE]);
    for table in manifest.tables.iter().chain(manifest.partitions.iter().map(|partition| &partition.name)) {
        command.arg("--table").arg(table);
    }
    command.arg("--file").arg(folder.join(DUMP));
    block_in_place(|| run(command))?;
    Ok(manifest)
}

/// The tables with rows, but for the history of migrations, partitions, and restored files of archives.
async fn tables(client: &impl GenericClient) -> Result<Vec<String>, tokio_postgres::Error> {
    let sql = "SELECT format('%I.%I', n.nspname, c.relname) FROM public.tallyd_tables() AS t \
        JOIN pg_catalog.pg_class AS c ON c.oid = t JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
        WHERE c.relkind = 'r' AND NOT c.relispartition AND c.relname NOT LIKE 'tallyd\\_restored\\_%' \
            AND c.relname <> 'tallyd_schema_history' ORDER BY 1";
    Ok(client.query_typed(sql, &[]).await?.iter().map(|row| row.get(0)).collect())
}

async fn partitions(client: &impl GenericClient) -> Result<Vec<DumpedPartition>, tokio_postgres::Error> {
    // PostgreSQL prints bounds in the session's zone and style.
    client.batch_execute("SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'").await?;
    let sql = "SELECT format('%I.%I', n.nspname, c.relname), pg_catalog.pg_get_expr(c.relpartbound, c.oid) \
        FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid \
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
        WHERE i.inhparent = 'public.api_usage_log'::regclass AND c.relispartition ORDER BY 1";
    let rows = client.query_typed(sql, &[]).await?;
    Ok(rows.iter().map(|row| DumpedPartition { name: row.get(0), bounds: row.get(1) }).collect())
}

/// Restores a dump into a database without tallyd's tables. The schema is the backup's then: migrate next.
///
/// # Errors
/// [`BackupError`]; nothing has changed then.
pub async fn restore(db: &Database, folder: &Path, manifest: &Manifest) -> Result<(), BackupError> {
    let before = before(manifest)?;
    let connection = db.connect("tallyd restore").await?;
    let mut standing = crate::adopt::standing(&*connection).await?;
    if migrate::reached(&*connection).await?.is_some() {
        standing.push("public.tallyd_schema_history".to_owned());
    }
    drop(connection);
    if !standing.is_empty() {
        return Err(BackupError::Standing { tables: standing });
    }
    let psql = db.psql_command(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--no-password", "--file=-"]);
    let mut rows = db.program("pg_restore");
    rows.args(["--data-only", "--no-owner", "--file=-"]).arg(folder.join(DUMP));
    block_in_place(|| pipe(psql, rows, &before, AFTER))
}

/// The statements before the rows.
fn before(manifest: &Manifest) -> Result<String, BackupError> {
    let mut sql = String::from("SET client_min_messages = warning;\nBEGIN;\n");
    sql.push_str(&migrate::script(&manifest.schema)?);
    for DumpedPartition { name, bounds } in &manifest.partitions {
        // Writing to a string does not fail.
        let _ = writeln!(sql, "CREATE TABLE {name} PARTITION OF public.api_usage_log {bounds};");
    }
    sql.push_str(TRIGGERS);
    for table in &manifest.tables {
        let _ = writeln!(sql, "ALTER TABLE {table} DISABLE TRIGGER USER;");
    }
    if !manifest.tables.is_empty() {
        let _ = writeln!(sql, "TRUNCATE {};", manifest.tables.join(", "));
    }
    Ok(sql)
}

/// Feeds `psql` with text, the output of `rows`, and text. Blocks.
fn pipe(mut psql: Command, rows: Command, before: &str, after: &str) -> Result<(), BackupError> {
    let program = name_of(&psql);
    let spawned = psql.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|source| failed_to_run(&program, source))?;
    let mut input = child.stdin.take().expect("its standard input is a pipe");
    let fed = feed(&mut input, rows, before, after);
    // Without COMMIT, the end of the input ends the transaction.
    drop(input);
    let output = child.wait_with_output().map_err(|source| failed_to_run(&program, source))?;
    match fed {
        Err(Fed::Rows(error)) => Err(error),
        Ok(()) if output.status.success() => Ok(()),
        // `psql` has gone because of an error of its own.
        _ => Err(BackupError::Failed { program, status: output.status, said: last_lines(&output.stderr) }),
    }
}

/// Why the text was not written to its end.
enum Fed {
    /// The rows could not be read.
    Rows(BackupError),
    /// The reader has gone.
    Pipe,
}

/// Copies the settings before the first rows, but for those that servers before `pg_restore`'s own version do not know.
fn head(from: &mut impl BufRead, to: &mut impl Write) -> io::Result<()> {
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line)? > 0 {
        if !NEWER.iter().any(|setting| line.starts_with(setting.as_bytes())) {
            to.write_all(&line)?;
        }
        if line.starts_with(b"COPY ") {
            break;
        }
        line.clear();
    }
    Ok(())
}

fn feed(input: &mut ChildStdin, mut rows: Command, before: &str, after: &str) -> Result<(), Fed> {
    let gone = |_: io::Error| Fed::Pipe;
    input.write_all(before.as_bytes()).map_err(gone)?;
    let program = name_of(&rows);
    let spawned = rows.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|source| Fed::Rows(failed_to_run(&program, source)))?;
    let mut output = BufReader::new(child.stdout.take().expect("its standard output is a pipe"));
    let copied = head(&mut output, input).and_then(|()| io::copy(&mut output, input));
    drop(output);
    let ended = child.wait_with_output().map_err(|source| Fed::Rows(failed_to_run(&program, source)))?;
    copied.map_err(gone)?;
    if !ended.status.success() {
        return Err(Fed::Rows(BackupError::Failed { program, status: ended.status, said: last_lines(&ended.stderr) }));
    }
    input.write_all(after.as_bytes()).and_then(|()| input.flush()).map_err(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_newer_servers_is_left_out_and_rows_are_not() {
        let text =
            "SET lock_timeout = 0;\nSET transaction_timeout = 0;\nCOPY t (a) FROM stdin;\nSET transaction_timeout\n";
        let (mut from, mut to) = (text.as_bytes(), Vec::new());
        head(&mut from, &mut to).unwrap();
        to.extend_from_slice(from);
        assert_eq!(String::from_utf8(to).unwrap(), text.replacen("SET transaction_timeout = 0;\n", "", 1));
    }
}
