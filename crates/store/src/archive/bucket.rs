//! A bucket of an S3-compatible service.
//!
//! ## Writing
//! A file is a multipart upload. While one part is filled, the one before is sent, so two parts are in memory. An upload is not an
//! object until it is completed. A process that is killed leaves an upload that nobody can read, which services delete by a rule of
//! the bucket's lifecycle.
//!
//! ## Credentials
//! Settings come first, then the variables `AWS_*`, then the machine's role. They are read for each use: new ones need no restart.
//!
//! ## Errors
//! Each request has `retention.s3.timeout_ms`. Failures that pass are sent again within `retention.s3.patience_ms`, after growing
//! pauses; a `Retry-After` does not make them longer. [`BucketFault`] names the failure, its place and a remedy.

use std::error::Error;
use std::io::{self, Write};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{BackoffConfig, MultipartId, ObjectStoreExt, PutPayload, RetryConfig, StaticCredentialProvider};
use tallyd_config::{S3, Secret};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::ArchiveError;
use super::http::Connector;
use super::place::{Place, Upload};

/// Bytes of a part.
const PART: usize = 8 << 20;
/// The most parts of a file, which is 80 GiB.
const PARTS_MAX: usize = 10_000;
/// The first pause before a failed request is sent again. It grows threefold, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Characters of a service's answer that a message has.
const SAID_CHARS: usize = 300;

/// A bucket, with the prefix of its keys.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    store: AmazonS3,
    name: String,
    prefix: String,
    runtime: Handle,
}

/// A request to a bucket that failed.
#[derive(Debug, thiserror::Error)]
#[error("{at} {act}: {said}. hint: {hint}")]
pub struct BucketFault {
    /// The address, `s3://…`.
    pub at: String,
    /// The act that failed.
    pub act: &'static str,
    /// The service's answer, or why there is none.
    pub said: String,
    /// The remedy.
    pub hint: &'static str,
}

impl Bucket {
    /// Reads the settings, the files and variables that they name, and the variables `AWS_*`. Called within a runtime.
    pub(super) fn open(name: &str, prefix: &str, settings: &S3) -> Result<Self, ArchiveError> {
        let unusable = |said: String| BucketFault {
            at: format!("s3://{name}"),
            act: "cannot be used",
            said,
            hint: "`tallyd config check` reads the files and variables of [retention.s3]",
        };
        let retry = RetryConfig {
            backoff: BackoffConfig { init_backoff: FIRST_PAUSE, max_backoff: LONGEST_PAUSE, base: 3.0 },
            max_retries: usize::MAX,
            retry_timeout: settings.patience,
        };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(name)
            .with_http_connector(Connector { timeout: settings.timeout })
            .with_retry(retry)
            // Deletions of many keys in one request are not known to every service.
            .with_disable_bulk_delete(true)
            .with_virtual_hosted_style_request(!settings.path_style);
        if let (Some(id), Some(secret)) = (&settings.access_key_id, &settings.secret_access_key) {
            let read = |secret: &Secret| secret.read().map_err(unusable);
            // Without a token: the one of the variables belongs to the key of the variables.
            let key = AwsCredential { key_id: read(id)?, secret_key: read(secret)?, token: None };
            builder = builder.with_credentials(Arc::new(StaticCredentialProvider::new(key)));
        }
        if !settings.region.is_empty() {
            builder = builder.with_region(&settings.region);
        }
        if !settings.endpoint.is_empty() {
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, &settings.endpoint);
        }
        let store = builder.build().map_err(|error| unusable(innermost(&error)))?;
        Ok(Self { store, name: name.to_owned(), prefix: prefix.to_owned(), runtime: Handle::current() })
    }

    fn key(&self, name: &str) -> Path {
        Path::from(if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) })
    }

    fn fault(&self, act: &'static str, key: &Path, error: &object_store::Error) -> ArchiveError {
        let said = innermost(error);
        let hint = hint(error, &said);
        let said = match (between(&said, "<Code>", "</Code>"), between(&said, "<Message>", "</Message>")) {
            (Some(code), Some(message)) => format!("{code}: {}", message.trim_end_matches('.')),
            (Some(code), None) => code.to_owned(),
            _ => said,
        };
        // The service's text goes into the log and to terminals.
        let said = said.chars().filter(|one| !one.is_control()).take(SAID_CHARS).collect();
        BucketFault { at: format!("s3://{}/{key}", self.name), act, said, hint }.into()
    }

    fn wait<T>(
        &self,
        act: &'static str,
        key: &Path,
        work: impl Future<Output = object_store::Result<T>>,
    ) -> Result<T, ArchiveError> {
        self.runtime.block_on(work).map_err(|error| self.fault(act, key, &error))
    }
}

/// The text of the last cause.
fn innermost(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found)
}

/// The remedy for a failure, by the code or the status that the service answered.
fn hint(error: &object_store::Error, said: &str) -> &'static str {
    let whole = error.to_string();
    let has = |text: &str| said.contains(text) || whole.contains(text);
    // Not the number alone: the names of files and the answers' ids have such digits, too.
    let answered = |status: u16| has(&format!("status code: {status} "));
    if has("169.254.169.254") || has("169.254.170.2") {
        return "there are no credentials: set retention.s3.access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
    }
    if has("NoSuchBucket") {
        return "make the bucket, or correct retention.archive; retention.s3.endpoint and region say where it is looked for";
    }
    if has("PermanentRedirect") || has("AuthorizationHeaderMalformed") || has("LOCATION") || answered(301) {
        return "the bucket is in another region: set retention.s3.region";
    }
    if matches!(error, object_store::Error::NotFound { .. }) {
        return "the file, or its upload, is not there; `tallyd archive verify` looks at each";
    }
    if matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. })
        || has("InvalidAccessKeyId")
        || has("SignatureDoesNotMatch")
    {
        return "the access key has to be right, and needs s3:PutObject, s3:GetObject, s3:DeleteObject and s3:AbortMultipartUpload here";
    }
    if has("SlowDown") || answered(503) || answered(429) {
        return "the service asks for fewer requests; the partition stays, and its turn comes again";
    }
    if has("no answer from") {
        return "the service hangs, or needs more than retention.s3.timeout_ms for a part of 8 MiB. The partition stays, and its turn comes again";
    }
    "`tallyd doctor` tries the bucket; retention.s3.endpoint says where it is looked for. The partition stays, and its turn comes again"
}

impl Place for Bucket {
    fn begin(&self, name: &str) -> Result<Box<dyn Upload>, ArchiveError> {
        let (bucket, key) = (self.clone(), self.key(name));
        let id = self.wait("cannot be written", &key, self.store.create_multipart(&key))?;
        Ok(Box::new(Parts { bucket, key, id, buffer: Vec::with_capacity(PART), sent: None, done: Vec::new() }))
    }

    fn bytes(&self, name: &str) -> Result<u64, ArchiveError> {
        let key = self.key(name);
        Ok(self.wait("cannot be read", &key, self.store.head(&key))?.size)
    }

    fn read(&self, name: &str, range: Range<u64>) -> Result<Bytes, ArchiveError> {
        let key = self.key(name);
        self.wait("cannot be read", &key, self.store.get_range(&key, range))
    }

    fn remove(&self, name: &str) -> Result<(), ArchiveError> {
        let key = self.key(name);
        match self.runtime.block_on(self.store.delete(&key)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.fault("cannot be removed", &key, &error)),
        }
    }

    fn shown(&self, name: &str) -> String {
        format!("s3://{}/{}", self.name, self.key(name))
    }
}

/// An upload.
struct Parts {
    bucket: Bucket,
    key: Path,
    id: MultipartId,
    /// The part that is filled.
    buffer: Vec<u8>,
    /// The part that is sent.
    sent: Option<JoinHandle<object_store::Result<PartId>>>,
    done: Vec<PartId>,
}

impl Parts {
    /// Waits for the part that is sent.
    fn wait(&mut self) -> Result<(), ArchiveError> {
        if let Some(sent) = self.sent.take() {
            let part = self.bucket.runtime.block_on(sent).map_err(|_| ArchiveError::Ended)?;
            self.done.push(part.map_err(|error| self.bucket.fault("cannot be written", &self.key, &error))?);
        }
        Ok(())
    }

    /// Sends the filled part.
    fn send(&mut self, next: Vec<u8>) -> Result<(), ArchiveError> {
        self.wait()?;
        if self.done.len() == PARTS_MAX {
            let fault = format!("a file has at most {} GiB", (PART * PARTS_MAX) >> 30);
            return Err(ArchiveError::Damaged { file: self.key.to_string(), fault });
        }
        let payload = PutPayload::from(std::mem::replace(&mut self.buffer, next));
        let (store, key, id, index) = (self.bucket.store.clone(), self.key.clone(), self.id.clone(), self.done.len());
        let sending = async move { store.put_part(&key, &id, index, payload).await };
        self.sent = Some(self.bucket.runtime.spawn(sending));
        Ok(())
    }
}

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == PART {
            self.send(Vec::with_capacity(PART)).map_err(io::Error::other)?;
        }
        let taken = bytes.len().min(PART - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    /// A part is sent when it is full.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Upload for Parts {
    fn settle(&mut self) -> Result<(), ArchiveError> {
        self.send(Vec::new())?;
        self.wait()
    }

    fn publish(self: Box<Self>) -> Result<(), ArchiveError> {
        let done = self.bucket.store.complete_multipart(&self.key, &self.id, self.done.clone());
        let done = self.bucket.wait("cannot be completed", &self.key, done).map(drop);
        if done.is_err() {
            self.abandon();
        }
        done
    }

    fn abandon(mut self: Box<Self>) {
        let _ = self.wait();
        // An upload that stays is not an object.
        let _ = self.bucket.runtime.block_on(self.bucket.store.abort_multipart(&self.key, &self.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(said: &str) -> object_store::Error {
        object_store::Error::PermissionDenied { path: "p".to_owned(), source: said.to_owned().into() }
    }

    #[test]
    fn a_failure_has_the_hint_of_its_code() {
        let generic = |said: &str| object_store::Error::Generic { store: "S3", source: said.to_owned().into() };
        for (error, has) in [
            (denied("<Error><Code>AccessDenied</Code></Error>"), "s3:PutObject"),
            (generic("<Code>SlowDown</Code>"), "fewer requests"),
            (generic("Server returned non-2xx status code: 429 Too Many Requests: "), "fewer requests"),
            (generic("no answer from s3 for calls-503301429.parquet"), "retention.s3.timeout_ms"),
            (generic("<Code>NoSuchBucket</Code>"), "make the bucket"),
            (generic("Error performing PUT http://169.254.169.254/latest"), "no credentials"),
            (generic("Connection refused"), "tallyd doctor"),
        ] {
            let said = innermost(&error);
            assert!(hint(&error, &said).contains(has), "{error}");
        }
    }
}
