package enginetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func testWatch(t *testing.T, h Harness) {
	e := open(t, h)
	ticks, stop := e.Watch(1)
	other, stopOther := e.Watch(2)
	second, stopSecond := e.Watch(1)
	defer stopOther()
	for i := range 3 {
		put(t, e, 1, "n", strconv.Itoa(i))
		<-ticks
		<-second
	}
	for i := range 10 { // nobody reads: ticks coalesce and do not block
		put(t, e, 1, "n", strconv.Itoa(i))
	}
	<-second
	stopSecond()
	stop()
	stop() // twice does no harm
	drain(ticks)
	put(t, e, 1, "n", "after the end")
	put(t, e, 2, "n", "a commit of the other")
	<-other
	if len(ticks) > 0 {
		t.Error("a tick after the end")
	}
	if len(other) > 0 {
		t.Error("more than one tick waits")
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

// testHeld holds back durability and checks who waits for it and who does not.
func testHeld(t *testing.T, h Harness) {
	if h.Hold == nil {
		t.Skip("the harness cannot hold commits back")
	}
	e, hold, release := h.Hold(t)
	closing(t, e)
	put(t, e, 1, "a", "1")
	put(t, e, 2, "a", "1")
	ticks, stop := e.Watch(1)
	defer stop()
	drain(ticks)

	hold()
	var released atomic.Bool
	var wg sync.WaitGroup
	waits := func(what string, call func() error) {
		wg.Go(func() {
			if err := call(); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			if !released.Load() {
				t.Errorf("%s returned before the change was durable", what)
			}
		})
	}
	ran := make(chan struct{})
	for range 2 { // the second begins although the first is not durable yet
		waits("update", func() error {
			return e.Update(t.Context(), 1, func(w engine.Writer) error {
				defer func() { ran <- struct{}{} }()
				return w.Put([]byte("a"), []byte("2"))
			})
		})
		<-ran
	}
	if h.Early {
		sawNew(t, e, ran, waits)
	} else {
		want(t, "what is durable", all(t, e, 1), "a=1") // waits for nothing
	}
	waits("update that only reads", func() error {
		return e.Update(t.Context(), 1, func(w engine.Writer) error {
			defer func() { ran <- struct{}{} }()
			return nil
		})
	})
	<-ran
	waits("update that fails of what it has read", func() error {
		return justTwo(e.Update(t.Context(), 1, func(w engine.Writer) error {
			defer func() { ran <- struct{}{} }()
			return sawTwo(w)
		}))
	})
	<-ran
	if h.Early { // a wait for durability ends with the context
		ctx, cancel := context.WithCancel(t.Context())
		err := e.View(ctx, 1, func(engine.Reader) error { cancel(); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("view with an ended context: %v", err)
		}
	}
	want(t, "a shard at rest", all(t, e, 2), "a=1") // waits for nothing
	if len(ticks) > 0 {
		t.Error("a tick before the change was durable")
	}
	released.Store(true)
	release()
	wg.Wait()
	want(t, "released", all(t, e, 1), "a=2")
	<-ticks
}

var errTwo = errors.New("the newest value is there")

// sawTwo fails if it sees the newest value.
func sawTwo(r engine.Reader) error {
	v, _, err := r.Get([]byte("a"))
	if err == nil && string(v) == "2" {
		err = errTwo
	}
	return err
}

// justTwo returns nil if an error is errTwo.
func justTwo(err error) error {
	if errors.Is(err, errTwo) {
		return nil
	}
	return fmt.Errorf("it ended with %v", err)
}

// sawNew starts a View and returns when it has seen the newest value.
func sawNew(t *testing.T, e engine.Engine, ran chan struct{}, waits func(string, func() error)) {
	waits("view", func() error {
		for {
			fresh := false
			ctx, cancel := context.WithCancel(t.Context())
			err := e.View(ctx, 1, func(r engine.Reader) error {
				v, _, err := r.Get([]byte("a"))
				if fresh = string(v) == "2"; fresh {
					ran <- struct{}{}
				} else {
					cancel() // not applied yet: look again
				}
				return err
			})
			cancel()
			if fresh {
				return err
			}
		}
	})
	<-ran
	waits("view that fails of what it has read", func() error {
		return justTwo(e.View(t.Context(), 1, func(r engine.Reader) error {
			defer func() { ran <- struct{}{} }()
			return sawTwo(r)
		}))
	})
	<-ran
}

func testReopen(t *testing.T, h Harness) {
	if h.Reopen == nil {
		t.Skip("the harness cannot reopen")
	}
	e := closing(t, h.Open(t, newClock().now))
	data := body(1, 200_000)
	for round := range 3 {
		n := strconv.Itoa(round)
		put(t, e, 1, "n", n, "k"+n, "v")
		put(t, e, 1<<60, "n", n)
		putBlob(t, e, blobName(round), data[:len(data)-round])
		put(t, e, 1, "after the blob", n)
		e = closing(t, h.Reopen(t, e))
		rest := []string{"after the blob=" + n}
		for i := range round + 1 {
			rest = append(rest, "k"+strconv.Itoa(i)+"=v")
			got, err := readBlob(t.Context(), e, blobName(i), 0, -1)
			if err != nil || string(got) != string(data[:len(data)-i]) {
				t.Errorf("blob: %d bytes, %v", len(got), err)
			}
		}
		want(t, "reopened", all(t, e, 1), append(rest, "n="+n)...)
		want(t, "reopened", all(t, e, 1<<60), "n="+n)
	}
	if size := e.Size(); size < 0 {
		t.Errorf("size %d", size)
	}
}

func testClosed(t *testing.T, h Harness) {
	e := open(t, h)
	put(t, e, 1, "a", "1")
	putBlob(t, e, blobName(1), body(1, 200_000))
	reader, err := e.Blobs().Open(t.Context(), blobName(1), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	_, stop := e.Watch(1)
	// Close waits for a View under way.
	inside, leave, out := make(chan struct{}), make(chan struct{}), make(chan error)
	var left atomic.Bool
	go func() {
		out <- e.View(t.Context(), 1, func(r engine.Reader) error {
			close(inside)
			<-leave
			_, _, err := r.Get([]byte("a"))
			left.Store(true)
			return err
		})
	}()
	<-inside
	go func() { close(leave) }()
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	if !left.Load() {
		t.Error("Close did not wait for a View")
	}
	if err := <-out; err != nil {
		t.Errorf("the View under way: %v", err)
	}
	stop()
	ctx := t.Context()
	wantKind(t, "view", e.View(ctx, 1, func(engine.Reader) error { return nil }), fault.Closed)
	wantKind(t, "update", e.Update(ctx, 1, func(engine.Writer) error { return nil }), fault.Closed)
	wantKind(t, "put", e.Blobs().Put(ctx, blobName(2), 1, &oneByte{}), fault.Closed)
	_, err = e.Blobs().Open(ctx, blobName(1), 0, -1)
	wantKind(t, "open", err, fault.Closed)
	_, err = e.Blobs().Delete(ctx, blobName(1), endOfTime)
	wantKind(t, "delete", err, fault.Closed)
	never := func(mail.BlobRef, time.Time, int64) bool { return true }
	wantKind(t, "list", e.Blobs().List(ctx, never), fault.Closed)
	if _, err := io.ReadAll(reader); err != nil {
		wantKind(t, "reader", err, fault.Closed)
	}
	_ = e.Size()
	if err := e.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

type oneByte struct{}

func (*oneByte) Read(p []byte) (int, error) {
	p[0] = 'x'
	return 1, io.EOF
}
