package link

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/fault"
)

// What is ordered on a node that does not carry the links out is heeded by the one that does.
func TestOrdersOfAnotherNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var options Options
		w := newWorld(t, func(o *Options) { options = *o })
		nodes := enginetest.Nodes(w.h.engine, 2)
		options.Engine = nodes[0]
		w.Links = New(options)
		options.Engine = nodes[1]
		options.Elsewhere = func(context.Context) (string, error) { return "a", nil }
		other := New(options)
		stop := w.run(t)
		defer stop()
		ctx := t.Context()

		w.s.add("INBOX", letter(1), 0)
		r, err := other.Add(ctx, rule(), Secret{Password: password})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := w.show(t, r.ID); s.State != OK || s.Brought != 1 || w.opens.Load() != 1 {
			t.Fatalf("a link that another node has made: %+v", s)
		}
		time.Sleep(10 * time.Second)
		w.s.add("INBOX", letter(2), 0)
		if _, err := other.Now(ctx, r.ID); !fault.Is(err, fault.Busy) || !strings.Contains(fault.Say(err), "node a") {
			t.Errorf("a run on another node: %v", err)
		}
		time.Sleep(time.Second)
		if s := w.show(t, r.ID); s.Brought != 2 {
			t.Errorf("it was not run: %+v", s)
		}
		opens := w.opens.Load()
		time.Sleep(10 * time.Second)
		if err := other.Pause(ctx, r.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if s := w.show(t, r.ID); s.State != Paused || w.opens.Load() > opens+1 {
			t.Errorf("it was not paused: %+v, %d runs", s, w.opens.Load()-opens)
		}
		w.s.add("INBOX", letter(3), 0)
		if err := other.Resume(ctx, r.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if s := w.show(t, r.ID); s.State != OK || s.Brought != 3 {
			t.Errorf("it does not go on: %+v", s)
		}
		if err := other.SetSecret(ctx, r.ID, Secret{Password: "another"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if w.show(t, r.ID).State != OK {
			t.Errorf("%+v", w.show(t, r.ID))
		}
		if err := other.Remove(ctx, r.ID); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		opens = w.opens.Load()
		time.Sleep(time.Hour)
		if w.opens.Load() != opens {
			t.Error("a link that was removed runs")
		}
	})
}
