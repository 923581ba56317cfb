//! `[tls]`: the network listeners' certificate, and the certificates that clients must have.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::form;

/// A network listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsListener {
    /// `http.listen`.
    Http,
    /// `http.metrics_listen`.
    Metrics,
    /// `listen.tcp`.
    Tcp,
    /// `otlp.grpc_listen`.
    Grpc,
}

impl TlsListener {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Http, Self::Metrics, Self::Tcp, Self::Grpc];
}

/// TLS of the network listeners.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// A PEM file with the daemon's certificate, and after it those of the authorities between it and the root. Empty: no TLS. The
    /// file is read again when it changes.
    #[serde(with = "form::empty_is_none")]
    pub certificate: Option<PathBuf>,
    /// A PEM file with the certificate's private key. Only the daemon's user should be able to read it.
    #[serde(with = "form::empty_is_none")]
    pub key: Option<PathBuf>,
    /// Listeners that speak TLS once there is a certificate, and nothing else then: `"http"`, `"metrics"`, `"tcp"`, `"grpc"`. The
    /// Unix sockets never do.
    pub listeners: Vec<TlsListener>,
    /// A PEM file with the authorities of clients' certificates. With it a client without a certificate of one of them is
    /// refused; tokens are needed as always.
    #[serde(with = "form::empty_is_none")]
    pub client_ca: Option<PathBuf>,
    /// The listeners on which clients need a certificate, if `client_ca` is set.
    pub client_listeners: Vec<TlsListener>,
}

impl Default for Tls {
    fn default() -> Self {
        let listeners = TlsListener::ALL.to_vec();
        Self { certificate: None, key: None, client_ca: None, client_listeners: listeners.clone(), listeners }
    }
}

impl Tls {
    /// The certificate's and the key's files, if the listener speaks TLS.
    #[must_use]
    pub fn of(&self, listener: TlsListener) -> Option<(&Path, &Path)> {
        let files = self.certificate.as_deref().zip(self.key.as_deref());
        files.filter(|_| self.listeners.contains(&listener))
    }

    /// The authorities of clients' certificates, if the listener's clients need one.
    #[must_use]
    pub fn client_ca_of(&self, listener: TlsListener) -> Option<&Path> {
        self.client_ca.as_deref().filter(|_| self.client_listeners.contains(&listener))
    }

    pub(super) fn validate(&self, faults: &mut Faults) {
        match (&self.certificate, &self.key) {
            (Some(_), None) => {
                faults.add("tls.key", "tls.certificate is set, and its private key is not; name the key's file");
            }
            (None, Some(_)) => {
                faults
                    .add("tls.certificate", "tls.key is set, and its certificate is not; name the certificate's file");
            }
            _ => {}
        }
        if self.client_ca.is_some() && self.certificate.is_none() {
            let reason = "clients' certificates are asked for in TLS alone; set tls.certificate and tls.key";
            faults.add("tls.client_ca", reason);
        }
    }
}
