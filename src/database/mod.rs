//! placeholder
#![allow(missing_docs)]
pub mod error;
use error::FailureClass;
pub struct Database;
pub struct Connection { client: tokio_postgres::Client }
impl std::ops::Deref for Connection { type Target = tokio_postgres::Client; fn deref(&self) -> &Self::Target { &self.client } }
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct ConnectError;
impl ConnectError { pub fn class(&self) -> FailureClass { FailureClass::Transient } }
impl Database {
    pub async fn connect(&self, _name: &str) -> Result<Connection, ConnectError> { Err(ConnectError) }
    pub fn redacted_url(&self) -> String { String::new() }
}
