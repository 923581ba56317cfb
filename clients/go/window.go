package tallyd

// item is an encoded record.
type item struct {
	encoded []byte
	id      ID
	// Who waits for it. Buffered, so that nobody who has gone away holds up the sender.
	done chan Outcome
}

// frame is some records. `first` is 0 until they are numbered.
type frame struct {
	first uint64
	items []item
	size  int
}

func (f *frame) last() uint64 { return f.first + uint64(len(f.items)) - 1 }

// window holds the frames that are not settled, in order.
//
// A frame is numbered when it is first written, and keeps its numbers. Nobody else has the producer's secret, so the daemon
// never knows a number that was not sent: what its welcome covers is durable, and everything else is sent again as it was.
type window struct {
	frames []*frame
	// The frame that is written next.
	cursor int
	next   uint64
	// The highest number that the daemon may have.
	known uint64
}

// welcome begins a connection on which the daemon has everything up to `lastSeq`. Returns the frames that it has.
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

// disconnected ends a connection: everything will be written again, in order.
func (w *window) disconnected() {
	w.cursor = 0
}

// following is the next frame to write, within the daemon's bounds; nil if everything is written.
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

// sent says that the frame `following` gave is on its way: parts of it may be with the daemon.
func (w *window) sent() {
	if last := w.frames[w.cursor].last(); last > w.known {
		w.known = last
	}
	w.cursor++
}

// settle forgets the frames that are covered by `seq`, and returns them.
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
