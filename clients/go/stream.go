package tallyd

import "strings"

// StreamUsage collects the usage of a stream's events. An incomplete stream has its usage so far, and a mark in the metadata.
type StreamUsage struct {
	family  Family
	answer  map[string]any
	usage   map[string]any
	found   Record
	isFound bool
	isWhole bool
}

// NewStreamUsage begins a stream whose usage has the family's form.
func NewStreamUsage(family Family) *StreamUsage {
	return &StreamUsage{family: family, answer: map[string]any{}, usage: map[string]any{}}
}

// Event takes the next event's decoded JSON.
func (s *StreamUsage) Event(event map[string]any) {
	switch s.family {
	case Anthropic:
		s.ofAnthropic(event)
	case Google:
		s.ofGoogle(event)
	default:
		if strings.HasPrefix(text(event["type"]), "response.") {
			event = mapping(event["response"])
		}
		if record, isFound := openaiUsage(event); isFound {
			s.found, s.isFound = record, true
		}
	}
}

func (s *StreamUsage) ofAnthropic(event map[string]any) {
	switch event["type"] {
	case "message_start":
		s.answer, s.usage = map[string]any{}, map[string]any{}
		for name, value := range mapping(event["message"]) {
			s.answer[name] = value
		}
		for name, value := range mapping(s.answer["usage"]) {
			s.usage[name] = value
		}
	case "message_delta":
		// Its counts are cumulative, and some may be missing.
		for name, value := range mapping(event["usage"]) {
			if value != nil {
				s.usage[name] = value
			}
		}
		s.answer["stop_reason"] = mapping(event["delta"])["stop_reason"]
	case "message_stop":
		s.isWhole = true
	}
}

func (s *StreamUsage) ofGoogle(event map[string]any) {
	candidates := mappings(event["candidates"])
	for _, one := range candidates {
		s.isWhole = s.isWhole || text(one["finishReason"]) != ""
		if one["groundingMetadata"] != nil {
			s.answer["candidates"] = event["candidates"]
		}
	}
	for _, name := range []string{"modelVersion", "usageMetadata"} {
		if event[name] != nil {
			s.answer[name] = event[name]
		}
	}
}

// Result is the record of the usage so far, without its provider. False: no event had usage.
func (s *StreamUsage) Result() (Record, bool) {
	var record Record
	var isFound bool
	switch s.family {
	case Anthropic:
		s.answer["usage"] = s.usage
		record, isFound = anthropicUsage(s.answer)
	case Google:
		record, isFound = googleUsage(s.answer)
	default:
		return s.found, s.isFound
	}
	if isFound && !s.isWhole {
		record.note("incomplete", true)
	}
	return record, isFound
}
