package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
)

func TestMessagesAreTheSameEveryTimeAndAllDifferent(t *testing.T) {
	for _, sizes := range []Sizes{Small, Mixed, Corpus} {
		a, b := newLetters("x", sizes), newLetters("x", sizes)
		seen := map[string]bool{}
		total := 0
		for n := range 2 * variants {
			m := a.append(nil, n)
			if !bytes.Equal(m, b.append(nil, n)) {
				t.Fatalf("%s message %d differs from one maker to the next", sizes, n)
			}
			_, body, _ := bytes.Cut(m, []byte("\r\n\r\n"))
			if seen[string(body)] {
				t.Fatalf("%s message %d has the body of another", sizes, n)
			}
			seen[string(body)] = true
			total += len(m)
		}
		low, high := 1_300, 1_500
		if sizes == Mixed {
			low, high = 12_000, 14_000
		}
		if sizes == Corpus {
			low, high = 25_000, 120_000 // two hundred are too few for more
		}
		if mean := total / (2 * variants); mean < low || mean > high {
			t.Errorf("%s messages have %d bytes in the mean, want %d to %d", sizes, mean, low, high)
		}
	}
}

func TestQuantile(t *testing.T) {
	d := []time.Duration{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 5}, {0.99, 10}, {0.1, 1}, {0, 1}, {1, 10}, {0.91, 10}} {
		if got := quantile(d, c.q); got != c.want {
			t.Errorf("quantile %v = %v, want %v", c.q, got, c.want)
		}
	}
	if got := quantile(d[:1], 0.99); got != 1 {
		t.Errorf("quantile of one sample = %v", got)
	}
}

func TestLiteral(t *testing.T) {
	for line, want := range map[string]int{
		"* 1 FETCH (BODY[] {12}\r\n": 12, "x {0}\r\n": 0, "no\r\n": -1, "{}\r\n": -1, "{-3}\r\n": -1,
		"}\r\n": -1, "* OK {5+}\r\n": -1, "": -1,
	} {
		if got := literal([]byte(line)); got != want {
			t.Errorf("literal(%q) = %d, want %d", line, got, want)
		}
	}
}

// dialogue plays a server: lines that begin with "S: " are sent, "C: " are expected.
func dialogue(t *testing.T, script string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		for line := range strings.Lines(script) {
			line = strings.TrimSuffix(line, "\n")
			if text, ok := strings.CutPrefix(line, "S: "); ok {
				io.WriteString(c, text+"\r\n")
				continue
			}
			got, err := r.ReadString('\n')
			if want := strings.TrimPrefix(line, "C: ") + "\r\n"; err != nil || got != want {
				t.Errorf("client sent %q, want %q (%v)", got, want, err)
				return
			}
		}
	}()
	return ln.Addr().String()
}

const imapHello = `S: * OK hello
C: b1 LOGIN "u" "p\"\\"
S: b1 OK in
C: b2 CAPABILITY
S: * CAPABILITY IMAP4rev1 LITERAL+ IDLE
S: b2 OK
`

func TestIMAPReadsLiteralsAndCounts(t *testing.T) {
	addr := dialogue(t, imapHello+`C: b3 UID FETCH 1:* (ENVELOPE)
S: * 1 FETCH (UID 1 ENVELOPE ({10}
S: b3 OK NO
S:  NIL {3}
S: abc))
S: * 2 FETCH (UID 2 ENVELOPE (NIL))
S: * 3 EXISTS
S: b3 OK done
C: b4 NOOP
S: b4 NO [CANNOT] no
`)
	tg := Target{IMAP: addr, User: "u", Password: `p"\`}
	c, err := dialIMAP(context.Background(), tg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.has("LITERAL+") || !c.has("IDLE") || c.has("LITERAL") {
		t.Errorf("capabilities read as %q", c.caps)
	}
	r := newRunner(tg, Options{}, nil)
	if _, err := r.fetch(c, "UID FETCH 1:* (ENVELOPE)", 2); err != nil {
		t.Errorf("fetch: %v", err)
	}
	var no refusal
	if err := c.do("NOOP", nil); !errors.As(err, &no) || string(no) != "NO [CANNOT] no" {
		t.Errorf("refused command: %v", err)
	}
}

func TestIMAPFetchWithTooFewResponses(t *testing.T) {
	addr := dialogue(t, imapHello+"C: b3 FETCH 1:* (FLAGS)\nS: * 1 FETCH (FLAGS ())\nS: b3 OK\n")
	c, err := dialIMAP(context.Background(), Target{IMAP: addr, User: "u", Password: `p"\`})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	r := newRunner(Target{}, Options{}, nil)
	if _, err := r.fetch(c, "FETCH 1:* (FLAGS)", 2); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a missing response is not noticed: %v", err)
	}
}

// A line longer than the reader's buffer is one response all the same.
func TestIMAPLongLine(t *testing.T) {
	long := strings.Repeat("x", 300)
	c := &wire{src: strings.NewReader("* " + long + " {4}\r\nabcd tail\r\n* next\r\n"), buf: make([]byte, 64)}
	first, err := c.line()
	if err != nil || string(first) != "* "+long+" {4}\r\n" {
		t.Fatalf("line: %q, %v", first, err)
	}
	if next, err := c.line(); err != nil || string(next) != "* next\r\n" {
		t.Fatalf("after a long line came %q, %v", next, err)
	}
}

func lmtpScript(lines string) string {
	return "S: 220 hello\nC: LHLO bench.example\nS: 250-me\nS: 250 PIPELINING\n" +
		"C: MAIL FROM:<sender@example.org>\nC: RCPT TO:<a@b>\nC: DATA\n" + lines
}

func TestLMTPRefusals(t *testing.T) {
	for name, c := range map[string]struct{ script, refusal string }{
		"recipient": {"S: 250 ok\nS: 550 no such\nS: 503 none\nC: RSET\nS: 250 ok\n", "550 no such"},
		"recipient, DATA accepted": {"S: 250 ok\nS: 550 no such\nS: 354 go\nC: .\nS: 554 none\nC: RSET\nS: 250 ok\n",
			"550 no such"},
		"sender": {"S: 451 later\nS: 503 no\nS: 503 no\nC: RSET\nS: 250 ok\n", "451 later"},
	} {
		r := newRunner(Target{LMTP: dialogue(t, lmtpScript(c.script))}, Options{}, nil)
		lc, err := r.dialMail(context.Background(), lmtp, newLetters("x", Small), "a@b")
		if err != nil {
			t.Fatal(err)
		}
		lc.prepare(1)
		if _, refusal, err := lc.deliver(); refusal != c.refusal || err != nil {
			t.Errorf("%s: refusal %q, error %v, want %q", name, refusal, err, c.refusal)
		}
		lc.Close()
	}
}

// countdown is a worker that fails after some deliveries.
type countdown struct{ left int }

func (c *countdown) Close() error { return nil }
func (c *countdown) prepare(int)  {}
func (c *countdown) deliver() (int, string, error) {
	if c.left--; c.left < 0 {
		return 0, "", errors.New("gone")
	}
	if c.left%2 == 0 {
		return 0, "451 busy", nil
	}
	return 10, "", nil
}

func TestLoadCountsAndStopsAtABrokenConnection(t *testing.T) {
	l := &load{workers: []worker{&countdown{7}}, duration: time.Hour, every: time.Hour}
	res, _, err := l.run(context.Background())
	if err == nil || err.Error() != "gone" {
		t.Errorf("error %v", err)
	}
	if res.Operations != 3 || res.Failures != 4 || res.Bytes != 30 || res.Failure != "451 busy" {
		t.Errorf("counted %+v", res)
	}
}

func TestChoose(t *testing.T) {
	all := Target{IMAP: "i", LMTP: "l", SMTP: "s", User: "u", PID: 1, Data: "d", TLS: TLS{IMAP: Implicit}}
	unnamed := 0
	for _, s := range scenarios() {
		if s.needs&byName == 0 {
			unnamed++
		}
	}
	for _, c := range []struct {
		t     Target
		names []string
		n     int
		ok    bool
	}{
		{all, nil, unnamed, true},
		{all, []string{"grow"}, 1, true},
		{Target{LMTP: "l", User: "u"}, nil, 1, true},
		{Target{LMTP: "l", Recipients: []string{"x"}}, nil, 1, true},
		{all, []string{"store", "lmtp"}, 2, true},
		{all, []string{"nonsense"}, 0, false},
		{Target{IMAP: "i", User: "u"}, []string{"idle-memory"}, 0, false},
		{Target{}, nil, 0, false},
	} {
		got, err := choose(c.t, true, c.names)
		if len(got) != c.n && c.ok || (err == nil) != c.ok {
			t.Errorf("choose(%v) = %d scenarios, %v", c.names, len(got), err)
		}
		if err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("choose(%v): %v is no usage error", c.names, err)
		}
	}
}

func TestProcessMemory(t *testing.T) {
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		t.Skip("needs /proc with smaps_rollup")
	}
	m, err := processMemory(os.Getpid())
	if err != nil || m.rss < 1<<20 || m.pss > m.rss {
		t.Errorf("own memory %+v, %v", m, err)
	}
	if _, err := processMemory(1 << 30); !fault.Is(err, fault.NotFound) {
		t.Errorf("memory of nobody: %v", err)
	}
	parents := map[int]int{10: 1, 11: 10, 12: 11, 20: 1}
	for p, want := range map[int]bool{10: true, 11: true, 12: true, 20: false, 1: false, 99: false} {
		if descends(parents, p, 10) != want {
			t.Errorf("descends(%d, 10) is not %v", p, want)
		}
	}
}

// What a child used counts while it runs and when it has ended.
func TestProcessorTimeOfChildren(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("needs /proc")
	}
	sh := exec.Command("sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; echo; read x")
	in, _ := sh.StdinPipe()
	out, _ := sh.StdoutPipe()
	before, err := ProcessorTime(os.Getpid())
	if err != nil || sh.Start() != nil {
		t.Fatal(err)
	}
	out.Read(make([]byte, 1)) // it has counted
	child, err := ProcessorTime(sh.Process.Pid)
	own, _ := ProcessorTime(os.Getpid())
	if err != nil || child <= 0 || own-before < child {
		t.Errorf("a child used %v (%v), the family %v more", child, err, own-before)
	}
	all, _ := family(os.Getpid())
	searched, _ := searchFamily(os.Getpid())
	if !slices.Contains(all, sh.Process.Pid) || !slices.Contains(searched, sh.Process.Pid) {
		t.Errorf("%d is not of the family %v, or %v", sh.Process.Pid, all, searched)
	}
	var sv server
	sv.pid.Store(int64(os.Getpid()))
	m := sv.mark()
	more := exec.Command("sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done")
	more.Run()
	in.Close()
	sh.Wait()
	// What one used before the mark is told from what one used after it, though both have ended.
	if used, whole := sv.since(m); used < child/4 || used > whole*4 {
		t.Errorf("since a mark %v were used in %v, a process like that took %v", used, whole, child)
	}
	if after, _ := ProcessorTime(os.Getpid()); after-before < child-2*jiffy {
		t.Errorf("when the child has ended the family used %v, and it alone %v", after-before, child)
	}
	if _, err := ProcessorTime(1 << 30); !fault.Is(err, fault.NotFound) {
		t.Errorf("processor time of nobody: %v", err)
	}
	p, ok := parseStat([]byte("7 (a) b) S 3 7 7 0 -1 4194304 1 2 3 4 150 50 30 20 20 0 1 0 5 6 7"))
	if want := (process{3, 2 * time.Second, time.Second / 2}); !ok || p != want {
		t.Errorf("parsed %+v, want %+v", p, want)
	}
}

func TestTable(t *testing.T) {
	var b strings.Builder
	err := Table(&b, []Result{
		{Scenario: "lmtp", Sizes: Mixed, Connections: 50, Operations: 10, Rate: 5, Median: 1.5, P99: 2, Bytes: 2_000_000, Failures: 1, Failure: "451 x"},
		{Scenario: "select", TLS: Implicit, Connections: 1, Operations: 3, Cold: 100, First: 110, Median: 1, P99: 2, CPU: 0.5, CPUPercent: 50, MemoryPeak: 7_000_000},
		{Scenario: "idle-memory", Connections: 100, PSS: 1_000_000, RSS: 2_000_000},
		{Scenario: "disk", Sizes: Small, Connections: 1, Operations: 4, Bytes: 1_000_000, Disk: 500_000, DiskPerByte: 0.5},
		{Scenario: "disk", Sizes: Corpus, Recipients: 100, Connections: 1, Operations: 4, Bytes: 1_000_000, Disk: 500_000, DiskPerByte: 0.5},
		{Scenario: "grow", Connections: 10, Operations: 4, Intervals: make([]Interval, 2), RateMin: 1, RateMedian: 2, RateMax: 3},
		{Scenario: "thread", Failure: "no"},
	})
	want := `               scenario  conns  ops  ops/s  cold ms  first ms  median ms  p99 ms  CPU ms/op  CPU %  peak MB  moved MB
             lmtp (mix)     50   10    5.0        -         -       1.50    2.00          -      -        -       2.0
          select by TLS      1    3      -   100.00    110.00       1.00    2.00      0.500   50.0      7.0         -
            idle-memory    100    0      -        -         -          -       -          -      -        -         -
           disk (small)      1    4      -        -         -          -       -          -      -        -       1.0
  disk (100 recipients)      1    4      -        -         -          -       -          -      -        -       1.0
                   grow     10    4      -        -         -          -       -          -      -        -         -
                 thread      0    0      -        -         -          -       -          -      -        -         -
lmtp (mix) with 50 connections: 1 refused, first: 451 x
idle-memory: 1.0 MB for 100 connections, 10.0 KB each (resident 2.0 MB)
disk (small): 0.5 MB on disk for 1.0 MB of mail, 0.500 bytes for each byte
disk (100 recipients): 0.5 MB on disk for 1.0 MB of mail, 0.500 bytes for each byte
grow: per second in 2 intervals 1.0 at least, 2.0 in the middle, 3.0 at most
thread was left out: no
`
	if err != nil || b.String() != want {
		t.Errorf("table:\n%s\nwant:\n%s(%v)", b.String(), want, err)
	}
}

// Responses are counted alike, however they fall into the buffer.
func TestFetchResponsesAreCounted(t *testing.T) {
	const in = "* 9 FETCH (FLAGS ())\r\n* 10 FETCH (FLAGS ())\r\n* 11 EXISTS\r\n* 12 FETCH (BODY[] {24}\r\n* 1 FETCH (X)\r\n* 2 OK\r\n)\r\n" +
		"* 13 FETCH (FLAGS ({1}\n*))\r\n* OK FETCH (\r\n* 14 FETCH (FLAGS ())\nb1 OK\r\n"
	for size := 16; size < 2*len(in); size++ {
		w, n := wire{src: strings.NewReader(in), buf: make([]byte, size)}, tally{}
		for {
			line, err := w.line()
			if err != nil {
				t.Fatalf("with a buffer of %d: %v", size, err)
			}
			if line[0] == 'b' {
				break
			}
			n.see(line)
			w.count(&n)
		}
		if n.got != 5 || w.read != int64(len(in)) {
			t.Fatalf("with a buffer of %d, %d responses were counted and %d of %d bytes", size, n.got, w.read, len(in))
		}
	}
}

func FuzzIMAPLine(f *testing.F) {
	f.Add([]byte("* 1 FETCH (BODY[] {3}\r\nabc)\r\nb1 OK\r\n"))
	f.Add([]byte("* x {99999999999999999999}\r\n"))
	f.Add([]byte("\r\n\n{5}\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		c := &wire{src: bytes.NewReader(in), buf: make([]byte, 32)}
		for {
			line, err := c.line()
			if err != nil {
				return
			}
			if len(line) == 0 {
				t.Fatal("an empty line came without an error")
			}
			if c.read > int64(len(in)) {
				t.Fatalf("%d bytes counted of %d", c.read, len(in))
			}
		}
	})
}

// The kinds of commands of mix make a hundred, and each is drawn.
func TestMixShares(t *testing.T) {
	sum := 0
	for _, x := range turns {
		sum += x.share
	}
	if sum != 100 {
		t.Errorf("%d of a hundred", sum)
	}
}
