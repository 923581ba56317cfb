package tallyd

import (
	"crypto/sha1"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

var namespace = ID{0x6d, 0x0f, 0x4d, 0x1e, 0x6d, 0x2b, 0x5a, 0x7e, 0x9a, 0x55, 0x0f, 0x9a, 0x5f, 0x3b, 0x7c, 0x11}

// nameID is a UUID of version 5, from the name's SHA-1.
func nameID(name string) ID {
	digest := sha1.Sum(append(namespace[:], name...))
	var id ID
	copy(id[:], digest[:])
	id[6] = id[6]&0x0f | 0x50
	id[8] = id[8]&0x3f | 0x80
	return id
}

// RecordOf is the record of a complete answer (decoded JSON) that was fetched later, or kept in a queue. `provider` is for
// another vendor whose answers have the family's form; empty: the family's own.
//
// The record's ID is derived from the vendor's id of the answer, so an answer that is recorded again is the same call. An
// answer without usage was paid for, so its record is unpriced.
func RecordOf(family Family, answer map[string]any, provider string) Record {
	record, isTold := UsageOf(family, answer)
	if !isTold {
		record = Record{Model: firstOf(text(answer["model"]), text(answer["modelVersion"])), Metadata: notUnderstood("usage")}
	}
	record.Provider = firstOf(provider, family.provider())
	own := text(answer["id"])
	if family == Google {
		own = text(answer["responseId"])
	}
	if own != "" {
		record.ID, record.RequestID = nameID(record.Provider+"\n"+own), own
	}
	made, isNumber := answer["created"].(float64)
	if !isNumber {
		made, isNumber = answer["created_at"].(float64)
	}
	if isNumber && made > 0 && made == math.Trunc(made) {
		record.OccurredAt = time.Unix(int64(made), 0)
	}
	return record
}

// RecordsOfBatch are the records of a batch's results, from the lines of its file. Their service tier is `batch`. Results that
// were not billed (errored, cancelled, expired) have no record; empty lines are skipped. A line that is not a result is an
// error with the line's number, and no record is returned.
func RecordsOfBatch(family Family, lines []string, provider string) ([]Record, error) {
	var records []Record
	for at, line := range lines {
		if strings.TrimSpace(line) == "" {
			continue
		}
		var result map[string]any
		if err := json.Unmarshal([]byte(line), &result); err != nil {
			return nil, fmt.Errorf("line %d is not JSON: %w", at+1, err)
		}
		answer, err := answerOf(family, result, at+1)
		if err != nil {
			return nil, err
		}
		if answer == nil {
			continue
		}
		record := RecordOf(family, answer, provider)
		tiers := []string{"batch"}
		for _, tier := range strings.Split(record.ServiceTier, "+") {
			if tier != "" && tier != "standard" && tier != "batch" {
				tiers = append(tiers, tier)
			}
		}
		record.ServiceTier = strings.Join(tiers, "+")
		if name := firstOf(text(result["custom_id"]), text(result["key"])); name != "" {
			record.note("custom_id", name)
		}
		records = append(records, record)
	}
	return records, nil
}

// answerOf is the answer in a result; nil if the vendor did not bill it.
func answerOf(family Family, line map[string]any, number int) (map[string]any, error) {
	_, hasResult := line["result"]
	_, hasResponse := line["response"]
	_, hasError := line["error"]
	switch {
	case family == Anthropic && hasResult:
		result := mapping(line["result"])
		if result["type"] == "succeeded" {
			return mapping(result["message"]), nil
		}
		return nil, nil
	case family == OpenAI && hasResponse:
		response := mapping(line["response"])
		if response["status_code"] == float64(200) {
			return mapping(response["body"]), nil
		}
		return nil, nil
	case family == Google && (hasResponse || hasError):
		if answer := mapping(line["response"]); len(answer) > 0 {
			return answer, nil
		}
		return nil, nil
	}
	return nil, fmt.Errorf("line %d is not a result of a batch of %s's", number, family)
}
