package limits

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/peers/martlet"
	"github.com/martlet-mail/martlet/test/promise"
)

// binary starts the real server.
func binary(t *testing.T, opt martlet.Options) *martlet.Server {
	t.Helper()
	if os.Getenv("MARTLET_PEERS") == "" {
		t.Skip("MARTLET_PEERS=1 runs it, with the real server")
	}
	opt.Binary, opt.Dir = os.Getenv("MARTLET_BINARY"), filepath.Join(t.TempDir(), "data")
	if opt.Binary == "" {
		opt.Binary = filepath.Join(t.TempDir(), "martlet")
		build := exec.Command("go", "build", "-o", opt.Binary, "./cmd/martlet")
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("the server does not build: %v\n%s", err, out)
		}
	}
	m, err := martlet.Start(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Stop() })
	return m
}

// town is a real server with accounts that work and one that is greedy.
type town struct {
	*house // with nothing in it: to dial and to deliver
	server *martlet.Server
	rounds atomic.Int64 // of work that the others have done
}

func newTown(t *testing.T, set map[string]string, others int) *town {
	names := []string{"greedy"}
	for i := range others {
		names = append(names, fmt.Sprint("other", i))
	}
	m := binary(t, martlet.Options{Accounts: names, Set: set})
	w := &town{house: &house{at: m.Addr}, server: m}
	return w
}

func (w *town) login(t testing.TB, name string) *talk {
	t.Helper()
	a := w.server.Account(name)
	k := newTalk(t, w.dial(t, "imap"))
	k.ok("LOGIN %s %s", a.Address, a.Password)
	k.ok("SELECT INBOX")
	return k
}

func (w *town) send(t testing.TB, k *talk, name string, n int) {
	k.say("250", "MAIL FROM:<sender@far.example>")
	k.say("250", "RCPT TO:<%s>", w.server.Account(name).Address)
	k.say("354", "DATA")
	k.say("250", "Subject: number %d\r\nMessage-ID: <%d@far.example>\r\n\r\n%s\r\n.", n, n, strings.Repeat(fmt.Sprintf("some words of message %d and word%d\r\n", n, n%97), 20))
}

func (w *town) lmtp(t testing.TB) *talk {
	k := newTalk(t, w.dial(t, "lmtp"))
	k.say("250", "LHLO client.example")
	return k
}

// works is an ordinary account: it looks, searches, marks, and gets mail.
func (w *town) works(ctx context.Context, t testing.TB, name string) {
	k, in := w.login(t, name), w.lmtp(t)
	for i := 0; ctx.Err() == nil; i++ {
		k.ok("NOOP")
		k.ok("UID FETCH 1:* (FLAGS ENVELOPE)")
		k.ok(`SEARCH SUBJECT "number %d"`, i)
		k.ok(`STORE 1 +FLAGS (\Seen)`)
		k.ok(`STORE 1 -FLAGS (\Seen)`)
		if i%8 == 0 {
			w.send(t, in, name, i)
			k.ok(`UID STORE %d +FLAGS.SILENT (\Deleted)`, 51+i/8)
			k.ok("EXPUNGE")
		}
		w.rounds.Add(1)
	}
}

// takesAll is the greedy account, with 60 connections that do all they can until ctx ends,
// and then leave in the middle of it.
func (w *town) takesAll(ctx context.Context, t testing.TB) {
	var wg sync.WaitGroup
	leaves := func(k *talk) {
		context.AfterFunc(ctx, func() { k.nc.Close() })
	}
	for i := range 50 {
		k := w.login(t, "greedy")
		leaves(k)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				tag := ""
				switch i % 5 {
				case 0, 1:
					tag = k.command(`SEARCH TEXT "nowhere %d to be found %d"`, i, time.Now().UnixNano())
				case 2:
					tag = k.command(`SORT (REVERSE SUBJECT) UTF-8 BODY "nowhere %d.%d"`, i, time.Now().UnixNano())
				case 3:
					tag = k.command("FETCH 1:300 (ENVELOPE BODY.PEEK[TEXT])")
				default: // a flood of small ones in one write
					fmt.Fprint(k.nc, strings.Repeat("n NOOP\r\n", 300))
					tag = k.command("NOOP")
				}
				for done := false; !done; {
					s, err := k.r.ReadSlice('\n')
					done = err != nil && err != bufio.ErrBufferFull || strings.HasPrefix(string(s), tag+" ")
				}
			}
		})
	}
	for i := range 10 {
		k := w.lmtp(t)
		leaves(k)
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				fmt.Fprintf(k.nc, "MAIL FROM:<a@far.example>\r\nRCPT TO:<%s>\r\nBDAT 40 LAST\r\nSubject: flood %9d\r\n\r\n%013d\r\n", w.server.Account("greedy").Address, n, i)
				for range 3 {
					k.r.ReadSlice('\n')
				}
			}
		})
	}
	wg.Wait()
}

// measure returns how many rounds of work the others do in a second, alone and beside the
// greedy one, in turns; and which part of all processors the server and its clients got
// meanwhile, at least: with the greedy one there is work for all of them.
func (w *town) measure(t *testing.T, times int, long time.Duration) (alone, beside []float64, got float64) {
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	setup := w.lmtp(t)
	for i := range 4000 {
		w.send(t, setup, "greedy", i)
	}
	for i := range others {
		name := fmt.Sprint("other", i)
		for n := range 50 {
			w.send(t, setup, name, n)
		}
		wg.Go(func() { w.works(ctx, t, name) })
	}
	rate := func() float64 {
		from, at := w.rounds.Load(), time.Now()
		time.Sleep(long)
		return float64(w.rounds.Load()-from) / time.Since(at).Seconds()
	}
	for range times {
		alone = append(alone, rate())
		greedy, enough := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() {
			w.takesAll(greedy, t)
			close(done)
		}()
		time.Sleep(long) // until all are there
		from, at := cpu()+cpuOf(w.server.PID), time.Now()
		beside = append(beside, rate())
		part := float64(cpu()+cpuOf(w.server.PID)-from) / float64(time.Since(at)) / float64(runtime.GOMAXPROCS(0))
		if got == 0 || part < got {
			got = part
		}
		enough()
		<-done
	}
	return alone, beside, got
}

// cpuOf is the time that processors have worked for another process.
func cpuOf(pid int) time.Duration {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(text), ") ")
	f := strings.Fields(rest)
	if len(f) < 13 {
		return 0
	}
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * time.Second / 100
}

const others = 6

// R24: an account that uses all it can get, searches and orders and floods and mail on 60
// connections, leaves the others most of their rate. The control, with processors for
// everybody, shows what they would have otherwise.
func TestR24Fairness(t *testing.T) {
	times := promise.Times(t, "R24", 3, 10)
	calm := true
	share := func(set map[string]string) float64 {
		alone, beside, got := newTown(t, set, others).measure(t, times, 1200*time.Millisecond)
		best := 0.0
		for i := range alone {
			best = max(best, beside[i]/alone[i])
		}
		t.Logf("%v: rounds/s alone %.0f, beside the greedy one %.0f; %.2f of the processors", set, alone, beside, got)
		calm = calm && got > 0.75
		return best
	}
	kept, without := share(nil), share(map[string]string{"limits.processors": "1000000"})
	// Where others of this machine take the processors, nobody's rate is the server's doing.
	if calm && kept < 0.6 {
		t.Errorf("the others keep %.2f of their rate", kept)
	}
	if kept < 2*without {
		t.Errorf("without turns the others have %.2f of their rate, with them %.2f", without, kept)
	}
	promise.Kept(t, "R24", "others", others, "connections of the greedy one", 60, "rate kept", fmt.Sprintf("%.2f", kept),
		"without turns", fmt.Sprintf("%.2f", without), "the machine was calm", calm)
}
