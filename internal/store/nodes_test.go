package store

import (
	"context"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
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
