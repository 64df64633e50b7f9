package pebble

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/mail"
)

func logFiles(t *testing.T, e *Engine) (n int) {
	t.Helper()
	names, err := e.disk.List(e.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if isLog(name) {
			n++
		}
	}
	return n
}

// TestRestRemovesOldLogs: after the last commit one log is left, and what is written
// then finds its way all the same.
func TestRestRemovesOldLogs(t *testing.T) {
	mem := vfs.NewCrashableMem()
	opt := small(mem)
	opt.rest = time.Hour
	e := open(t, "data", opt)
	l := newLedger()
	rng := rand.New(rand.NewPCG(1, 1))
	l.write(e, rng, 0, 300)
	if n := logFiles(t, e); n < 2 {
		t.Fatalf("%d logs while the engine is busy: nothing to remove", n)
	}
	e.tidy()
	for range 1000 { // a flush may have been under way
		if logFiles(t, e) == 1 {
			break
		}
		time.Sleep(10 * time.Millisecond)
		e.tidy()
	}
	if n := logFiles(t, e); n != 1 {
		t.Errorf("%d logs are left", n)
	}
	l.write(e, rng, 0, 300)
	then := l.now()
	again := open(t, "data", small(mem.CrashClone(vfs.CrashCloneCfg{})))
	if err := l.verify(again, then); err != nil {
		t.Error(err)
	}
}

// TestRestComes: the timer that busy sets tidies up.
func TestRestComes(t *testing.T) {
	opt := small(vfs.NewMem())
	opt.rest = 50 * time.Millisecond
	e := open(t, "data", opt)
	newLedger().write(e, rand.New(rand.NewPCG(2, 1)), 0, 300)
	for i := 0; logFiles(t, e) > 1 && i < 1000; i++ {
		time.Sleep(10 * time.Millisecond)
	}
	if n := logFiles(t, e); n != 1 {
		t.Errorf("%d logs are left", n)
	}
}

// TestTidyBesideWrites tidies up all the time, and then the power goes.
func TestTidyBesideWrites(t *testing.T) {
	mem := vfs.NewCrashableMem()
	e := open(t, "data", small(mem))
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				e.tidy()
			}
		}
	}()
	l := newLedger()
	l.run(e, 3, 200/effort)
	then := l.now()
	clone := mem.CrashClone(vfs.CrashCloneCfg{})
	close(stop)
	<-stopped
	if err := l.verify(open(t, "data", small(clone)), then); err != nil {
		t.Error(err)
	}
	if len(l.errs) > 0 {
		t.Errorf("failed calls: %v", l.errs)
	}
}

// TestDeletedSpaceComesBackFromBelow: deletions too few for a compaction of their own
// accord are brought to the blobs, which lie further down.
func TestDeletedSpaceComesBackFromBelow(t *testing.T) {
	opt := small(vfs.NewMem())
	opt.MemTableBytes = 1 << 20
	e := open(t, "data", opt)
	const blobs, size = 250, 40_000
	body := make([]byte, size)
	for i := range blobs {
		if err := e.Blobs().Put(t.Context(), mail.BlobRef{byte(i)}, size, bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
	}
	full := e.Size()
	for i := range blobs {
		if ok, err := e.Blobs().Delete(t.Context(), mail.BlobRef{byte(i)}, time.Now().Add(time.Hour)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	for i := 0; e.Size() > full/2; i++ {
		if i == 60_000 {
			t.Fatalf("of %d bytes %d are left", full, e.Size())
		}
		time.Sleep(time.Millisecond)
	}
}
