package directory

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/store"
)

// twoNodes returns a directory as two nodes have it. The second is told of nothing that it
// does not ask for.
func twoNodes(t *testing.T) (a, b *fixture, nodes []*enginetest.Node) {
	nodes = enginetest.Nodes(newEngine(t), 2)
	nodes[1].Lose()
	t.Cleanup(func() {
		for _, n := range nodes {
			n.Close()
		}
	})
	a = newFixture(t, nodes[0])
	a.mustDo(t, a.AddDomain(bg, "example.org"))
	b = newFixture(t, nodes[1])
	b.data = a.data
	return a, b, nodes
}

// deaf is a node whose engine breaks its promise: nobody is told of foreign changes.
type deaf struct{ *enginetest.Node }

func (deaf) Foreign(engine.Shard, func()) func() { return func() {} }

func (deaf) Watch(engine.Shard) (<-chan struct{}, func()) { return nil, func() {} }

// What one node changes of a login binds the others at once, whatever they remember.
func TestLoginsOfOtherNodes(t *testing.T) {
	a, b, nodes := twoNodes(t)
	alice := a.add(t, "alice@example.org", "first")
	logsIn := func(f *fixture, password string, want fault.Kind) {
		t.Helper()
		f.pass(1 << 40) // failures are forgiven
		if err := f.try("alice@example.org", password, home); fault.Of(err) != want && (err != nil || want != 0) {
			t.Errorf("%q: %v", password, err)
		}
	}
	logsIn(b, "first", 0)
	logsIn(b, "first", 0) // remembered
	a.mustDo(t, a.SetPassword(bg, alice.Address, "second"))
	logsIn(b, "first", fault.Unauthenticated)
	logsIn(b, "second", 0)
	control := newFixture(t, deaf{nodes[1]})
	logsIn(control, "second", 0)
	a.mustDo(t, a.RemoveAccount(bg, alice.Address))
	logsIn(b, "second", fault.Unauthenticated)
	logsIn(control, "second", 0) // it knows no better: the test proves something
	again := a.add(t, "alice@example.org", "second")
	if got, err := b.Authenticate(bg, "alice@example.org", "second", home); err != nil || got.ID != again.ID {
		t.Errorf("the account is %v, not the new one %v: %v", got.ID, again.ID, err)
	}
}

// What is cached of the directory goes with hints, and with any look.
func TestCacheOfOtherNodes(t *testing.T) {
	a, b, nodes := twoNodes(t)
	a.mustDo(t, a.AddDomain(bg, "example.net"))
	for range 2 { // the first finds out that it knew nothing
		if local, err := b.IsLocal(bg, "example.com"); local || err != nil {
			t.Fatal(local, err)
		}
	}
	a.mustDo(t, a.AddDomain(bg, "example.com"))
	if local, _ := b.IsLocal(bg, "example.com"); local {
		t.Error("nobody has told of it, and it is known: the test proves nothing")
	}
	nodes[1].Poll()
	if local, err := b.IsLocal(bg, "example.com"); !local || err != nil {
		t.Error(local, err)
	}
	nodes[1].Hints(nil)
	a.mustDo(t, a.RemoveDomain(bg, "example.com"))
	if local, err := b.IsLocal(bg, "example.com"); local || err != nil {
		t.Error(local, err)
	}
}

// A node that was silent for too long in the middle of making an account makes it no further:
// another may be at it.
func TestMakingThatCameTooLate(t *testing.T) {
	a, b, _ := twoNodes(t)
	steps := 0
	a.Directory.opt.Alone = func(context.Context, string) (func() bool, func(), error) {
		return func() bool { steps++; return steps < 2 }, func() {}, nil
	}
	addr := at("alice@example.org")
	if _, err := a.AddAccount(bg, addr, "x", store.Quota{}); !fault.Is(err, fault.Busy) || steps < 2 {
		t.Errorf("after %d steps: %v", steps, err)
	}
	if _, err := b.Lookup(bg, addr); !fault.Is(err, fault.NotFound) {
		t.Errorf("the account is there: %v", err)
	}
}

// An account that one node removes while another makes it is there as a whole or not at all;
// with Alone the one waits for the other.
func TestMakingCrossesRemoval(t *testing.T) {
	for _, alone := range []bool{false, true} {
		a, b, _ := twoNodes(t)
		if alone {
			var one sync.Mutex
			for _, f := range []*fixture{a, b} {
				f.Directory.opt.Alone = func(context.Context, string) (func() bool, func(), error) {
					one.Lock()
					return func() bool { return true }, one.Unlock, nil
				}
			}
		}
		addr := at("alice@example.org")
		for range 20 {
			var work sync.WaitGroup
			var added, removed error
			work.Go(func() { _, added = a.AddAccount(bg, addr, "x", store.Quota{}) })
			work.Go(func() { removed = b.RemoveAccount(bg, addr) })
			work.Wait()
			if added != nil && (alone || fault.Of(added) != fault.Busy) || removed != nil && fault.Of(removed) != fault.NotFound {
				t.Fatal(added, removed)
			}
			is, err := a.Lookup(bg, addr)
			a.data.mu.Lock()
			has := a.data.has[is.ID]
			a.data.mu.Unlock()
			if (err == nil) != (added == nil && removed != nil) || err == nil && !has {
				t.Fatalf("added: %v, removed: %v, there: %v, with data: %v", added, removed, err, has)
			}
			_ = a.RemoveAccount(bg, addr)
		}
	}
}

// Failures of a login and of an address count over all nodes, and an address from which a
// login has worked on one is its friend on all.
func TestFailuresOverNodes(t *testing.T) {
	for _, control := range []bool{false, true} {
		a, b, _ := twoNodes(t)
		for _, f := range []*fixture{a, b} {
			f.slow.perLogin, f.slow.perAddress = 10, 15
			if control {
				f.slow.shared = nil
			}
		}
		a.add(t, "alice@example.org", "right")
		a.add(t, "bob@example.org", "right")
		if err := a.try("alice@example.org", "right", home); err != nil {
			t.Fatal(err)
		}
		failed := 0
		for i := range 30 {
			f := []*fixture{a, b}[i%2]
			if err := f.try("alice@example.org", "wrong", netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})); fault.Is(err, fault.Unauthenticated) {
				failed++
			}
		}
		if want := map[bool]int{false: 10, true: 20}[control]; failed != want {
			t.Errorf("control %v: %d passwords were tried for one login, not %d", control, failed, want)
		}
		if err := b.try("alice@example.org", "right", home); (err == nil) == control {
			t.Errorf("control %v: from an address that is her friend on another node: %v", control, err)
		}
		failed = 0
		for i := range 40 {
			f := []*fixture{a, b}[i%2]
			if err := f.try(fmt.Sprintf("x%d@example.org", i), "wrong", away); fault.Is(err, fault.Unauthenticated) {
				failed++
			}
		}
		if want := map[bool]int{false: 15, true: 30}[control]; failed != want {
			t.Errorf("control %v: %d logins were tried from one address, not %d", control, failed, want)
		}
		wantKind(t, "bob from there", b.try("bob@example.org", "right", away), fault.Limited)
		a.pass(time.Hour)
		b.pass(time.Hour)
		if err := b.try("bob@example.org", "right", away); err != nil {
			t.Errorf("when it is forgiven: %v", err)
		}
	}
}

// What is written of failures goes when it is over.
func TestFailuresAreTidiedUp(t *testing.T) {
	a, _, nodes := twoNodes(t)
	count := func() (n int) {
		err := nodes[0].View(bg, brakeShard, func(r engine.Reader) error {
			n = 0
			return r.Scan(nil, nil, false, func(_, _ []byte) bool { n++; return true })
		})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	for i := range 100 {
		_ = a.try(fmt.Sprintf("x%d@example.org", i), "wrong", netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}))
	}
	if n := count(); n != 200 {
		t.Errorf("%d records of 200", n)
	}
	a.pass(24 * time.Hour)
	for i := range 200 {
		a.pass(time.Minute)
		_ = a.try(fmt.Sprintf("y%d@example.org", i), "wrong", away)
	}
	if n := count(); n > 20 {
		t.Errorf("%d records are left a day later", n)
	}
}
