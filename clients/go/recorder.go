// Package tallyd records paid API calls at a tallyd daemon. Record never blocks on the daemon: it encodes the call, puts it
// into bounded memory, and returns. A goroutine sends the records, keeps each until the daemon has acknowledged it as durable,
// and resends the others after a reconnect. The daemon recognises a record that it has already.
//
// A record is lost only if the bound is reached, or if the process ends without Close. Losses at the bound or at Close are
// counted and reported.
package tallyd

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// AckMode says when the daemon acknowledges records.
type AckMode string

const (
	// AckDurable: after the sync of the daemon's disk.
	AckDurable AckMode = "durable"
	// AckCommitted: after PostgreSQL's COMMIT, so that nothing acknowledged is lost with the daemon's disk.
	AckCommitted AckMode = "committed"
)

// Options configure a Recorder. The zero value records to TALLYD_ENDPOINT, TALLYD_SOCKET or /run/tallyd/tallyd.sock.
type Options struct {
	// Endpoint is `unix:/path`, `tcp://token@host:port` or `https://host`. Empty: the environment, then the default socket.
	Endpoint string
	// Token is for TCP and HTTP. Empty: TALLYD_TOKEN.
	Token string
	// CA is a PEM file with the authorities of an `https://` endpoint. Empty: the system's.
	CA string
	// App is the application's name, for records without one.
	App string
	// Tags go into records that do not have them, such as {"environment": "production"}.
	Tags map[string]string
	// Producer is the name that the daemon shows. The process id and random digits are appended.
	Producer string
	// BufferBytes bounds the memory for records that are not acknowledged yet. 0: 64 MiB.
	BufferBytes int
	// OnDrop is called with a record that does not fit, or is left at Close. It must not block.
	OnDrop func(Record)
	// OnReject is called with a record that the daemon refused, or that cannot be encoded. It must not block.
	OnReject func(id ID, code, message string)
	// BackoffMin and BackoffMax bound the pause before a reconnect. 0: 50 ms and 10 s.
	BackoffMin, BackoffMax time.Duration
	// AckTimeout is how long to wait for an overdue ack before reconnecting. 0: 30 s.
	AckTimeout time.Duration
	// Ack says when records are acknowledged. The daemon's own setting holds if it is stricter, and always over HTTP. Empty:
	// AckDurable.
	Ack AckMode
	// Quiet: nothing is logged. By default the first message of each kind is, such as a loss without a callback.
	Quiet bool
	// DenyUnknown: Check refuses calls while the state of budgets is not known, because the daemon has not been heard of for 5 minutes,
	// or yet. By default it allows them.
	DenyUnknown bool
	// Disabled, or TALLYD_DISABLED=1: the recorder keeps nothing and opens nothing. For tests.
	Disabled bool
}

// Stats are counts since the recorder was made, in records.
type Stats struct {
	// Recorded counts records that Record took.
	Recorded uint64
	// Settled counts records that are durable or refused.
	Settled uint64
	// Rejected counts records that the daemon refused, or that could not be encoded.
	Rejected uint64
	// Dropped counts lost records: the bound was reached, or the recorder was closed first.
	Dropped   uint64
	Connected bool
	// LastError is why the last connection ended.
	LastError string
	// LastWarning is the daemon's last warning, such as another process with this producer's name.
	LastWarning string
}

// Outcome is the result for one record.
type Outcome struct {
	ID ID
	// CostUSD is decimal text; empty if the record is unpriced, or the daemon had it already.
	CostUSD string
	// Duplicate: a call with this stated id was recorded before.
	Duplicate bool
	Err       error
}

var (
	// ErrDropped: the record did not fit, or the recorder was closed before it was settled.
	ErrDropped = errors.New("tallyd: the record was dropped: the buffer is full or the recorder is closed")
	// ErrNotDelivered: Close could not deliver everything in time.
	ErrNotDelivered = errors.New("tallyd: records were not delivered before the end, and are lost")
)

// itemBytes is a record's memory in addition to its encoded bytes.
const itemBytes = 96

// Recorder records calls. One a process, shared by its goroutines.
type Recorder struct {
	options  Options
	endpoint endpoint
	producer string
	secret   string
	// Of an endpoint over HTTP.
	transport http.RoundTripper

	mu       sync.Mutex
	queue    []item
	bytes    int
	closed   bool
	recorded uint64
	settled  uint64
	rejected uint64
	dropped  uint64
	// moved is closed and replaced at each settlement, and so wakes all waiters.
	moved       chan struct{}
	connected   bool
	lastError   string
	lastWarning string
	told        map[string]bool

	welcomed     chan struct{}
	welcomedOnce sync.Once
	standing     standing
	wake         chan struct{}
	// stop is done from Close on.
	stop   context.Context
	cancel context.CancelFunc
	ended  chan struct{}
}

// New makes a recorder, which connects at once in the background. An invalid endpoint is an error.
func New(options Options) (*Recorder, error) {
	at, err := parseEndpoint(options.Endpoint, options.Token)
	if err != nil {
		return nil, err
	}
	if options.Ack != "" && options.Ack != AckDurable && options.Ack != AckCommitted {
		return nil, fmt.Errorf("tallyd: Ack is %q or %q, not %q", AckDurable, AckCommitted, options.Ack)
	}
	disabled := strings.ToLower(os.Getenv("TALLYD_DISABLED"))
	options.Disabled = options.Disabled || disabled == "1" || disabled == "true" || disabled == "yes" || disabled == "on"
	if options.BufferBytes == 0 {
		options.BufferBytes = 64 << 20
	}
	if options.BackoffMin == 0 {
		options.BackoffMin = 50 * time.Millisecond
	}
	if options.BackoffMax == 0 {
		options.BackoffMax = 10 * time.Second
	}
	if options.AckTimeout == 0 {
		options.AckTimeout = 30 * time.Second
	}
	transport, err := transportFor(options.CA)
	if err != nil {
		return nil, err
	}
	stop, cancel := context.WithCancel(context.Background())
	r := &Recorder{
		transport: transport,
		options:   options, endpoint: at, producer: producerName(options), secret: randomHex(16),
		moved: make(chan struct{}), told: map[string]bool{},
		welcomed: make(chan struct{}), wake: make(chan struct{}, 1), stop: stop, cancel: cancel, ended: make(chan struct{}),
		standing: standing{denies: options.DenyUnknown},
	}
	if options.Disabled {
		close(r.ended)
	} else {
		go newSender(r).run()
	}
	return r, nil
}

func randomHex(bytes int) string {
	digits := make([]byte, bytes)
	randomBytes(digits)
	return hex.EncodeToString(digits)
}

// producerName is unique: two processes never share one. The protocol's bound is 128 bytes.
func producerName(options Options) string {
	base := options.Producer
	if base == "" {
		host, _ := os.Hostname()
		base = firstOf(options.App, "go") + "-" + host
	}
	base = strings.ToValidUTF8(strings.ReplaceAll(base, "\x00", ""), "")
	if len(base) > 96 {
		base = strings.ToValidUTF8(base[:96], "")
	}
	return fmt.Sprintf("%s-%d-%s", base, os.Getpid(), randomHex(4))
}

// Record records a call, and returns at once. False: the record was dropped, counted, and given to OnDrop.
func (r *Recorder) Record(record Record) bool {
	_, taken := r.put(record, nil)
	return taken
}

// RecordAndWait records a call and waits until it is durable. Errors: ErrDropped, the daemon's refusal, or the context's error;
// in the last case the record is still being sent.
func (r *Recorder) RecordAndWait(ctx context.Context, record Record) (Outcome, error) {
	done := make(chan Outcome, 1)
	id, taken := r.put(record, done)
	if !taken {
		return Outcome{Err: ErrDropped}, ErrDropped
	}
	select {
	case outcome := <-done:
		return outcome, outcome.Err
	case <-ctx.Done():
		return Outcome{ID: id, Err: ctx.Err()}, ctx.Err()
	}
}

func (r *Recorder) put(record Record, done chan Outcome) (ID, bool) {
	if record.OccurredAt.IsZero() {
		record.OccurredAt = time.Now()
	}
	if record.ID == (ID{}) {
		record.ID, record.made = newID(record.OccurredAt), true
	}
	record.App = firstOf(record.App, r.options.App)
	record.Tags = together(r.options.Tags, record.Tags)
	if r.options.Disabled {
		if done != nil {
			done <- Outcome{ID: record.ID}
		}
		return record.ID, true
	}
	encoded, err := r.encode(&record)
	if err != nil {
		r.mu.Lock()
		r.recorded++
		r.settled++
		r.mu.Unlock()
		r.refuse(item{id: record.ID, done: done}, "client", err.Error())
		return record.ID, true
	}
	size := len(encoded) + itemBytes
	r.mu.Lock()
	fits := !r.closed && r.bytes+size <= r.options.BufferBytes
	if fits {
		r.bytes += size
		r.recorded++
		r.queue = append(r.queue, item{encoded: encoded, id: record.ID, done: done})
	} else {
		r.dropped++
	}
	r.mu.Unlock()
	if !fits {
		r.drop(record)
		return record.ID, false
	}
	r.poke()
	return record.ID, true
}

func (r *Recorder) encode(record *Record) ([]byte, error) {
	if r.endpoint.url != "" {
		return record.encodeJSON()
	}
	return record.encode(make([]byte, 0, 256))
}

func (r *Recorder) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Flush waits until every earlier record is settled. Errors: the context's, or ErrNotDelivered once the recorder has ended.
func (r *Recorder) Flush(ctx context.Context) error {
	r.mu.Lock()
	wanted := r.recorded
	r.mu.Unlock()
	return r.until(ctx, func() bool { return r.settled >= wanted })
}

// Room waits until the buffer has room for a record, for bursts that are larger than the buffer. Errors are those of Flush.
func (r *Recorder) Room(ctx context.Context) error {
	needed := 64 << 10
	if needed > r.options.BufferBytes {
		needed = r.options.BufferBytes
	}
	return r.until(ctx, func() bool { return r.bytes+needed <= r.options.BufferBytes })
}

// until waits for a condition, which is evaluated with the lock held.
func (r *Recorder) until(ctx context.Context, holds func() bool) error {
	if r.options.Disabled {
		return nil
	}
	for {
		r.mu.Lock()
		moved, done := r.moved, holds()
		r.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-r.ended:
			r.mu.Lock()
			done := holds() && r.dropped == 0
			r.mu.Unlock()
			if done {
				return nil
			}
			return ErrNotDelivered
		}
	}
}

// Close sends the rest until the context ends, then stops. ErrNotDelivered: records were lost, and counted.
func (r *Recorder) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	before := r.dropped
	r.mu.Unlock()
	if r.options.Disabled {
		return nil
	}
	// The sender counts the records that are left when the context ends.
	_ = r.Flush(ctx)
	r.cancel()
	<-r.ended
	r.mu.Lock()
	lost := r.dropped - before
	r.connected = false
	r.mu.Unlock()
	if lost == 0 {
		return nil
	}
	r.tell("end", "tallyd: %d records were not delivered before the end, and are lost", lost)
	return ErrNotDelivered
}

// Ready waits until the daemon has answered for the first time. Errors: the context's, or ErrDropped if the recorder is closed
// or disabled.
func (r *Recorder) Ready(ctx context.Context) error {
	select {
	case <-r.welcomed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-r.ended:
		return ErrDropped
	}
}

// Check tells whether a call may be made, by the budgets that it counts towards: of everything, its provider, model (or the model's
// family), user, application and tags. Application and tags that are left out are those of the options. It does not use the
// network: the daemon's last message counts for 5 minutes. Before the first message (see Ready), and always over HTTP, the state is
// not known, and Options.DenyUnknown decides. Errors: a *BudgetExceededError, or that EstimateUSD is not an amount.
func (r *Recorder) Check(call Call) (Remaining, error) {
	call.Tags = together(r.options.Tags, call.Tags)
	call.App = firstOf(call.App, r.options.App, call.Tags["app"])
	remaining, err := r.standing.check(call, time.Now())
	var exceeded *BudgetExceededError
	if r.options.Disabled && errors.As(err, &exceeded) {
		return Remaining{}, nil
	}
	return remaining, err
}

// Budget is the state of the budgets of everything; the zero value without one, or 5 minutes after the daemon's last message.
func (r *Recorder) Budget() Budget {
	if last := r.standing.believedAt(time.Now()); last != nil {
		return last.budget
	}
	return Budget{}
}

// Stats are the counts so far.
func (r *Recorder) Stats() Stats {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Stats{
		Recorded: r.recorded, Settled: r.settled, Rejected: r.rejected, Dropped: r.dropped,
		Connected: r.connected, LastError: r.lastError, LastWarning: r.lastWarning,
	}
}

// take is a frame of queued records within these bounds; nil if the queue is empty. A record larger than any frame is refused.
func (r *Recorder) take(maxRecords, maxBytes, recordBytesMax int) *frame {
	r.mu.Lock()
	for len(r.queue) > 0 && len(r.queue[0].encoded) > recordBytesMax {
		large := r.queue[0]
		r.queue = r.queue[1:]
		r.mu.Unlock()
		r.refuse(large, "client", fmt.Sprintf("the record is %d bytes, a frame holds %d", len(large.encoded), recordBytesMax))
		r.release([]*frame{{items: []item{large}, size: len(large.encoded)}})
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	count, size := 0, 0
	for count < len(r.queue) && count < maxRecords && (count == 0 || size+len(r.queue[count].encoded) <= maxBytes) {
		size += len(r.queue[count].encoded)
		count++
	}
	if count == 0 {
		return nil
	}
	taken := &frame{items: r.queue[:count:count], size: size}
	r.queue = r.queue[count:]
	return taken
}

// release frees the memory of settled frames.
func (r *Recorder) release(gone []*frame) {
	if len(gone) == 0 {
		return
	}
	r.mu.Lock()
	for _, one := range gone {
		r.settled += uint64(len(one.items))
		r.bytes -= one.size + itemBytes*len(one.items)
	}
	close(r.moved)
	r.moved = make(chan struct{})
	r.mu.Unlock()
}

// abandon counts the records that are lost at the sender's end.
func (r *Recorder) abandon(left []*frame) {
	r.mu.Lock()
	r.closed = true
	left = append(left, &frame{items: r.queue})
	r.queue = nil
	for _, one := range left {
		r.dropped += uint64(len(one.items))
	}
	r.mu.Unlock()
	for _, one := range left {
		for _, lost := range one.items {
			lost.finish(Outcome{ID: lost.id, Err: ErrDropped})
		}
	}
}

func (i item) finish(outcome Outcome) {
	if i.done != nil {
		select {
		case i.done <- outcome:
		default:
		}
	}
}

func (r *Recorder) refuse(refused item, code, message string) {
	r.mu.Lock()
	r.rejected++
	r.mu.Unlock()
	refused.finish(Outcome{ID: refused.id, Err: fmt.Errorf("tallyd: refused (%s): %s", code, message)})
	if r.options.OnReject != nil {
		r.options.OnReject(refused.id, code, message)
		return
	}
	r.tell("reject "+code, "tallyd: record %s was refused (%s): %s", refused.id, code, message)
}

func (r *Recorder) drop(record Record) {
	if r.options.OnDrop != nil {
		r.options.OnDrop(record)
		return
	}
	r.tell("drop", "tallyd: a call of %s was not recorded: the buffer is full or the recorder is closed", record.Provider)
}

// tell logs the first message of each kind.
func (r *Recorder) tell(kind, format string, values ...any) {
	r.mu.Lock()
	isNew := !r.told[kind] && len(r.told) < 64
	r.told[kind] = true
	r.mu.Unlock()
	if isNew && !r.options.Quiet {
		log.Printf(format, values...)
	}
}

func (r *Recorder) setConnected(connected bool, reason string) {
	r.mu.Lock()
	r.connected = connected
	if reason != "" {
		r.lastError = reason
	}
	r.mu.Unlock()
	if connected {
		r.welcomedOnce.Do(func() { close(r.welcomed) })
	}
}

func (r *Recorder) warned(warning map[string]any) {
	if warning == nil {
		return
	}
	text := textOf(warning, "code") + ": " + textOf(warning, "message")
	r.mu.Lock()
	r.lastWarning = text
	r.mu.Unlock()
	r.tell("warning "+textOf(warning, "code"), "tallyd: the daemon warns: %s", text)
}
