package tallyd

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
	"unicode/utf8"
)

// ID is a call's identity, a UUID.
type ID [16]byte

// String is the UUID's text form.
func (id ID) String() string {
	digits := hex.EncodeToString(id[:])
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

// ParseID reads a UUID of 36 characters. Any other text is an error.
func ParseID(text string) (ID, error) {
	var id ID
	digits := strings.ReplaceAll(text, "-", "")
	if len(text) != 36 || len(digits) != 32 {
		return id, fmt.Errorf("%q is not a UUID", text)
	}
	_, err := hex.Decode(id[:], []byte(digits))
	return id, err
}

// newID makes a UUID of version 7 for a call at this time.
func newID(at time.Time) ID {
	var id ID
	randomBytes(id[6:])
	millis := uint64(at.UnixMilli())
	for place := 0; place < 6; place++ {
		id[place] = byte(millis >> (40 - 8*place))
	}
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

func randomBytes(into []byte) {
	if _, err := rand.Read(into); err != nil {
		panic("tallyd: the system has no random bytes: " + err.Error())
	}
}

// Int is a pointer to a number, for the fields of a Record that are pointers because their default is not 0.
func Int(value int64) *int64 { return &value }

// Record is a paid API call. Provider is required; each other field left at its zero value has the protocol's default.
// protocol/README.md has the bounds.
type Record struct {
	// ID states the call's identity: a second record with it is not counted again. Zero: the recorder makes one.
	ID ID
	// OccurredAt is the time of the call. Zero: the time of Record().
	OccurredAt time.Time
	// Provider is `claude`, `openai`, `rentcast` …
	Provider string
	Model    string
	Endpoint string
	// UserID is the product's user on whose behalf the call was made.
	UserID    string
	App       string
	RequestID string
	// The token buckets are disjoint: InputTokens excludes tokens read from or written to a cache.
	InputTokens        int64
	OutputTokens       int64
	CacheReadTokens    int64
	CacheWrite5mTokens int64
	CacheWrite1hTokens int64
	// Requests are the billable units of an API that is priced per request. Nil: 1.
	Requests *int64
	// ExtraUnits are other priced units, as decimal text: {"web_search": "2"}.
	ExtraUnits map[string]string
	// ServiceTier is `batch`, `priority` … Empty: `standard`.
	ServiceTier string
	// Status is the call's HTTP status. Nil: 200. From 400 on it counts as an error.
	Status    *int64
	LatencyMS *int64
	// CostUSD is decimal text: the call's cost, if the application knows better than the price catalog.
	CostUSD string
	// Metadata is stored with the call: a value that marshals to a JSON object, or a JSON object as string or json.RawMessage.
	Metadata any
	// Platform names where the model ran, if not at its vendor: `bedrock`, `vertex`, `azure`, `openrouter`.
	Platform string
	// Tags are what the cost is allocated by: {"team": "search"}. Of an "api_key" only a short hash is stored.
	Tags map[string]string

	// made: the recorder, not the application, made the ID.
	made bool
}

// metadataText is the metadata as JSON; empty without metadata.
func (r *Record) metadataText() (string, error) {
	switch value := r.Metadata.(type) {
	case nil:
		return "", nil
	case string:
		return value, nil
	case json.RawMessage:
		return string(value), nil
	default:
		var text bytes.Buffer
		encoder := json.NewEncoder(&text)
		encoder.SetEscapeHTML(false)
		err := encoder.Encode(value)
		return strings.TrimSuffix(text.String(), "\n"), err
	}
}

func orElse(value *int64, otherwise int64) int64 {
	if value == nil {
		return otherwise
	}
	return *value
}

// texts are the record's text fields.
func (r *Record) texts() []string {
	return []string{r.Provider, r.Model, r.Endpoint, r.UserID, r.App, r.RequestID, r.ServiceTier, r.CostUSD, r.Platform}
}

func (r *Record) checkText(metadata string) error {
	texts := append(r.texts(), metadata)
	for _, entries := range []map[string]string{r.ExtraUnits, r.Tags} {
		for name, text := range entries {
			texts = append(texts, name, text)
		}
	}
	for _, text := range texts {
		if !utf8.ValidString(text) {
			return errors.New("text that is not UTF-8")
		}
	}
	return nil
}

const fieldCount = 22

// encode appends the record's array form, without the trailing fields that hold their defaults.
func (r *Record) encode(to []byte) ([]byte, error) {
	metadata, err := r.metadataText()
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if err := r.checkText(metadata); err != nil {
		return nil, err
	}
	// body has the encoded fields; end and length are its bytes and its fields up to the last one not at its default.
	body, length, count, end := make([]byte, 0, 256), 3, 0, 0
	add := func(isDefault bool, write func([]byte) []byte) {
		body = write(body)
		count++
		if !isDefault || count <= 3 {
			length, end = count, len(body)
		}
	}
	text := func(value, otherwise string) {
		if value == "" {
			value = otherwise
		}
		add(value == otherwise, func(to []byte) []byte { return appendText(to, value) })
	}
	number := func(value, otherwise int64) {
		add(value == otherwise, func(to []byte) []byte { return appendInt(to, value) })
	}
	optional := func(value string) {
		add(value == "", func(to []byte) []byte {
			if value == "" {
				return appendNil(to)
			}
			return appendText(to, value)
		})
	}
	add(false, func(to []byte) []byte {
		switch {
		case r.ID == ID{}:
			return appendNil(to)
		case r.made:
			return appendBytes(to, append([]byte{1}, r.ID[:]...))
		}
		return appendBytes(to, r.ID[:])
	})
	add(false, func(to []byte) []byte {
		if r.OccurredAt.IsZero() {
			return appendNil(to)
		}
		return appendInt(to, r.OccurredAt.UnixMicro())
	})
	text(r.Provider, "")
	text(r.Model, "")
	text(r.Endpoint, "")
	text(r.UserID, "")
	text(r.App, "")
	text(r.RequestID, "")
	number(r.InputTokens, 0)
	number(r.OutputTokens, 0)
	number(r.CacheReadTokens, 0)
	number(r.CacheWrite5mTokens, 0)
	number(r.CacheWrite1hTokens, 0)
	number(orElse(r.Requests, 1), 1)
	add(len(r.ExtraUnits) == 0, func(to []byte) []byte { return appendTexts(to, r.ExtraUnits) })
	text(r.ServiceTier, "standard")
	number(orElse(r.Status, 200), 200)
	add(r.LatencyMS == nil, func(to []byte) []byte {
		if r.LatencyMS == nil {
			return appendNil(to)
		}
		return appendInt(to, *r.LatencyMS)
	})
	optional(r.CostUSD)
	optional(metadata)
	text(r.Platform, "")
	add(len(r.Tags) == 0, func(to []byte) []byte { return appendTexts(to, r.Tags) })
	return append(appendArrayHead(to, length), body[:end]...), nil
}

// together has the entries of both, and those of own where both have one. Neither is changed.
func together(standing, own map[string]string) map[string]string {
	if len(standing) == 0 {
		return own
	}
	both := make(map[string]string, len(standing)+len(own))
	for _, entries := range []map[string]string{standing, own} {
		for name, text := range entries {
			both[name] = text
		}
	}
	return both
}

// appendTexts appends a map of texts, sorted by its names.
func appendTexts(to []byte, texts map[string]string) []byte {
	names := make([]string, 0, len(texts))
	for name := range texts {
		names = append(names, name)
	}
	sort.Strings(names)
	to = appendMapHead(to, len(names))
	for _, name := range names {
		to = appendText(appendText(to, name), texts[name])
	}
	return to
}

// encodeJSON is the record for the HTTP API, where an id that the recorder made looks like any other.
func (r *Record) encodeJSON() ([]byte, error) {
	metadata, err := r.metadataText()
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	if err := r.checkText(metadata); err != nil {
		return nil, err
	}
	said := map[string]any{"provider": r.Provider}
	texts := map[string]string{
		"model": r.Model, "endpoint": r.Endpoint, "user_id": r.UserID, "app": r.App, "request_id": r.RequestID,
		"service_tier": r.ServiceTier, "cost_usd": r.CostUSD, "metadata": metadata, "platform": r.Platform,
	}
	numbers := map[string]int64{
		"input_tokens": r.InputTokens, "output_tokens": r.OutputTokens, "cache_read_tokens": r.CacheReadTokens,
		"cache_write_5m_tokens": r.CacheWrite5mTokens, "cache_write_1h_tokens": r.CacheWrite1hTokens,
	}
	for name, value := range texts {
		if value != "" {
			said[name] = value
		}
	}
	for name, value := range numbers {
		if value != 0 {
			said[name] = value
		}
	}
	for name, value := range map[string]*int64{"requests": r.Requests, "status": r.Status, "latency_ms": r.LatencyMS} {
		if value != nil {
			said[name] = *value
		}
	}
	if r.ID != (ID{}) {
		said["id"] = r.ID.String()
	}
	if !r.OccurredAt.IsZero() {
		said["occurred_at"] = r.OccurredAt.UnixMicro()
	}
	if len(r.ExtraUnits) > 0 {
		said["extra_units"] = r.ExtraUnits
	}
	if len(r.Tags) > 0 {
		said["tags"] = r.Tags
	}
	return json.Marshal(said)
}
