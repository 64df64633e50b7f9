package outbound

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/queue"
	"github.com/martlet-mail/martlet/test/house"
	"github.com/martlet-mail/martlet/test/promise"
)

// world takes mail for any domain at once, but for one whose hosts never answer.
type world struct {
	dead  string
	taken atomic.Int64
	hung  atomic.Int64

	mu   sync.Mutex
	last time.Time // when the last message for the living was taken
}

func (w *world) Deliver(ctx context.Context, job queue.Job) []queue.Result {
	results := make([]queue.Result, len(job.Envelope.To))
	if job.Envelope.To[0].Address.Domain == w.dead {
		w.hung.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(2 * time.Second): // a connection that times out
		}
		for i := range results {
			results[i] = queue.Result{Code: 451, Enhanced: "4.4.1", Text: "no answer"}
		}
		return results
	}
	w.taken.Add(int64(len(results)))
	w.mu.Lock()
	w.last = time.Now()
	w.mu.Unlock()
	for i := range results {
		results[i] = queue.Result{Code: 250, Enhanced: "2.0.0", Host: "mx." + job.Envelope.To[i].Address.Domain}
	}
	return results
}

// fill puts messages into a queue that runs, half of them for the dead domain if there is
// one, and returns how long the living waited for the last of theirs, and the memory held
// at the most.
func fill(t *testing.T, messages, to int, dead string) (took time.Duration, held uint64, w *world) {
	t.Helper()
	w = &world{dead: dead}
	h := house.New(t, house.Options{Remote: w})
	body := "From: alice@example.org\r\nSubject: x\r\n\r\n" + strings.Repeat("Some words of a short message.\r\n", 30)
	parcel, err := h.Store.Receive(t.Context(), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	var entries []queue.Entry
	living := 0
	for n := range messages {
		domain := fmt.Sprintf("d%d.test", n%to)
		if dead != "" && n%2 == 0 {
			domain = dead
		} else {
			living++
		}
		entries = append(entries, queue.Entry{
			Envelope: mail.Envelope{From: mail.Address{Local: "alice", Domain: house.Domain}, To: []mail.Recipient{{Address: mail.Address{Local: "x", Domain: domain}}}},
			Parcel:   parcel,
		})
		if len(entries) == 100 || n == messages-1 {
			if _, err := h.Queue.Enqueue(t.Context(), entries...); err != nil {
				t.Fatal(err)
			}
			entries = entries[:0]
			held = max(held, memory())
		}
	}
	for int(w.taken.Load()) < living {
		if time.Since(began) > 30*time.Minute {
			t.Fatalf("%d of %d messages for the living were taken", w.taken.Load(), living)
		}
		time.Sleep(10 * time.Millisecond)
		held = max(held, memory())
	}
	return w.last.Sub(began), held, w
}

func memory() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// A domain whose hosts are dead, with half of all mail, delays nobody else, and what waits
// for it lies on disk.
func TestDeadDomain(t *testing.T) {
	messages := promise.Times(t, "R25", 20_000, 1_000_000)
	alone, _, _ := fill(t, messages/2, messages/10, "")
	beside, held, w := fill(t, messages, messages/10, "dead.test")
	if w.hung.Load() == 0 {
		t.Error("the dead domain was never tried")
	}
	// More than a minute later is what is promised not to happen; all of it takes less.
	if late := beside - alone; late > time.Minute+time.Duration(float64(alone)*2) {
		t.Errorf("the living waited %v longer", late)
	}
	if held > 1<<30 {
		t.Errorf("%d bytes of memory", held)
	}
	promise.Kept(t, "R25", "messages", messages, "domains", messages/10, "for one dead domain", messages/2, "seconds until the last of the others", math.Round(beside.Seconds()*10)/10,
		"seconds without the dead domain's", math.Round(alone.Seconds()*10)/10, "MiB of memory", held>>20)
}
