package sim

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/internal/store"
)

// world is one run of a scenario.
type world struct {
	s      *scenario
	net    *network
	ledger *ledger
	opt    options
	server *slog.Logger
	began  time.Time
	offset atomic.Int64 // of the server's clock

	sweeping chan struct{}

	mu     sync.Mutex
	mem    *vfs.MemFS
	number int
	start  time.Time // of the life
	quiet  bool      // faults are over
	steps  bool      // the clock was set
	log    strings.Builder
	result
}

// result is what a run has found.
type result struct {
	faults []string // what is wrong
	figures
	leaks bool
	text  string
}

// figures are what runs add up to.
type figures struct {
	Lost, Dup, Wrong int
	Restarts         int            // starts of the server after the first
	Forgotten        int            // cuts that took unsynced data
	Acked, Unknown   int            // copies of messages for recipients, and by clients
	Out              int            // recipients elsewhere
	Looks            int            // at a whole mailbox, held against all that was told of it
	Met              map[string]int // troubles that came to be, by kind
}

func (f *figures) add(o figures) {
	f.Lost, f.Dup, f.Wrong = f.Lost+o.Lost, f.Dup+o.Dup, f.Wrong+o.Wrong
	f.Restarts, f.Forgotten = f.Restarts+o.Restarts, f.Forgotten+o.Forgotten
	f.Acked, f.Unknown, f.Out, f.Looks = f.Acked+o.Acked, f.Unknown+o.Unknown, f.Out+o.Out, f.Looks+o.Looks
	if f.Met == nil {
		f.Met = map[string]int{}
	}
	for kind, n := range o.Met {
		f.Met[kind] += n
	}
}

// met counts a trouble.
func (w *world) met(kind string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.Met[kind]++
}

func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(fmt.Sprintf(format, args...))
}

// note adds a line to the log. It needs the lock.
func (w *world) note(line string) {
	fmt.Fprintf(&w.log, "%d %12v %s\n", w.number, time.Since(w.began), line)
}

func (w *world) clock() time.Duration { return time.Since(w.began) }

func (w *world) fault(kind, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note("WRONG: " + what)
	w.faults = append(w.faults, kind+what)
	switch kind {
	case "lost: ":
		w.Lost++
	case "dup: ":
		w.Dup++
	default:
		w.Wrong++
	}
}

func (w *world) wrong(format string, args ...any) { w.fault("", fmt.Sprintf(format, args...)) }
func (w *world) lost(what string)                 { w.fault("lost: ", what) }
func (w *world) dup(what string)                  { w.fault("dup: ", what) }

func (w *world) lifeNo() int          { w.mu.Lock(); defer w.mu.Unlock(); return w.number }
func (w *world) life() *life          { return &w.s.Lives[w.lifeNo()] }
func (w *world) lifeBegan() time.Time { w.mu.Lock(); defer w.mu.Unlock(); return w.start }
func (w *world) calm() bool           { w.mu.Lock(); defer w.mu.Unlock(); return w.quiet }
func (w *world) stepped() bool        { w.mu.Lock(); defer w.mu.Unlock(); return w.steps }

// now is what the server's clock says.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) }

func (w *world) cutAt(t time.Time) { w.ledger.cutAt(t) }

func (l *ledger) cutAt(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cuts = append(l.cuts, t)
}

// run plays a scenario in a bubble and judges it.
func run(t *testing.T, s *scenario, opt options) (res result) {
	w := &world{s: s, opt: opt, result: result{figures: figures{Met: map[string]int{}}}, server: slog.New(slog.DiscardHandler)}
	if opt.verbose {
		w.server = slog.New(slog.NewTextHandler(logWriter{w}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	base := base(t)
	defer func() {
		if p := recover(); p != nil {
			// An engine whose disk has failed leaves what it cannot end; all else is wrong.
			if text := fmt.Sprint(p); !w.leaks || !strings.Contains(text, "main bubble goroutine has exited") {
				w.wrong("%s", text)
				w.logf("%s", stacks())
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.text = w.log.String()
		res = w.result
	}()
	synctest.Test(t, func(t *testing.T) {
		w.began = time.Now()
		w.net = newNetwork()
		w.net.weather = w.weather
		w.sweeping = make(chan struct{}, 1)
		w.ledger = newLedger(w)
		w.ledger.lie = opt.lie
		w.mem = base.CrashClone(vfs.CrashCloneCfg{})
		p := w.openPeers()
		for n := range s.Lives {
			w.live(n)
			if len(w.faults) > 0 {
				break
			}
		}
		p.close()
	})
	return
}

// stacks are those of all goroutines that are left in bubbles.
func stacks() string {
	b := make([]byte, 4<<20)
	b = b[:runtime.Stack(b, true)]
	var left []string
	for g := range strings.SplitSeq(string(b), "\n\n") {
		if head, _, _ := strings.Cut(g, "\n"); strings.Contains(head, "synctest") {
			left = append(left, g)
		}
	}
	return strings.Join(left, "\n\n")
}

// options of a run.
type options struct {
	wrap    func(vfs.FS) vfs.FS // the disk lies
	stale   bool                // the disk is after a cut as it was at the start before
	deaf    bool                // the courier hears no to what a host has taken
	lie     bool                // the ledger says that a message was acknowledged that was not
	verbose bool
}

type logWriter struct{ w *world }

func (l logWriter) Write(b []byte) (int, error) {
	l.w.logf("server: %s", strings.TrimSpace(string(b)))
	return len(b), nil
}

// weather of a connection follows from who dials for the how-many-eth time.
func (w *world) weather(from string, n int, to string) weather {
	h := fnv.New64a()
	fmt.Fprint(h, w.s.Seed, from, n, to)
	rng := rand.New(rand.NewPCG(h.Sum64(), 3))
	v := weather{delay: time.Duration(100+rng.IntN(900)) * time.Microsecond}
	if rng.IntN(5) == 0 {
		v.delay *= 50
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.quiet {
		return v
	}
	for i, a := range w.s.Lives[w.number].Actors {
		if from == actorName(w.number, i) {
			v.breakIn, v.breakOut, v.silent, v.window = a.BreakIn, a.BreakOut, a.Silent, a.Window
		}
	}
	return v
}

func actorName(life, n int) string { return fmt.Sprintf("L%dc%d", life, n) }

// live is one life of the server, from its start to the cut of its power; the last one
// goes on until nothing waits, and ends by a stop.
func (w *world) live(n int) {
	last := n == len(w.s.Lives)-1
	w.mu.Lock()
	w.number, w.start = n, time.Now()
	w.mu.Unlock()
	var h *house
	off := new(atomic.Bool)
	var before *vfs.MemFS
	if w.opt.stale {
		before = w.mem.CrashClone(vfs.CrashCloneCfg{})
	}
	d := newDrive(w, n, func() {
		off.Store(true)
		told := rand.New(rand.NewPCG(w.s.Seed, uint64(2000+n)))
		w.net.powerOff(func(int) bool { return told.IntN(100) < w.s.Lives[n].Cut.Told })
	})
	at := site{fs: d.fs(), memTable: w.s.MemTable, now: w.now, log: w.server, chance: newChance(w.s.Seed, n), deaf: w.opt.deaf, keep: w.s.Keep,
		dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			if off.Load() {
				return nil, net.ErrClosed
			}
			return w.reach(ctx, network, address)
		}}
	h, err := openHouse(context.Background(), at)
	if err != nil {
		w.wrong("the server does not start: %v", err)
		return
	}
	w.logf("the server starts")
	if d.after == nil {
		h.serve(at, w.net)
		w.inside(h, d, n, last)
		if err := h.stop(); err != nil && !d.isBroken() {
			w.wrong("the server does not stop: %v", err)
		}
	} else if err := h.close(); err != nil {
		w.wrong("the server does not stop: %v", err)
	}
	if last {
		return
	}
	w.mu.Lock()
	w.Restarts++
	if d.lost {
		w.Forgotten++
	}
	if !w.opt.stale {
		w.mem = d.after
	} else {
		w.mem = before
	}
	w.leaks = w.leaks || d.isBroken()
	w.mu.Unlock()
	time.Sleep(time.Duration(w.s.Lives[n].Cut.Dark) * time.Second)
}

// reach is how the server connects to others.
func (w *world) reach(ctx context.Context, network, address string) (net.Conn, error) {
	if address == atDNS {
		if network != "udp" {
			return nil, fmt.Errorf("no %s there", network)
		}
		return w.dialDNS(), nil
	}
	c, err := w.net.dial(ctx, "server", address)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// inside is what happens while the server runs.
func (w *world) inside(h *house, d *drive, n int, last bool) {
	if !w.check(h, false) || d.after != nil { // nobody else is there yet
		if d.after == nil {
			d.cutNow("something is wrong")
		}
		return
	}
	h.work()
	d.arm(true)
	var actors sync.WaitGroup
	for i, a := range w.s.Lives[n].Actors {
		actors.Go(func() { w.play(actorName(n, i), a, h, d) })
	}
	for _, t := range w.s.Lives[n].Faults {
		if t.Kind == "clock" {
			actors.Go(func() {
				time.Sleep(ms(t.From))
				w.logf("the clock goes %v", ms(t.By))
				w.met("clock steps")
				w.mu.Lock()
				w.steps = true
				w.mu.Unlock()
				w.offset.Add(int64(ms(t.By)))
			})
		}
	}
	if !last {
		select {
		case <-d.over:
		case <-h.engine.Failed():
			d.cutNow("the disk has failed")
		case <-time.After(ms(w.s.Lives[n].Cut.After)):
			d.cutNow("its time has come")
		}
		h.dead.Store(true)
		d.arm(false) // so that what is left comes to its end
		time.Sleep(2 * time.Second)
		actors.Wait()
		return
	}
	select {
	case <-wait2(&actors):
	case <-h.engine.Failed():
		w.wrong("the disk has failed in the last life")
		actors.Wait()
		return
	}
	for _, t := range w.s.Lives[n].Faults {
		time.Sleep(time.Until(w.lifeBegan().Add(ms(t.To) + 2*time.Second)))
	}
	w.mu.Lock()
	w.quiet = true
	w.mu.Unlock()
	w.drain(h)
	w.check(h, true)
}

func wait2(wg *sync.WaitGroup) <-chan struct{} {
	c := make(chan struct{})
	go func() { wg.Wait(); close(c) }()
	return c
}

// drain waits until the queue is empty.
func (w *world) drain(h *house) {
	limit := time.Now().Add(2*lifetime + 3*time.Hour)
	for _, l := range w.s.Lives {
		for _, t := range l.Faults {
			if t.Kind == "clock" { // one that is set back makes mail live longer
				limit = limit.Add(ms(max(t.By, -t.By)))
			}
		}
	}
	for {
		n, err := h.queue.Count(context.Background())
		if err != nil {
			w.wrong("queue: %v", err)
			return
		}
		if n.Messages == 0 {
			return
		}
		if time.Now().After(limit) {
			w.wrong("%d messages are still in the queue", n.Messages)
			_ = h.queue.List(context.Background(), queue.Filter{}, func(i queue.Info) bool {
				w.logf("queue: %s from %v to %v: %s", i.ID, i.From, i.To, i.Reason)
				return true
			})
			return
		}
		time.Sleep(time.Minute)
	}
}

// check reads everything, by verify and as clients do, while nothing else happens.
func (w *world) check(h *house, final bool) bool {
	ctx := context.Background()
	if _, err := h.store.Verify(ctx, func(p store.Problem) { w.wrong("verify: %+v", p) }, nil); err != nil {
		w.wrong("verify: %v", err)
	}
	if _, err := h.queue.Verify(ctx, func(id queue.ID, what string) { w.wrong("verify: queue %v: %s", id, what) }); err != nil {
		w.wrong("verify: queue: %v", err)
	}
	if err := h.directory.Verify(ctx, func(what string) { w.wrong("verify: directory: %s", what) }, func(mail.AccountID) {}); err != nil {
		w.wrong("verify: directory: %v", err)
	}
	if len(w.s.Lives) > 1 || final {
		for _, u := range users {
			if err := w.look(u); err != nil {
				w.logf("nobody can look: %v", err)
				return false
			}
		}
	}
	if final {
		w.ledger.outgoing()
		w.ledger.mu.Lock()
		w.Acked, w.Unknown, w.Out = w.ledger.acked, w.ledger.unknown, len(w.ledger.out)
		w.ledger.mu.Unlock()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.faults) == 0
}

// look reads all mailboxes of an account by IMAP and holds them against the book.
func (w *world) look(user string) error {
	c, err := w.net.dial(context.Background(), "checker", atIMAP)
	if err != nil {
		return err
	}
	defer c.Close()
	s, err := w.openIMAP(user, c)
	if err != nil {
		return err
	}
	found, reports := map[string]int{}, map[reported]int{}
	for _, name := range []string{"INBOX", "Archive", "Work"} {
		if err := w.lookInto(s, name, found, reports); err != nil && !errors.Is(err, errAbsent) {
			return err
		}
	}
	w.ledger.count(user, found, reports)
	_, err = s.do("LOGOUT")
	if err != nil && !strings.Contains(err.Error(), "EOF") {
		return err
	}
	return nil
}

func (w *world) lookInto(s *imap, name string, found map[string]int, reports map[reported]int) error {
	b := w.ledger.box(s.user, name)
	resynced := map[uint32]fact(nil)
	told := b.known != nil
	if told {
		b.known.all = len(b.known.facts)%3 != 0
		told = b.known.all
		if err := s.open(name, b.known); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		resynced = s.now.facts
	}
	if err := s.open(name, nil); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := s.read("BODY.PEEK[]"); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if resynced != nil {
		w.same(s, name, resynced, told)
	}
	if s.exists != len(s.now.facts) {
		w.wrong("%s %s: EXISTS %d and %d messages", s.user, name, s.exists, len(s.now.facts))
	}
	for uid, text := range s.bodies {
		m := readLetter(text)
		if !m.report {
			found[m.token]++
			w.ledger.whole(m)
			continue
		}
		for _, r := range m.about {
			reports[r]++
		}
		if len(m.about) == 0 {
			w.wrong("%s %s: UID %d is a report about nothing", s.user, name, uid)
		}
	}
	w.ledger.compare(s.user, b, s.now, s.next)
	w.ledger.remember(b, s.now)
	w.mu.Lock()
	w.Looks++
	w.mu.Unlock()
	return nil
}

// same holds what QRESYNC has made of an old state against a fresh look.
func (w *world) same(s *imap, name string, resynced map[uint32]fact, all bool) {
	for uid, f := range resynced {
		is, there := s.now.facts[uid]
		if !there || is.flags != f.flags || f.modseq != is.modseq {
			w.wrong("%s %s: QRESYNC leaves UID %d with (%s) at %d, a fresh look shows %v (%s) at %d", s.user, name, uid, f.flags, f.modseq, there, is.flags, is.modseq)
		}
	}
	for uid := range s.now.facts {
		if _, there := resynced[uid]; !there && all {
			w.wrong("%s %s: QRESYNC does not tell of UID %d", s.user, name, uid)
		}
	}
}
