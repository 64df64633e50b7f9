package clock

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
	"github.com/martlet-mail/martlet/test/promise"
)

const year = 365 * 24 * time.Hour

// steps are what happens to clocks. A leap second is told twice; at the end of summer time
// only the zone changes, unless somebody keeps local time.
var steps = []time.Duration{time.Hour, -time.Hour, 10 * year, -10 * year, -time.Second, -time.Millisecond, 25 * time.Hour, -3 * 24 * time.Hour}

// trial is one run from a seed.
type trial struct {
	*house
	rng      *rand.Rand
	promised *promised
	began    time.Time
	n        int            // tokens given out
	acked    map[string]int // 1: to Alice
	out      []string       // recipients elsewhere
	underWay map[string]*store.Parcel
	stepped  []time.Time // when the clock was, by the true one
}

// R9: whatever the clock does, what clients were told holds, no mail is lost or given up, and
// none waits longer than it must.
func TestClock(t *testing.T) {
	n := promise.Times(t, "R9", 40, 4000)
	seed, one := uint64(1), os.Getenv("MARTLET_SEED")
	if one != "" {
		var err error
		if seed, err = strconv.ParseUint(one, 10, 64); err != nil {
			t.Fatal(err)
		}
		n = 1
	}
	var checks, moves, mails, sent int
	for i := range n {
		s := seed + uint64(i)
		synctest.Test(t, func(t *testing.T) {
			tr := newTrial(t, s)
			tr.run()
			if t.Failed() {
				t.Fatalf("seed %d; again: MARTLET_SEED=%d go test -run TestClock ./test/clock", s, s)
			}
			checks += tr.promised.checks
			moves += len(tr.stepped)
			mails += len(tr.acked)
			sent += len(tr.out)
		})
		if t.Failed() {
			return
		}
	}
	promise.Kept(t, "R9", "trials", n, "steps of the clock", moves, "messages", mails, "sent", sent, "checks of ids", checks,
		"lost", 0, "dup", 0, "frozen", 0, "given up", 0)
}

func newTrial(t *testing.T, seed uint64) *trial {
	tr := &trial{house: newHouse(t), rng: rand.New(rand.NewPCG(seed, 9)), promised: newPromised(), began: time.Now(),
		acked: map[string]int{}, underWay: map[string]*store.Parcel{}}
	tr.sendOut(1 << 20) // one that is never taken
	tr.look(false)
	return tr
}

func (tr *trial) run() {
	for range 60 {
		time.Sleep(200 * time.Millisecond) // nothing happens in no time
		switch tr.rng.IntN(12) {
		case 0, 1:
			tr.moveClock(steps[tr.rng.IntN(len(steps))])
		case 2:
			tr.clock.zone.Store(int64(tr.rng.IntN(3)) * 3600)
		case 3, 4:
			time.Sleep(time.Duration(tr.rng.IntN(300)) * time.Second)
		case 5:
			token := tr.token()
			tr.underWay[token] = tr.receive(token)
		case 6:
			tr.finishSome()
		case 7:
			if _, err := tr.Store.Sweep(context.Background()); err != nil {
				tr.t.Error(err)
			}
		case 8:
			tr.sendOut(tr.rng.IntN(4))
		case 9:
			tr.restart()
			clear(tr.underWay) // with the process that took them in
		default:
			tr.shuffle()
		}
		if tr.t.Failed() {
			return
		}
	}
	tr.settle()
}

func (tr *trial) moveClock(d time.Duration) {
	if off := time.Duration(tr.clock.offset.Load()) + d; off.Abs() > 25*year {
		d = -d // no clock is older than Unix: the bubble begins in 2000
	}
	tr.clock.step(d)
	tr.stepped = append(tr.stepped, time.Now())
	tr.look(false)
}

func (tr *trial) token() string {
	tr.n++
	return token(tr.n)
}

// finishSome ends deliveries that are under way.
func (tr *trial) finishSome() {
	for _, token := range sorted(tr.underWay) {
		before := tr.clock.now().Unix()
		if err := tr.deliver(tr.underWay[token], alice); err != nil {
			tr.t.Errorf("%s: %v", token, err)
			return
		}
		delete(tr.underWay, token)
		tr.acked[token] = 1
		tr.look(true)
		m := tr.last("INBOX")
		tr.complain(tr.promised.arrived(m.ID))
		if after := tr.clock.now().Unix(); m.Internal < before || m.Internal > after {
			tr.t.Errorf("%s came in at %d by a clock that said %d to %d", token, m.Internal, before, after)
		}
	}
}

// sendOut sends a message elsewhere, which is taken after some attempts.
func (tr *trial) sendOut(refuse int) {
	to := fmt.Sprintf("r%d", len(tr.out))
	tr.peer.mu.Lock()
	tr.peer.refuse[to] = refuse
	tr.peer.mu.Unlock()
	if err := tr.deliver(tr.receive(tr.token()), mail.Address{Local: to, Domain: "away.test"}); err != nil {
		tr.t.Error(err)
	}
	tr.out = append(tr.out, to)
}

// shuffle changes mailboxes: makes, renames and removes them, moves and marks messages.
func (tr *trial) shuffle() {
	ctx, a := context.Background(), tr.account()
	err := a.Update(ctx, func(tx *store.Tx) error {
		inbox, err := tx.Mailbox("INBOX")
		if err != nil {
			return err
		}
		work, err := tx.Mailbox("Work")
		if err != nil {
			_, err = tx.CreateMailbox("Work", "")
			return err
		}
		var all mail.UIDSet
		all.AddRange(1, 1<<20)
		switch tr.rng.IntN(4) {
		case 0:
			_, err = tx.Move(inbox.ID, all, work.ID)
		case 1:
			if _, err = tx.Move(work.ID, all, inbox.ID); err == nil {
				err = tx.DeleteMailbox("Work")
			}
		case 2:
			_, err = tx.SetFlags(inbox.ID, all, store.FlagChange{Op: store.AddFlags, Flags: mail.Flags(1 << tr.rng.IntN(3))})
		default:
			if err = tx.RenameMailbox("Work", "Play"); err == nil {
				err = tx.RenameMailbox("Play", "Work")
			}
		}
		return err
	})
	if err != nil {
		tr.t.Error(err)
	}
	tr.look(false)
}

func (tr *trial) complain(broken []string) {
	for _, b := range broken {
		tr.t.Error(b)
	}
}

// look holds what there is against what was promised.
func (tr *trial) look(changed bool) {
	err := tr.account().View(context.Background(), func(s *store.Snapshot) error {
		boxes, err := s.Mailboxes()
		tr.complain(tr.promised.look(s.ModSeq(), boxes, changed))
		return err
	})
	if err != nil {
		tr.t.Error(err)
	}
}

// last returns the newest message of a mailbox.
func (tr *trial) last(name string) (m store.Message) {
	ctx, a := context.Background(), tr.account()
	var box store.Mailbox
	err := a.View(ctx, func(s *store.Snapshot) (err error) { box, err = s.Mailbox(name); return err })
	if err == nil {
		var p *store.Picture
		if p, err = a.Picture(ctx, box.ID); err == nil && p.Len() > 0 {
			m, _ = p.Message(p.UID(p.Len()))
		}
	}
	if err != nil {
		tr.t.Error(err)
	}
	return m
}

// settle sets the clock right, lets as much time pass as mail may wait, and counts.
func (tr *trial) settle() {
	tr.finishSome()
	right := -time.Duration(tr.clock.offset.Load())
	tr.moveClock(right)
	rest := 3 * time.Minute // a look at the clock, and what else takes its time
	for _, g := range gaps {
		rest += g + g/10 + time.Minute
	}
	time.Sleep(rest)
	tr.finishSome()
	if _, err := tr.Store.Sweep(context.Background()); err != nil {
		tr.t.Error(err)
	}
	found, err := tr.tokens()
	if err != nil {
		tr.t.Errorf("%v", err)
		return
	}
	for token := range tr.acked {
		if found[token] != 1 {
			tr.t.Errorf("%s is there %d times", token, found[token])
		}
		delete(found, token)
	}
	for what, n := range found { // a report, if anything
		tr.t.Errorf("%q is there %d times", what, n)
	}
	tr.checkQueue()
	tr.sound()
}

// checkQueue sees that all has left the queue that could, and how often it was tried.
func (tr *trial) checkQueue() {
	var left []queue.Info
	err := tr.Queue.List(context.Background(), queue.Filter{}, func(i queue.Info) bool { left = append(left, i); return true })
	if err != nil || len(left) != 1 {
		tr.t.Errorf("%d messages wait, of which one may: %v", len(left), err)
	}
	tr.peer.mu.Lock()
	defer tr.peer.mu.Unlock()
	for i, to := range tr.out {
		if want := min(i, 1); tr.peer.taken[to] != want {
			tr.t.Errorf("%s was taken %d times, after %d attempts", to, tr.peer.taken[to], len(tr.peer.attempts[to]))
		}
		tr.checkPace(to, tr.peer.attempts[to])
	}
}

// checkPace sees that attempts keep their distance: one may come early for each time that the
// clock was set.
func (tr *trial) checkPace(to string, at []time.Time) {
	for i := 1; i < len(at); i++ {
		gap := gaps[min(i, len(gaps))-1]
		set := slices.ContainsFunc(tr.stepped, func(s time.Time) bool { return !s.Before(at[i-1]) && !s.After(at[i]) })
		if d := at[i].Sub(at[i-1]); d < gap*9/10 && !set {
			tr.t.Errorf("%s was tried %v after attempt %d, without a reason", to, d, i)
		}
	}
	if most := len(gaps) + len(tr.stepped) + 1 + int(time.Since(tr.began)/(gaps[len(gaps)-1]*9/10)); len(at) > most {
		tr.t.Errorf("%s was tried %d times, at most %d are right", to, len(at), most)
	}
}

func sorted(m map[string]*store.Parcel) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
