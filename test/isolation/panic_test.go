package isolation

import (
	"testing"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/promise"
)

// A panic at every call of the engine in turn, in each protocol: the session it happens
// in ends or gets an error, it is counted, no lock stays held, and the same user and
// another one go on in all protocols.
func TestPanicEndsOneSession(t *testing.T) {
	var eng *defective
	h := house.New(t, house.Options{Engine: func(e engine.Engine) engine.Engine {
		eng = &defective{Engine: e}
		return eng
	}})
	h.Account(t, "alice")
	h.Account(t, "bob")
	must(t, h, "lmtp", "alice")
	must(t, h, "lmtp", "bob")
	hits, ended := 0, 0
	for protocol, s := range scripts {
		for n := int64(1); ; n++ {
			must(t, h, "lmtp", "alice") // something to read for POP3 and IMAP
			before := h.Sessions.Stats().Panics
			eng.arm(n)
			err := talk(h, protocol, "alice", s)
			if !eng.hit() {
				if err != nil {
					t.Errorf("%s without a panic: %v", protocol, err)
				}
				break
			}
			hits++
			if h.Sessions.Stats().Panics > before {
				ended++
			} else if err == nil {
				continue // a part of the work that can fail without harm
			}
			for _, user := range []string{"alice", "bob"} {
				if protocol == "pop3" {
					must(t, h, "lmtp", user)
				}
				must(t, h, protocol, user)
			}
			if t.Failed() {
				t.Fatalf("%s, call %d: %v", protocol, n, err)
			}
		}
	}
	for protocol := range scripts {
		must(t, h, "lmtp", "bob")
		must(t, h, protocol, "bob")
	}
	if _, err := h.Store.Verify(t.Context(), func(p store.Problem) { t.Errorf("the store is not whole: %+v", p) }, func(store.Verified) {}); err != nil {
		t.Error(err)
	}
	if hits < 50 || ended == 0 {
		t.Errorf("%d panics, %d of which ended a session: too few for a proof", hits, ended)
	}
	promise.Kept(t, "R35", "protocols", len(scripts), "panics planted", hits, "sessions ended and counted", ended, "other sessions harmed", 0)
}
