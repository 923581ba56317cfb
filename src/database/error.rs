//! placeholder
#![allow(missing_docs)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    Transient,
    Serialization,
    Data,
    MissingPartition,
    Hold,
}
impl FailureClass {
    pub fn name(self) -> &'static str {
        "x"
    }
}
pub fn classify(_e: &tokio_postgres::Error) -> FailureClass {
    FailureClass::Transient
}
pub fn describe(e: &tokio_postgres::Error) -> String {
    e.to_string()
}
