//! E-mail over SMTP, encrypted by rustls. Text, and HTML beside it where a message has it.

use std::time::Duration;

use lettre::message::{Mailbox, MultiPart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport, Message as Mail, Tokio1Executor};

use super::receiver::Shown;
use tallyd_config::{MailTls, Route, mail_server};
use tallyd_model::quote;
use tallyd_store::budgets::outbox::Message;

/// Characters of a subject: mail programs show about half of them.
const SUBJECT_CHARS_MAX: usize = 150;

/// Sends an e-mail to all of the route's recipients at once.
///
/// # Errors
/// A sentence.
pub(super) async fn send(
    route: &Route,
    url: &str,
    password: Option<String>,
    message: &Message,
    shown: &Shown,
    limit: Duration,
) -> Result<(), String> {
    let server = mail_server(url)?;
    let mail = mail(route, message, shown)?;
    let tls = match server.tls {
        MailTls::Plain => Tls::None,
        MailTls::StartTls => Tls::Required(parameters(route, &server.host)?),
        MailTls::Implicit => Tls::Wrapper(parameters(route, &server.host)?),
    };
    let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
        .port(server.port)
        .tls(tls)
        .timeout(Some(limit));
    if !server.user.is_empty() {
        transport = transport.credentials(Credentials::new(server.user, password.unwrap_or_default()));
    }
    let sending = transport.build().send(mail).await;
    sending.map(drop).map_err(|error| format!("{}:{} did not take it: {error}", server.host, server.port))
}

fn mail(route: &Route, message: &Message, shown: &Shown) -> Result<Mail, String> {
    let address = |text: &str| text.parse::<Mailbox>().map_err(|error| format!("{text:?} is not an address: {error}"));
    let from = address(&route.from)?;
    let domain = from.email.domain().to_owned();
    // The same at each attempt, so that a mail server can drop a repeated one.
    let id = format!("<tallyd.{}.{}@{domain}>", message.id, message.at.timestamp_micros());
    let subject: String = quote::line(&shown.headline).chars().take(SUBJECT_CHARS_MAX).collect();
    let mut mail = Mail::builder().from(from).subject(subject).message_id(Some(id));
    for to in &route.to {
        mail = mail.to(address(to)?);
    }
    let text = shown.lines.iter().map(|line| format!("{}\n", quote::line(line))).collect::<String>();
    let mail = match &shown.html {
        Some(html) => mail.multipart(MultiPart::alternative_plain_html(text, html.clone())),
        None => mail.header(lettre::message::header::ContentType::TEXT_PLAIN).body(text),
    };
    mail.map_err(|error| format!("the e-mail cannot be written: {error}"))
}

fn parameters(route: &Route, host: &str) -> Result<TlsParameters, String> {
    let mut parameters = TlsParameters::builder(host.to_owned());
    if let Some(path) = &route.ca_file {
        let unreadable = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
        let pem = std::fs::read(path).map_err(|error| unreadable(&error))?;
        let certificate = Certificate::from_pem(&pem).map_err(|error| unreadable(&error))?;
        parameters = parameters.add_root_certificate(certificate);
    }
    parameters.build_rustls().map_err(|error| format!("encryption cannot be set up: {error}"))
}
