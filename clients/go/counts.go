package tallyd

import (
	"fmt"
	"math"
	"regexp"
	"sort"
	"strconv"
	"strings"
)

// The counts of a vendor's usage object, with a mark on each count that was read.
//
// A call's usage is understood completely, or the call is unpriced. Not understood are: a quantity that is unmarked at the end,
// and a count that is not a whole number. The first such name goes into the record's metadata, where the daemon shows it.

// mark is the metadata key that makes the daemon leave the call unpriced.
const mark = "tallyd.not_understood"

// noUsage has words in names of values that are not billed: `queue_time`, `max_tokens`. A cost is read elsewhere.
var noUsage = map[string]bool{
	"cost": true, "time": true, "latency": true, "duration": true, "ratio": true, "percent": true, "limit": true,
	"max": true, "remaining": true,
}

var (
	noUsageIn = regexp.MustCompile("per_second|context_window|token_type")
	notWord   = regexp.MustCompile("[^a-z]+")
)

func mapping(value any) map[string]any {
	found, _ := value.(map[string]any)
	return found
}

func mappings(value any) []map[string]any {
	list, _ := value.([]any)
	found := make([]map[string]any, 0, len(list))
	for _, one := range list {
		found = append(found, mapping(one))
	}
	return found
}

func text(value any) string {
	found, _ := value.(string)
	return found
}

// doubts holds the first name of an answer that was not understood.
type doubts struct{ first string }

func (d *doubts) add(name string) { d.first = firstOf(d.first, name) }

// counted reads the counts of one object. `at` is the prefix of the names in `doubts`.
type counted struct {
	root   map[string]any
	at     string
	doubts *doubts
	read   map[string]bool
}

func newCounted(root map[string]any, at string, doubts *doubts) *counted {
	return &counted{root: root, at: at, doubts: doubts, read: map[string]bool{}}
}

func (c *counted) get(path string) any {
	var value any = c.root
	for _, name := range strings.Split(path, ".") {
		value = mapping(value)[name]
	}
	return value
}

func (c *counted) doubt(path string) { c.doubts.add(c.at + "." + path) }

// count is a whole number; 0 if it is missing. It doubts any other value.
func (c *counted) count(path string) int64 {
	value := c.number(path)
	if value == math.Trunc(value) {
		return int64(value)
	}
	c.doubt(path)
	return 0
}

// number is a number from 0 on, below 2^53; 0 if it is missing. It doubts any other value.
func (c *counted) number(path string) float64 {
	c.read[path] = true
	value := c.get(path)
	if value == nil {
		return 0
	}
	if number, isNumber := value.(float64); isNumber && number >= 0 && number < 1<<53 {
		return number
	}
	c.doubt(path)
	return 0
}

// one is a count that vendors give different names. It doubts two that differ.
func (c *counted) one(paths ...string) int64 {
	var found int64
	for _, path := range paths {
		count := c.count(path)
		if found == 0 {
			found = count
		} else if count != 0 && count != found {
			c.doubt(path)
		}
	}
	return found
}

// part marks counts that are parts of others, or cost nothing.
func (c *counted) part(paths ...string) {
	for _, path := range paths {
		c.read[path] = true
	}
}

// less is `whole` minus `parts`, not below 0. It doubts parts that exceed their whole.
func (c *counted) less(path string, whole int64, parts ...int64) int64 {
	for _, part := range parts {
		whole -= part
	}
	if whole < 0 {
		c.doubt(path)
		return 0
	}
	return whole
}

// rest doubts the alphabetically first unread name that holds a quantity.
func (c *counted) rest() {
	unread := c.unread(c.root, "")
	sort.Strings(unread)
	if len(unread) > 0 {
		c.doubt(unread[0])
	}
}

func (c *counted) unread(value any, path string) []string {
	if c.read[path] {
		return nil
	}
	var found []string
	switch value := value.(type) {
	case []any:
		for _, one := range value {
			found = append(found, c.unread(one, path)...)
		}
	case map[string]any:
		for name, one := range value {
			inner := name
			if path != "" {
				inner = path + "." + name
			}
			found = append(found, c.unread(one, inner)...)
		}
	default:
		if tellsUsage(path, value) {
			found = append(found, path)
		}
	}
	return found
}

func tellsUsage(path string, value any) bool {
	name := strings.ToLower(path)
	for _, word := range notWord.Split(name, -1) {
		if noUsage[word] {
			return false
		}
	}
	if noUsageIn.MatchString(name) {
		return false
	}
	switch value := value.(type) {
	case float64:
		return value != 0
	case string:
		return value != "" && strings.Contains(name[strings.LastIndex(name, ".")+1:], "token")
	}
	return false
}

func decimal(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }

func join(names ...string) string { return strings.Join(names, ".") }

func notUnderstood(name string) map[string]any { return map[string]any{mark: name} }

// noted adds the first doubt to the metadata.
func (r *Record) noted(d *doubts) {
	if d.first != "" {
		r.note(mark, d.first)
	}
}

func (r *Record) note(name string, value any) {
	if r.Metadata == nil {
		r.Metadata = map[string]any{}
	}
	mapping(r.Metadata)[name] = value
}

// unit adds a priced quantity, unless it is 0.
func (r *Record) unit(name string, quantity float64) {
	if quantity == 0 {
		return
	}
	if r.ExtraUnits == nil {
		r.ExtraUnits = map[string]string{}
	}
	r.ExtraUnits[name] = decimal(quantity)
}

// tier joins tier, speed and region: `batch+us`. Names without an effect on the price are left out.
func tier(parts ...any) string {
	var said []string
	for _, part := range parts {
		switch name := text(part); name {
		case "", "standard", "default", "auto", "global", "not_available":
		default:
			said = append(said, name)
		}
	}
	return strings.Join(said, "+")
}

// charge is the vendor's own charge in USD: `cost` of OpenRouter and Perplexity.
//
// With the caller's own key, OpenRouter's `cost` is its fee, and the upstream vendor's charge is added. A cost of 0 counts only
// from OpenRouter; for other vendors it means unknown.
func (c *counted) charge() string {
	path := "cost"
	if _, isSum := mapping(c.get("cost"))["total_cost"]; isSum {
		path = "cost.total_cost"
	}
	if c.get(path) == nil {
		return ""
	}
	cost, own := c.number(path), c.get("is_byok")
	if own == true {
		cost += c.number("cost_details.upstream_inference_cost")
	} else if cost == 0 && (own != false || c.get(path) != float64(0)) {
		return ""
	}
	return decimal(cost)
}

func nameOfIteration(kind string) string { return fmt.Sprintf("iterations.%s", kind) }
