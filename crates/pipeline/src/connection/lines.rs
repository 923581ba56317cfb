//! Newline-delimited JSON, for people and scripts: a record a line, an answer a line.
//!
//! There are no sequence numbers, so a line that is sent twice counts twice, unless it states its call's id. The
//! answers have the order of the lines, and an `ok` is sent only once its record is durable, or
//! committed, as `wal.ack` says. Over TCP the first line is
//! the token, `{"token": "…"}`, which is answered only if it is wrong.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::buffer::{ReadBuffer, Slow};
use super::outbox::{Late, Outbox, ReplyRoom};
use super::replies::News;
use super::{ConnectionAccess, IngestContext, replies};
use tallyd_intake::{Admission, Code, Encoded, Refusal};
use tallyd_wal::channel::{Closed, ConnectionOrigin};
use tallyd_wal::identity::ProducerIdentity;

#[derive(Serialize)]
#[serde(untagged)]
enum Answer<'a> {
    Accepted {
        ok: bool,
        id: Uuid,
        cost_usd: Option<String>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        should_throttle: bool,
        /// The call was known before, and is not counted again.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        duplicate: bool,
    },
    Refused {
        error: Error<'a>,
    },
}

#[derive(Serialize)]
struct Error<'a> {
    code: &'a str,
    message: &'a str,
    field: Option<&'a str>,
}

impl Answer<'_> {
    fn line(&self) -> Vec<u8> {
        // A struct of texts serializes.
        let mut line = serde_json::to_vec(self).expect("an answer serializes");
        line.push(b'\n');
        line
    }
}

/// The first line of a connection over TCP.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Greeting<'a> {
    #[serde(borrow)]
    token: std::borrow::Cow<'a, str>,
}

/// The longest first line before a token was shown, bytes.
const GREETING_BYTES_MAX: usize = 4_096;

pub(super) async fn serve<R, W>(
    mut buffer: ReadBuffer<R>,
    mut writer: W,
    context: &Arc<IngestContext>,
    access: &ConnectionAccess,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    if access.is_of_strangers() {
        let patience = access.patience(context.limits.hello_timeout);
        let greeting = tokio::time::timeout(patience, is_admitted(&mut buffer, access)).await;
        if !greeting.unwrap_or(false) {
            context.metrics.protocol_error("unauthorized");
            let message = "over TCP the first line is {\"token\": …} with one of listen.tcp_tokens";
            let answer = Answer::Refused { error: Error { code: "unauthorized", message, field: None } };
            // The client may be gone.
            let _ = writer.write_all(&answer.line()).await;
            let _ = writer.shutdown().await;
            return;
        }
    }
    let origin = ConnectionOrigin::with_ack(ProducerIdentity::nobody(), context.ack);
    let (sender, receiver) = mpsc::channel(context.limits.in_flight(origin.ack));
    let room = ReplyRoom::new(&context.rooms);
    let mut outbox = Outbox::new(Arc::clone(&origin), context.lanes, sender, room.clone());
    let replying = tokio::spawn(replies::run(writer, Arc::clone(&origin), receiver, room, News::none()));
    let read = read_lines(&mut buffer, context, &mut outbox).await;
    let _ = outbox.flush(context).await;
    drop(outbox);
    let replied = replies::last(replying, &origin, context.limits.commit_wait).await;
    let Ok((Some(mut writer), closed)) = replied else { return };
    let fault = match (closed, read) {
        (Some(closed @ Closed::Uncommitted), _) => Some(("uncommitted", closed.to_string())),
        (Some(_), _) => Some(("shutting_down", "the daemon is stopping; send unanswered lines again".to_owned())),
        (None, Err(End::Slow(slow))) => Some(("slow", slow.to_string())),
        // The replying task reports an error of the origin.
        (None, _) => None,
    };
    if let Some((code, message)) = &fault {
        if *code == "slow" {
            context.metrics.protocol_error(code);
        }
        let answer = Answer::Refused { error: Error { code, message, field: None } };
        // The client may be gone.
        let _ = writer.write_all(&answer.line()).await;
    }
    let _ = writer.shutdown().await;
    if fault.is_some() {
        buffer.drain().await;
    }
}

/// Why reading lines ended.
enum End {
    Closed,
    Slow(Slow),
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Closed
    }
}

impl From<Slow> for End {
    fn from(slow: Slow) -> Self {
        Self::Slow(slow)
    }
}

/// Reads the greeting. False if there is none, or its token is wrong.
async fn is_admitted<R: AsyncRead + Unpin>(buffer: &mut ReadBuffer<R>, access: &ConnectionAccess) -> bool {
    loop {
        if let Some(end) = buffer.bytes().iter().position(|byte| *byte == b'\n') {
            let greeting = tallyd_model::json::from_slice::<Greeting<'_>>(&buffer.bytes()[..end]);
            let token = greeting.map(|greeting| greeting.token.into_owned()).ok();
            buffer.consume(end + 1);
            return access.admits(token.as_deref()).await;
        }
        let more = buffer.bytes().len() + 1;
        if more > GREETING_BYTES_MAX || !matches!(buffer.read_more(more).await, Ok(true)) {
            return false;
        }
    }
}

async fn read_lines<R: AsyncRead + Unpin>(
    buffer: &mut ReadBuffer<R>,
    context: &IngestContext,
    outbox: &mut Outbox,
) -> Result<(), End> {
    let max = context.limits.max_line_bytes;
    let mut searched = 0;
    let mut too_long = false;
    loop {
        if let Some(end) = buffer.bytes()[searched..].iter().position(|byte| *byte == b'\n') {
            let end = searched + end;
            let (line, is_refused) = (&buffer.bytes()[..end], std::mem::take(&mut too_long));
            if !is_refused && end > max {
                // The line arrived at once, in a buffer larger than the bound.
                refuse_long_line(line, max, context, outbox);
            } else if !is_refused {
                take_line(line, context, outbox);
            }
            buffer.consume(end + 1);
            searched = 0;
            if outbox.is_heavy() || !buffer.bytes().contains(&b'\n') {
                outbox.flush(context).await?;
            }
            continue;
        }
        searched = buffer.bytes().len();
        if searched > max {
            if !std::mem::replace(&mut too_long, true) {
                refuse_long_line(buffer.bytes(), max, context, outbox);
                outbox.flush(context).await?;
            }
            buffer.consume(searched);
            searched = 0;
        }
        if !buffer.read_more(searched + 1).await? {
            break;
        }
    }
    // The last line needs no newline.
    if !too_long {
        take_line(buffer.bytes(), context, outbox);
    }
    Ok(())
}

fn take_line(line: &[u8], context: &IngestContext, outbox: &mut Outbox) {
    let text = line.trim_ascii();
    if text.is_empty() {
        return;
    }
    context.metrics.received.increment(1);
    let catalog = context.catalog.load();
    let admission = Admission { rules: &context.rules, catalog: &catalog, now_us: context.clock.now_us() };
    admission.admit(Encoded::Json(text), |admitted| match admitted {
        Ok(call) => {
            let ticket = outbox.push_call(0, call);
            let cost_usd = call.cost.usd().map(|usd| usd.to_string());
            context.metrics.accepted(&admission, call);
            let should_throttle = context.should_throttle(call);
            let id = Uuid::from_bytes(call.id);
            let answer = move |cost_usd, duplicate| {
                Answer::Accepted { ok: true, id, cost_usd, should_throttle, duplicate }.line()
            };
            let bytes = answer(cost_usd.clone(), false);
            let late = ticket.map(|ticket| -> Late {
                Box::new(move |bytes| if ticket.is_duplicate() { answer(cost_usd, true) } else { bytes })
            });
            outbox.push_reply(bytes, late);
        }
        Err(refusal) => refuse(&refusal, text, context, outbox),
    });
}

fn refuse_long_line(line: &[u8], max: usize, context: &IngestContext, outbox: &mut Outbox) {
    context.metrics.received.increment(1);
    let refusal =
        Refusal::new(Code::TooLong, "", format!("a line has at most {max} bytes; it has more than {}", line.len() - 1));
    refuse(&refusal, line, context, outbox);
}

fn refuse(refusal: &Refusal, line: &[u8], context: &IngestContext, outbox: &mut Outbox) {
    outbox.push_refused(0, context, refusal, Encoded::Json(line));
    let (code, field, message) = (refusal.code.name(), &*refusal.field, &*refusal.message);
    let field = (!field.is_empty()).then_some(field);
    outbox.push_reply(Answer::Refused { error: Error { code, message, field } }.line(), None);
}
