package tallyd

// item is an encoded record.
type item struct {
	encoded []byte
	id      ID
	// done gets the outcome. It is buffered, so that an abandoned waiter does not block the sender.
	done chan Outcome
}

// frame is a list of records. `first` is 0 until they are numbered.
type frame struct {
	first uint64
	items []item
	size  int
}

func (f *frame) last() uint64 { return f.first + uint64(len(f.items)) - 1 }

// window holds the frames that are not settled, in order.
//
// A frame is numbered when it is first written, and keeps its numbers. Only this client has the producer's secret, so the
// daemon cannot know a number that was not sent. Records up to the welcome's number are durable, all others are sent again
// unchanged.
type window struct {
	frames []*frame
	// cursor is the index of the next frame to write.
	cursor int
	next   uint64
	// known is the highest number that the daemon may have.
	known uint64
}

// welcome begins a connection. The daemon has everything up to `lastSeq`. Returns the frames settled by that.
func (w *window) welcome(lastSeq uint64) []*frame {
	w.disconnected()
	covered := 0
	for covered < len(w.frames) && w.frames[covered].first > 0 && w.frames[covered].last() <= lastSeq {
		covered++
	}
	gone := w.pop(covered)
	if lastSeq >= w.next {
		w.next = lastSeq + 1
	}
	if lastSeq > w.known {
		w.known = lastSeq
	}
	return gone
}

// disconnected ends a connection: all frames will be written again, in order.
func (w *window) disconnected() {
	w.cursor = 0
}

// following is the next frame to write, split to the daemon's bounds; nil if everything is written.
func (w *window) following(maxRecords, maxBytes int) *frame {
	if w.cursor >= len(w.frames) {
		return nil
	}
	one := w.frames[w.cursor]
	for len(one.items) > 1 && (len(one.items) > maxRecords || one.size+headBytes > maxBytes) {
		w.split(one)
	}
	if one.first == 0 {
		one.first = w.next
		w.next += uint64(len(one.items))
	}
	return one
}

func (w *window) split(one *frame) {
	keep := len(one.items) / 2
	rest := &frame{items: one.items[keep:]}
	for _, moved := range rest.items {
		rest.size += len(moved.encoded)
	}
	if one.first > 0 {
		rest.first = one.first + uint64(keep)
	}
	one.items, one.size = one.items[:keep:keep], one.size-rest.size
	w.frames = append(w.frames, nil)
	copy(w.frames[w.cursor+2:], w.frames[w.cursor+1:])
	w.frames[w.cursor+1] = rest
}

// sent marks the frame of the last `following` as sent: the daemon may have parts of it.
func (w *window) sent() {
	if last := w.frames[w.cursor].last(); last > w.known {
		w.known = last
	}
	w.cursor++
}

// settle removes the frames that `seq` covers, and returns them.
func (w *window) settle(seq uint64) []*frame {
	covered := 0
	for covered < w.cursor && w.frames[covered].last() <= seq {
		covered++
	}
	w.cursor -= covered
	return w.pop(covered)
}

func (w *window) pop(count int) []*frame {
	gone := w.frames[:count:count]
	w.frames = append([]*frame(nil), w.frames[count:]...)
	return gone
}
