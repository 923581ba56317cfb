//! placeholder
#![allow(missing_docs)]
pub struct MigrateOptions;
impl From<&crate::config::Config> for MigrateOptions {
    fn from(_: &crate::config::Config) -> Self {
        Self
    }
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct MigrateError(#[from] tokio_postgres::Error);
impl MigrateError {
    pub fn is_final(&self) -> bool {
        false
    }
}
#[derive(serde::Serialize)]
pub struct Report {
    pub applied: Vec<String>,
}
pub async fn migrate(c: &mut tokio_postgres::Client, _o: &MigrateOptions) -> Result<Report, MigrateError> {
    if c.query("SELECT to_regclass('api_usage_log') IS NULL", &[]).await?[0].get(0) {
        let mut names: Vec<_> = std::fs::read_dir("/work/main/migrations")
            .unwrap()
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "sql"))
            .collect();
        names.sort();
        for n in names {
            c.batch_execute(&std::fs::read_to_string(n).unwrap()).await?;
        }
    }
    Ok(Report { applied: vec![] })
}
