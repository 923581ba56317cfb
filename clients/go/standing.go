package tallyd

import (
	"regexp"
	"strings"
	"sync/atomic"
	"time"
)

// believed is how long the daemon's last message counts: five of the intervals at which the daemon repeats it.
const believed = 5 * time.Minute

// date matches `-20250514`, `@20250514` or `-2025-05-14` at a name's end: a year of this century, a real month and day.
var date = regexp.MustCompile(
	`^(?s)(.+)(?:[-@]20\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])|-20\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))$`)

// Call has the properties of a call that budgets are set for.
type Call struct {
	Provider, Model, User, App string
}

func (c Call) dimension(name string) (value string, known bool) {
	switch name {
	case "provider":
		return strings.ToLower(strings.TrimSpace(c.Provider)), true
	case "model":
		return c.Model, true
	case "user":
		return c.User, true
	case "app":
		return c.App, true
	}
	return "", false
}

// Budget is the state of the budgets of everything.
type Budget struct {
	ShouldThrottle bool
	// Status is `normal`, `warning` or `exceeded`; empty without a budget.
	Status string
}

// heard is one message of the daemon. It is replaced as a whole, so there is no lock.
type heard struct {
	at     time.Time
	budget Budget
	scopes []map[string]map[string]bool
}

type standing struct {
	last atomic.Pointer[heard]
}

func (s *standing) hear(told map[string]any, at time.Time) {
	budget := mapOf(told, "budget")
	throttle, _ := budget["should_throttle"].(bool)
	now := &heard{at: at, budget: Budget{ShouldThrottle: throttle, Status: textOf(budget, "status")}}
	for _, one := range listOf(told, "used_up") {
		if scope, isMap := one.(map[string]any); isMap {
			if read := readScope(scope); read != nil {
				now.scopes = append(now.scopes, read)
			}
		}
	}
	s.last.Store(now)
}

// readScope is nil for a scope with an unknown dimension: a newer daemon may know more, and this client cannot match them.
func readScope(scope map[string]any) map[string]map[string]bool {
	read := map[string]map[string]bool{}
	for dimension := range scope {
		if _, known := (Call{}).dimension(dimension); !known {
			return nil
		}
		names := map[string]bool{}
		for _, name := range listOf(scope, dimension) {
			if text, isText := name.(string); isText {
				names[text] = true
			}
		}
		read[dimension] = names
	}
	return read
}

func (s *standing) believedAt(now time.Time) *heard {
	if last := s.last.Load(); last != nil && now.Sub(last.at) < believed {
		return last
	}
	return &heard{}
}

func (s *standing) holdsBack(call Call, now time.Time) bool {
	last := s.believedAt(now)
	if last.budget.ShouldThrottle {
		return true
	}
	for _, scope := range last.scopes {
		if counts(scope, call) {
			return true
		}
	}
	return false
}

func counts(scope map[string]map[string]bool, call Call) bool {
	for dimension, names := range scope {
		name, _ := call.dimension(dimension)
		if name == "" {
			return false
		}
		isNamed := names[name]
		if dimension == "model" && !isNamed {
			isNamed = names[date.ReplaceAllString(name, "$1")]
		}
		if !isNamed {
			return false
		}
	}
	return true
}
