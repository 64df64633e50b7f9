package isolation

import (
	"log/slog"
	"testing"

	"github.com/martlet-mail/martlet/internal/directory"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/promise"
)

// A panic at every call of the engine in turn, in each protocol: the session it happens
// in ends or gets an error, it is counted, no lock stays held, and the same user and
// another one go on in all protocols.
func TestPanicEndsOneSession(t *testing.T) {
	h := newHouse(t, directory.Options{FailuresPerAccount: 1 << 20, FailuresPerAddress: 1 << 20}, slog.New(slog.DiscardHandler), cheap)
	h.account(t, "alice")
	h.account(t, "bob")
	h.must(t, "lmtp", "alice")
	h.must(t, "lmtp", "bob")
	hits, ended := 0, 0
	for protocol, s := range scripts {
		for n := int64(1); ; n++ {
			h.must(t, "lmtp", "alice") // something to read for POP3 and IMAP
			before := h.sessions.Stats().Panics
			h.engine.arm(n)
			err := h.talk(protocol, "alice", s)
			if !h.engine.hit() {
				if err != nil {
					t.Errorf("%s without a panic: %v", protocol, err)
				}
				break
			}
			hits++
			if h.sessions.Stats().Panics > before {
				ended++
			} else if err == nil {
				continue // a part of the work that can fail without harm
			}
			for _, user := range []string{"alice", "bob"} {
				if protocol == "pop3" {
					h.must(t, "lmtp", user)
				}
				h.must(t, protocol, user)
			}
			if t.Failed() {
				t.Fatalf("%s, call %d: %v", protocol, n, err)
			}
		}
	}
	for protocol := range scripts {
		h.must(t, "lmtp", "bob")
		h.must(t, protocol, "bob")
	}
	if _, err := h.store.Verify(t.Context(), func(p store.Problem) { t.Errorf("the store is not whole: %+v", p) }, func(store.Verified) {}); err != nil {
		t.Error(err)
	}
	if hits < 50 || ended == 0 {
		t.Errorf("%d panics, %d of which ended a session: too few for a proof", hits, ended)
	}
	promise.Kept(t, "R35", "protocols", len(scripts), "panics planted", hits, "sessions ended and counted", ended, "other sessions harmed", 0)
}
