package store

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

// worlds returns stores of several nodes on one engine, with one account.
func worlds(t interface {
	Fatal(...any)
	Cleanup(func())
}, n int) (list []*world, nodes []*enginetest.Node) {
	c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	nodes = enginetest.Nodes(memoryEngine(t, c), n)
	for _, node := range nodes {
		list = append(list, worldOn(t, node, c))
	}
	return list, nodes
}

// The model holds whichever node does something and whichever looks, with hints and
// without, whether or not anybody attends to the account.
func TestStoreAgainstModelOverNodes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		all, nodes := worlds(rapidT{rt}, 3)
		for i, n := range nodes {
			if rapid.Bool().Draw(rt, "hints are lost") {
				n.Lose()
			}
			if i > 0 {
				defer all[i].a.Attend()()
			}
		}
		checkModel(t, rt, all)
	})
}

// deaf is a node whose engine breaks its promise: nobody is told of foreign changes.
type deaf struct{ *enginetest.Node }

func (deaf) Foreign(engine.Shard, func()) func() { return func() {} }

// What another node has done is in the picture, without a look at the engine once it is
// known. The control is an engine that tells of nothing.
func TestPicturesOfOtherNodes(t *testing.T) {
	all, nodes := worlds(t, 2)
	a, b := all[0], all[1]
	inbox := a.box(t, "INBOX").ID
	leave := b.a.Attend()
	b.picture(t, inbox)
	for i := range 5 {
		if i == 2 {
			nodes[1].Lose()
		}
		uid := a.deliver(t, "INBOX", hello)
		if p := b.picture(t, inbox); p.UID(p.Len()) != uid {
			t.Errorf("message %d is not in the picture of another node", uid)
		}
		b.picture(t, inbox) // which the first may have been too early for, if it was it that found out
		moment := b.Moment()
		if err := b.a.Prove(ctx, moment); err != nil {
			t.Fatal(err)
		}
		nodes[1].Down(true) // a look would fail
		if p, err := b.a.PictureSince(ctx, inbox, moment); err != nil || p.UID(p.Len()) != uid {
			t.Errorf("a picture that is proved is read again: %v", err)
		}
		if _, err := b.a.Picture(ctx, inbox); err == nil {
			t.Error("a picture is shown that nothing proves")
		}
		nodes[1].Down(false)
	}
	leave()
	a.deliver(t, "INBOX", hello)
	if p := b.picture(t, inbox); p.Len() != 6 {
		t.Errorf("%d messages for one who does not attend", p.Len())
	}

	control := worldOn(t, deaf{nodes[1]}, b.clock)
	control.a.Attend()
	control.picture(t, inbox)
	a.deliver(t, "INBOX", hello)
	moment := control.Moment()
	if err := control.a.Prove(ctx, moment); err != nil {
		t.Fatal(err)
	}
	if p, _ := control.a.PictureSince(ctx, inbox, moment); p.Len() != 6 {
		t.Error("the control sees what nobody has told it of: the test proves nothing")
	}
}

// Who watches, wakes or follows is told of what other nodes do, and accounts that nobody
// attends to cost the engine nothing.
func TestAttendance(t *testing.T) {
	all, nodes := worlds(t, 2)
	a, b := all[0], all[1]
	box := a.box(t, "INBOX")
	b.box(t, "INBOX")
	ticks, stop := b.a.Watch()
	woken := 0
	f := b.a.Follow(&Origin{}, func() { woken++ })
	if n := nodes[1].Listeners(); n != 1 {
		t.Errorf("%d listeners for one account", n)
	}
	for i := range 3 {
		before := mail.ModSeq(0)
		if err := b.a.View(ctx, func(s *Snapshot) error { before = s.ModSeq(); return nil }); err != nil {
			t.Fatal(err)
		}
		f.Take()
		a.deliver(t, "INBOX", hello)
		<-ticks
		if got := f.Take(); got.Lost == 0 || got.Lost > before+1 || got.Lost <= box.HighestModSeq && i > 0 {
			t.Errorf("after modseq %d all may have changed since %d", before, got.Lost)
		}
	}
	if woken < 3 {
		t.Errorf("a follower was woken %d times", woken)
	}
	stop()
	stop()
	f.Stop()
	f.Stop()
	leave := b.a.Attend()
	leave()
	leave()
	b.picture(t, box.ID)
	if n := nodes[1].Listeners(); n != 0 {
		t.Errorf("%d listeners when nobody attends", n)
	}
	if one := newWorld(t); one.Moment() != 0 || one.IsShared() {
		t.Error("an engine of one process counts as shared")
	}
}

// Sessions on every node follow what writers on every node do, each message told once.
func TestSessionsFollowOtherNodes(t *testing.T) {
	all, nodes := worlds(t, 3)
	nodes[1].Hints(func(_ engine.Shard, deliver func()) { go deliver() })
	inbox := all[0].box(t, "INBOX").ID
	const each = 30
	var writing, following sync.WaitGroup
	life, end := context.WithCancel(ctx)
	believed := make([]map[mail.UID]bool, len(all))
	for i, w := range all {
		believed[i] = map[mail.UID]bool{}
		ticks, stop := w.a.Watch()
		old := w.picture(t, inbox)
		following.Go(func() {
			defer stop()
			for last := false; ; {
				now, err := w.a.Picture(ctx, inbox)
				if err != nil {
					t.Error(err)
					return
				}
				follow(t, believed[i], Diff(old, now))
				if old = now; last {
					return
				}
				select {
				case <-ticks:
				case <-life.Done():
					last = true
				}
			}
		})
	}
	for _, w := range all {
		p := w.receive(t, hello)
		writing.Go(func() {
			for n := range each {
				var uid mail.UID
				err := w.a.Update(ctx, func(tx *Tx) (err error) {
					uid, err = tx.Append(inbox, NewMessage{Parcel: p})
					return err
				})
				if err == nil && n%2 == 0 {
					_, err = w.a.SetFlags(ctx, inbox, mail.SetOf(uid), FlagChange{Flags: mail.Seen})
				}
				if err == nil && n%5 == 0 {
					_, err = w.a.Expunge(ctx, inbox, mail.SetOf(uid), false)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writing.Wait()
	end()
	following.Wait()
	for i, b := range believed {
		if want := len(all) * each * 4 / 5; len(b) != want {
			t.Errorf("the session of node %d believes in %d messages, there are %d", i, len(b), want)
		}
	}
	all[0].verify(t)
}

// A sweep on one node takes no body that a delivery, a copy or a move on another may still
// refer to, and takes those that nobody refers to.
func TestSweepBesideOtherNodes(t *testing.T) {
	removed := 0
	rapid.Check(t, func(rt *rapid.T) {
		all, _ := worlds(rapidT{rt}, 2)
		if err := all[0].CreateAccount(ctx, 2, Quota{}); err != nil {
			rt.Fatal(err)
		}
		node := func() *world { return rapid.SampledFrom(all).Draw(rt, "node") }
		account := func(w *world) *Account {
			return w.Account(mail.AccountID(rapid.IntRange(1, 2).Draw(rt, "account")))
		}
		type begun struct {
			w    *world
			p    *Parcel
			when time.Time
		}
		var under []begun
		must := func(err error) {
			if err != nil {
				rt.Fatal(err)
			}
		}
		inboxes := map[mail.AccountID]mail.MailboxID{}
		for id := range mail.AccountID(2) {
			must(all[0].Account(id+1).View(ctx, func(s *Snapshot) error {
				m, err := s.Mailbox("INBOX")
				inboxes[id+1] = m.ID
				return err
			}))
		}
		now := func() time.Time { return all[0].clock.t }
		rt.Repeat(map[string]func(*rapid.T){
			"begin": func(rt *rapid.T) {
				w := node()
				p, err := w.Receive(ctx, strings.NewReader("Subject: x\r\n\r\n"+distinct(rapid.IntRange(0, 3).Draw(rt, "content"), 20_000)))
				must(err)
				under = append(under, begun{w, p, now()})
			},
			"finish": func(rt *rapid.T) {
				if len(under) == 0 {
					return
				}
				b := under[0]
				if under = under[1:]; now().Sub(b.when) > SweepAge-time.Hour {
					return // no delivery takes so long
				}
				a := account(b.w)
				must(a.Update(ctx, func(tx *Tx) error {
					_, err := tx.Append(inboxes[a.ID()], NewMessage{Parcel: b.p})
					return err
				}))
			},
			"carry": func(rt *rapid.T) {
				w := node()
				from := account(w)
				to := w.Account(3 - from.ID())
				verb := from.CopyTo
				if rapid.Bool().Draw(rt, "move") {
					verb = from.MoveTo
				}
				_, err := verb(ctx, inboxes[from.ID()], mail.SetOf(mail.UID(rapid.IntRange(1, 6).Draw(rt, "uid"))), to, inboxes[to.ID()])
				must(err)
			},
			"expunge": func(rt *rapid.T) {
				a := account(node())
				_, err := a.Expunge(ctx, inboxes[a.ID()], mail.SetOf(mail.UID(rapid.IntRange(1, 6).Draw(rt, "uid"))), false)
				must(err)
			},
			"pass": func(rt *rapid.T) {
				all[0].clock.t = now().Add(time.Duration(rapid.IntRange(1, 30).Draw(rt, "hours")) * time.Hour)
			},
			"sweep": func(rt *rapid.T) {
				done, err := node().Sweep(ctx)
				must(err)
				removed += done.Removed
			},
			"": func(rt *rapid.T) { all[0].verify(rt) },
		})
	})
	if removed == 0 {
		t.Error("no sweep removed anything: the test proves nothing")
	}
}

func distinct(seed, size int) string {
	b, x := make([]byte, size), uint32(seed)*2654435761+1
	for i := range b {
		if x = x*1664525 + 1013904223; i%78 == 76 || i%78 == 77 {
			b[i] = "\r\n"[i%78-76]
			continue
		}
		b[i] = 'A' + byte(x>>24)%57
	}
	return string(b)
}

// A backup on one node keeps sweeps of others from removing anything, and knows what went
// from one account to another there.
func TestHoldsOverNodes(t *testing.T) {
	all, _ := worlds(t, 2)
	a, b := all[0], all[1]
	if err := a.CreateAccount(ctx, 2, Quota{}); err != nil {
		t.Fatal(err)
	}
	inbox := a.box(t, "INBOX").ID
	uid := a.deliver(t, "INBOX", "Subject: x\r\n\r\n"+distinct(1, 20_000))
	if _, err := a.a.CopyTo(ctx, inbox, mail.SetOf(uid), a.Account(2), inbox); err != nil {
		t.Fatal(err)
	}
	release, err := a.HoldBodies(ctx)
	if err != nil {
		t.Fatal(err)
	}
	so, stop, err := a.NoteCrossings(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	if _, err := b.a.MoveTo(ctx, inbox, mail.SetOf(uid), b.Account(2), inbox); err != nil {
		t.Fatal(err)
	}
	if list, err := so(); err != nil || len(list) != 1 || list[0] != (Crossing{1, 2}) {
		t.Errorf("%v went from one account to another: %v", list, err)
	}
	if _, err := b.Account(2).Expunge(ctx, inbox, All(), false); err != nil {
		t.Fatal(err)
	}
	all[0].letPass(t, 3*24*time.Hour)
	if done, err := b.Sweep(ctx); fault.Of(err) != fault.Busy || done.Removed != 0 {
		t.Errorf("a sweep beside a backup removed %d bodies: %v", done.Removed, err)
	}
	release()
	release()
	if done, err := b.Sweep(ctx); err != nil || done.Removed != 1 {
		t.Errorf("the sweep after it removed %d bodies: %v", done.Removed, err)
	}
	if list, err := so(); err != nil || len(list) != 0 {
		t.Errorf("%v is noted for nobody: %v", list, err)
	}
	if _, err := a.HoldBodies(ctx); err != nil { // by a process that dies
		t.Fatal(err)
	}
	all[0].letPass(t, 8*24*time.Hour)
	if _, err := b.Sweep(ctx); err != nil {
		t.Error(err)
	}
}

// A sweep whose clock is ahead of the one that dates bodies takes none that is young by that.
func TestSweepByAnotherClock(t *testing.T) {
	dates := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	eng := memoryEngine(t, dates)
	ahead := &clock{dates.t.Add(5 * 24 * time.Hour)}
	w := worldOn(t, enginetest.Nodes(eng, 1)[0], ahead)
	under := w.receive(t, "Subject: x\r\n\r\n"+distinct(1, 20_000))
	if done, err := w.Sweep(ctx); err != nil || done.Removed != 0 {
		t.Errorf("%d bodies were removed: %v", done.Removed, err)
	}
	w.update(t, func(tx *Tx) error {
		m, err := tx.Mailbox("INBOX")
		if err == nil {
			_, err = tx.Append(m.ID, NewMessage{Parcel: under})
		}
		return err
	})
	w.verify(t)
	w.receive(t, "Subject: x\r\n\r\n"+distinct(2, 20_000))
	control := worldOn(t, eng, ahead)
	if done, err := control.Sweep(ctx); err != nil || done.Removed == 0 {
		t.Errorf("the control removes %d bodies: the test proves nothing: %v", done.Removed, err)
	}
	dates.t = dates.t.Add(3 * 24 * time.Hour)
	w.receive(t, "Subject: x\r\n\r\n"+distinct(3, 20_000))
	dates.t = dates.t.Add(2 * 24 * time.Hour)
	if done, err := w.Sweep(ctx); err != nil || done.Removed != 1 {
		t.Errorf("%d bodies were removed, of one that is old: %v", done.Removed, err)
	}
}
