package tallyd

import (
	"encoding/binary"
	"fmt"
	"io"
)

const (
	protocol = 2
	version  = "tallyd-go/0.1.0"
	// frameBytes is the daemon's bound before its welcome states one.
	frameBytes = 1 << 20
	// answerBytesMax bounds a daemon's frame.
	answerBytesMax = 8 << 20
	// headBytes bounds the bytes around the records of a `records` body.
	headBytes = 48
)

// framed puts the length before the body that `write` appends. `write` gets a buffer with room for the length.
func framed(write func([]byte) []byte) []byte {
	frame := write(make([]byte, 4, 512))
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))
	return frame
}

type hello struct {
	producer, secret, client, token string
	wantCosts                       bool
	ack                             AckMode
}

func (h hello) frame() []byte {
	return framed(func(to []byte) []byte {
		entries := 5
		if h.token != "" {
			entries++
		}
		// A daemon that does not know the key refuses the message.
		if h.ack == AckCommitted {
			entries++
		}
		to = appendMapHead(appendText(appendMapHead(to, 1), "hello"), entries)
		to = appendUint(appendText(to, "protocol"), protocol)
		to = appendText(appendText(to, "producer"), h.producer)
		to = appendText(appendText(to, "secret"), h.secret)
		to = appendText(appendText(to, "client"), h.client)
		if h.token != "" {
			to = appendText(appendText(to, "token"), h.token)
		}
		to = appendBool(appendText(to, "want_costs"), h.wantCosts)
		if h.ack == AckCommitted {
			to = appendText(appendText(to, "ack"), string(h.ack))
		}
		return to
	})
}

func recordsFrame(firstSeq uint64, items []item) []byte {
	return framed(func(to []byte) []byte {
		to = appendMapHead(appendText(appendMapHead(to, 1), "records"), 2)
		to = appendUint(appendText(to, "first_seq"), firstSeq)
		to = appendArrayHead(appendText(to, "records"), len(items))
		for _, one := range items {
			to = append(to, one.encoded...)
		}
		return to
	})
}

// watchFrame asks for the state of budgets at each change. Only for a daemon whose welcome has `budgets`.
func watchFrame() []byte {
	return framed(func(to []byte) []byte {
		return appendMapHead(appendText(appendMapHead(to, 1), "watch"), 0)
	})
}

// readMessage reads one frame.
func readMessage(from io.Reader) (name string, content map[string]any, err error) {
	var prefix [4]byte
	if _, err := io.ReadFull(from, prefix[:]); err != nil {
		return "", nil, err
	}
	length := binary.BigEndian.Uint32(prefix[:])
	if length == 0 || length > answerBytesMax {
		return "", nil, fmt.Errorf("%w: a frame of %d bytes", errGarbage, length)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(from, body); err != nil {
		return "", nil, err
	}
	return message(body)
}

// The value of a message's key, or the zero value if it is absent or of another type.

func textOf(content map[string]any, name string) string {
	text, _ := content[name].(string)
	return text
}

func numberOf(content map[string]any, name string) uint64 {
	switch number := content[name].(type) {
	case int64:
		if number > 0 {
			return uint64(number)
		}
	case uint64:
		return number
	}
	return 0
}

func mapOf(content map[string]any, name string) map[string]any {
	mapping, _ := content[name].(map[string]any)
	return mapping
}

func listOf(content map[string]any, name string) []any {
	list, _ := content[name].([]any)
	return list
}
