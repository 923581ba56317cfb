package tallyd

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"time"
)

// httpLink is requests of `POST /api/v1/records`, one at a time. A request's idempotency key is made of its sequence numbers, so
// a request that is sent again because its answer was lost counts once.
type httpLink struct {
	recorder *Recorder
	told     chan event
	context  context.Context
	cancel   context.CancelFunc
}

func newHTTPLink(recorder *Recorder) (link, map[string]any) {
	ctx, cancel := context.WithCancel(recorder.stop)
	l := &httpLink{recorder: recorder, told: make(chan event, 4), context: ctx, cancel: cancel}
	// HTTP has no welcome: a request that may have arrived is sent again unchanged.
	return l, map[string]any{"max_records": int64(frameRecords), "max_frame_bytes": int64(frameBytes)}
}

func (l *httpLink) watch() {}

func (l *httpLink) events() <-chan event { return l.told }

func (l *httpLink) close() { l.cancel() }

func (l *httpLink) send(one *frame) {
	go func() {
		ack, err := l.post(one)
		if err == nil {
			l.told <- event{name: "ack", content: ack}
		}
		l.told <- event{wrote: err == nil, err: err}
	}()
}

var invisible = regexp.MustCompile("[^!-~]")

type httpAnswer struct {
	Results []struct {
		CostUSD   string `json:"cost_usd"`
		Duplicate bool   `json:"duplicate"`
		Error     *struct{ Code, Message string }
	}
	Error struct{ Code, Message string }
}

func (l *httpLink) post(one *frame) (map[string]any, error) {
	body := []byte{'['}
	for at, record := range one.items {
		if at > 0 {
			body = append(body, ',')
		}
		body = append(body, record.encoded...)
	}
	body = append(body, ']')
	ctx, cancel := context.WithTimeout(l.context, l.recorder.options.AckTimeout)
	defer cancel()
	endpoint := l.recorder.endpoint
	request, err := http.NewRequestWithContext(ctx, "POST", endpoint.url+"/api/v1/records", bytes.NewReader(body))
	if err != nil {
		return nil, broken{message: err.Error(), slow: true}
	}
	key := fmt.Sprintf("%s-%s-%d-%d", l.recorder.producer, l.recorder.secret, one.first, len(one.items))
	key = invisible.ReplaceAllString(key, "_")
	if len(key) > 255 {
		key = key[len(key)-255:]
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", version)
	request.Header.Set("Idempotency-Key", key)
	if endpoint.token != "" {
		request.Header.Set("Authorization", "Bearer "+endpoint.token)
	}
	// Not the default client: an instrumented one would record the recorder's own requests.
	client := http.Client{Transport: l.recorder.transport}
	answer, err := client.Do(request)
	if err != nil {
		return nil, broken{message: "no answer: " + err.Error()}
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, answerBytesMax))
	if err != nil {
		return nil, broken{message: "no answer: " + err.Error()}
	}
	return answered(one, answer, text)
}

var httpTransport http.RoundTripper = http.DefaultTransport.(*http.Transport).Clone()

// transportFor trusts the authorities in the PEM file; without one, the system's.
func transportFor(ca string) (http.RoundTripper, error) {
	if ca == "" {
		return httpTransport, nil
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("tallyd: CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("tallyd: CA: %s has no certificate in PEM form", ca)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	return transport, nil
}

func answered(one *frame, answer *http.Response, text []byte) (map[string]any, error) {
	var said httpAnswer
	// A proxy's answer is not JSON; then the status decides.
	_ = json.Unmarshal(text, &said)
	ack := map[string]any{"seq": one.last()}
	var costs, duplicates, rejected []any
	refuse := func(at int, code, message string) {
		seq := one.first + uint64(at)
		rejected = append(rejected, map[string]any{"seq": seq, "code": code, "message": message})
	}
	status := answer.StatusCode
	switch {
	case (status == 200 || status == 422) && len(said.Results) == len(one.items):
		for at, result := range said.Results {
			costs = append(costs, result.CostUSD)
			if result.Duplicate {
				duplicates = append(duplicates, one.first+uint64(at))
			}
			if result.Error != nil {
				refuse(at, result.Error.Code, result.Error.Message)
			}
		}
		ack["costs"], ack["duplicates"] = costs, duplicates
	case status == 422 || (status == 413 && len(one.items) == 1):
		// Sent again it would be refused again, for ever, and hold up the records behind it.
		for at := range one.items {
			refuse(at, firstOf(said.Error.Code, fmt.Sprintf("http_%d", status)), said.Error.Message)
		}
	default:
		passes := status >= 500 || status == 408 || status == 409 || status == 425 || status == 429
		seconds, _ := strconv.Atoi(answer.Header.Get("Retry-After"))
		if !passes || seconds < 0 || seconds > 60 {
			seconds = 0
		}
		message := fmt.Sprintf("tallyd answered %d: %s", status, said.Error.Message)
		return nil, broken{message: message, slow: !passes, after: time.Duration(seconds) * time.Second}
	}
	ack["rejected"] = rejected
	return ack, nil
}
