package tallyd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// MessagePack, only the types of the protocol: written in the shortest form, read in any form.

var errGarbage = errors.New("what answers is not tallyd")

func appendNil(to []byte) []byte { return append(to, 0xc0) }

func appendBool(to []byte, value bool) []byte {
	if value {
		return append(to, 0xc3)
	}
	return append(to, 0xc2)
}

func appendInt(to []byte, value int64) []byte {
	if value >= 0 {
		return appendUint(to, uint64(value))
	}
	switch {
	case value >= -32:
		return append(to, byte(value))
	case value >= math.MinInt8:
		return append(to, 0xd0, byte(value))
	case value >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(to, 0xd1), uint16(value))
	case value >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(to, 0xd2), uint32(value))
	}
	return binary.BigEndian.AppendUint64(append(to, 0xd3), uint64(value))
}

func appendUint(to []byte, value uint64) []byte {
	switch {
	case value < 128:
		return append(to, byte(value))
	case value <= math.MaxUint8:
		return append(to, 0xcc, byte(value))
	case value <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(to, 0xcd), uint16(value))
	case value <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(to, 0xce), uint32(value))
	}
	return binary.BigEndian.AppendUint64(append(to, 0xcf), value)
}

func appendText(to []byte, text string) []byte {
	switch length := len(text); {
	case length < 32:
		to = append(to, 0xa0|byte(length))
	case length <= math.MaxUint8:
		to = append(to, 0xd9, byte(length))
	case length <= math.MaxUint16:
		to = binary.BigEndian.AppendUint16(append(to, 0xda), uint16(length))
	default:
		to = binary.BigEndian.AppendUint32(append(to, 0xdb), uint32(length))
	}
	return append(to, text...)
}

// appendBytes writes a binary value of at most 255 bytes.
func appendBytes(to, bytes []byte) []byte {
	return append(append(to, 0xc4, byte(len(bytes))), bytes...)
}

func appendHead(to []byte, short, medium, long byte, length int) []byte {
	switch {
	case length < 16:
		return append(to, short|byte(length))
	case length <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(to, medium), uint16(length))
	}
	return binary.BigEndian.AppendUint32(append(to, long), uint32(length))
}

func appendArrayHead(to []byte, length int) []byte { return appendHead(to, 0x90, 0xdc, 0xdd, length) }

func appendMapHead(to []byte, length int) []byte { return appendHead(to, 0x80, 0xde, 0xdf, length) }

// depthMax bounds nesting. The deepest value of a daemon has 5 levels.
const depthMax = 16

// reader decodes values. Integers become int64, or uint64 if larger; text becomes string, a map map[string]any.
type reader struct {
	rest []byte
}

func (r *reader) take(count int) ([]byte, error) {
	if count < 0 || count > len(r.rest) {
		return nil, errGarbage
	}
	taken := r.rest[:count]
	r.rest = r.rest[count:]
	return taken, nil
}

func (r *reader) uint(bytes int) (uint64, error) {
	taken, err := r.take(bytes)
	var value uint64
	for _, one := range taken {
		value = value<<8 | uint64(one)
	}
	return value, err
}

func (r *reader) text(length int) (any, error) {
	taken, err := r.take(length)
	return string(taken), err
}

func (r *reader) array(length, depth int) (any, error) {
	// Each element has at least one byte, so a longer claim is refused before it is allocated.
	if length > len(r.rest) {
		return nil, errGarbage
	}
	values := make([]any, length)
	for at := range values {
		value, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		values[at] = value
	}
	return values, nil
}

func (r *reader) mapping(length, depth int) (any, error) {
	if length > len(r.rest) {
		return nil, errGarbage
	}
	values := make(map[string]any, length)
	for at := 0; at < length; at++ {
		name, err := r.value(depth + 1)
		if err != nil {
			return nil, err
		}
		text, isText := name.(string)
		if !isText {
			return nil, errGarbage
		}
		if values[text], err = r.value(depth + 1); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (r *reader) value(depth int) (any, error) {
	first, err := r.take(1)
	if err != nil || depth > depthMax {
		return nil, errGarbage
	}
	sized := func(bytes int, read func(length int) (any, error)) (any, error) {
		length, err := r.uint(bytes)
		if err != nil {
			return nil, err
		}
		return read(int(length))
	}
	array := func(length int) (any, error) { return r.array(length, depth) }
	mapping := func(length int) (any, error) { return r.mapping(length, depth) }
	binary := func(length int) (any, error) { return r.take(length) }
	number := func(bytes int) (any, error) {
		value, err := r.uint(bytes)
		if value > math.MaxInt64 {
			return value, err
		}
		return int64(value), err
	}
	signed := func(bytes int) (any, error) {
		value, err := r.uint(bytes)
		shift := 64 - 8*bytes
		return int64(value<<shift) >> shift, err
	}
	switch head := first[0]; {
	case head < 0x80:
		return int64(head), nil
	case head < 0x90:
		return mapping(int(head & 0x0f))
	case head < 0xa0:
		return array(int(head & 0x0f))
	case head < 0xc0:
		return r.text(int(head & 0x1f))
	case head >= 0xe0:
		return int64(int8(head)), nil
	case head == 0xc0:
		return nil, nil
	case head == 0xc2, head == 0xc3:
		return head == 0xc3, nil
	case head >= 0xc4 && head <= 0xc6:
		return sized(1<<(head-0xc4), binary)
	case head == 0xca:
		bits, err := r.uint(4)
		return float64(math.Float32frombits(uint32(bits))), err
	case head == 0xcb:
		bits, err := r.uint(8)
		return math.Float64frombits(bits), err
	case head >= 0xcc && head <= 0xcf:
		return number(1 << (head - 0xcc))
	case head >= 0xd0 && head <= 0xd3:
		return signed(1 << (head - 0xd0))
	case head >= 0xd9 && head <= 0xdb:
		return sized(1<<(head-0xd9), r.text)
	case head == 0xdc, head == 0xdd:
		return sized(2<<(head-0xdc), array)
	case head == 0xde, head == 0xdf:
		return sized(2<<(head-0xde), mapping)
	default:
		return nil, fmt.Errorf("%w: a value that begins with %#x", errGarbage, head)
	}
}

// message reads a frame's body: a map of one entry.
func message(body []byte) (name string, content map[string]any, err error) {
	r := reader{body}
	value, err := r.value(0)
	if err != nil {
		return "", nil, err
	}
	entry, isMap := value.(map[string]any)
	if !isMap || len(entry) != 1 || len(r.rest) > 0 {
		return "", nil, errGarbage
	}
	for name, inner := range entry {
		if content, isMap = inner.(map[string]any); isMap {
			return name, content, nil
		}
	}
	return "", nil, errGarbage
}
