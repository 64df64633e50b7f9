package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

// small are options with which every scenario ends at once.
func small() Options {
	return Options{Connections: []int{2}, Duration: 20 * time.Millisecond, Messages: 1_000, Repeat: 1, Idle: 3, IdleCPU: 3,
		Watch: 10 * time.Millisecond, Opened: 3, Listeners: 3, Disk: []string{"mix", "shared"}, DiskBytes: 50_000,
		GrowBytes: 3_000_000, Interval: time.Millisecond, Settle: time.Millisecond, calm: 20 * time.Millisecond}
}

func (f *fake) target(t *testing.T) Target {
	tg := Target{IMAP: f.serve(t, false, (*fake).imap), LMTP: f.serve(t, false, (*fake).mail), SMTP: f.serve(t, false, (*fake).mail),
		User: "u", Password: "p"}
	for i := range crowded {
		tg.Recipients = append(tg.Recipients, fmt.Sprintf("u%d@example.org", i))
	}
	return tg
}

func run(t *testing.T, tg Target, o Options, names ...string) map[string]Result {
	t.Helper()
	got := map[string]Result{}
	if err := Run(context.Background(), tg, o, names, func(r Result) {
		got[fmt.Sprint(r.Scenario, " ", r.Connections, r.Batch, r.Recipients)] = r
		got[r.Scenario] = r
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

// Every scenario runs against a server that does what it is told, and reports what it
// did.
func TestEveryScenario(t *testing.T) {
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		t.Skip("needs /proc with smaps_rollup")
	}
	f := newFake(t)
	tg := f.target(t)
	tg.PID, tg.Data = os.Getpid(), t.TempDir()
	var names []string
	for _, s := range scenarios() {
		if s.needs&(needTLS|needRestart|needData) == 0 {
			names = append(names, s.name)
		}
	}
	got := run(t, tg, small(), names...)
	for _, name := range append(names, "store-add", "store-remove-silent", "select-new-session") {
		r := got[name]
		switch name {
		case "store":
			continue
		case "idle-cpu", "announce": // one has no rate, the other may take no time
			r.Rate = 1
		}
		if r.Operations == 0 || r.Median <= 0 && name != "announce" || r.Rate <= 0 || r.Memory == 0 || r.MemoryPeak < r.Memory || r.ColdRuns != 0 {
			t.Errorf("%s reports %+v", name, r)
		}
	}
	for name, want := range map[string]int64{"fetch-flags": 1_000 * 19, "search-text": 8, "qresync-100": 100 * 19} {
		if b := got[name].Bytes / int64(max(got[name].Operations, 1)); b < want {
			t.Errorf("%s read %d bytes each time, want %d or more", name, b, want)
		}
	}
	if r := got["multiappend 1 500 0"]; r.Batch != 500 || r.Bytes < 500*1_300 {
		t.Errorf("multiappend of 500: %+v", r)
	}
	if r := got["announce 3 0 0"]; r.Operations != quick {
		t.Errorf("announce with three listeners: %+v", r)
	}
	if r := got["open-memory"]; r.Connections != 3 || r.Base == 0 || r.Mailbox != 1_000 || got["open-memory 1 0 0"].Operations != 1 {
		t.Errorf("open-memory: %+v", r)
	}
	if r := got["idle-memory"]; r.Connections != 3 || r.Memory-r.Base != r.PSS {
		t.Errorf("idle-memory: %+v", r)
	}
	if r := got["grow"]; len(r.Intervals) == 0 || r.RateMin > r.RateMedian || r.RateMedian > r.RateMax || r.Bytes < 3_000_000 {
		t.Errorf("grow: %+v", r)
	}
}

// What a stopped run of store leaves behind is put right before the next search.
func TestStoreIsPutRight(t *testing.T) {
	f := newFake(t)
	run(t, f.target(t), small(), "store")
	var last []string
	f.look(func() {
		for _, c := range f.commands {
			if strings.HasPrefix(c, "STORE") {
				last = append(last, c)
			}
		}
	})
	n := len(last)
	if n < 6 || last[n-2] != `STORE 1:* +FLAGS.SILENT (\Seen)` || !strings.HasPrefix(last[n-1], "STORE 1,11,21,") ||
		!strings.HasSuffix(last[n-1], `,991 -FLAGS.SILENT (\Seen)`) {
		t.Errorf("the last commands were %q", last)
	}
}

// A cold request is made in a session that was opened after the restart, and what the
// warm ones took is not mixed with it.
func TestColdIsAfterARestart(t *testing.T) {
	f := newFake(t)
	o := small()
	o.Colds = 3
	restarts, conns := 0, 0
	o.Restart = func(context.Context) (int, error) {
		f.mu.Lock()
		defer f.mu.Unlock()
		restarts++
		conns = f.conns
		time.Sleep(time.Millisecond)
		return os.Getpid(), nil
	}
	o.Repeat = 2
	tg := f.target(t)
	tg.PID = os.Getpid()
	got := run(t, tg, o, "fetch-flags", "changedsince")
	if r := got["fetch-flags"]; r.ColdRuns != 3 || r.Cold <= 0 || r.First <= 0 || r.Operations != 2 {
		t.Errorf("fetch-flags: %+v", r)
	}
	if r := got["changedsince"]; r.ColdRuns != 3 || r.Operations != 20 {
		t.Errorf("changedsince: %+v", r)
	}
	f.look(func() {
		if restarts != 6 || f.conns < conns+2 {
			t.Errorf("%d restarts; %d connections before the last, %d at the end", restarts, conns, f.conns)
		}
	})
	stops := 0
	o.Stop = func(context.Context) error { stops++; time.Sleep(time.Millisecond); return nil }
	if r := run(t, tg, o, "restart")["restart"]; stops != 2 || r.Operations != 2 || r.Stop < 1 || r.Memory == 0 {
		t.Errorf("restart: %+v", r)
	}
	o.Restart = func(context.Context) (int, error) { return 1 << 30, nil }
	err := Run(context.Background(), tg, o, []string{"select"}, func(Result) {})
	if !fault.Is(err, fault.Invalid) {
		t.Errorf("a process that is not there is taken for the server: %v", err)
	}
}

// A run that follows another on the same server has Message-IDs of its own; two servers
// in one run get the same bytes.
func TestMessageIDsAreUnique(t *testing.T) {
	f := newFake(t)
	tg := f.target(t)
	o := small()
	run(t, tg, o, "lmtp", "smtp")
	run(t, tg, o, "lmtp")
	ids := map[string]bool{}
	find := regexp.MustCompile(`(?m)^Message-ID: <(.*)>\r$`)
	var mails []string
	f.look(func() { mails = f.mails })
	for _, m := range mails {
		id := find.FindStringSubmatch(m)
		if id == nil || ids[id[1]] {
			t.Fatalf("%q has no Message-ID, or one that was there before", m[:min(len(m), 300)])
		}
		ids[id[1]] = true
	}
	o.Run = "same"
	a, b := newRunner(tg, o, nil), newRunner(tg, o, nil)
	if x, y := a.nextSeed("lmtp"), b.nextSeed("lmtp"); x != y {
		t.Errorf("one run has two names, %s and %s", x, y)
	}
}

func TestDisk(t *testing.T) {
	f := newFake(t)
	tg := f.target(t)
	tg.Data = t.TempDir()
	o := small()
	o.Restart = func(context.Context) (int, error) { // what was put in shows up on the disk
		f.mu.Lock()
		defer f.mu.Unlock()
		return 0, os.WriteFile(filepath.Join(tg.Data, fmt.Sprint(len(f.mails), len(f.commands))), make([]byte, 1<<20), 0o600)
	}
	got := run(t, tg, o, "disk")
	var rcpts int
	f.look(func() { rcpts = f.rcpts })
	if r := got["disk 1 0 100"]; r.Recipients != 100 || r.Operations != circulars || rcpts != 100*circulars || r.Disk < 1<<20 {
		t.Errorf("mail to a hundred: %+v, %d recipients", r, rcpts)
	}
	if r := got["disk 1 0 0"]; r.Sizes != Mixed || r.Bytes < 50_000 || r.Disk < 1<<20 || r.DiskPerByte != float64(r.Disk)/float64(r.Bytes) {
		t.Errorf("mix: %+v", r)
	}
	tg.Recipients = tg.Recipients[:99]
	if err := Run(context.Background(), tg, o, []string{"disk"}, func(Result) {}); !fault.Is(err, fault.Invalid) {
		t.Errorf("99 recipients will do: %v", err)
	}
}

// Blocks are counted, and a file with two names once.
func TestDiskUse(t *testing.T) {
	dir := t.TempDir()
	before, err := diskUse(dir)
	if err != nil {
		t.Fatal(err)
	}
	a := filepath.Join(dir, "a")
	if err := os.WriteFile(a, make([]byte, 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(a, filepath.Join(dir, "b")); err != nil {
		t.Skip(err)
	}
	after, err := diskUse(dir)
	if grown := after - before; err != nil || grown < 100_000 || grown > 110_000 {
		t.Errorf("100,000 bytes under two names are %d (%v)", grown, err)
	}
	if _, err := diskUse(filepath.Join(dir, "none")); !fault.Is(err, fault.NotFound) {
		t.Errorf("a folder that is not there: %v", err)
	}
}

func TestTLS(t *testing.T) {
	f := newFake(t)
	tg := f.target(t)
	tg.TLS = TLS{IMAP: StartTLS, LMTP: StartTLS, SMTP: StartTLS, Config: f.trust()}
	got := run(t, tg, small(), "lmtp", "smtp", "append", "select", "handshake")
	tg.TLS.IMAP, tg.IMAP = Implicit, f.serve(t, true, (*fake).imap)
	got["implicit"] = run(t, tg, small(), "handshake")["handshake-resumed"]
	for _, name := range []string{"lmtp", "smtp", "append", "select", "handshake", "handshake-resumed", "implicit"} {
		if r := got[name]; r.Operations == 0 || r.TLS == Plain || r.Failures > 0 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	tg.TLS.Config = &tls.Config{}
	if err := Run(context.Background(), tg, small(), []string{"select"}, func(Result) {}); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a stranger's certificate is taken: %v", err)
	}
	f.cert.SessionTicketsDisabled = true
	tg.TLS.Config = f.trust()
	if err := Run(context.Background(), tg, small(), []string{"handshake"}, func(Result) {}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("sessions that are not resumed: %v", err)
	}
}

// Without LITERAL+ each message waits for the server, with LITERAL- each that is long.
func TestAppendWaitsWhereItMust(t *testing.T) {
	for caps, cuts := range map[string]int{"IMAP4rev1 LITERAL+": 0, "IMAP4rev1": 4, "IMAP4rev1 LITERAL-": 1} {
		f := newFake(t)
		f.caps = caps
		c, err := dialIMAP(context.Background(), f.target(t))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		l := newLetters("x", Mixed)
		from := -1
		for n := range variants - 4 { // one of four is longer than 4,096 bytes
			long := 0
			for i := range 4 {
				if len(l.append(nil, n+i)) > 4096 {
					long++
				}
			}
			if long == 1 {
				from = n
				break
			}
		}
		size, err := c.append("x", l, from, from+4, noFlags)
		f.look(func() {
			if err != nil || size < 4_000 || len(c.cuts) != cuts || f.boxes["x"] != 4 {
				t.Errorf("%s: %d bytes, %d waits, %d messages arrived, %v", caps, size, len(c.cuts), f.boxes["x"], err)
			}
		})
	}
}

// Nobody named it and the server cannot do it: it is left out, and the rest runs.
func TestUnsupportedIsLeftOut(t *testing.T) {
	f := newFake(t)
	f.caps = strings.ReplaceAll(f.caps, "SORT ", "")
	tg := f.target(t)
	got := run(t, tg, small())
	if r := got["sort-date"]; r.Failure == "" || r.Operations != 0 || got["thread"].Operations == 0 {
		t.Errorf("sort-date: %+v, thread: %+v", r, got["thread"])
	}
	if err := Run(context.Background(), tg, small(), []string{"sort-date"}, func(Result) {}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("named, it is left out: %v", err)
	}
}
