package node

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/record"
)

// A record of a newer program is not damage, and one that no program has written is.
func TestRecordsOfNewerPrograms(t *testing.T) {
	for kind, want := range map[byte]fault.Kind{version + 1: fault.Unsupported, 0: fault.Corrupt} {
		var e record.Enc
		e.U(1)
		b := record.Seal(kind, e)
		_, member := decodeMember("a", b)
		_, lease := decodeLease(b)
		_, _, file := decodeFile(b)
		for _, err := range []error{member, lease, file, new(snapshot).decode(b)} {
			if !fault.Is(err, want) {
				t.Errorf("version %d: %v", kind, err)
			}
		}
	}
}

// A program that knows less than what is in force does not even look: newer records look
// damaged to it, and what is damaged may be repaired.
func TestOpenBesideNewerForms(t *testing.T) {
	w := newWorld(t, 2)
	a, err := w.open(0, "a", func(o *Options) { o.Format = 2 })
	if err == nil {
		err = a.Join(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.open(1, "b", func(o *Options) { o.Format = 1 }); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a program of form 1: %v", err)
	}
	if _, err := w.open(1, "b", func(o *Options) { o.Format = 2 }); err != nil {
		t.Error(err)
	}
}

// Whoever only looks, as commands do that work beside the nodes, writes no newer form either.
func TestFormatOfWhoLooks(t *testing.T) {
	w := newWorld(t, 2)
	format := func(f uint64) func(*Options) { return func(o *Options) { o.Format = f } }
	looker, err := w.open(1, "b", format(2))
	if err != nil || looker.Format() != 2 {
		t.Errorf("where no node ever was: %v", err)
	}
	a, err := w.open(0, "a", format(1))
	if err == nil {
		err = a.Join(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if looker, err = w.open(1, "b", format(2)); err != nil || looker.Format() != 1 {
		t.Errorf("beside a node that knows 1, %d may be written: %v", looker.Format(), err)
	}
}

// Whoever writes where no node ever was puts his form in force first, and changes none that is:
// also not one that came since he looked.
func TestSettle(t *testing.T) {
	format := func(f uint64) func(*Options) { return func(o *Options) { o.Format = f } }
	w := newWorld(t, 2)
	writer, err := w.open(1, "b", format(2))
	if err == nil {
		err = writer.Settle(t.Context())
	}
	if err != nil || writer.Format() != 2 {
		t.Errorf("where no node ever was: form %d, %v", writer.Format(), err)
	}
	if _, err := w.open(0, "a", format(1)); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a program of form 1 comes to records of form 2: %v", err)
	}
	w = newWorld(t, 2)
	if writer, err = w.open(1, "b", format(2)); err != nil {
		t.Fatal(err)
	}
	a, err := w.open(0, "a", format(1))
	if err == nil {
		err = a.Join(t.Context())
	}
	if err == nil {
		err = writer.Settle(t.Context())
	}
	if err != nil || writer.Format() != 1 {
		t.Errorf("beside a node that knows 1: form %d, %v", writer.Format(), err)
	}
}

// A form that is raised refuses older programs, and is never lowered.
func TestRaise(t *testing.T) {
	w := newWorld(t, 1)
	for _, form := range []uint64{1, 2, 1} {
		if err := Raise(t.Context(), w.handles[0], form); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.open(0, "a", func(o *Options) { o.Format = 1 }); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a program of form 1: %v", err)
	}
	a, err := w.open(0, "a", func(o *Options) { o.Format = 3 })
	if err == nil {
		err = a.Join(t.Context())
	}
	if err != nil || a.Format() != 2 {
		t.Errorf("a newer one writes %d: %v", a.Format(), err)
	}
}
