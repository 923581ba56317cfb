package tallyd

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"path/filepath"
	"testing"
)

// turn is one connection of a fake daemon: its welcome, and the number of record frames that it acknowledges before it closes.
type turn struct {
	lastSeq uint64
	acks    int
	max     int
}

// fake is a scripted daemon. Returns each connection's frames of records.
func fake(t *testing.T, script []turn) (path string, heard chan [][]byte) {
	path, heard = filepath.Join(t.TempDir(), "fake.sock"), make(chan [][]byte, len(script))
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for _, one := range script {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			heard <- serve(conn, one)
		}
	}()
	return path, heard
}

func serve(conn net.Conn, one turn) (heard [][]byte) {
	defer conn.Close()
	if _, err := rawFrame(conn); err != nil {
		return nil
	}
	max := one.max
	if max == 0 {
		max = 4096
	}
	conn.Write(framed(func(to []byte) []byte {
		to = appendMapHead(appendText(appendMapHead(to, 1), "welcome"), 4)
		to = appendUint(appendText(to, "protocol"), protocol)
		to = appendUint(appendText(to, "last_seq"), one.lastSeq)
		to = appendUint(appendText(to, "max_frame_bytes"), frameBytes)
		return appendUint(appendText(to, "max_records"), uint64(max))
	}))
	for {
		body, err := rawFrame(conn)
		if err != nil {
			return heard
		}
		heard = append(heard, body)
		if len(heard) > one.acks {
			return heard
		}
		_, content, _ := message(body)
		last := numberOf(content, "first_seq") + uint64(len(listOf(content, "records"))) - 1
		conn.Write(framed(func(to []byte) []byte {
			return appendUint(appendText(appendMapHead(appendText(appendMapHead(to, 1), "ack"), 1), "seq"), last)
		}))
	}
}

func rawFrame(conn net.Conn) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(conn, prefix[:]); err != nil {
		return nil, err
	}
	body := make([]byte, binary.BigEndian.Uint32(prefix[:]))
	_, err := io.ReadFull(conn, body)
	return body, err
}

func endpoints(t *testing.T, frames [][]byte) (first []uint64, endpoints []string) {
	for _, frame := range frames {
		_, content, err := message(frame)
		if err != nil {
			t.Fatal(err)
		}
		first = append(first, numberOf(content, "first_seq"))
		for _, record := range listOf(content, "records") {
			endpoints = append(endpoints, record.([]any)[4].(string))
		}
	}
	return first, endpoints
}

func TestAnUnacknowledgedFrameIsSentAgainByteForByte(t *testing.T) {
	path, heard := fake(t, []turn{{}, {acks: 9}})
	recorder := newRecorder(t, Options{Endpoint: path, Quiet: true})
	recorder.Record(Record{Provider: "x", Endpoint: "/one"})
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	first, second := <-heard, <-heard
	if len(first) != 1 || len(second) != 1 || !bytes.Equal(first[0], second[0]) {
		t.Errorf("%q %q", first, second)
	}
}

func TestWhatWasDurableBeforeTheAckWasLostIsNotSentAgain(t *testing.T) {
	path, heard := fake(t, []turn{{}, {lastSeq: 1, acks: 9}})
	recorder := newRecorder(t, Options{Endpoint: path, Quiet: true})
	if _, err := recorder.RecordAndWait(within(t), Record{Provider: "x", Endpoint: "/one"}); err != nil {
		t.Fatal("the second welcome alone settles it:", err)
	}
	recorder.Record(Record{Provider: "x", Endpoint: "/two"})
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	<-heard
	if first, told := endpoints(t, <-heard); len(told) != 1 || told[0] != "/two" || first[0] != 2 {
		t.Error(first, told)
	}
}

func TestADaemonThatHasLostItsStateGetsHigherNumbers(t *testing.T) {
	path, heard := fake(t, []turn{{acks: 1}, {lastSeq: 0, acks: 9}})
	recorder := newRecorder(t, Options{Endpoint: path, Quiet: true})
	for _, endpoint := range []string{"/one", "/two", "/three"} {
		if _, err := recorder.RecordAndWait(within(t), Record{Provider: "x", Endpoint: endpoint}); err != nil {
			t.Fatal(err)
		}
	}
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	<-heard
	if first, told := endpoints(t, <-heard); len(first) != 2 || first[0] != 2 || first[1] != 3 || told[0] != "/two" {
		t.Error(first, told)
	}
}

func TestASmallerBoundSplitsWhatIsSentAgain(t *testing.T) {
	path, heard := fake(t, []turn{{}, {lastSeq: 1, acks: 99, max: 2}})
	recorder := newRecorder(t, Options{Endpoint: "/nowhere", Quiet: true})
	recorder.Close(within(t))
	// The sender makes frames of all queued records, so the records are queued before it starts.
	recorder = newRecorder(t, Options{Disabled: true})
	recorder.options.Disabled, recorder.endpoint, recorder.ended = false, endpoint{network: "unix", address: path}, make(chan struct{})
	for _, endpoint := range []string{"/1", "/2", "/3", "/4", "/5"} {
		recorder.Record(Record{Provider: "x", Endpoint: endpoint})
	}
	go newSender(recorder).run()
	if err := recorder.Close(within(t)); err != nil {
		t.Fatal(err)
	}
	if first, _ := endpoints(t, <-heard); len(first) != 1 {
		t.Error(first)
	}
	first, told := endpoints(t, <-heard)
	if len(told) != 5 || len(first) < 3 {
		t.Error(first, told, "a frame that overlaps is sent whole, in parts of two at most")
	}
}

func TestAnAckOfWhatWasNotSentEndsTheConnection(t *testing.T) {
	s := newSender(&Recorder{moved: make(chan struct{}), told: map[string]bool{}})
	if err := s.settle(map[string]any{"seq": int64(1)}); err == nil {
		t.Error("it is believed")
	}
}
