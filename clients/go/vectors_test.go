package tallyd

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func readVectors[T any](t *testing.T, name string) []T {
	t.Helper()
	bytes, err := os.ReadFile("../vectors/" + name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []T
	if err := json.Unmarshal(bytes, &vectors); err != nil {
		t.Fatal(err)
	}
	return vectors
}

// wire is a record in the vectors' form.
type wire struct {
	ID                 string            `json:"id,omitempty"`
	OccurredAt         int64             `json:"occurred_at,omitempty"`
	Provider           string            `json:"provider"`
	Model              string            `json:"model,omitempty"`
	Endpoint           string            `json:"endpoint,omitempty"`
	UserID             string            `json:"user_id,omitempty"`
	App                string            `json:"app,omitempty"`
	RequestID          string            `json:"request_id,omitempty"`
	InputTokens        int64             `json:"input_tokens,omitempty"`
	OutputTokens       int64             `json:"output_tokens,omitempty"`
	CacheReadTokens    int64             `json:"cache_read_tokens,omitempty"`
	CacheWrite5mTokens int64             `json:"cache_write_5m_tokens,omitempty"`
	CacheWrite1hTokens int64             `json:"cache_write_1h_tokens,omitempty"`
	Requests           *int64            `json:"requests,omitempty"`
	ExtraUnits         map[string]string `json:"extra_units,omitempty"`
	ServiceTier        string            `json:"service_tier,omitempty"`
	Status             *int64            `json:"status,omitempty"`
	LatencyMS          *int64            `json:"latency_ms,omitempty"`
	CostUSD            string            `json:"cost_usd,omitempty"`
	Metadata           any               `json:"metadata,omitempty"`
	Platform           string            `json:"platform,omitempty"`
	Tags               map[string]string `json:"tags,omitempty"`
}

func (w wire) record(t *testing.T) Record {
	record := Record{
		Provider: w.Provider, Model: w.Model, Endpoint: w.Endpoint, UserID: w.UserID, App: w.App, RequestID: w.RequestID,
		InputTokens: w.InputTokens, OutputTokens: w.OutputTokens, CacheReadTokens: w.CacheReadTokens,
		CacheWrite5mTokens: w.CacheWrite5mTokens, CacheWrite1hTokens: w.CacheWrite1hTokens, Requests: w.Requests,
		ExtraUnits: w.ExtraUnits, ServiceTier: w.ServiceTier, Status: w.Status, LatencyMS: w.LatencyMS, CostUSD: w.CostUSD,
		Metadata: w.Metadata, Platform: w.Platform, Tags: w.Tags,
	}
	if w.ID != "" {
		id, err := ParseID(w.ID)
		if err != nil || id.String() != w.ID {
			t.Fatal(w.ID, err)
		}
		record.ID = id
	}
	if w.OccurredAt != 0 {
		record.OccurredAt = time.UnixMicro(w.OccurredAt)
	}
	return record
}

func wireOf(record Record) wire {
	w := wire{
		Provider: record.Provider, Model: record.Model, Endpoint: record.Endpoint, UserID: record.UserID, App: record.App,
		RequestID: record.RequestID, InputTokens: record.InputTokens, OutputTokens: record.OutputTokens,
		CacheReadTokens: record.CacheReadTokens, CacheWrite5mTokens: record.CacheWrite5mTokens,
		CacheWrite1hTokens: record.CacheWrite1hTokens, Requests: record.Requests, ExtraUnits: record.ExtraUnits,
		ServiceTier: record.ServiceTier, Status: record.Status, LatencyMS: record.LatencyMS, CostUSD: record.CostUSD,
		Metadata: record.Metadata, Platform: record.Platform, Tags: record.Tags,
	}
	if record.ID != (ID{}) {
		w.ID = record.ID.String()
	}
	if !record.OccurredAt.IsZero() {
		w.OccurredAt = record.OccurredAt.UnixMicro()
	}
	return w
}

// mustEqual compares two values as JSON.
func mustEqual(t *testing.T, found, wanted any) {
	t.Helper()
	plain := func(value any) (plain any) {
		text, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		json.Unmarshal(text, &plain)
		return plain
	}
	if found, wanted := plain(found), plain(wanted); !reflect.DeepEqual(found, wanted) {
		t.Errorf("found  %v\nwanted %v", found, wanted)
	}
}

func TestRecordsAreWrittenByteForByte(t *testing.T) {
	type vector struct {
		Name     string
		Record   wire
		ArrayHex string `json:"array_hex"`
	}
	for _, vector := range readVectors[vector](t, "records") {
		t.Run(vector.Name, func(t *testing.T) {
			record := vector.Record.record(t)
			encoded, err := record.encode(nil)
			if err != nil || hex.EncodeToString(encoded) != vector.ArrayHex {
				t.Errorf("found  %x %v\nwanted %s", encoded, err, vector.ArrayHex)
			}
		})
	}
}

func TestFramesAreWrittenAndRead(t *testing.T) {
	type vector struct {
		Name, Sender, Hex string
		Message           map[string]json.RawMessage
	}
	for _, vector := range readVectors[vector](t, "frames") {
		t.Run(vector.Name, func(t *testing.T) {
			wanted, _ := hex.DecodeString(vector.Hex)
			for name, body := range vector.Message {
				if vector.Sender == "server" {
					read, content, err := readMessage(bytes.NewReader(wanted))
					if err != nil || read != name {
						t.Fatal(read, err)
					}
					var told map[string]any
					json.Unmarshal(body, &told)
					for key, value := range told {
						// An absent value may stand for an empty one.
						if value != nil && !reflect.ValueOf(value).IsZero() && !isEmpty(value) {
							mustEqual(t, content[key], value)
						}
					}
				} else if found := written(t, name, body); !bytes.Equal(found, wanted) {
					t.Errorf("found  %x\nwanted %x", found, wanted)
				}
			}
		})
	}
}

func isEmpty(value any) bool {
	list, isList := value.([]any)
	return isList && len(list) == 0
}

func written(t *testing.T, name string, body json.RawMessage) []byte {
	var said struct {
		Producer, Secret, Client, Token string
		WantCosts                       bool `json:"want_costs"`
		Ack                             AckMode
		FirstSeq                        uint64 `json:"first_seq"`
		Records                         []wire
	}
	if err := json.Unmarshal(body, &said); err != nil {
		t.Fatal(err)
	}
	switch name {
	case "hello":
		return hello{said.Producer, said.Secret, said.Client, said.Token, said.WantCosts, said.Ack}.frame()
	case "watch":
		return watchFrame()
	}
	var items []item
	for _, one := range said.Records {
		record := one.record(t)
		encoded, err := record.encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, item{encoded: encoded})
	}
	return recordsFrame(said.FirstSeq, items)
}

func TestWhatIsNotAMessageIsGarbage(t *testing.T) {
	for _, bytes := range []string{"", "\xc1", "\x80", "\x90", "\x81\xa1x", "\x81\xa1x\x80\x80", "\x81\xa1x\xdd\xff\xff\xff\xff", "\x81\xa1x\xdb\xff\xff\xff\xff", strings.Repeat("\x91", 1000)} {
		if _, _, err := message([]byte(bytes)); err == nil {
			t.Errorf("%q is read", bytes)
		}
	}
}

func TestACallIsHeldBackAsEveryClientDoes(t *testing.T) {
	type vector struct {
		Name    string
		Budgets map[string]any
		Call    struct {
			Provider, Model, User, App, Estimate string
			Tags                                 map[string]string
		}
		Throttle        bool
		Remaining, Says string
	}
	for _, vector := range readVectors[vector](t, "throttle") {
		t.Run(vector.Name, func(t *testing.T) {
			now, c := time.Now(), vector.Call
			call := Call{c.Provider, c.Model, c.User, firstOf(c.App, c.Tags["app"]), c.Tags, c.Estimate}
			for _, denies := range []bool{false, true} {
				s := standing{denies: denies}
				if left, err := s.check(call, now); left.Known || (err != nil) != denies {
					t.Errorf("nothing was heard: %v, %v", left, err)
				}
				s.hear(vector.Budgets, now)
				for _, after := range []time.Duration{0, believed - 1} {
					left, err := s.check(call, now.Add(after))
					if (err != nil) != vector.Throttle || !left.Known || vector.Remaining != "" && left.USD != vector.Remaining {
						t.Errorf("after %s: %+v, %v", after, left, err)
					}
					if vector.Says != "" && err.Error() != "tallyd: the call was not made: "+vector.Says {
						t.Errorf("%v, not %s", err, vector.Says)
					}
				}
				if left, err := s.check(call, now.Add(believed)); left.Known || (err != nil) != denies {
					t.Errorf("the daemon may be gone: %v, %v", left, err)
				}
			}
		})
	}
}

func TestUsageIsReadAsEveryClientReadsIt(t *testing.T) {
	type vector struct {
		Name, Vendor string
		Answer       any
		Events       []map[string]any
		Record       *wire
	}
	for _, vector := range readVectors[vector](t, "usage") {
		t.Run(vector.Name, func(t *testing.T) {
			family := Family(vector.Vendor)
			if vector.Vendor == "openrouter" {
				family = OpenAI
			}
			record, isTold := Record{}, false
			if vector.Events != nil {
				stream := NewStreamUsage(family)
				for _, event := range vector.Events {
					stream.Event(event)
				}
				record, isTold = stream.Result()
			} else {
				record, isTold = UsageOf(family, vector.Answer)
			}
			if isTold != (vector.Record != nil) {
				t.Fatalf("told: %v", isTold)
			}
			if isTold {
				record.Provider = vector.Record.Provider
				mustEqual(t, wireOf(record), vector.Record)
			}
		})
	}
}

func TestABatchsResultsAreRecords(t *testing.T) {
	type vector struct {
		Name, Vendor string
		Lines        []string
		Records      []wire
	}
	for _, vector := range readVectors[vector](t, "batches") {
		t.Run(vector.Name, func(t *testing.T) {
			records, err := RecordsOfBatch(Family(vector.Vendor), vector.Lines, "")
			if err != nil {
				t.Fatal(err)
			}
			var found []wire
			for _, record := range records {
				found = append(found, wireOf(record))
			}
			mustEqual(t, found, vector.Records)
		})
	}
	for line, says := range map[string]string{"{": "line 1 is not JSON", `{"colour":1}`: "line 1 is not a result"} {
		if _, err := RecordsOfBatch(Anthropic, []string{line}, ""); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", line, err)
		}
	}
}
