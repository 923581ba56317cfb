package tallyd

import (
	"regexp"
	"strings"
)

// Converts vendors' usage into fields of a record. Pure: JSON in, fields out.
//
// The record's token buckets are disjoint; vendors differ in the tokens that they count twice:
//
//   - Anthropic's `input_tokens` exclude cached tokens. A compaction is billed in addition to the answer; a declined attempt of
//     a fallback is not billed.
//   - OpenAI's `prompt_tokens` and `input_tokens` include tokens read from and written to the cache, and audio and image tokens,
//     which have rates of their own. Cached audio is part of both the cached tokens and the audio. Azure, OpenRouter, DeepSeek,
//     Groq, Moonshot, xAI and LiteLLM use the same names, with some counts of their own.
//   - Gemini's prompt includes the cached content. Thoughts and the prompts of tools are separate.
//
// A unit without a rate in the catalog makes the call unpriced. So does a count that is not understood; its name goes into the
// metadata. clients/vectors/usage.json has cases for every client.

// Family is the form of an answer's usage, named by the vendor that introduced it.
type Family string

// The families. OpenAI includes all vendors that use its form.
const (
	Anthropic Family = "anthropic"
	OpenAI    Family = "openai"
	Google    Family = "google"
)

func (f Family) provider() string {
	if f == Anthropic {
		return "claude"
	}
	return string(f)
}

// UsageOf is the record of a complete answer (decoded JSON), without its provider. False: the answer has no usage.
func UsageOf(family Family, answer any) (Record, bool) {
	switch events, isList := answer.([]any); {
	case family == Google && isList:
		// A stream that was requested as an array.
		stream := NewStreamUsage(family)
		for _, event := range mappings(events) {
			stream.Event(event)
		}
		return stream.Result()
	case family == Google:
		return googleUsage(mapping(answer))
	case family == Anthropic:
		return anthropicUsage(mapping(answer))
	}
	return openaiUsage(mapping(answer))
}

// buckets are Anthropic's, of an answer or one iteration: input, output, cache read, 5-minute and 1-hour cache write.
func (c *counted) buckets() [5]int64 {
	input, output := c.count("input_tokens"), c.count("output_tokens")
	read, written := c.count("cache_read_input_tokens"), c.count("cache_creation_input_tokens")
	five := c.count("cache_creation.ephemeral_5m_input_tokens")
	hour := c.count("cache_creation.ephemeral_1h_input_tokens")
	c.part("output_tokens_details")
	if written >= five+hour {
		// Writes that the split leaves out are those of five minutes, the default.
		five = written - hour
	} else if written > 0 {
		c.doubt("cache_creation_input_tokens")
	}
	return [5]int64{input, output, read, five, hour}
}

func anthropicUsage(message map[string]any) (Record, bool) {
	usage := mapping(message["usage"])
	_, hasInput := usage["input_tokens"]
	_, hasOutput := usage["output_tokens"]
	if !hasInput && !hasOutput {
		return Record{}, false
	}
	var d doubts
	c := newCounted(usage, "usage", &d)
	used := c.buckets()
	// A refusal before any output is not billed.
	isRefused := message["stop_reason"] == "refusal" && used[1] == 0
	if isRefused {
		used = [5]int64{}
	}
	searches := c.count("server_tool_use.web_search_requests")
	c.part("server_tool_use.web_fetch_requests", "iterations", "fallback_credit")
	for _, iteration := range mappings(usage["iterations"]) {
		switch kind := text(iteration["type"]); kind {
		case "compaction":
			own := newCounted(iteration, "usage.iterations.compaction", &d)
			for at, count := range own.buckets() {
				used[at] += count
			}
			own.rest()
		case "message", "fallback_message":
		default:
			c.doubt(nameOfIteration(kind))
		}
	}
	// The bill then counts some cache writes as reads, and the usage does not say how many.
	if mapping(mapping(usage["fallback_credit"])["status"])["type"] == "redeemed" {
		c.doubt("fallback_credit")
	}
	cost := c.charge()
	c.rest()
	record := Record{
		Model: text(message["model"]), InputTokens: used[0], OutputTokens: used[1], CacheReadTokens: used[2],
		CacheWrite5mTokens: used[3], CacheWrite1hTokens: used[4], CostUSD: cost,
		ServiceTier: tier(usage["service_tier"], usage["speed"], usage["inference_geo"]),
	}
	record.unit("web_search", float64(searches))
	if isRefused {
		record.note("unbilled", "refusal")
	}
	record.noted(&d)
	return record, true
}

func openaiUsage(answer map[string]any) (Record, bool) {
	usage := mapping(answer["usage"])
	if len(usage) == 0 {
		return Record{}, false
	}
	var d doubts
	c := newCounted(usage, "usage", &d)
	names := [2]string{"prompt_token", "completion_token"}
	if _, isResponse := usage["input_tokens"]; isResponse {
		names = [2]string{"input_token", "output_token"}
	}
	// Realtime and transcriptions use the singular.
	details := func(name string) string {
		if _, isSingular := usage[name+"_details"]; isSingular {
			return name + "_details"
		}
		return name + "s_details"
	}
	asked, said := details(names[0]), details(names[1])
	prompt, completion := names[0]+"s", names[1]+"s"
	whole, output := c.count(prompt), c.count(completion)
	cached := c.one(join(asked, "cached_tokens"), "prompt_cache_hit_tokens", "cached_tokens", "cache_read_input_tokens")
	written := c.one(join(asked, "cache_write_tokens"), join(asked, "cache_creation_tokens"), "cache_creation_input_tokens")
	hour := c.count(join(asked, "cache_creation_token_details.ephemeral_1h_input_tokens"))
	heard, seen := c.count(join(asked, "audio_tokens")), c.count(join(asked, "image_tokens"))
	heardAgain := c.count(join(asked, "cached_tokens_details.audio_tokens"))
	seenAgain := c.count(join(asked, "cached_tokens_details.image_tokens"))
	spoken, drawn := c.count(join(said, "audio_tokens")), c.count(join(said, "image_tokens"))
	thoughts, total := c.count(join(said, "reasoning_tokens")), c.count("total_tokens")
	searches := c.one("server_tool_use.web_search_requests", join(asked, "web_search_requests"))
	var seconds float64
	if usage["type"] == "duration" {
		seconds = c.number("seconds")
	}
	c.part(
		join(asked, "text_tokens"), join(asked, "cached_tokens_details.text_tokens"),
		join(asked, "cache_creation_token_details.ephemeral_5m_input_tokens"), join(said, "text_tokens"),
		join(said, "accepted_prediction_tokens"), join(said, "rejected_prediction_tokens"),
		"prompt_cache_miss_tokens", "server_tool_use.web_fetch_requests", "iterations",
	)
	// Embeddings and rankings of some vendors have a total only.
	if answer["object"] == "list" && whole == 0 && output == 0 {
		whole = total
	}
	if total > 0 && total == whole+output+thoughts {
		output = total - whole
	} else if total > 0 && total != whole+output {
		c.doubt("total_tokens")
	}
	if cached > 0 && heard+seen > 0 && c.get(join(asked, "cached_tokens_details")) == nil {
		c.doubt(join(asked, "cached_tokens"))
	}
	heardNew := c.less(join(asked, "audio_tokens"), heard, heardAgain)
	seenNew := c.less(join(asked, "image_tokens"), seen, seenAgain)
	read := c.less(join(asked, "cached_tokens"), cached, heardAgain, seenAgain)
	record := Record{
		Model:              text(answer["model"]),
		InputTokens:        c.less(prompt, whole, cached, written, heardNew, seenNew),
		OutputTokens:       c.less(completion, output, spoken, drawn),
		CacheReadTokens:    read,
		CacheWrite5mTokens: c.less(join(asked, "cache_creation_token_details"), written, hour),
		CacheWrite1hTokens: hour,
	}
	// LiteLLM sums all attempts of Anthropic, including unbilled ones and those of other models.
	for _, iteration := range mappings(usage["iterations"]) {
		if kind := text(iteration["type"]); kind != "message" && kind != "compaction" {
			c.doubt(nameOfIteration(kind))
		}
	}
	record.CostUSD = c.charge()
	c.rest()
	called := items(answer, &d)
	called["web_search"] += int(searches)
	told := answer["service_tier"]
	if text(told) == "" {
		told = usage["service_tier"]
	}
	record.ServiceTier = tier(told, usage["speed"], usage["inference_geo"])
	for name, count := range called {
		record.unit(name, float64(count))
	}
	record.unit("audio_input_token", float64(heardNew))
	record.unit("audio_cache_read_token", float64(heardAgain))
	record.unit("audio_output_token", float64(spoken))
	record.unit("audio_second", seconds)
	record.unit("image_input_token", float64(seenNew))
	record.unit("image_cache_read_token", float64(seenAgain))
	record.unit("image_output_token", float64(drawn))
	record.noted(&d)
	return record, true
}

// tokensAlone are calls within a response that cost only their tokens.
var tokensAlone = map[string]bool{
	"function_call": true, "custom_tool_call": true, "computer_call": true, "mcp_call": true, "local_shell_call": true,
	"apply_patch_call": true, "tool_search_call": true,
}

var searchModel = regexp.MustCompile("-search-(preview|api)")

// items are units that a response's items, or a model that always searches, cost in addition to tokens.
func items(answer map[string]any, d *doubts) map[string]int {
	counts, containers := map[string]int{}, map[string]bool{}
	if strings.HasPrefix(text(answer["object"]), "chat.completion") && searchModel.MatchString(text(answer["model"])) {
		counts["web_search"] = 1
	}
	for _, item := range mappings(answer["output"]) {
		kind, container := text(item["type"]), text(item["container_id"])
		if !strings.HasSuffix(kind, "_call") || tokensAlone[kind] {
			continue
		}
		unit, isKnown := billedAs(kind, item)
		if !isKnown {
			d.add("output." + kind)
		} else if unit != "" && !(unit == "code_interpreter" && container != "" && containers[container]) {
			counts[unit]++
		}
		containers[container] = true
	}
	return counts
}

// billedAs is the item's unit; empty if the item is not billed.
func billedAs(kind string, item map[string]any) (unit string, isKnown bool) {
	status := item["status"]
	isDone := status == nil || status == "completed"
	when := func(isBilled bool, unit string) (string, bool) {
		if isBilled {
			return unit, true
		}
		return "", true
	}
	switch kind {
	case "web_search_call":
		// Opening a page, or searching in one, is not billed.
		action := text(mapping(item["action"])["type"])
		return when(isDone && (action == "" || action == "search"), "web_search")
	case "file_search_call":
		return when(isDone, "file_search")
	case "image_generation_call":
		return when(status != "failed", "image_generation")
	case "code_interpreter_call":
		return "code_interpreter", true
	case "shell_call":
		environment := mapping(item["environment"])["type"]
		return "", environment == nil || environment == "local"
	}
	return "", false
}
