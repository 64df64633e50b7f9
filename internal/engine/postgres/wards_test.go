package postgres

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestFollowWaits: whoever finds a shard in the group to which another has just brought those who
// listen goes on when they have been told, and not before.
func TestFollowWaits(t *testing.T) {
	nodes, _ := twoGroups(t, func(o *Options) { o.tend, o.poll = time.Hour, time.Hour })
	e := nodes[0]
	var told atomic.Bool
	entered := make(chan struct{})
	defer e.Foreign(acct+3, func() {
		close(entered)
		time.Sleep(50 * time.Millisecond)
		told.Store(true)
	})()
	to := e.member(1)
	if m, _ := e.supposed(acct + 3); m == to {
		t.Fatal("it is there already: the test proves nothing")
	}
	go e.wards.follow(acct+3, to, true)
	<-entered
	e.wards.follow(acct+3, to, false)
	if !told.Load() {
		t.Error("a second call goes on before those who listen have been told")
	}
}

// TestListenWhereItIs: who begins to listen does so where a shard has been found meanwhile.
func TestListenWhereItIs(t *testing.T) {
	nodes, _ := twoGroups(t, func(o *Options) { o.tend, o.poll = time.Hour, time.Hour })
	e := nodes[0]
	done := make(chan struct{})
	e.wards.mu.Lock() // as held by one who looks whether anybody listens, and has found nobody
	go func() {
		defer close(done)
		defer e.Foreign(acct+3, func() {})()
		if !e.member(1).matters(acct + 3) {
			t.Error("it listens where the shard is not")
		}
	}()
	time.Sleep(20 * time.Millisecond) // for it to come as far as it can
	e.places.set(acct+3, 1)
	e.wards.mu.Unlock()
	<-done
}
