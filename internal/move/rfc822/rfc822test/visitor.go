// Package rfc822test is a visitor of sources for tests: it wants all, keeps what it is given
// and checks that the source keeps its promises. It puts nothing into an account.
package rfc822test

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/martlet-mail/martlet/internal/move"
)

// Message is what a source gave.
type Message struct {
	move.Item
	Text string
}

// Visitor keeps what it is told.
type Visitor struct {
	Got     []Message
	Told    []move.Item // Want
	Skipped map[string]error
	Refuse  func(move.Item) bool // what is not wanted
	Discard bool                 // contents are counted and not kept
	Rough   bool                 // sizes are guessed
	Bytes   int64
	Faults  []string
	keys    map[string]bool
	waiting []move.Item
}

// Want wants what Refuse does not refuse.
func (v *Visitor) Want(_ context.Context, items []move.Item) ([]bool, error) {
	if v.keys == nil {
		v.keys, v.Skipped = map[string]bool{}, map[string]error{}
	}
	if len(items) == 0 || len(items) > move.MaxItems {
		v.fault("Want of %d items", len(items))
	}
	if len(v.waiting) > 0 {
		v.fault("%d were wanted and not given", len(v.waiting))
	}
	v.waiting = v.waiting[:0]
	want := make([]bool, len(items))
	for i, it := range items {
		if it.Key == "" || len(it.Key) > 64 || v.keys[it.Key] {
			v.fault("key %q is too long, or was given before", it.Key)
		}
		v.keys[it.Key] = true
		if want[i] = v.Refuse == nil || !v.Refuse(it); want[i] {
			v.waiting = append(v.waiting, it)
		}
		if !v.Discard {
			v.Told = append(v.Told, it)
		}
	}
	return want, nil
}

func (v *Visitor) fault(format string, args ...any) {
	v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
}

func (v *Visitor) next(item move.Item) {
	if len(v.waiting) == 0 || v.waiting[0].Key != item.Key {
		v.fault("%s came out of turn", item.Key)
		return
	}
	v.waiting = v.waiting[1:]
}

// Put keeps a message.
func (v *Visitor) Put(_ context.Context, item move.Item, r io.Reader) error {
	if len(v.waiting) > 0 && v.waiting[0].Key != item.Key {
		v.fault("%s came out of turn", item.Key)
	}
	var b strings.Builder
	var w io.Writer = &b
	if v.Discard {
		w = io.Discard
	}
	n, err := io.Copy(w, r)
	if err != nil {
		return err // and it may be Skipped
	}
	v.next(item)
	v.Bytes += n
	if item.Size != n && item.Size >= 0 && !v.Rough {
		v.fault("%s has %d bytes, %d were told", item.Key, n, item.Size)
	}
	if !v.Discard {
		v.Got = append(v.Got, Message{item, b.String()})
	}
	return nil
}

// Skip keeps the reason.
func (v *Visitor) Skip(_ context.Context, item move.Item, why error) error {
	v.next(item)
	v.Skipped[item.Key] = why
	return nil
}

// Gone is a fault: nothing was asked since a state.
func (v *Visitor) Gone(context.Context, []string) error {
	v.fault("Gone")
	return nil
}

// State does nothing.
func (v *Visitor) State(context.Context, []byte) error { return nil }

// Reading is how ReadAll goes.
type Reading struct {
	move.Reading
	Rough bool // sizes are guessed
}

// ReadAll reads every mailbox of a source that is not to be left out, by its name here.
func ReadAll(ctx context.Context, s move.Source, how Reading) (list []move.Mailbox, got map[string]*Visitor, err error) {
	list, err = s.Mailboxes(ctx)
	if err != nil {
		return nil, nil, err
	}
	got = map[string]*Visitor{}
	for _, m := range list {
		if m.Skip != "" {
			continue
		}
		v := &Visitor{Rough: how.Rough}
		if err := s.Read(ctx, m, how.Reading, v); err != nil {
			return list, got, fmt.Errorf("%s: %w", m.Name, err)
		}
		if len(v.Faults) > 0 {
			return list, got, fmt.Errorf("%s: %s", m.Name, strings.Join(v.Faults, "; "))
		}
		got[m.Name] = v
	}
	return list, got, nil
}
