//! Puts the calls of a file into a table of their own.
//!
//! The call log and the sums are not touched: the sums already have these calls. Calls of users who were forgotten after
//! the file was written are anonymised.

use tokio::sync::mpsc;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::file;
use super::{Archive, ArchiveError, Archived, BATCH, QUEUE};
use tallyd_model::json;
use tallyd_model::pricing::Usd;
use tallyd_parquet::{Cell, Column, Kind};

/// Restores a file, after it was verified, into `public.tallyd_restored_<id>`. Returns the table's name.
///
/// # Errors
/// [`ArchiveError`]; there is no table then.
pub async fn restore(client: &Client, archive: &Archive, archived: &Archived) -> Result<String, ArchiveError> {
    archive.verify(archived).await?;
    let table = format!("public.tallyd_restored_{}", archived.id);
    client.batch_execute("BEGIN").await?;
    let done = within(client, archive, archived, &table).await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    // The session itself may have failed.
    let ended = client.batch_execute(end).await;
    done?;
    ended?;
    Ok(table)
}

async fn within(client: &Client, archive: &Archive, archived: &Archived, table: &str) -> Result<(), ArchiveError> {
    let earlier = client.query_typed("SELECT to_regclass($1) IS NOT NULL", &[(&table, Type::TEXT)]).await?;
    if earlier.first().is_some_and(|row| row.get(0)) {
        return Err(ArchiveError::Restored(table.to_owned()));
    }
    client.batch_execute(&format!("CREATE TABLE {table} (LIKE public.api_usage_log INCLUDING DEFAULTS)")).await?;
    let (sender, mut receiver) = mpsc::channel::<String>(QUEUE);
    let (place, name) = (archive.open()?, archived.file.clone());
    let reader = tokio::task::spawn_blocking(move || {
        let columns = file::columns();
        let (mut batch, mut rows) = (String::from("["), 0);
        file::each(&place, &name, |cells| {
            batch.push_str(if rows == 0 { "" } else { "," });
            object(&columns, cells, &mut batch)?;
            rows += 1;
            if rows == BATCH {
                rows = 0;
                batch.push(']');
                let full = std::mem::replace(&mut batch, String::from("["));
                sender.blocking_send(full).map_err(|_| ArchiveError::Ended)?;
            }
            Ok(())
        })?;
        batch.push(']');
        sender.blocking_send(batch).map_err(|_| ArchiveError::Ended)
    });
    let insert = format!(
        "INSERT INTO {table} SELECT * FROM jsonb_populate_recordset(NULL::public.api_usage_log, $1::text::jsonb)"
    );
    while let Some(rows) = receiver.recv().await {
        client.query_typed(&insert, &[(&rows, Type::TEXT)]).await?;
    }
    reader.await.map_err(|_| ArchiveError::Ended)??;
    anonymise(client, table).await?;
    client.query_typed("SELECT public.tallyd_protect($1::text::regclass)", &[(&table, Type::TEXT)]).await?;
    Ok(())
}

/// Takes the names off the calls of forgotten users.
async fn anonymise(client: &Client, table: &str) -> Result<(), ArchiveError> {
    let sql = format!(
        "UPDATE {table} SET user_id = '', request_id = '', metadata = NULL, tags = NULL WHERE user_id <> '' AND \
         sha256(convert_to((SELECT value FROM public.tallyd_settings WHERE key = 'database_id') || '/' || user_id, 'UTF8')) \
         IN (SELECT id_sha256 FROM public.tallyd_forgotten_users)"
    );
    let none: [(&(dyn ToSql + Sync), Type); 0] = [];
    client.query_typed(&sql, &none).await?;
    Ok(())
}

/// Appends a row as a JSON object, with all digits.
fn object(columns: &[Column], cells: &[Cell<'_>], out: &mut String) -> Result<(), ArchiveError> {
    let text = |value: &str| {
        json::to_string(&value).map_err(|error| ArchiveError::Damaged { file: String::new(), fault: error.to_string() })
    };
    out.push('{');
    for (at, (column, cell)) in columns.iter().zip(cells).enumerate() {
        out.push_str(if at == 0 { "\"" } else { ",\"" });
        out.push_str(column.name);
        out.push_str("\":");
        out.push_str(&match *cell {
            Cell::Null => "null".to_owned(),
            Cell::Text(json) if column.kind == Kind::Json => json.to_owned(),
            Cell::Text(value) => text(value)?,
            Cell::Long(us) if column.kind == Kind::Instant => {
                let at = chrono::DateTime::from_timestamp_micros(us).unwrap_or_default();
                text(&at.to_rfc3339())?
            }
            Cell::Int(value) => value.to_string(),
            Cell::Long(value) => value.to_string(),
            Cell::Decimal(attos) => Usd::from_attos(attos).to_string(),
            Cell::Uuid(bytes) => text(&uuid::Uuid::from_bytes(bytes).to_string())?,
        });
    }
    out.push('}');
    Ok(())
}
