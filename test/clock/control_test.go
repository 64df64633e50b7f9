package clock

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/store"
)

// The controls: each plants what TestClock looks for, and it must be seen.

func TestBrokenPromisesAreSeen(t *testing.T) {
	good := store.Mailbox{ID: 3, Name: "Work", UIDValidity: 100, UIDNext: 10, HighestModSeq: 20}
	for about, plant := range map[string]func(b *store.Mailbox, mod *mail.ModSeq){
		"state":                  func(_ *store.Mailbox, mod *mail.ModSeq) { *mod-- },
		"state that stands":      func(*store.Mailbox, *mail.ModSeq) {},
		"UIDNEXT":                func(b *store.Mailbox, mod *mail.ModSeq) { b.UIDNext--; *mod++ },
		"HIGHESTMODSEQ":          func(b *store.Mailbox, mod *mail.ModSeq) { b.HighestModSeq--; *mod++ },
		"UIDVALIDITY":            func(b *store.Mailbox, mod *mail.ModSeq) { b.UIDValidity++; *mod++ },
		"id of a mailbox":        func(b *store.Mailbox, mod *mail.ModSeq) { b.ID, b.Name = 2, "Other"; *mod++ },
		"UIDVALIDITY made anew":  func(b *store.Mailbox, mod *mail.ModSeq) { b.ID = 4; *mod++ },
		"UIDVALIDITY of nothing": func(b *store.Mailbox, mod *mail.ModSeq) { b.ID, b.Name, b.UIDValidity = 4, "Other", 0; *mod++ },
	} {
		p, b, mod := newPromised(), good, mail.ModSeq(20)
		if broken := p.look(mod, []store.Mailbox{b}, true); len(broken) != 0 {
			t.Fatalf("%s: %q of what is well", about, broken)
		}
		plant(&b, &mod)
		if broken := p.look(mod, []store.Mailbox{b}, true); len(broken) != 1 {
			t.Errorf("%s: %q", about, broken)
		}
	}
	p := newPromised()
	if len(p.arrived(7)) != 0 || len(p.arrived(7)) != 1 || len(p.arrived(8)) != 0 {
		t.Error("an id given twice is not seen")
	}
}

// A sweep that believes the clock loses what is under way; so the ledger can lose.
func TestSweepByTheClockAloneIsSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, ctx := newHouse(t), context.Background()
		p := h.receive(token(1))
		h.clock.step(10 * year)
		var names []mail.BlobRef
		err := h.engine.Blobs().List(ctx, func(name mail.BlobRef, _ time.Time, _ int64) bool { names = append(names, name); return true })
		if err != nil || len(names) != 1 {
			t.Fatal(len(names), err)
		}
		if gone, err := h.engine.Blobs().Delete(ctx, names[0], h.clock.now().Add(-store.SweepAge)); !gone || err != nil {
			t.Fatal(gone, err)
		}
		if err := h.deliver(p, alice); err != nil {
			t.Fatal(err)
		}
		if found, err := h.tokens(); err == nil {
			t.Errorf("a message without its body is not seen: %v", found)
		}
	})
}
