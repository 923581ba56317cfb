//! placeholder
#![allow(missing_docs)]
pub mod error;
pub mod migrate;
pub mod reconcile;
use error::FailureClass;
pub struct DatabaseOptions(String);
impl From<&crate::config::Config> for DatabaseOptions {
    fn from(c: &crate::config::Config) -> Self {
        Self(c.database.url.as_ref().map(|u| u.expose().to_owned()).unwrap_or_default())
    }
}
pub struct Database {
    config: tokio_postgres::Config,
}
pub struct Connection {
    client: tokio_postgres::Client,
    task: tokio::task::JoinHandle<()>,
}
impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}
impl std::ops::Deref for Connection {
    type Target = tokio_postgres::Client;
    fn deref(&self) -> &Self::Target {
        &self.client
    }
}
impl std::ops::DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.client
    }
}
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConnectError(#[from] tokio_postgres::Error);
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DatabaseError(String);
impl ConnectError {
    pub fn class(&self) -> FailureClass {
        FailureClass::Transient
    }
}
impl Database {
    pub async fn open(o: &DatabaseOptions) -> Result<Self, DatabaseError> {
        Ok(Self { config: o.0.parse().map_err(|e: tokio_postgres::Error| DatabaseError(e.to_string()))? })
    }
    pub async fn connect(&self, _name: &str) -> Result<Connection, ConnectError> {
        let (client, c) = self.config.connect(tokio_postgres::NoTls).await?;
        Ok(Connection {
            client,
            task: tokio::spawn(async move {
                let _ = c.await;
            }),
        })
    }
    pub fn redacted_url(&self) -> String {
        String::new()
    }
    pub fn pool(&self, n: usize) -> deadpool_postgres::Pool {
        deadpool_postgres::Pool::builder(deadpool_postgres::Manager::new(self.config.clone(), tokio_postgres::NoTls))
            .max_size(n)
            .build()
            .unwrap()
    }
    pub fn psql_command(&self, a: &[String]) -> std::process::Command {
        let mut c = std::process::Command::new("psql");
        c.args(a);
        c
    }
    pub async fn close(&self) {}
}
