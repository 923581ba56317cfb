package tallyd

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"regexp"
	"sort"
	"strings"
)

// date matches `-20250514`, `@20250514` or `-2025-05-14` at a name's end: a year of this century, a real month and day.
var date = regexp.MustCompile(
	`^(?s)(.+)(?:[-@]20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|-20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))$`)

var hashed = regexp.MustCompile(`^sha256:[0-9a-f]{12}$`)

// amount matches decimal text without a sign or an exponent.
var amount = regexp.MustCompile(`^(?:\d+\.?\d*|\.\d+)$`)

// Call has the properties of a call that budgets are set for.
type Call struct {
	Provider, Model, User, App string
	Tags                       map[string]string
	// EstimateUSD is what the call may cost, as decimal text; empty without an estimate.
	EstimateUSD string
}

// names are the call's names in a dimension: of a model also its family. A name that is empty is not one.
func (c Call) names(dimension string) []string {
	switch dimension {
	case "provider":
		return []string{strings.ToLower(strings.TrimSpace(c.Provider))}
	case "model":
		if family := date.ReplaceAllString(c.Model, "$1"); family != c.Model {
			return []string{c.Model, family}
		}
		return []string{c.Model}
	case "user":
		return []string{c.User}
	case "app", "tag:app": // The application is a tag, too.
		return []string{c.App}
	}
	tag := strings.TrimPrefix(dimension, "tag:")
	value := c.Tags[tag]
	if strings.EqualFold(tag, "api_key") && value != "" && !hashed.MatchString(value) {
		digest := sha256.Sum256([]byte(value))
		value = "sha256:" + hex.EncodeToString(digest[:6])
	}
	return []string{value}
}

// scopes are budgets by their scopes. Many scopes have the same dimensions (each user of a team, say), so they share a tree whose
// depth is the number of dimensions. A lookup costs a step for each dimension, however many scopes there are.
type scopes struct {
	// lists has, of each dimension, the names with the numbers of the lists that have them.
	lists   map[string]map[string][]int
	trees   map[string]*tree
	numbers map[string]int
}

type tree struct {
	dimensions []string
	root       node
}

type node struct {
	told *told
	next map[int]*node
}

// told is a budget of a scope; usd is its remaining amount, empty once it is used up.
type told struct {
	usd        string
	dimensions []string
	lists      [][]string
}

// add takes a budget. A scope with a dimension that this client does not know matches no call, and is left out: a newer daemon may
// know more.
func (s *scopes) add(scope map[string]any, usd string) {
	one := &told{usd: usd}
	for dimension := range scope {
		switch {
		case dimension == "provider", dimension == "model", dimension == "user", dimension == "app", strings.HasPrefix(dimension, "tag:"):
			one.dimensions = append(one.dimensions, dimension)
		default:
			return
		}
	}
	sort.Strings(one.dimensions)
	shape := strings.Join(one.dimensions, "\x00")
	if s.trees[shape] == nil {
		s.trees[shape] = &tree{dimensions: one.dimensions}
	}
	at := &s.trees[shape].root
	for _, dimension := range one.dimensions {
		var names []string
		for _, name := range listOf(scope, dimension) {
			if text, isText := name.(string); isText {
				names = append(names, text)
			}
		}
		one.lists = append(one.lists, names)
		number := s.number(dimension, names)
		if at.next == nil {
			at.next = map[int]*node{}
		}
		if at.next[number] == nil {
			at.next[number] = &node{}
		}
		at = at.next[number]
	}
	at.told = lesser(one, at.told)
}

// number is that of a list of names. The same names in another scope are the same list.
func (s *scopes) number(dimension string, names []string) int {
	key := dimension + "\x00" + strings.Join(names, "\x00")
	number, isKnown := s.numbers[key]
	if isKnown {
		return number
	}
	number = len(s.numbers)
	s.numbers[key] = number
	if s.lists[dimension] == nil {
		s.lists[dimension] = map[string][]int{}
	}
	for _, name := range names {
		if name != "" {
			s.lists[dimension][name] = append(s.lists[dimension][name], number)
		}
	}
	return number
}

// least is the budget that the call counts towards and that has the least left; nil if it counts towards none.
func (s *scopes) least(call Call) *told {
	if len(s.trees) == 0 {
		return nil
	}
	found := make(map[string][]int, len(s.lists))
	for dimension, lists := range s.lists {
		for _, name := range call.names(dimension) {
			if numbers := lists[name]; numbers != nil {
				found[dimension] = append(found[dimension][:len(found[dimension]):len(found[dimension])], numbers...)
			}
		}
	}
	var least *told
	for _, tree := range s.trees {
		least = tree.root.least(tree.dimensions, found, least)
	}
	return least
}

func (n *node) least(dimensions []string, found map[string][]int, least *told) *told {
	if len(dimensions) == 0 {
		return lesser(n.told, least)
	}
	for _, number := range found[dimensions[0]] {
		if next := n.next[number]; next != nil {
			least = next.least(dimensions[1:], found, least)
		}
	}
	return least
}

// lesser is the one of both that has less left. Either may be nil.
func lesser(one, other *told) *told {
	switch {
	case one == nil:
		return other
	case other == nil, one.usd == "":
		return one
	case other.usd == "", isAbove(one.usd, other.usd):
		return other
	}
	return one
}

// scope has the names by which the call counts towards the budget.
func (t *told) scope(call Call) map[string]string {
	scope := map[string]string{}
	for at, dimension := range t.dimensions {
		for _, name := range call.names(dimension) {
			for _, listed := range t.lists[at] {
				if _, isNamed := scope[dimension]; name == listed && !isNamed {
					scope[dimension] = name
				}
			}
		}
	}
	return scope
}

// inWords is a scope such as `tag team "search" and user "u-42"`.
func inWords(scope map[string]string) string {
	said := make([]string, 0, len(scope))
	for dimension, name := range scope {
		quoted, _ := json.Marshal(name)
		said = append(said, strings.Replace(dimension, ":", " ", 1)+" "+string(quoted))
	}
	if len(said) == 0 {
		return "all spend"
	}
	sort.Strings(said)
	return strings.Join(said, " and ")
}

// isAbove compares two amounts to the last digit.
func isAbove(one, other string) bool {
	whole, part := digits(one)
	otherWhole, otherPart := digits(other)
	if len(whole) != len(otherWhole) {
		return len(whole) > len(otherWhole)
	}
	return whole+part > otherWhole+otherPart
}

// digits are those before and after the point, without zeros that mean nothing.
func digits(amount string) (whole, part string) {
	whole, part, _ = strings.Cut(amount, ".")
	return strings.TrimLeft(whole, "0"), strings.TrimRight(part, "0")
}
