//! placeholder
#![allow(missing_docs)]
#[derive(serde::Serialize)]
pub struct D {
    pub table: String,
    pub key: String,
    pub column: String,
    pub rollup: Option<String>,
    pub log: Option<String>,
}
#[derive(serde::Serialize)]
pub struct R {
    pub log_rows: i64,
    pub log_cost_usd: String,
    pub unpriced_rows: i64,
    pub equal: bool,
    pub differences: Vec<D>,
}
pub async fn reconcile(_c: &tokio_postgres::Client) -> Result<R, tokio_postgres::Error> {
    Ok(R { log_rows: 0, log_cost_usd: String::new(), unpriced_rows: 0, equal: true, differences: vec![] })
}
