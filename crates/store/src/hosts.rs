//! One attempt to connect: each host of the address in turn, with the present password and certificates.
//!
//! *Several hosts* are a primary and its standbys: after a failover the same address leads to the new primary. Each
//! host has its own time limit, so that one that drops packets does not use up the others' time. A session must be able
//! to write (`target_session_attrs=read-write`, which a second host implies). A standby that has not been promoted yet
//! is skipped, and tried again at the next attempt.
//!
//! *Rotation needs no restart.* The password's file and the CA file are read at every attempt; open sessions continue.

use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::{ConnectError, HostRefusal};
use super::tls::{self, TlsError};
use super::url::{Address, host_name};

/// The task that moves a session's bytes.
pub(super) type Driver = tokio_postgres::Connection<
    tokio_postgres::Socket,
    <MakeRustlsConnect as tokio_postgres::tls::MakeTlsConnect<tokio_postgres::Socket>>::Stream,
>;

/// The address of a database, with the settings to connect.
pub(super) struct Way {
    pub(super) address: Address,
    /// Time limit for one host, from the first packet to the end of the log-in.
    limit: Duration,
    /// The certificates at the start, used while the CA file cannot be read.
    tls: MakeRustlsConnect,
}

impl Way {
    /// # Errors
    /// [`TlsError`], if there are no certificates to trust.
    pub(super) fn new(address: Address, limit: Duration) -> Result<Self, TlsError> {
        let tls = tls::connector(address.verify, address.ca_file.as_deref(), address.is_direct_tls())?;
        Ok(Self { address, limit, tls })
    }

    /// Time limit for all hosts together.
    pub(super) fn limit(&self) -> Duration {
        // The number of hosts fits into 32 bits.
        self.limit.saturating_mul(self.address.hosts() as u32)
    }

    /// Connects to the first host that accepts the connection.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub(super) async fn connect(&self, application_name: &str) -> Result<(Client, Driver), ConnectError> {
        let mut base = self.address.config.clone();
        base.application_name(application_name);
        if let Some(password) = self.address.password().map_err(ConnectError::PasswordFile)? {
            base.password(password);
        }
        let (tls, limit) = (self.connector(), self.limit);
        let mut refusals = Vec::new();
        for config in one_by_one(&base) {
            // The driver's own limit covers the TCP handshake only.
            let refusal = match timeout(limit, config.connect(tls.clone())).await {
                Ok(Ok(session)) => return Ok(session),
                Ok(Err(source)) => HostRefusal::Refused(source),
                Err(_elapsed) => HostRefusal::Timeout(limit),
            };
            refusals.push((host_name(&config), refusal));
        }
        let address = self.address.redacted();
        // An address has at least one host, so there is at least one refusal.
        Err(match (refusals.len(), refusals.pop()) {
            (1, Some((_, HostRefusal::Refused(source)))) => ConnectError::Refused { address, source },
            (2.., Some(last)) => {
                refusals.push(last);
                ConnectError::NoHost { address, refusals }
            }
            _ => ConnectError::Timeout { address, limit },
        })
    }

    /// The present certificates.
    fn connector(&self) -> MakeRustlsConnect {
        let Some(file) = self.address.ca_file.as_deref() else { return self.tls.clone() };
        tls::connector(self.address.verify, Some(file), self.address.is_direct_tls()).unwrap_or_else(|error| {
            tracing::warn!(%error, "the certificates of the start are trusted on");
            self.tls.clone()
        })
    }
}

/// A configuration for each host, in the order of the attempts.
fn one_by_one(all: &Config) -> Vec<Config> {
    let count = all.get_hosts().len().max(all.get_hostaddrs().len());
    let uneven = |other: usize| other > 1 && other != count;
    // The driver reports numbers that do not match.
    if count == 1 || uneven(all.get_ports().len()) || uneven(all.get_hosts().len()) || uneven(all.get_hostaddrs().len())
    {
        return vec![all.clone()];
    }
    let mut configs: Vec<Config> = (0..count).map(|at| only(all, at)).collect();
    if all.get_load_balance_hosts() == LoadBalanceHosts::Random {
        configs.rotate_left(rand::random_range(0..count));
    }
    configs
}

/// The configuration with one of its hosts. The driver's type cannot remove hosts.
fn only(all: &Config, at: usize) -> Config {
    let mut one = Config::new();
    match all.get_hosts().get(at) {
        Some(Host::Tcp(name)) => drop(one.host(name.as_str())),
        Some(Host::Unix(path)) => drop(one.host_path(path)),
        None => {}
    }
    if let Some(address) = all.get_hostaddrs().get(at) {
        one.hostaddr(*address);
    }
    if let Some(port) = all.get_ports().get(at).or(all.get_ports().first()) {
        one.port(*port);
    }
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    if let Some(name) = all.get_dbname() {
        one.dbname(name);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    if let Some(name) = all.get_application_name() {
        one.application_name(name);
    }
    if let Some(limit) = all.get_connect_timeout() {
        one.connect_timeout(*limit);
    }
    if let Some(limit) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*limit);
    }
    if let Some(interval) = all.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = all.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(all.get_keepalives())
        .keepalives_idle(all.get_keepalives_idle())
        .ssl_mode(all.get_ssl_mode())
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding())
        .target_session_attrs(all.get_target_session_attrs());
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_is_tried_with_all_that_the_address_says() {
        let all = "host=a,/run/pg port=1,2 user=u password=p dbname=d options=-cx=y connect_timeout=3 keepalives=0 \
                   keepalives_idle=4 keepalives_interval=5 keepalives_retries=6 tcp_user_timeout=7 sslmode=require \
                   sslnegotiation=direct channel_binding=require target_session_attrs=read-write application_name=n";
        let one = |host: &str| all.replace("host=a,/run/pg port=1,2", host).parse::<Config>().unwrap();
        let all: Config = all.parse().unwrap();
        assert_eq!(one_by_one(&all), [one("host=a port=1"), one("host=/run/pg port=2")]);
        let addresses: Config = "hostaddr=::1,127.0.0.1 port=7".parse().unwrap();
        let expected: Vec<Config> =
            ["hostaddr=::1 port=7", "hostaddr=127.0.0.1 port=7"].map(|text| text.parse().unwrap()).into();
        assert_eq!(one_by_one(&addresses), expected);
        let wrong: Config = "host=a,b,c port=1,2".parse().unwrap();
        assert_eq!(one_by_one(&wrong), std::slice::from_ref(&wrong), "the driver says what is wrong");
    }
}
