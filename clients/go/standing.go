package tallyd

import (
	"fmt"
	"sync/atomic"
	"time"
)

// believed is how long the daemon's last message counts: five of the intervals at which the daemon repeats it.
const believed = 5 * time.Minute

// Budget is the state of the budgets of everything.
type Budget struct {
	ShouldThrottle bool
	// Status is `normal`, `warning` or `exceeded`; empty without a budget.
	Status string
}

// Remaining is the answer to a call that may be made.
type Remaining struct {
	// Known: the daemon has sent the state of budgets within the last 5 minutes.
	Known bool
	// USD is decimal text: the least that remains of the budgets that the call counts towards. The daemon names the amount from a
	// budget's warning on; empty before it, and without such a budget.
	USD string
}

// BudgetExceededError is why a call was not made: Check refused it.
type BudgetExceededError struct {
	// Reason is a sentence, such as `the budget of tag team "search" is used up`.
	Reason string
	// Scope is the budget's, such as {"tag:team": "search"}; empty for all spend.
	Scope map[string]string
	// Remaining has "0" USD once the budget is used up. It is not Known if Options.DenyUnknown refused the call.
	Remaining Remaining
}

func (e *BudgetExceededError) Error() string { return "tallyd: the call was not made: " + e.Reason }

// heard is one message of the daemon. It is replaced as a whole, so there is no lock.
type heard struct {
	at     time.Time
	budget Budget
	scopes scopes
}

type standing struct {
	last atomic.Pointer[heard]
	// denies: calls are refused while the state is not known.
	denies bool
}

func (s *standing) hear(message map[string]any, at time.Time) {
	budget := mapOf(message, "budget")
	throttle, _ := budget["should_throttle"].(bool)
	now := &heard{
		at: at, budget: Budget{ShouldThrottle: throttle, Status: textOf(budget, "status")},
		scopes: scopes{lists: map[string]map[string][]int{}, trees: map[string]*tree{}, numbers: map[string]int{}},
	}
	if throttle {
		now.scopes.add(nil, "")
	}
	for _, one := range listOf(message, "used_up") {
		if scope, isMap := one.(map[string]any); isMap {
			now.scopes.add(scope, "")
		}
	}
	for _, one := range listOf(message, "left") {
		left, _ := one.(map[string]any)
		scope, isMap := left["scope"].(map[string]any)
		if usd := textOf(left, "usd"); isMap && amount.MatchString(usd) {
			now.scopes.add(scope, usd)
		}
	}
	s.last.Store(now)
}

// believedAt is nil if the daemon has not been heard of for long.
func (s *standing) believedAt(now time.Time) *heard {
	if last := s.last.Load(); last != nil && now.Sub(last.at) < believed {
		return last
	}
	return nil
}

func (s *standing) check(call Call, now time.Time) (Remaining, error) {
	if call.EstimateUSD != "" && !amount.MatchString(call.EstimateUSD) {
		return Remaining{}, fmt.Errorf("tallyd: the estimate is %q. It must be an amount in USD as decimal text, at least 0", call.EstimateUSD)
	}
	last := s.believedAt(now)
	if last == nil {
		if s.denies {
			return Remaining{}, &BudgetExceededError{Reason: "the state of budgets is not known, and the recorder is set to deny calls then"}
		}
		return Remaining{}, nil
	}
	least := last.scopes.least(call)
	switch {
	case least == nil:
		return Remaining{Known: true}, nil
	case least.usd == "":
		return exceeded(least, call, "0", "is used up")
	case call.EstimateUSD != "" && isAbove(call.EstimateUSD, least.usd):
		return exceeded(least, call, least.usd, fmt.Sprintf("has %s USD left, and the call may cost %s USD", least.usd, call.EstimateUSD))
	}
	return Remaining{Known: true, USD: least.usd}, nil
}

func exceeded(least *told, call Call, usd, why string) (Remaining, error) {
	remaining, scope := Remaining{Known: true, USD: usd}, least.scope(call)
	return remaining, &BudgetExceededError{Reason: "the budget of " + inWords(scope) + " " + why, Scope: scope, Remaining: remaining}
}
