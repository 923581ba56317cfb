package tallyd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// knowing makes a recorder that knows a state of budgets, and is not connected.
func knowing(t *testing.T, state map[string]any, options Options) *Recorder {
	options.Endpoint, options.Quiet = t.TempDir()+"/nobody", true
	recorder := newRecorder(t, options)
	t.Cleanup(func() {
		over, cancel := context.WithCancel(context.Background())
		cancel()
		recorder.Close(over)
	})
	if state != nil {
		recorder.standing.hear(state, time.Now())
	}
	return recorder
}

func scope(dimensionsAndNames ...string) map[string]any {
	scope := map[string]any{}
	for at := 0; at < len(dimensionsAndNames); at += 2 {
		scope[dimensionsAndNames[at]] = []any{dimensionsAndNames[at+1]}
	}
	return scope
}

func TestACheckHasTheOptionsTagsAndItsOwnComeFirst(t *testing.T) {
	state := map[string]any{"used_up": []any{scope("tag:team", "ads"), scope("app", "nightly", "tag:environment", "test")}}
	recorder := knowing(t, state, Options{App: "nightly", Tags: map[string]string{"environment": "production", "team": "none"}})
	for _, one := range []struct {
		call    Call
		refused bool
	}{
		{Call{}, false},
		{Call{Tags: map[string]string{"team": "ads"}}, true},
		{Call{Tags: map[string]string{"environment": "test"}}, true},
		{Call{Tags: map[string]string{"environment": "test"}, App: "web"}, false},
	} {
		left, err := recorder.Check(one.call)
		var exceeded *BudgetExceededError
		if !left.Known || errors.As(err, &exceeded) != one.refused {
			t.Errorf("%v: %v, %v", one.call, left, err)
		}
	}
	for _, estimate := range []string{"-1", "NaN", "much", "1e3", "."} {
		if _, err := recorder.Check(Call{EstimateUSD: estimate}); err == nil || !strings.Contains(err.Error(), "an amount in USD") {
			t.Errorf("%s: %v", estimate, err)
		}
	}
	disabled := knowing(t, nil, Options{DenyUnknown: true, Disabled: true})
	if _, err := disabled.Check(Call{}); err != nil {
		t.Error(err)
	}
}

func TestATransportDoesNotSendACallThatIsRefused(t *testing.T) {
	var bodies []string
	vendor := httptest.NewServer(http.HandlerFunc(func(answer http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		bodies = append(bodies, request.URL.Path+" "+string(body))
		answer.Header().Set("Content-Type", "application/json")
		io.WriteString(answer, `{"model":"m","usage":{"input_tokens":10,"output_tokens":5}}`)
	}))
	t.Cleanup(vendor.Close)
	state := map[string]any{"used_up": []any{scope("tag:team", "ads"), scope("model", "claude-opus-4"), scope("model", "gemini-2.5-pro", "user", "u-9")}}
	recorder := knowing(t, state, Options{})
	client := http.Client{Transport: &Transport{Recorder: recorder, EnforceLimits: true, Vendor: func(request *http.Request) (Family, string) {
		if strings.HasPrefix(request.URL.Path, "/v1beta/") {
			return Google, ""
		}
		return Anthropic, ""
	}}}
	ads := WithTags(WithTags(context.Background(), map[string]string{"team": "search"}), map[string]string{"team": "ads"})
	search := WithTags(context.Background(), map[string]string{"team": "search"})
	const messages, generate = "/v1/messages", "/v1beta/models/gemini-2.5-pro:generateContent"
	for _, one := range []struct {
		ctx                context.Context
		path, body, reason string
	}{
		{WithCall(ads, "u-9", "web"), messages, `{"model":"claude-sonnet-4"}`, `the budget of tag team "ads" is used up`},
		{search, messages, `{"stream":true,"model":"claude-opus-4-20250514"}`, `the budget of model "claude-opus-4" is used up`},
		{WithCall(search, "u-9", ""), generate, `{}`, `the budget of model "gemini-2.5-pro" and user "u-9" is used up`},
		{WithCall(search, "u-8", ""), generate, `{}`, ""},
		{search, messages, `{"model":"claude-sonnet-4"}`, ""},
		{ads, "/v1/messages/count_tokens", `{}`, ""},
	} {
		// A reader of another type: such a request cannot make its body again.
		request, _ := http.NewRequestWithContext(one.ctx, "POST", vendor.URL+one.path, io.MultiReader(strings.NewReader(one.body)))
		response, err := client.Do(request)
		var exceeded *BudgetExceededError
		if errors.As(err, &exceeded) != (one.reason != "") || exceeded != nil && exceeded.Reason != one.reason {
			t.Fatalf("%s: %v", one.path, err)
		}
		if err == nil {
			io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
	}
	sent := strings.Join(bodies, "\n")
	if sent != generate+" {}\n"+messages+` {"model":"claude-sonnet-4"}`+"\n/v1/messages/count_tokens {}" {
		t.Error(sent)
	}
	if recorded := recorder.Stats().Recorded; recorded != 2 {
		t.Error(recorded)
	}
}

func BenchmarkCheck(b *testing.B) {
	var usedUp []any
	for at := 0; at < 500; at++ {
		name := string(rune('a'+at%26)) + strings.Repeat("x", at/26)
		usedUp = append(usedUp, scope("user", "u-"+name), scope("tag:team", "team-"+name, "user", "user-"+name))
	}
	var s standing
	s.hear(map[string]any{"used_up": usedUp, "left": []any{map[string]any{"scope": map[string]any{}, "usd": "12.5"}}}, time.Now())
	call := Call{Provider: "claude", Model: "claude-sonnet-5", User: "user-42", Tags: map[string]string{"team": "team-axx"}, EstimateUSD: "0.02"}
	b.ReportAllocs()
	b.ResetTimer()
	for at := 0; at < b.N; at++ {
		if _, err := s.check(call, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
