//! Frames of MessagePack: the protocol of the client libraries.

use std::sync::Arc;

use tallyd_protocol::frame::{self, PREFIX_BYTES};
use tallyd_protocol::{Ack, ErrorFrame, Hello, PROTOCOL_VERSION, Rejection, ServerMessage, Warning, Welcome, limits};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::buffer::{ReadBuffer, Slow};
use super::outbox::{Late, Outbox, ReplyRoom};
use super::replies::News;
use super::{ConnectionAccess, IngestContext, replies};
use tallyd_intake::frame::{ClientFrame, FrameError, Records, read};
use tallyd_intake::{Admission, Encoded, Refusal};
use tallyd_model::call::Cost;
use tallyd_wal::channel::{Closed, ConnectionOrigin};
use tallyd_wal::chunk::Ticket;
use tallyd_wal::identity::{HelloError, ProducerIdentity};

/// Why the daemon closes a connection. The names are those of the wire specification.
#[derive(Debug)]
struct Fault {
    code: &'static str,
    message: String,
}

impl Fault {
    fn new(code: &'static str, message: impl ToString) -> Self {
        Self { code, message: message.to_string() }
    }

    fn stopping() -> Self {
        Self::new("shutting_down", "the daemon is stopping; connect again and resend unacknowledged records")
    }

    fn frame(self) -> Vec<u8> {
        let mut out = Vec::new();
        ServerMessage::Error(ErrorFrame { code: self.code.into(), message: self.message }).write_frame(&mut out);
        out
    }
}

impl From<Closed> for Fault {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::Fenced => Self::new("fenced", closed),
            Closed::Crowded => Self::new("too_many_producers", closed),
            Closed::Uncommitted => Self::new("uncommitted", closed),
            Closed::Stopped => Self::stopping(),
        }
    }
}

impl From<Slow> for Fault {
    fn from(slow: Slow) -> Self {
        Self::new("slow", slow)
    }
}

impl From<FrameError> for Fault {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Malformed(_) => Self::new("malformed", error),
            FrameError::TooMany { .. } => Self::new("too_large", error),
        }
    }
}

impl From<HelloError> for Fault {
    fn from(error: HelloError) -> Self {
        match error {
            HelloError::Name => Self::new("producer", error),
            HelloError::Secret => Self::new("secret", error),
            HelloError::Reserved => Self::new("reserved_name", error),
        }
    }
}

/// Bytes of an empty ack, and the bytes that a refused or priced record adds, approximately.
const ACK_BYTES: usize = 128;
const REJECTION_BYTES: usize = 256;
const COST_BYTES: usize = 32;

/// The result of the handshake.
struct Session {
    origin: Arc<ConnectionOrigin>,
    /// The highest sequence number that is in the WAL or on its way there.
    known_seq: u64,
    want_costs: bool,
}

pub(super) async fn serve<R, W>(
    mut buffer: ReadBuffer<R>,
    mut writer: W,
    context: &Arc<IngestContext>,
    access: &ConnectionAccess,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
{
    let patience = access.patience(context.limits.hello_timeout);
    let greeted = tokio::time::timeout(patience, greet(&mut buffer, context, access)).await;
    let greeted = greeted.unwrap_or_else(|_| Err(Fault::new("malformed", "no hello came in time")));
    let (mut session, welcome, news) = match greeted {
        Ok(Some(greeted)) => greeted,
        Ok(None) => return,
        Err(fault) => {
            close(writer, fault, context).await;
            return buffer.drain().await;
        }
    };
    // A client that is already gone may still have sent records.
    let _ = writer.write_all(&welcome).await;
    let (sender, receiver) = mpsc::channel(context.limits.in_flight(session.origin.ack));
    let room = ReplyRoom::new(&context.rooms);
    let mut outbox = Outbox::new(Arc::clone(&session.origin), context.lanes, sender, room.clone());
    let replying = tokio::spawn(replies::run(writer, Arc::clone(&session.origin), receiver, room, news));
    let origin = Arc::clone(&session.origin);
    let read = tokio::select! {
        read = read_records(&mut buffer, context, &mut session, &mut outbox) => read,
        // A client that waits for an ack sends nothing, so reading alone would not notice the close.
        closed = origin.wait_closed() => Err(closed.into()),
    };
    // Complete messages before the fault are made durable and answered first.
    let flushed = outbox.flush(context).await;
    drop(outbox);
    let replied = replies::last(replying, &origin, context.limits.commit_wait).await;
    let Ok((Some(writer), closed)) = replied else { return };
    let fault = match (closed.or(flushed.err()), read) {
        (Some(closed), _) => Some(closed.into()),
        (None, fault) => fault.err(),
    };
    if let Some(fault) = fault {
        close(writer, fault, context).await;
        buffer.drain().await;
    }
}

async fn close(mut writer: impl AsyncWrite + Unpin, fault: Fault, context: &IngestContext) {
    if !matches!(fault.code, "shutting_down" | "uncommitted") {
        tracing::debug!(code = fault.code, message = fault.message, "a connection is closed");
        context.metrics.protocol_error(fault.code);
    }
    // If the client is gone, it learns from the closed connection.
    let _ = writer.write_all(&fault.frame()).await;
    let _ = writer.shutdown().await;
}

/// The handshake. None if the client ended before it.
async fn greet<R: AsyncRead + Unpin>(
    buffer: &mut ReadBuffer<R>,
    context: &IngestContext,
    access: &ConnectionAccess,
) -> Result<Option<(Session, Vec<u8>, News)>, Fault> {
    // Small until a token was shown: no token or name needs more.
    let Some(bytes) = next_frame(buffer, context.limits.max_frame_bytes.min(4096)).await? else { return Ok(None) };
    let hello = match read(&buffer.bytes()[PREFIX_BYTES..bytes], context.limits.max_frame_records)? {
        ClientFrame::Hello(hello) => hello,
        ClientFrame::Records(_) | ClientFrame::Watch => {
            return Err(Fault::new("malformed", "the first message is `hello`"));
        }
    };
    buffer.consume(bytes);
    check_hello(&hello, access).await?;
    let (identity, former) = ProducerIdentity::of_hello(&hello)?;
    // The stricter one of the client's wish and the setting.
    let origin = ConnectionOrigin::with_ack(identity, hello.ack.max(context.ack));
    let opened = context.chunks.open(&origin, Some(former)).await?;
    let mut told = context.budgets.told();
    let budgets = Some(told.borrow_and_update().budgets.clone());
    let welcome = ServerMessage::Welcome(Welcome {
        protocol: PROTOCOL_VERSION,
        last_seq: opened.acked_seq,
        max_frame_bytes: u32::try_from(context.limits.max_frame_bytes).unwrap_or(u32::MAX),
        max_records: u32::try_from(context.limits.max_frame_records).unwrap_or(u32::MAX),
        warning: warning(&origin),
        budgets,
    });
    let mut out = Vec::new();
    welcome.write_frame(&mut out);
    let session = Session { origin, known_seq: opened.known_seq, want_costs: hello.want_costs };
    Ok(Some((session, out, News::after(told))))
}

async fn check_hello(hello: &Hello, access: &ConnectionAccess) -> Result<(), Fault> {
    if hello.protocol != PROTOCOL_VERSION {
        return Err(Fault::new("protocol_version", other_version(hello)));
    }
    if !access.admits(hello.token.as_deref()).await {
        return Err(Fault::new("unauthorized", "the token is missing or not one of listen.tcp_tokens"));
    }
    Ok(())
}

/// Which side has to be upgraded, as text.
fn other_version(hello: &Hello) -> String {
    let Hello { protocol, client, .. } = hello;
    let client = if client.is_empty() { "its tallyd library".to_owned() } else { format!("{client:?}") };
    if *protocol < PROTOCOL_VERSION {
        format!(
            "the client speaks protocol {protocol}, this daemon {PROTOCOL_VERSION}: upgrade the client ({client}) to this \
             daemon's release, {}; it keeps its records until then, up to its bounds",
            env!("CARGO_PKG_VERSION")
        )
    } else {
        format!(
            "the client ({client}) speaks protocol {protocol}, this daemon {PROTOCOL_VERSION}: upgrade the daemon ({})",
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// The warning of an ack, sent once.
fn warning(origin: &ConnectionOrigin) -> Option<Warning> {
    let message = "another process that is connected uses this producer's name. Each has numbers of its own, so no record \
        is lost or counted twice; give the two processes two names";
    origin.takes_warning().then(|| Warning { code: "name_in_use".into(), message: message.into() })
}

/// Waits for a whole frame at the buffer's beginning. Returns its bytes with the prefix; none at the end.
async fn next_frame<R: AsyncRead + Unpin>(buffer: &mut ReadBuffer<R>, max: usize) -> Result<Option<usize>, Fault> {
    if !buffer.fill(PREFIX_BYTES).await? {
        return Ok(None);
    }
    let bytes = PREFIX_BYTES + body_bytes(buffer.bytes(), max)?;
    Ok(buffer.fill(bytes).await?.then_some(bytes))
}

fn body_bytes(bytes: &[u8], max: usize) -> Result<usize, Fault> {
    // The callers have read the prefix.
    let prefix = bytes[..PREFIX_BYTES].try_into().expect("a prefix's bytes");
    frame::body_bytes(prefix, max).map_err(|error| match error {
        frame::PrefixError::Empty => Fault::new("malformed", error),
        frame::PrefixError::TooLarge { .. } => Fault::new("too_large", error),
    })
}

/// True if another whole frame is in the buffer already.
fn has_frame(bytes: &[u8], max: usize) -> bool {
    bytes.len() >= PREFIX_BYTES && body_bytes(bytes, max).is_ok_and(|body| bytes.len() >= PREFIX_BYTES + body)
}

async fn read_records<R: AsyncRead + Unpin>(
    buffer: &mut ReadBuffer<R>,
    context: &IngestContext,
    session: &mut Session,
    outbox: &mut Outbox,
) -> Result<(), Fault> {
    let max = context.limits.max_frame_bytes;
    while let Some(bytes) = next_frame(buffer, max).await? {
        tallyd_base::failpoint::hit("connection.frame");
        take_frame(&buffer.bytes()[PREFIX_BYTES..bytes], context, session, outbox).await?;
        buffer.consume(bytes);
        if outbox.is_heavy() || !has_frame(buffer.bytes(), max) {
            outbox.flush(context).await?;
        }
        if let Some(closed) = session.origin.closed() {
            return Err(closed.into());
        }
    }
    Ok(())
}

async fn take_frame(
    body: &[u8],
    context: &IngestContext,
    session: &mut Session,
    outbox: &mut Outbox,
) -> Result<(), Fault> {
    let records = match read(body, context.limits.max_frame_records)? {
        ClientFrame::Records(records) => records,
        ClientFrame::Watch => {
            outbox.push_watch();
            return Ok(());
        }
        ClientFrame::Hello(_) => return Err(Fault::new("malformed", "`hello` comes once, at the beginning")),
    };
    check_numbers(&records, session.known_seq)?;
    let each = if session.want_costs { REJECTION_BYTES + COST_BYTES } else { REJECTION_BYTES };
    outbox.reserve(ACK_BYTES + records.count() * each, context).await?;
    let (ack, tickets) = take_records(records, context, session, outbox);
    let mut reply = Vec::new();
    let late = (!tickets.is_empty()).then(|| naming_duplicates(ack.clone(), tickets));
    ServerMessage::Ack(ack).write_frame(&mut reply);
    outbox.push_reply(reply, late);
    outbox.release_spare();
    Ok(())
}

/// Adds the numbers of duplicates to an ack, once the writer has found them.
fn naming_duplicates(ack: Ack, tickets: Vec<(u64, Ticket)>) -> Late {
    Box::new(move |reply| {
        let known = tickets.iter().filter(|(_, ticket)| ticket.is_duplicate());
        let duplicates: Vec<u64> = known.map(|(seq, _)| *seq).collect();
        if duplicates.is_empty() {
            return reply;
        }
        let mut reply = Vec::new();
        ServerMessage::Ack(Ack { duplicates, ..ack }).write_frame(&mut reply);
        reply
    })
}

/// Numbers far beyond the known ones are a fault of the client, because the records before them would be here.
fn check_numbers(records: &Records<'_>, known_seq: u64) -> Result<(), Fault> {
    let highest = known_seq.saturating_add(limits::SEQ_JUMP);
    // Decoding has checked that neither is below 0 or above 2^64 − 1.
    let (before, last) = (records.first_seq - 1, records.first_seq - 1 + records.count() as u64);
    if before <= highest && last <= limits::SEQ_MAX {
        return Ok(());
    }
    let message = format!(
        "`first_seq` is {}, after {known_seq}: numbers rise by one a record, a gap has at most {} numbers, and the highest \
         number is {}",
        records.first_seq,
        limits::SEQ_JUMP,
        limits::SEQ_MAX
    );
    Err(Fault::new("sequence", message))
}

/// Takes the records. Returns the ack, and the tickets of records that may be duplicates.
fn take_records(
    records: Records<'_>,
    context: &IngestContext,
    session: &mut Session,
    outbox: &mut Outbox,
) -> (Ack, Vec<(u64, Ticket)>) {
    let catalog = context.catalog.load();
    let admission = Admission { rules: &context.rules, catalog: &catalog, now_us: context.clock.now_us() };
    let last_seq = records.first_seq - 1 + records.count() as u64;
    let mut costs = session.want_costs.then(|| Vec::with_capacity(records.count()));
    let (mut duplicate, mut rejected, mut tickets) = (0, Vec::new(), Vec::new());
    // In this order: after the last record no number is taken, since its number may be the highest one.
    for (bytes, seq) in records.encoded().zip(records.first_seq..) {
        let mut cost = None;
        if seq <= session.known_seq {
            duplicate += 1;
        } else {
            match admit(&admission, bytes, seq, context, outbox) {
                Ok((known, ticket)) => {
                    tickets.extend(ticket.map(|ticket| (seq, ticket)));
                    cost = known.usd().filter(|_| session.want_costs).map(|usd| usd.to_string());
                }
                Err(refusal) => {
                    rejected.push(rejection(seq, &refusal));
                }
            }
        }
        if let Some(costs) = &mut costs {
            costs.push(cost);
        }
    }
    context.metrics.received.increment(records.count() as u64);
    context.metrics.duplicate.increment(duplicate);
    session.known_seq = session.known_seq.max(last_seq);
    let warning = warning(&session.origin);
    let budget = context.budgets.board().global().cloned();
    (Ack { seq: last_seq, costs, rejected, duplicates: Vec::new(), budget, warning }, tickets)
}

fn admit(
    admission: &Admission<'_>,
    bytes: &[u8],
    seq: u64,
    context: &IngestContext,
    outbox: &mut Outbox,
) -> Result<(Cost, Option<Ticket>), Refusal> {
    let record = Encoded::MessagePack(bytes);
    admission.admit(record, |admitted| match admitted {
        Ok(call) => {
            let ticket = outbox.push_call(seq, call);
            context.metrics.accepted(admission, call);
            Ok((call.cost, ticket))
        }
        Err(refusal) => {
            outbox.push_refused(seq, context, &refusal, record);
            Err(refusal)
        }
    })
}

fn rejection(seq: u64, refusal: &Refusal) -> Rejection {
    let field = (!refusal.field.is_empty()).then(|| refusal.field.to_string());
    Rejection { seq, code: refusal.code.name().into(), message: refusal.message.to_string(), field }
}
