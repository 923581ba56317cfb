package tallyd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"time"
)

const (
	// statusLeft: the application left the stream before its end.
	statusLeft = 499
	// statusUnanswered: no answer came, or it broke off.
	statusUnanswered = 599
	// answerBytes bounds a body, or a line of a stream. A larger one passes unread, and its call is recorded without usage.
	answerBytes = 16 << 20
)

// Transport is an http.RoundTripper that records the calls which pass through it, from the usage in the answers. Give it to
// the HTTP client of a vendor's SDK. Each attempt is a record: an SDK that retries a 529 makes two calls.
//
// OpenAI's chat streams report usage only if the request has `stream_options.include_usage`; without it the call is unpriced.
// Errors in recording never reach the application.
type Transport struct {
	Recorder *Recorder
	// Base sends the requests. Nil: http.DefaultTransport.
	Base http.RoundTripper
	// Vendor returns the vendor of a request; one with an empty Family is not recorded. Nil: KnownVendor, by the host.
	Vendor func(*http.Request) (family Family, provider string)
	// EnforceLimits: a call that Recorder.Check refuses is neither sent nor recorded, and its error is a *BudgetExceededError.
	EnforceLimits bool
}

type contextKey struct{}

func callOf(ctx context.Context) Call {
	call, _ := ctx.Value(contextKey{}).(Call)
	return call
}

// WithCall returns a context whose calls are recorded with this user and application.
func WithCall(ctx context.Context, userID, app string) context.Context {
	return context.WithValue(ctx, contextKey{}, Call{User: userID, App: app, Tags: callOf(ctx).Tags})
}

// WithTags returns a context whose calls are recorded with these tags, beside those of ctx.
func WithTags(ctx context.Context, tags map[string]string) context.Context {
	call := callOf(ctx)
	call.Tags = together(call.Tags, tags)
	return context.WithValue(ctx, contextKey{}, call)
}

var billed = map[Family]*regexp.Regexp{
	Anthropic: regexp.MustCompile(`/(messages|complete)$`),
	OpenAI: regexp.MustCompile(`/(chat/completions|completions|responses|responses/compact|embeddings|rerank` +
		`|images/(generations|edits|variations)|audio/(speech|transcriptions|translations)|videos)$`),
	Google: regexp.MustCompile(`:(generateContent|streamGenerateContent|embedContent|batchEmbedContents|predict|predictLongRunning)$`),
}

var vendors = map[string]struct {
	family   Family
	provider string
}{
	"api.anthropic.com":                 {Anthropic, "claude"},
	"api.openai.com":                    {OpenAI, "openai"},
	"openrouter.ai":                     {OpenAI, "openrouter"},
	"api.deepseek.com":                  {OpenAI, "deepseek"},
	"api.x.ai":                          {OpenAI, "xai"},
	"api.groq.com":                      {OpenAI, "groq"},
	"api.mistral.ai":                    {OpenAI, "mistral"},
	"api.together.xyz":                  {OpenAI, "together"},
	"api.fireworks.ai":                  {OpenAI, "fireworks"},
	"api.moonshot.ai":                   {OpenAI, "moonshot"},
	"api.perplexity.ai":                 {OpenAI, "perplexity"},
	"generativelanguage.googleapis.com": {Google, "google"},
}

// KnownVendor returns the vendor of the request's host. The Family is empty for an unknown host.
func KnownVendor(request *http.Request) (Family, string) {
	host := strings.ToLower(request.URL.Hostname())
	if strings.HasSuffix(host, ".openai.azure.com") || strings.HasSuffix(host, ".services.ai.azure.com") {
		return OpenAI, "azure"
	}
	vendor := vendors[host]
	return vendor.family, vendor.provider
}

// RoundTrip sends the request, and records it if it is a paid call. Errors are those of Base, and those of limits.
func (t *Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	base := t.Base
	if base == nil {
		base = http.DefaultTransport
	}
	vendor := t.Vendor
	if vendor == nil {
		vendor = KnownVendor
	}
	family, provider := vendor(request)
	isBilled := billed[family]
	if isBilled == nil || !isBilled.MatchString(request.URL.Path) {
		return base.RoundTrip(request)
	}
	about := callOf(request.Context())
	about.Provider = firstOf(provider, family.provider())
	if t.EnforceLimits {
		var err error
		if request, err = t.checked(request, about); err != nil {
			return nil, err
		}
	}
	call := &observed{
		recorder: t.Recorder, family: family, began: time.Now(), status: statusLeft,
		record: Record{Provider: about.Provider, Endpoint: request.URL.Path, UserID: about.User, App: about.App, Tags: about.Tags},
	}
	call.record.OccurredAt = call.began
	response, err := base.RoundTrip(request)
	if err != nil {
		var unsent *net.OpError
		call.isUnsent = errors.As(err, &unsent) && unsent.Op == "dial"
		call.settle(statusUnanswered)
		return response, err
	}
	header := response.Header
	call.record.RequestID = firstOf(header.Get("request-id"), header.Get("x-request-id"))
	call.answered = int64(response.StatusCode)
	call.isStream = strings.HasPrefix(header.Get("Content-Type"), "text/event-stream")
	call.isUnread = header.Get("Content-Encoding") != "" && header.Get("Content-Encoding") != "identity"
	call.stream = NewStreamUsage(family)
	call.body = response.Body
	response.Body = call
	return response, nil
}

var modelInPath = regexp.MustCompile(`/models?/([^/:]+)[/:]`)

// checked returns the request to send, whose body was read for the model. On an error the body is closed, as RoundTrip has to.
func (t *Transport) checked(request *http.Request, about Call) (*http.Request, error) {
	if found := modelInPath.FindStringSubmatch(request.URL.Path); found != nil {
		about.Model = found[1]
	} else if request.Body != nil {
		body, err := io.ReadAll(request.Body)
		request.Body.Close()
		if err != nil {
			return nil, err
		}
		var asked struct{ Model string }
		_ = json.Unmarshal(body, &asked) // A body that is not JSON, such as a form with a file, does not name the model so.
		about.Model = asked.Model
		request = request.Clone(request.Context())
		request.Body = io.NopCloser(bytes.NewReader(body))
	}
	_, err := t.Recorder.Check(about)
	if err != nil && request.Body != nil {
		request.Body.Close()
	}
	return request, err
}

// observed is a response's body, which is read while it passes.
type observed struct {
	recorder *Recorder
	family   Family
	record   Record
	began    time.Time
	body     io.ReadCloser
	answered int64
	status   int64
	isStream bool
	isUnread bool
	isUnsent bool
	stream   *StreamUsage
	kept     bytes.Buffer
	whole    bool
	failed   int64
	model    string
	once     sync.Once
}

func (o *observed) Read(into []byte) (int, error) {
	count, err := o.body.Read(into)
	o.feed(into[:count])
	switch {
	case errors.Is(err, io.EOF):
		o.settle(o.answered)
	case err != nil:
		o.settle(statusUnanswered)
	}
	return count, err
}

// Close settles a call whose body was not read to its end: the application left it.
func (o *observed) Close() error {
	o.settle(statusLeft)
	return o.body.Close()
}

func (o *observed) feed(data []byte) {
	if o.isUnread {
		return
	}
	if o.kept.Len()+len(data) > answerBytes {
		o.isUnread = true
		o.kept = bytes.Buffer{}
		return
	}
	o.kept.Write(data)
	for o.isStream {
		end := bytes.IndexByte(o.kept.Bytes(), '\n')
		if end < 0 {
			return
		}
		o.line(o.kept.Next(end + 1))
	}
}

// names are in events with usage. Other events, thousands in a stream, are not worth parsing.
var names = [][]byte{
	[]byte(`"usage"`), []byte(`"message_stop"`), []byte(`"error"`), []byte(`"usageMetadata"`), []byte(`"finishReason"`),
	[]byte(`"groundingMetadata"`),
}

func (o *observed) line(line []byte) {
	data := bytes.TrimSpace(bytes.TrimPrefix(line, []byte("data:")))
	if len(data) == 0 || !bytes.HasPrefix(line, []byte("data:")) {
		return
	}
	if bytes.Equal(data, []byte("[DONE]")) {
		o.whole = true
		return
	}
	isTelling := o.model == ""
	for _, name := range names {
		isTelling = isTelling || bytes.Contains(data, name)
	}
	var event map[string]any
	if !isTelling || json.Unmarshal(data, &event) != nil {
		return
	}
	o.stream.Event(event)
	inner := event
	for _, name := range []string{"response", "message"} {
		if within := mapping(event[name]); within != nil {
			inner = within
		}
	}
	o.model = firstOf(text(inner["model"]), text(event["modelVersion"]), o.model)
	switch kind := text(event["type"]); {
	case kind == "message_stop", kind == "response.completed", kind == "response.incomplete", kind == "response.done":
		o.whole = true
	case kind == "response.failed":
		o.whole, o.failed = true, 500
	case kind == "error", o.family == OpenAI && event["error"] != nil:
		o.failed = 500
		if mapping(event["error"])["type"] == "overloaded_error" {
			o.failed = 529
		}
	}
	for _, candidate := range mappings(event["candidates"]) {
		o.whole = o.whole || text(candidate["finishReason"]) != ""
	}
}

func (o *observed) settle(status int64) {
	o.once.Do(func() {
		record := o.used(&status)
		about := o.record
		record.Provider, record.Endpoint, record.UserID, record.App = about.Provider, about.Endpoint, about.UserID, about.App
		record.RequestID, record.OccurredAt, record.Tags = about.RequestID, about.OccurredAt, about.Tags
		record.Status, record.LatencyMS = Int(status), Int(time.Since(o.began).Milliseconds())
		o.recorder.Record(record)
	})
}

// used has the usage of the answer. A paid answer without usage is unpriced, since 0 tokens would cost 0.
func (o *observed) used(status *int64) Record {
	if o.isUnsent {
		return Record{}
	}
	record, isTold := Record{}, false
	if o.isStream {
		o.line(o.kept.Bytes())
		record, isTold = o.stream.Result()
		if *status == o.answered && o.failed == 0 && !o.whole && *status < 400 {
			*status = statusUnanswered
		}
		if o.whole && *status == statusLeft {
			// The last event had arrived, so the call is complete although the rest was not read.
			*status = o.answered
		}
		if o.failed > 0 && *status < 400 {
			*status = o.failed
		}
	} else if o.stream != nil && !o.isUnread {
		var answer any
		if json.Unmarshal(o.kept.Bytes(), &answer) == nil {
			record, isTold = UsageOf(o.family, answer)
			o.model = text(mapping(answer)["model"])
			if *status == statusLeft && isTold {
				*status = o.answered
			}
		}
	}
	// An error answer of the vendor costs nothing.
	if !isTold && (o.answered < 400 || *status == statusUnanswered) {
		record = Record{Model: o.model, Metadata: notUnderstood("usage")}
	}
	return record
}
