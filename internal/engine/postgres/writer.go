package postgres

import (
	"bytes"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
)

// writer is a reader that also writes: into its own tree, which becomes the newest state of
// the shard. Its first refusal stays, so that a change over a limit is not committed in part.
type writer struct {
	reader
	touched
	line    uint64 // of the shard when fn began
	proven  bool   // the database has said that what fn runs on is true
	size    int
	refused error
}

func (w *writer) Put(key, value []byte) error {
	if len(value) > engine.MaxValue {
		return w.fail(fault.Newf(fault.TooLarge, "a record is over %d bytes", engine.MaxValue))
	}
	if err := w.admit(key, len(value)); err != nil {
		return err
	}
	both := make([]byte, len(key)+len(value))
	n := copy(both, key)
	copy(both[n:], value)
	w.t.put(both[:n:n], both[n:])
	w.keys = append(w.keys, both[:n:n])
	return nil
}

func (w *writer) Delete(key []byte) error {
	if err := w.admit(key, 0); err != nil {
		return err
	}
	if _, what := w.t.get(key); what == absent {
		return nil // nor will it be there after what is on its way
	}
	key = bytes.Clone(key)
	w.t.remove(key)
	w.keys = append(w.keys, key)
	return nil
}

func (w *writer) DeleteRange(from, to []byte) error {
	if w.err != nil {
		return w.err
	}
	if w.refused != nil {
		return w.refused
	}
	if len(from) > engine.MaxKey || len(to) > engine.MaxKey {
		return w.fail(errKey)
	}
	if w.size += len(from) + len(to); w.size > engine.MaxUpdate {
		return w.fail(errUpdate)
	}
	if to != nil && bytes.Compare(from, to) >= 0 {
		return nil
	}
	from, to = orEmpty(bytes.Clone(from)), bytes.Clone(to)
	list, next, known := w.t.walkForward(nil, from, to, fewKeys+1)
	if next == nil && known && len(list) <= fewKeys {
		for _, r := range list {
			w.t.remove(r.key)
			w.keys = append(w.keys, r.key)
		}
		return nil
	}
	w.t.removeRange(from, to)
	w.spans = append(w.spans, span{from, to})
	return nil
}

// fewKeys are deleted one by one where it is known that there are no others.
const fewKeys = 64

// admit checks the limits for one more key.
func (w *writer) admit(key []byte, value int) error {
	if w.err != nil {
		return w.err
	}
	if w.refused != nil {
		return w.refused
	}
	if err := checkKey(key); err != nil {
		return w.fail(err)
	}
	if w.size += len(key) + value; w.size > engine.MaxUpdate {
		return w.fail(errUpdate)
	}
	return nil
}

func (w *writer) fail(err error) error {
	if w.refused == nil {
		w.refused = err
	}
	return err
}
