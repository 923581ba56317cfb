package tallyd

import "regexp"

var modalities = map[string]bool{
	"TEXT": true, "AUDIO": true, "IMAGE": true, "VIDEO": true, "DOCUMENT": true, "MODALITY_UNSPECIFIED": true,
}

func googleUsage(body map[string]any) (Record, bool) {
	meta := mapping(body["usageMetadata"])
	if len(meta) == 0 {
		return Record{}, false
	}
	var d doubts
	c := newCounted(meta, "usageMetadata", &d)
	prompt, cached := c.count("promptTokenCount"), c.count("cachedContentTokenCount")
	tool := c.count("toolUsePromptTokenCount")
	said := c.one("candidatesTokenCount", "responseTokenCount")
	thoughts, total := c.count("thoughtsTokenCount"), c.count("totalTokenCount")
	asked, again := c.modalities("promptTokensDetails"), c.modalities("cacheTokensDetails")
	tools := c.modalities("toolUsePromptTokensDetails")
	candidates, responses := c.modalities("candidatesTokensDetails"), c.modalities("responseTokensDetails")
	heard, heardAgain := asked["AUDIO"]+tools["AUDIO"], again["AUDIO"]
	spoken, drawn := candidates["AUDIO"]+responses["AUDIO"], candidates["IMAGE"]+responses["IMAGE"]
	// Only Live models have a rate of their own for image and video input.
	var seen int64
	if _, isLive := meta["responseTokenCount"]; isLive {
		seen = asked["IMAGE"] + asked["VIDEO"]
	}
	if total > 0 && total != prompt+said+thoughts+tool {
		c.doubt("totalTokenCount")
	}
	if _, isList := meta["cacheTokensDetails"].([]any); cached > 0 && heard > 0 && !isList {
		c.doubt("cachedContentTokenCount")
	}
	heardNew := c.less("promptTokensDetails", heard, heardAgain)
	record := Record{
		Model:           text(body["modelVersion"]),
		InputTokens:     c.less("promptTokenCount", prompt+tool, cached, heardNew, seen),
		CacheReadTokens: c.less("cachedContentTokenCount", cached, heardAgain),
		OutputTokens:    c.less("candidatesTokenCount", said, spoken, drawn) + thoughts,
	}
	c.rest()
	traffic := firstOf(text(meta["serviceTier"]), text(meta["trafficType"]))
	if !unspecified.MatchString(traffic) {
		record.ServiceTier = tier(traffic)
	}
	record.unit("audio_input_token", float64(heardNew))
	record.unit("audio_cache_read_token", float64(heardAgain))
	record.unit("audio_output_token", float64(spoken))
	record.unit("image_input_token", float64(seen))
	record.unit("image_output_token", float64(drawn))
	grounded(&record, body)
	record.noted(&d)
	return record, true
}

var (
	unspecified   = regexp.MustCompile("UNSPECIFIED$")
	billedByQuery = regexp.MustCompile(`^gemini-([3-9]|\d\d)`)
)

func (c *counted) modalities(name string) map[string]int64 {
	c.part(name)
	told := map[string]int64{}
	for _, one := range mappings(c.root[name]) {
		modality := firstOf(text(one["modality"]), "MODALITY_UNSPECIFIED")
		if !modalities[modality] {
			c.doubt(join(name, modality))
		}
		told[modality] += newCounted(one, "usageMetadata."+name, c.doubts).count("tokenCount")
	}
	return told
}

// grounded adds units of searches: up to Gemini 2.5 one per prompt, from Gemini 3 on one per query.
func grounded(record *Record, body map[string]any) {
	queries, maps := 0, 0
	for _, candidate := range mappings(body["candidates"]) {
		grounding := mapping(candidate["groundingMetadata"])
		asked, _ := grounding["webSearchQueries"].([]any)
		for _, query := range asked {
			if query != "" {
				queries++
			}
		}
		for _, chunk := range mappings(grounding["groundingChunks"]) {
			if _, isMap := chunk["maps"]; isMap {
				maps = 1
			}
		}
	}
	if queries > 1 && !billedByQuery.MatchString(text(body["modelVersion"])) {
		queries = 1
	}
	record.unit("web_search", float64(queries))
	record.unit("maps_search", float64(maps))
}
