package link

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/move"
	"github.com/martlet-mail/martlet/internal/move/signin"
)

// slow has sources at hosts whose names begin with "slow" say nothing until they are given up.
func slow(w *world) {
	w.opt.Open = func(ctx context.Context, r Rule, _ Secret) (move.Source, error) {
		if strings.HasPrefix(r.Server.Host, "slow") {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return w.s.open(), nil
	}
}

func (w *world) addAt(t testing.TB, host string, n int) ID {
	r := rule()
	r.Server.Host, r.User = host, fmt.Sprint("u", n)
	return w.add(t, r).ID
}

// Many links to one host that drips leave places to others, and are given up.
func TestSlowHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		slow(w)
		var dripping ID
		for i := range 20 {
			dripping = max(dripping, w.addAt(t, "slow.example.net", i))
		}
		quick := w.addAt(t, "quick.example.net", 0)
		defer w.run(t)()
		time.Sleep(30 * time.Second)
		if s := w.show(t, quick); s.Last.IsZero() {
			t.Errorf("%+v", s)
		}
		time.Sleep(2 * time.Hour)
		if s := w.show(t, dripping); s.Error != fault.Say(errStill) {
			t.Errorf("%+v", s)
		}
	})
}

// Runs that last give their places to others.
func TestLongRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.MaxRuns = 4 })
		slow(w)
		for i := range 4 {
			w.addAt(t, fmt.Sprint("slow", i), 0)
		}
		stop := w.run(t)
		time.Sleep(10 * time.Second)
		quick := w.addAt(t, "quick.example.net", 0)
		time.Sleep(short)
		if s := w.show(t, quick); s.Last.IsZero() {
			t.Errorf("%+v", s)
		}
		stop()
		if w.running != 0 || w.long != 0 || len(w.hosts) != 0 {
			t.Errorf("%d, %d, %v are left", w.running, w.long, w.hosts)
		}
	})
}

// Also at their host: two first runs of large mailboxes there do not stop all others.
func TestLongRunsAtAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.opt.Open = func(ctx context.Context, r Rule, _ Secret) (move.Source, error) {
			if r.User != "u9" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return w.s.open(), nil
		}
		for i := range w.perHost() {
			w.addAt(t, "one.example.net", i)
		}
		stop := w.run(t)
		time.Sleep(10 * time.Second)
		quick := w.addAt(t, "one.example.net", 9)
		time.Sleep(10 * time.Second)
		if s := w.show(t, quick); !s.Last.IsZero() {
			t.Errorf("more than %d run at a host: %+v", w.perHost(), s)
		}
		time.Sleep(short)
		if s := w.show(t, quick); s.Last.IsZero() {
			t.Errorf("%+v", s)
		}
		stop()
		if w.running != 0 || w.long != 0 || len(w.hosts) != 0 {
			t.Errorf("%d, %d, %v are left", w.running, w.long, w.hosts)
		}
	})
}

// A server that tells of news all the time, and has none, is asked more and more rarely; there is
// a gap before each run in any case.
func TestNewsInVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.s.canWait = true
		r := rule()
		r.Poll = time.Hour
		w.add(t, r)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for ctx.Err() == nil {
				time.Sleep(10 * time.Millisecond)
				w.s.Lock()
				w.s.news()
				w.s.Unlock()
			}
		}()
		defer w.run(t)()
		time.Sleep(time.Hour)
		n := w.s.count(&w.s.readings) / len(w.s.boxes)
		if t.Log(n, "runs"); n > 20 || n < 5 {
			t.Errorf("%d runs in an hour", n)
		}
		cancel()
		time.Sleep(time.Second)
	})
}

// A clock that was ahead when a link failed does not have it wait for a year.
func TestClockStep(t *testing.T) {
	w := newWorld(t, nil)
	r := w.add(t, rule())
	now := w.opt.Now()
	w.appear(r, state{Failures: 1, Next: now.AddDate(1, 0, 0)}, 0)
	if d := w.known[r.ID].due.Sub(now); d > longestGap+time.Minute || d < longestGap-time.Minute {
		t.Errorf("it is due in %v", d)
	}
}

// A grant that is being renewed when the run is stopped is kept; one that somebody gave
// meanwhile is not overwritten.
func TestRenewedGrantIsKept(t *testing.T) {
	w := newWorld(t, nil)
	r := rule()
	r.OAuth = "p"
	r, err := w.Add(t.Context(), r, Secret{Grant: &signin.Grant{Refresh: "r1"}})
	if err != nil {
		t.Fatal(err)
	}
	stored := func() string {
		s, err := w.secret(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return s.Grant.Refresh
	}
	ctx, cancel := context.WithCancel(t.Context())
	s, _ := w.secret(ctx, r)
	g, fresh, err := w.renewed(ctx, r, &s, func(ctx context.Context, _ signin.Grant) (signin.Grant, bool, error) {
		cancel() // the run is stopped while the provider thinks
		return signin.Grant{Refresh: "r2"}, true, ctx.Err()
	})
	if err != nil || !fresh || g.Refresh != "r2" || stored() != "r2" {
		t.Error(g, fresh, err, stored())
	}
	s, _ = w.secret(t.Context(), r)
	g, _, err = w.renewed(t.Context(), r, &s, func(ctx context.Context, _ signin.Grant) (signin.Grant, bool, error) {
		if err := w.SetSecret(ctx, r.ID, Secret{Grant: &signin.Grant{Refresh: "hers"}}); err != nil {
			t.Error(err)
		}
		return signin.Grant{Refresh: "r3"}, true, nil
	})
	if err != nil || g.Refresh != "hers" || stored() != "hers" {
		t.Error(g, err, stored())
	}
}
