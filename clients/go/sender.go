package tallyd

import (
	"fmt"
	"math/rand"
	"time"
)

const (
	frameRecords   = 1024
	frameSize      = 64 << 10
	connectTimeout = 10 * time.Second
	framesUnderWay = 32
	timesSlower    = 3
)

// broken: the connection has to end.
type broken struct {
	message string
	// slow: the refusal will repeat, so the next connection is after the slow interval.
	slow bool
	// after is the pause before the next connection, if the daemon stated one.
	after time.Duration
}

func (b broken) Error() string { return b.message }

// slowCodes are refusals that last until somebody changes something.
var slowCodes = map[string]bool{
	"fenced": true, "unauthorized": true, "protocol_version": true, "producer": true, "secret": true,
	"reserved_name": true, "sequence": true,
}

func refused(body map[string]any) error {
	code := textOf(body, "code")
	message := fmt.Sprintf("tallyd refused the connection (%s): %s", code, textOf(body, "message"))
	return broken{message: message, slow: slowCodes[code]}
}

// event is a link's report.
type event struct {
	// wrote: the operating system has taken the frame.
	wrote bool
	// name and content are a message of the daemon.
	name    string
	content map[string]any
	err     error
}

// link is a connection. It takes one frame at a time: the next one after the event `wrote`.
type link interface {
	send(one *frame)
	watch()
	events() <-chan event
	close()
}

// sender owns the window. Only its goroutine uses it.
type sender struct {
	recorder *Recorder
	window   window
	link     link
	// writing: the link has a frame that it has not written yet.
	writing    bool
	maxRecords int
	maxBytes   int
	// isTold: the daemon sends the state of all budgets. If not, its acks have a part of it.
	isTold   bool
	failures int
	heardAt  time.Time
	random   *rand.Rand
}

func newSender(recorder *Recorder) *sender {
	return &sender{recorder: recorder, window: window{next: 1}, random: rand.New(rand.NewSource(time.Now().UnixNano()))}
}

func (s *sender) run() {
	defer close(s.recorder.ended)
	defer func() { s.recorder.abandon(s.window.frames) }()
	for {
		err := s.connected()
		if s.link != nil {
			s.link.close()
		}
		s.link, s.writing = nil, false
		s.window.disconnected()
		if err == nil {
			return
		}
		s.recorder.setConnected(false, err.Error())
		select {
		case <-s.recorder.stop.Done():
			return
		case <-time.After(s.pause(err)):
		}
	}
}

// pause is the time before the next connection.
func (s *sender) pause(err error) time.Duration {
	low, high := s.recorder.options.BackoffMin, s.recorder.options.BackoffMax
	doublings := s.failures
	if doublings > 20 {
		doublings = 20
	}
	s.failures++
	wait := low << doublings
	if wait > high || wait <= 0 {
		wait = high
	}
	if why, isBroken := err.(broken); isBroken {
		if why.after > 0 {
			return why.after
		}
		if why.slow {
			wait = high * timesSlower
		}
	}
	return time.Duration(float64(wait) * (0.5 + s.random.Float64()/2))
}

// connected connects and serves one connection. Nil: the recorder was closed.
func (s *sender) connected() error {
	var err error
	var welcome map[string]any
	if s.recorder.endpoint.url != "" {
		s.link, welcome = newHTTPLink(s.recorder)
	} else if s.link, welcome, err = dial(s.recorder); s.recorder.stop.Err() != nil {
		return nil
	} else if err != nil {
		return err
	}
	s.maxRecords = int(numberOf(welcome, "max_records"))
	if s.maxRecords == 0 || s.maxRecords > frameRecords {
		s.maxRecords = frameRecords
	}
	s.maxBytes = int(numberOf(welcome, "max_frame_bytes"))
	// What the welcome says is known before a caller is woken by it.
	budgets, isTold := welcome["budgets"].(map[string]any)
	if s.isTold = isTold; isTold {
		s.recorder.standing.hear(budgets, time.Now())
		s.link.watch()
	}
	s.recorder.warned(mapOf(welcome, "warning"))
	// Over HTTP there is no welcome: the first answer tells that the daemon is there.
	if s.recorder.endpoint.url == "" {
		s.recorder.setConnected(true, "")
	}
	s.recorder.release(s.finished(s.window.welcome(numberOf(welcome, "last_seq"))))
	s.heardAt = time.Now()
	return s.serve()
}

// finished finishes records that the daemon has according to its welcome.
func (s *sender) finished(gone []*frame) []*frame {
	for _, one := range gone {
		for _, settled := range one.items {
			settled.finish(Outcome{ID: settled.id})
		}
	}
	return gone
}

func (s *sender) serve() error {
	ticks := time.NewTicker(s.recorder.options.AckTimeout / 4)
	defer ticks.Stop()
	for {
		s.write()
		select {
		case <-s.recorder.wake:
		case <-s.recorder.stop.Done():
			return nil
		case one := <-s.link.events():
			if err := s.hear(one); err != nil {
				return err
			}
		case <-ticks.C:
			if s.window.cursor > 0 && time.Since(s.heardAt) > s.recorder.options.AckTimeout {
				return broken{message: fmt.Sprintf("no ack in %s", s.recorder.options.AckTimeout)}
			}
		}
	}
}

// write gives the next frame to the link, if the link takes one.
func (s *sender) write() {
	if s.writing {
		return
	}
	if s.window.cursor >= len(s.window.frames) {
		// The daemon reads only a few frames ahead. Other records stay in the queue, where they can still share a frame.
		if s.window.cursor >= framesUnderWay {
			return
		}
		size := frameSize
		if s.maxBytes-headBytes < size {
			size = s.maxBytes - headBytes
		}
		following := s.recorder.take(s.maxRecords, size, s.maxBytes-headBytes)
		if following == nil {
			return
		}
		s.window.frames = append(s.window.frames, following)
	}
	if s.window.cursor == 0 {
		s.heardAt = time.Now()
	}
	following := s.window.following(s.maxRecords, s.maxBytes)
	s.window.sent()
	s.writing = true
	s.link.send(following)
}

func (s *sender) hear(one event) error {
	switch {
	case one.err != nil:
		return one.err
	case one.wrote:
		s.writing = false
	case one.name == "ack":
		return s.settle(one.content)
	case one.name == "budgets":
		s.failures = 0
		s.recorder.standing.hear(one.content, time.Now())
	case one.name == "error":
		return refused(one.content)
	}
	return nil
}

func (s *sender) settle(ack map[string]any) error {
	seq := numberOf(ack, "seq")
	if seq > s.window.known {
		return broken{message: fmt.Sprintf("an ack of %d, but %d was the last record sent", seq, s.window.known), slow: true}
	}
	s.failures, s.heardAt = 0, time.Now()
	// What the ack says is known before a caller is woken by it.
	if budget := mapOf(ack, "budget"); budget != nil && !s.isTold {
		s.recorder.standing.hear(map[string]any{"budget": budget}, time.Now())
	}
	s.recorder.warned(mapOf(ack, "warning"))
	s.recorder.setConnected(true, "")
	rejected := map[uint64]map[string]any{}
	for _, one := range listOf(ack, "rejected") {
		if refusal, isMap := one.(map[string]any); isMap {
			rejected[numberOf(refusal, "seq")] = refusal
		}
	}
	duplicates := map[uint64]bool{}
	for _, one := range listOf(ack, "duplicates") {
		duplicates[numberOf(map[string]any{"": one}, "")] = true
	}
	costs := listOf(ack, "costs")
	gone := s.window.settle(seq)
	for _, one := range gone {
		// Costs belong to the frame that ends with the ack's number.
		own := costs
		if one.last() != seq || len(own) != len(one.items) {
			own = nil
		}
		for at, settled := range one.items {
			number := one.first + uint64(at)
			if refusal, isRefused := rejected[number]; isRefused {
				s.recorder.refuse(settled, textOf(refusal, "code"), textOf(refusal, "message"))
				continue
			}
			outcome := Outcome{ID: settled.id, Duplicate: duplicates[number]}
			if own != nil {
				outcome.CostUSD, _ = own[at].(string)
			}
			settled.finish(outcome)
		}
	}
	s.recorder.release(gone)
	return nil
}
