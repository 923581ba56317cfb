package tallyd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func newRecorder(t *testing.T, options Options) *Recorder {
	t.Helper()
	options.BackoffMin, options.BackoffMax = 10*time.Millisecond, 100*time.Millisecond
	recorder, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return recorder
}

func TestARealDaemon(t *testing.T) {
	d := startDaemon(t)
	parts := map[string]func(*testing.T, *daemon){
		"a record arrives with its fields":             fields,
		"a wrong record is refused alone":              refusedAlone,
		"a stated id counts once":                      statedID,
		"over TCP with a token":                        overTCP,
		"over HTTP, each request counts once":          overHTTP,
		"a vendor's answers are recorded as they pass": transport,
		"who sends nothing hears of budgets":           budgets,
		"another process with the name is warned of":   nameInUse,
		"a burst that is larger than the buffer waits": burst,
	}
	for name, part := range parts {
		t.Run(name, func(t *testing.T) {
			inner := *d
			inner.t = t
			part(t, &inner)
		})
	}
	d.reconcile()
}

func fields(t *testing.T, d *daemon) {
	recorder := newRecorder(t, Options{Endpoint: d.socket, App: "fields"})
	outcome, err := recorder.RecordAndWait(within(t), Record{
		Provider: "Claude", Model: "claude-sonnet-4-20250514", InputTokens: 100_000, UserID: "u-1", Status: Int(201),
		ExtraUnits: map[string]string{"web_search": "1"}, Metadata: map[string]any{"a": "<b>"},
	})
	if err != nil || outcome.CostUSD != "0.31" {
		t.Fatal(outcome, err)
	}
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	d.until("SELECT id, provider, model, input_tokens, user_id, status, metadata->>'a' FROM api_usage_log WHERE app = 'fields'",
		outcome.ID.String()+"|claude|claude-sonnet-4-20250514|100000|u-1|201|<b>")
	if recorder.Record(Record{Provider: "x"}) || recorder.Stats().Dropped != 1 {
		t.Error("a closed recorder takes a record")
	}
}

func refusedAlone(t *testing.T, d *daemon) {
	var codes []string
	recorder := newRecorder(t, Options{
		Endpoint: d.socket, App: "refused", OnReject: func(_ ID, code, _ string) { codes = append(codes, code) },
	})
	recorder.Record(Record{Provider: "x", Model: "\xff"})
	_, err := recorder.RecordAndWait(within(t), Record{Provider: "x", InputTokens: -1})
	if err == nil || !strings.Contains(err.Error(), "range") {
		t.Error(err)
	}
	recorder.Record(Record{Provider: "x", Metadata: "{"})
	recorder.Record(Record{Provider: "x", InputTokens: 1})
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if stats := recorder.Stats(); fmt.Sprint(codes) != "[client range format]" || stats.Rejected != 3 || stats.Settled != 4 {
		t.Error(codes, stats)
	}
	d.until("SELECT count(*) FROM api_usage_log WHERE app = 'refused'", "1")
}

func statedID(t *testing.T, d *daemon) {
	recorder := newRecorder(t, Options{Endpoint: d.socket, App: "stated"})
	for _, isDuplicate := range []bool{false, true} {
		outcome, err := recorder.RecordAndWait(within(t), Record{Provider: "x", ID: ID{15: 7}})
		if err != nil || outcome.Duplicate != isDuplicate {
			t.Error(outcome, err)
		}
	}
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	d.until("SELECT count(*) FROM api_usage_log WHERE app = 'stated'", "1")
}

func overTCP(t *testing.T, d *daemon) {
	recorder := newRecorder(t, Options{Endpoint: "tcp://wrong@" + d.tcp, App: "tcp", Quiet: true})
	recorder.Record(Record{Provider: "x"})
	until(t, "the token is refused", func() bool { return strings.Contains(recorder.Stats().LastError, "unauthorized") })
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if err := recorder.Close(ended); !errors.Is(err, ErrNotDelivered) || recorder.Stats().Dropped != 1 {
		t.Error(err, recorder.Stats())
	}
	recorder = newRecorder(t, Options{Endpoint: "tcp://" + d.tcp, Token: "s3cret-of-16-characters", App: "tcp"})
	recorder.Record(Record{Provider: "x"})
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	d.until("SELECT count(*) FROM api_usage_log WHERE app = 'tcp'", "1")
}

// lossy loses the first answer to each request, after the daemon has processed it.
type lossy struct {
	mu   sync.Mutex
	seen map[string]bool
	lost int
}

func (l *lossy) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(request)
	l.mu.Lock()
	defer l.mu.Unlock()
	key := request.Header.Get("Idempotency-Key")
	if err == nil && response.StatusCode == 200 && !l.seen[key] {
		l.seen[key] = true
		l.lost++
		response.Body.Close()
		return nil, io.ErrUnexpectedEOF
	}
	return response, err
}

func overHTTP(t *testing.T, d *daemon) {
	network := &lossy{seen: map[string]bool{}}
	before := httpTransport
	httpTransport = network
	defer func() { httpTransport = before }()
	recorder := newRecorder(t, Options{Endpoint: "http://" + d.http, Token: d.token("ingest"), App: "http", Quiet: true})
	for at := 0; at < 3000; at++ {
		recorder.Record(Record{Provider: "rentcast", Endpoint: "/avm"})
	}
	if err := recorder.Flush(within(t)); err != nil {
		t.Fatal(err, recorder.Stats())
	}
	if _, err := recorder.RecordAndWait(within(t), Record{Provider: "x", InputTokens: -1}); err == nil {
		t.Error("it is taken")
	}
	if err := recorder.Close(within(t)); err != nil || network.lost < 3 {
		t.Fatal(err, network.lost)
	}
	d.until("SELECT count(*), count(DISTINCT id) FROM api_usage_log WHERE app = 'http'", "3000|3000")
}

func transport(t *testing.T, d *daemon) {
	answers := map[string]string{
		"/v1/messages":         `{"id":"msg_1","model":"claude-sonnet-4-5","usage":{"input_tokens":10,"output_tokens":5}}`,
		"/v1/chat/completions": "data: {\"model\":\"gpt-4o\",\"choices\":[]}\n\ndata: {\"model\":\"gpt-4o\",\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":3,\"total_tokens\":10}}\n\ndata: [DONE]\n\n",
		"/v1/responses":        "data: {\"type\":\"response.created\",\"response\":{\"model\":\"gpt-4o\"}}\n\n",
	}
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, isThere := answers[r.URL.Path]
		if strings.HasPrefix(answer, "data:") {
			w.Header().Set("Content-Type", "text/event-stream")
		}
		w.Header().Set("X-Request-Id", "req_go")
		if !isThere {
			w.WriteHeader(529)
			answer = `{"error":{}}`
		}
		io.WriteString(w, answer)
	}))
	defer vendor.Close()
	recorder := newRecorder(t, Options{Endpoint: d.socket, App: "transport"})
	client := http.Client{Transport: &Transport{Recorder: recorder, Vendor: func(r *http.Request) (Family, string) {
		if r.URL.Path == "/v1/messages" || r.URL.Path == "/fail/messages" {
			return Anthropic, ""
		}
		return OpenAI, ""
	}}}
	for _, path := range []string{"/v1/messages", "/v1/chat/completions", "/v1/responses", "/fail/messages", "/v1/models"} {
		request, _ := http.NewRequestWithContext(WithCall(context.Background(), "u-9", ""), "POST", vendor.URL+path, nil)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		if wanted := answers[path]; err != nil || (wanted != "" && string(text) != wanted) {
			t.Errorf("%q %v", text, err)
		}
		response.Body.Close()
	}
	vendor.Close()
	if _, err := client.Post(vendor.URL+"/v1/messages", "", nil); err == nil {
		t.Error("nobody is there, and answers")
	}
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	d.until("SELECT string_agg(concat_ws(' ', provider, endpoint, user_id, input_tokens, output_tokens, status, metadata), E'\\n' ORDER BY endpoint, status) FROM api_usage_log WHERE app = 'transport'",
		"claude /fail/messages u-9 0 0 529\nopenai /v1/chat/completions u-9 7 3 200\nclaude /v1/messages u-9 10 5 200\n"+
			"claude /v1/messages  0 0 599\nopenai /v1/responses u-9 0 0 599 {\"tallyd.not_understood\": \"usage\"}")
}

func budgets(t *testing.T, d *daemon) {
	idle := newRecorder(t, Options{Endpoint: d.socket, App: "idle"})
	if err := idle.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	call := Call{Provider: "Google-AI"}
	if idle.ShouldThrottle(call) {
		t.Error("there is no budget")
	}
	until(t, "a budget is set", func() bool {
		_, err := d.run("budgets", "set", "0.000001", "--for", "provider=google")
		return err == nil
	})
	spender := newRecorder(t, Options{Endpoint: d.socket})
	if _, err := spender.RecordAndWait(within(t), Record{Provider: "google", CostUSD: "1"}); err != nil {
		t.Fatal(err)
	}
	until(t, "it has heard of it", func() bool { return idle.ShouldThrottle(call) })
	if idle.ShouldThrottle(Call{Provider: "openai"}) || idle.Stats().Recorded != 0 {
		t.Error("another provider's")
	}
	for _, recorder := range []*Recorder{idle, spender} {
		if err := recorder.Close(within(t)); err != nil {
			t.Error(err)
		}
	}
}

func nameInUse(t *testing.T, d *daemon) {
	recorder := newRecorder(t, Options{Endpoint: d.socket, Quiet: true})
	if err := recorder.Ready(within(t)); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write(hello{producer: recorder.producer, secret: strings.Repeat("n", 32), client: version}.frame())
	if name, _, err := readMessage(conn); name != "welcome" {
		t.Fatal(name, err)
	}
	if _, err := recorder.RecordAndWait(within(t), Record{Provider: "x"}); err != nil {
		t.Fatal(err)
	}
	if warning := recorder.Stats().LastWarning; !strings.HasPrefix(warning, "name_in_use: ") {
		t.Error(warning)
	}
	recorder.Close(within(t))
}

func burst(t *testing.T, d *daemon) {
	recorder := newRecorder(t, Options{Endpoint: d.socket, App: "burst", BufferBytes: 100_000})
	for at := 0; at < 10_000; at++ {
		if err := recorder.Room(within(t)); err != nil {
			t.Fatal(err)
		}
		if !recorder.Record(Record{Provider: "rentcast"}) {
			t.Fatal(at)
		}
	}
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	d.until("SELECT count(*) FROM api_usage_log WHERE app = 'burst'", "10000")
}

func TestAKilledDaemonLosesAndDoublesNothing(t *testing.T) {
	d := startDaemon(t)
	recorder := newRecorder(t, Options{Endpoint: d.socket, App: "killed", Quiet: true})
	stop, recorded := make(chan struct{}), make(chan int)
	go func() {
		count := 0
		for {
			select {
			case <-stop:
				recorded <- count
				return
			default:
			}
			if recorder.Record(Record{Provider: "rentcast"}) {
				count++
			}
			if count%100 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}()
	for round := 0; round < 3; round++ {
		before := recorder.Stats().Settled
		until(t, "records are settled", func() bool { return recorder.Stats().Settled > before+500 })
		d.kill()
		d.up()
	}
	close(stop)
	count := <-recorded
	if err := recorder.Close(within(t)); err != nil || recorder.Stats().Dropped != 0 {
		t.Fatal(err, recorder.Stats())
	}
	d.until("SELECT count(*), count(DISTINCT id) FROM api_usage_log WHERE app = 'killed'", fmt.Sprintf("%d|%d", count, count))
	d.reconcile()
}

func TestFullIsCountedAndNeverBlocks(t *testing.T) {
	var dropped int
	recorder := newRecorder(t, Options{
		Endpoint: filepath.Join(t.TempDir(), "nobody.sock"), BufferBytes: 10_000, OnDrop: func(Record) { dropped++ }, Quiet: true,
	})
	taken := 0
	for at := 0; at < 1000; at++ {
		if recorder.Record(Record{Provider: "x"}) {
			taken++
		}
	}
	if stats := recorder.Stats(); taken == 0 || taken+dropped != 1000 || stats.Dropped != uint64(dropped) {
		t.Error(taken, dropped, stats)
	}
	ended, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := recorder.Close(ended); !errors.Is(err, ErrNotDelivered) || recorder.Stats().Dropped != 1000 {
		t.Error(err, recorder.Stats())
	}
}

func TestADisabledRecorderOpensNothing(t *testing.T) {
	t.Setenv("TALLYD_DISABLED", "1")
	recorder := newRecorder(t, Options{Endpoint: "/nowhere"})
	outcome, err := recorder.RecordAndWait(within(t), Record{Provider: "x"})
	if err != nil || outcome.ID == (ID{}) || recorder.Flush(within(t)) != nil || recorder.Close(within(t)) != nil {
		t.Error(outcome, err)
	}
}

func TestEndpoints(t *testing.T) {
	t.Setenv("TALLYD_TOKEN", "env")
	for text, wanted := range map[string]endpoint{
		"unix:/a":             {network: "unix", address: "/a"},
		"/a":                  {network: "unix", address: "/a"},
		"tcp://t@h:1":         {network: "tcp", address: "h:1", token: "t"},
		"tcp://h:1":           {network: "tcp", address: "h:1", token: "env"},
		"https://t@h/tallyd/": {url: "https://h/tallyd", token: "t"},
	} {
		if found, err := parseEndpoint(text, ""); found != wanted || err != nil {
			t.Error(text, found, err)
		}
	}
	for _, text := range []string{"unix:", "tcp://h", "tcp://", "ftp://h", "https://"} {
		if found, err := parseEndpoint(text, ""); err == nil {
			t.Error(text, found)
		}
	}
}
