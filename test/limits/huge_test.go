package limits

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/test/promise"
)

// peak watches the memory in use while something is done, and returns how much more than
// before it was at most. The collector is made to run often, so that garbage counts little.
func peak(do func()) int64 {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	before := held()
	var most atomic.Int64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		var m runtime.MemStats
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				runtime.ReadMemStats(&m)
				most.Store(max(most.Load(), int64(m.HeapAlloc+m.StackInuse)))
			}
		}
	}()
	do()
	close(stop)
	<-done
	return max(0, most.Load()-before)
}

// repeated is a text again and again, without being held in memory.
func repeated(text string, n int) io.Reader {
	return io.LimitReader(&again{text: text}, int64(len(text)*n))
}

type again struct {
	text string
	at   int
}

func (a *again) Read(p []byte) (n int, err error) {
	for n < len(p) {
		c := copy(p[n:], a.text[a.at:])
		n, a.at = n+c, (a.at+c)%len(a.text)
	}
	return n, nil
}

// shapes are messages that are large in one way, of a size.
var shapes = []struct {
	name string
	size int // the largest
	make func(n int) io.Reader
}{
	{"headers", 100_000, func(n int) io.Reader {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "X-Field-%d: value %d\r\n", i, i)
		}
		return strings.NewReader(b.String() + "Subject: many\r\n\r\nbody\r\n")
	}},
	{"depth", 1000, func(n int) io.Reader {
		var b strings.Builder
		b.WriteString("Subject: deep\r\n")
		for i := range n {
			fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n", i, i)
		}
		b.WriteString("\r\ninnermost\r\n")
		return strings.NewReader(b.String())
	}},
	{"parts", 10_000, func(n int) io.Reader {
		var b strings.Builder
		b.WriteString("Subject: many\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n")
		for i := range n {
			fmt.Fprintf(&b, "--x\r\nContent-Type: text/plain; name=\"%d\"\r\n\r\npart %d\r\n", i, i)
		}
		return strings.NewReader(b.String() + "--x--\r\n")
	}},
}

// asked is what is asked of such a message.
var asked = []string{
	"FETCH %d (ENVELOPE BODYSTRUCTURE)", "FETCH %d BODY.PEEK[]", "FETCH %d (BODY.PEEK[HEADER] BODY.PEEK[1] BODY.PEEK[1.1])",
	"FETCH %d BINARY.PEEK[1]", "SEARCH %d TEXT \"nowhere to be found\"",
}

// mostExtra is the memory that one message may take, whatever it is like.
const mostExtra = 32 << 20

// least is the least processor time that something takes of several times.
func least(times int, fn func()) (d time.Duration) {
	for range times {
		before := cpu()
		fn()
		if took := cpu() - before; d == 0 || took < d {
			d = took
		}
	}
	return d
}

// handles delivers a message and asks for it in all ways, and returns the processor time of that
// and the memory that it took at its worst.
func (h *house) handles(t *testing.T, k *talk, message io.Reader, seq int) (spent time.Duration, extra int64) {
	before := cpu()
	extra = peak(func() { h.smtp(t, "smtp", "alice", message) })
	k.ok("NOOP")
	spent = cpu() - before
	for _, what := range asked {
		extra = max(extra, peak(func() { k.ok(what, seq) }))
	}
	return spent + least(4, func() { // without the collections that peak makes
		for range 4 {
			for _, what := range asked {
				k.ok(what, seq)
			}
		}
	}), extra
}

// grows reports whether twice as many take about twice the time, and not four times, or too little
// to tell.
func grows(half, whole time.Duration) bool {
	return half <= 50*time.Millisecond || whole <= 3*half
}

// R22: a message that is large in any way takes little memory beside it, and time that
// grows as it does.
func TestR22HugeMessages(t *testing.T) {
	promise.Times(t, "R22", 1, 1)
	h := newHouse(t, options{onDisk: true, maxMessage: 200 << 20})
	h.smtp(t, "smtp", "alice", strings.NewReader("Subject: first\r\n\r\nwarms up\r\n"))
	k := h.imap(t, "alice")
	seq := 1
	for _, s := range shapes {
		var took [3]time.Duration // the least of the rounds, for what others on the machine take is added to it
		extra, linear := int64(0), false
		for round := 0; round < 4 && !linear; round++ {
			for i, n := range []int{s.size / 4, s.size / 2, s.size} {
				seq++
				spent, most := h.handles(t, k, s.make(n), seq)
				if extra = max(extra, most); round == 0 || spent < took[i] {
					took[i] = spent
				}
			}
			linear = grows(took[0], took[1]) && grows(took[1], took[2])
		}
		if extra > mostExtra {
			t.Errorf("%s: %d MiB of memory at the worst", s.name, extra>>20)
		}
		if !linear {
			t.Errorf("%s: a quarter, a half and all take %v", s.name, took)
		}
		promise.Kept(t, "R22", "what", s.name, "size", s.size, "MiB extra at worst", extra>>20,
			"CPU ms of a quarter, a half, all", fmt.Sprint(took[0].Milliseconds(), took[1].Milliseconds(), took[2].Milliseconds()))
	}
	const size = 150 << 20
	text := strings.Repeat("x", 70) + "\r\n"
	extra := peak(func() {
		h.smtp(t, "smtp", "alice", io.MultiReader(strings.NewReader("Subject: large\r\n\r\n"), repeated(text, size/72)))
	})
	seq++
	k.ok("NOOP")
	stored := extra
	t.Log("stored", time.Now().Format("05"))
	extra = max(extra, peak(func() {
		n := (size / 72) * 72
		tag := k.command("APPEND INBOX {%d+}\r\nSubject: large\r\n\r", n+len("Subject: large\r\n\r\n"))
		io.Copy(k.nc, repeated(text, size/72))
		k.nc.Write([]byte("\r\n"))
		if last, _ := k.answer(tag); !strings.HasPrefix(last, tag+" OK") {
			t.Errorf("APPEND: %s", last)
		}
	}))
	for _, what := range asked {
		extra = max(extra, peak(func() { k.ok(what, seq) }))
	}
	if extra > mostExtra {
		t.Errorf("150 MiB: %d MiB of memory at the worst", extra>>20)
	}
	promise.Kept(t, "R22", "what", "one message of 150 MiB", "MiB extra over SMTP", stored>>20, "MiB extra at worst", extra>>20)
}
