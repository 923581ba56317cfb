//! `alerts.routes`: named receivers of messages.

use std::path::PathBuf;

use http::Uri;
use serde::{Deserialize, Serialize};

use super::error::Faults;
use super::{Secret, form};
use tallyd_model::quiet::QuietHours;

/// The name of the route of `alerts.webhook_url`, and of every message that names no other.
pub const DEFAULT_ROUTE: &str = "default";
/// Most routes: each has a task.
const ROUTES_MAX: usize = 32;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 40;
/// Addresses of one e-mail.
const RECIPIENTS_MAX: usize = 50;

/// How a route's receiver is talked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Slack's incoming webhook, or another one that accepts `{"text": …}`.
    Slack,
    /// A webhook of Microsoft Teams' Workflows: an adaptive card.
    Teams,
    /// PagerDuty's Events API v2.
    PagerDuty,
    /// E-mail over SMTP.
    Email,
    /// A webhook signed as Standard Webhooks describes it.
    Webhook,
}

/// A receiver of messages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name, by which rules and reports choose it.
    pub name: String,
    /// How the receiver is talked to.
    pub kind: RouteKind,
    /// The receiver's address; secret.
    #[serde(default, with = "form::empty_is_none")]
    pub url: Option<Secret>,
    /// PagerDuty's routing key, the key that a webhook is signed with, or the password for SMTP.
    #[serde(default, with = "form::empty_is_none")]
    pub secret: Option<Secret>,
    /// The sender of e-mail.
    #[serde(default)]
    pub from: String,
    /// The recipients of e-mail.
    #[serde(default)]
    pub to: Vec<String>,
    /// Certificate authorities of the SMTP server, beside the system's.
    #[serde(default, with = "form::empty_is_none")]
    pub ca_file: Option<PathBuf>,
    /// When messages that are not urgent wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<QuietHours>,
}

impl Route {
    /// A route without settings beside these.
    #[must_use]
    pub fn new(name: &str, kind: RouteKind, url: Secret) -> Self {
        let name = name.to_owned();
        Self {
            name,
            kind,
            url: Some(url),
            secret: None,
            from: String::new(),
            to: Vec::new(),
            ca_file: None,
            quiet: None,
        }
    }

    pub(super) fn validate(&self, faults: &mut Faults) {
        let mut wrong = |reason: &str| faults.add("alerts.routes", format!("route {:?}: {reason}", self.name));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > NAME_CHARS_MAX || !self.name.chars().all(is_name) {
            wrong("a name has 1 to 40 letters, digits, dots, - or _");
        }
        let is_mail = self.kind == RouteKind::Email;
        match (&self.url, self.kind) {
            (None, RouteKind::PagerDuty) => {}
            (None, _) => wrong("it has no url"),
            (Some(url), RouteKind::Email) if !url.is_elsewhere() => {
                if let Err(reason) = mail_server(url.expose()) {
                    wrong(reason);
                }
            }
            (Some(url), _) if !url.is_elsewhere() && !is_http(url) => {
                wrong("its url begins with http:// or https://, or is file:PATH or env:NAME");
            }
            (Some(_), _) => {}
        }
        if self.secret.is_none() && matches!(self.kind, RouteKind::PagerDuty | RouteKind::Webhook) {
            wrong(match self.kind {
                RouteKind::PagerDuty => "it has no secret; give the integration's routing key",
                _ => "it has no secret; make one: `echo whsec_$(openssl rand -base64 32)`",
            });
        }
        if is_mail && (self.from.is_empty() || self.to.is_empty() || self.to.len() > RECIPIENTS_MAX) {
            wrong("e-mail needs from and to, up to 50 addresses");
        }
        if !is_mail && (!self.from.is_empty() || !self.to.is_empty() || self.ca_file.is_some()) {
            wrong("from, to and ca_file are of e-mail only");
        }
    }
}

/// Checks all of them.
pub(super) fn validate(routes: &[Route], has_default: bool, faults: &mut Faults) {
    if routes.len() > ROUTES_MAX {
        faults.add("alerts.routes", format!("there are {}; at most {ROUTES_MAX} are possible", routes.len()));
    }
    for (at, route) in routes.iter().enumerate() {
        route.validate(faults);
        if routes[..at].iter().any(|other| other.name == route.name) {
            faults.add("alerts.routes", format!("there are two of the name {:?}", route.name));
        }
        if has_default && route.name == DEFAULT_ROUTE {
            faults.add("alerts.routes", "alerts.webhook_url is the route \"default\"; name one of them only");
        }
    }
}

pub(super) fn is_http(url: &Secret) -> bool {
    url.expose().starts_with("http://") || url.expose().starts_with("https://")
}

/// How a mail server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailServer {
    /// The server's name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The login; empty without one.
    pub user: String,
    /// Encryption.
    pub tls: MailTls,
}

/// Encryption of a connection to a mail server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// From the first byte: `smtps://`.
    Implicit,
    /// After STARTTLS, without which nothing is sent: `smtp://`.
    StartTls,
    /// None, on this machine: `smtp+plain://`.
    Plain,
}

/// Reads `smtps://[user@]host[:port]`, `smtp://…` or `smtp+plain://…`.
///
/// # Errors
/// A sentence.
pub fn mail_server(url: &str) -> Result<MailServer, &'static str> {
    const FORM: &str =
        "its url is smtps://[user@]host[:port], or smtp:// with STARTTLS, or smtp+plain:// on this machine";
    let (scheme, rest) = url.split_once("://").ok_or(FORM)?;
    let (tls, usual) = match scheme {
        "smtps" => (MailTls::Implicit, 465),
        "smtp" => (MailTls::StartTls, 587),
        "smtp+plain" => (MailTls::Plain, 25),
        _ => return Err(FORM),
    };
    // A login is often an address, with an `@` of its own.
    let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
    if user.contains(':') {
        return Err("the password belongs into secret, not into the url");
    }
    let uri: Uri = format!("http://{place}").parse().map_err(|_| FORM)?;
    let host = uri.host().filter(|host| !host.is_empty()).ok_or(FORM)?;
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(FORM);
    }
    if tls == MailTls::Plain && !super::auth::is_this_machine(host) {
        return Err("smtp+plain:// is for this machine only; use smtp:// or smtps://");
    }
    let host = host.trim_matches(['[', ']']);
    Ok(MailServer { host: host.to_owned(), port: uri.port_u16().unwrap_or(usual), user: user.to_owned(), tls })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mail_server_is_encrypted_unless_it_is_this_machine() {
        let read = |url: &str| mail_server(url).map(|s| (s.user, s.host, s.port, s.tls));
        let is = |user: &str, host: &str, port, tls| Ok((user.to_owned(), host.to_owned(), port, tls));
        assert_eq!(read("smtps://me@x.org@mail.x.org"), is("me@x.org", "mail.x.org", 465, MailTls::Implicit));
        assert_eq!(read("smtp://mail.x.org:2525"), is("", "mail.x.org", 2525, MailTls::StartTls));
        assert_eq!(read("smtp+plain://127.0.0.1:25"), is("", "127.0.0.1", 25, MailTls::Plain));
        for wrong in ["mail.x.org", "https://x", "smtp+plain://mail.x.org", "smtps://", "smtps://u:pw@x", "smtp://x/y"]
        {
            assert!(mail_server(wrong).is_err(), "{wrong}");
        }
    }
}
