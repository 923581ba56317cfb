package tallyd

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"
)

// socketLink is frames over a Unix socket or TCP. One goroutine reads and one writes, so that neither waits for the other: when
// the daemon stops reading (back-pressure), its acks are still read.
type socketLink struct {
	conn   net.Conn
	out    chan []byte
	marks  chan bool
	told   chan event
	closed chan struct{}
}

// dial connects and sends the hello. Returns the daemon's welcome.
func dial(recorder *Recorder) (link, map[string]any, error) {
	ctx, cancel := context.WithTimeout(recorder.stop, connectTimeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, recorder.endpoint.network, recorder.endpoint.address)
	if err != nil {
		return nil, nil, err
	}
	greeted, watched := make(chan struct{}), make(chan struct{})
	defer func() {
		close(greeted)
		<-watched
	}()
	go func() {
		defer close(watched)
		select {
		case <-ctx.Done():
			// Stops waiting for the welcome: the time is over, or the recorder was closed.
			conn.SetDeadline(time.Now())
		case <-greeted:
		}
	}()
	from := bufio.NewReaderSize(conn, 64<<10)
	welcome, err := greet(conn, from, recorder)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	l := &socketLink{
		conn: conn, out: make(chan []byte, 2), told: make(chan event, 64), closed: make(chan struct{}),
	}
	go l.read(from)
	go l.write()
	return l, welcome, nil
}

func greet(conn net.Conn, from *bufio.Reader, recorder *Recorder) (map[string]any, error) {
	greeting := hello{
		producer: recorder.producer, secret: recorder.secret, client: version, token: recorder.endpoint.token, wantCosts: true,
		ack: recorder.options.Ack,
	}
	if _, err := conn.Write(greeting.frame()); err != nil {
		return nil, err
	}
	name, content, err := readMessage(from)
	switch {
	case err != nil:
		return nil, err
	case name == "error":
		return nil, refused(content)
	case name != "welcome" || numberOf(content, "protocol") != protocol || numberOf(content, "max_frame_bytes") <= headBytes:
		return nil, broken{message: fmt.Sprintf("a %s came for a welcome of protocol %d", name, protocol), slow: true}
	}
	return content, nil
}

func (l *socketLink) send(one *frame) { l.out <- recordsFrame(one.first, one.items) }

// watch is called before any frame is sent, so the channel has room.
func (l *socketLink) watch() { l.out <- nil }

func (l *socketLink) events() <-chan event { return l.told }

func (l *socketLink) close() {
	close(l.closed)
	l.conn.Close()
}

func (l *socketLink) tell(one event) bool {
	select {
	case l.told <- one:
		return true
	case <-l.closed:
		return false
	}
}

func (l *socketLink) read(from *bufio.Reader) {
	for {
		name, content, err := readMessage(from)
		if !l.tell(event{name: name, content: content, err: err}) || err != nil {
			return
		}
	}
}

func (l *socketLink) write() {
	for {
		select {
		case bytes := <-l.out:
			isWatch := bytes == nil
			if isWatch {
				bytes = watchFrame()
			}
			if _, err := l.conn.Write(bytes); err != nil {
				// The reader finds the daemon's error frame, or the end.
				return
			}
			if !isWatch && !l.tell(event{wrote: true}) {
				return
			}
		case <-l.closed:
			return
		}
	}
}
