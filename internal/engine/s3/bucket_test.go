package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/s3/s3test"
	"github.com/martlet-mail/martlet/internal/fault"
)

func openBucket(t testing.TB, url string, change ...func(*Options)) *Bucket {
	t.Helper()
	opt := Options{
		Endpoint: url, Region: s3test.Region, Bucket: s3test.Bucket, Prefix: "m/", AccessKey: s3test.AccessKey, SecretKey: s3test.SecretKey,
		Patience: 20 * time.Second, Stall: 10 * time.Second,
		Dial: s3test.Dial, Now: time.Now, Rand: rand.Float64, Log: slog.New(slog.DiscardHandler), pause: 5 * time.Millisecond,
	}
	for _, c := range change {
		c(&opt)
	}
	b, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// text returns size bytes that differ from place to place.
func text(seed, size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{byte(seed)}).Read(b)
	return b
}

func put(t testing.TB, o Objects, key string, data []byte) {
	t.Helper()
	if err := o.Put(t.Context(), key, int64(len(data)), bytes.NewReader(data)); err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
}

func read(ctx context.Context, o Objects, key string, off, n int64) ([]byte, error) {
	r, err := o.Open(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func expect(t testing.TB, o Objects, key string, data []byte) {
	t.Helper()
	got, err := read(t.Context(), o, key, 0, -1)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%s: %d bytes of %d, %v", key, len(got), len(data), err)
	}
}

func wantKind(t testing.TB, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: got %v, want a fault of kind %v", what, err, kind)
	}
}

// objects checks what any Objects must do.
func objects(t *testing.T, o Objects) {
	ctx := t.Context()
	random := rand.New(rand.NewPCG(3, 4))
	for i, size := range []int{0, 1, 65_535, 65_536, 65_537, 300_000, partSize, partSize + 1, 2*partSize + 77} {
		key, data := fmt.Sprintf("aa/%d", i), text(i, size)
		put(t, o, key, data)
		for range 2 { // from a cache too
			expect(t, o, key, data)
			for range 5 {
				off := random.Int64N(int64(size) + 1)
				n := random.Int64N(int64(size) - off + 1)
				got, err := read(ctx, o, key, off, n)
				if err != nil || !bytes.Equal(got, data[off:off+n]) {
					t.Errorf("size %d, %d from %d: %d bytes, %v", size, n, off, len(got), err)
				}
				if off < int64(size) {
					got, err = read(ctx, o, key, off, -1)
					if err != nil || !bytes.Equal(got, data[off:]) {
						t.Errorf("size %d from %d: %d bytes, %v", size, off, len(got), err)
					}
				}
			}
		}
	}
	_, err := o.Open(ctx, "aa/none", 0, -1)
	wantKind(t, "missing", err, fault.NotFound)
	_, err = o.Open(ctx, "aa/4", 70_000, 10)
	wantKind(t, "outside", err, fault.Invalid)
	_, err = o.Open(ctx, "aa/4", -1, 10)
	wantKind(t, "outside", err, fault.Invalid)

	sorry := errors.New("sorry")
	for _, size := range []int{10, 100_000, partSize + 10} {
		data := text(1, size)
		err := o.Put(ctx, "aa/bad", int64(size)+1, io.MultiReader(bytes.NewReader(data), failing{sorry}))
		if !errors.Is(err, sorry) {
			t.Errorf("a reader that fails: %v", err)
		}
		wantKind(t, "short", o.Put(ctx, "aa/bad", int64(size)+1, bytes.NewReader(data)), fault.Invalid)
		_, err = o.Open(ctx, "aa/bad", 0, -1)
		wantKind(t, "after a failed put", err, fault.NotFound)
	}

	put(t, o, "ab/1", text(1, 5))
	var keys []string
	err = o.List(ctx, "a", func(key string, at time.Time, size int64) bool {
		keys = append(keys, key)
		if age := time.Since(at); age > time.Minute || age < -time.Minute {
			t.Errorf("%s was put at %v", key, at)
		}
		return true
	})
	if err != nil || len(keys) != 10 || !slices.IsSorted(keys) || keys[9] != "ab/1" {
		t.Errorf("listed %q, %v", keys, err)
	}
	for _, key := range keys {
		for range 2 {
			if err := o.Remove(ctx, key); err != nil {
				t.Error(err)
			}
		}
		_, err = o.Open(ctx, key, 0, -1)
		wantKind(t, "removed", err, fault.NotFound)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestBucket(t *testing.T) {
	s := s3test.Start(t)
	b := openBucket(t, s.URL())
	objects(t, b)
	if err := b.Check(t.Context(), "check/1"); err != nil {
		t.Error(err)
	}
	if keys := s.Keys(t); len(keys) > 0 {
		t.Errorf("left behind: %q", keys)
	}
	if n, err := b.Abandon(t.Context(), time.Now().Add(time.Hour)); n != 0 || err != nil {
		t.Errorf("%d uploads were left, %v", n, err)
	}
}

// TestBucketTrouble: what is disturbed in one way and then works again, works.
func TestBucketTrouble(t *testing.T) {
	s := s3test.Start(t)
	small, large := text(1, 200_000), text(2, partSize+100_000)
	for _, c := range []struct {
		name  string
		fault s3test.Fault
		times int
	}{
		{"500", s3test.Fault{Status: 500}, 3},
		{"503", s3test.Fault{Status: 503}, 3},
		{"502 of something between", s3test.Fault{Status: 502, Code: "x"}, 2},
		{"429", s3test.Fault{Status: 429, Code: "TooManyRequests"}, 2},
		{"a damaged request", s3test.Fault{Status: 400, Code: "XAmzContentSHA256Mismatch"}, 2},
		{"lost answers", s3test.Fault{Lost: true}, 2},
		{"no answers", s3test.Fault{Hang: true}, 1},
		{"slow answers", s3test.Fault{Held: 100 * time.Millisecond}, 4},
		{"cut bodies", s3test.Fault{Cut: 70_000}, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := s3test.NewProxy(t, s)
			b := openBucket(t, p.URL(), func(o *Options) {
				o.Stall, o.Prefix = 300*time.Millisecond, strings.ReplaceAll(c.name, " ", "-")+"/"
			})
			disturbed := func(what string, fn func()) {
				t.Helper()
				for _, method := range []string{"PUT", "POST", "GET", "DELETE"} {
					p.First(c.times, method, c.fault)
					fn()
				}
				p.Script(nil)
			}
			disturbed("small", func() {
				put(t, b, "t/small", small)
				expect(t, b, "t/small", small)
				if got, err := read(t.Context(), b, "t/small", 1000, 150_000); err != nil || !bytes.Equal(got, small[1000:151_000]) {
					t.Errorf("a range: %d bytes, %v", len(got), err)
				}
				if err := b.listed(t.Context(), "t/small"); err != nil {
					t.Errorf("list: %v", err)
				}
				if err := b.Remove(t.Context(), "t/small"); err != nil {
					t.Errorf("remove: %v", err)
				}
			})
			disturbed("large", func() {
				put(t, b, "t/large", large)
				expect(t, b, "t/large", large)
				if err := b.Remove(t.Context(), "t/large"); err != nil {
					t.Errorf("remove: %v", err)
				}
			})
			if n := b.Counts(); c.fault.Held == 0 && n.Retries == 0 {
				t.Errorf("nothing was disturbed: %+v", n)
			}
			for _, key := range s.Keys(t) {
				if strings.HasPrefix(key, b.opt.Prefix) {
					t.Errorf("left behind: %s", key)
				}
			}
		})
	}
}

// TestBucketGone: an object store that does not come back costs patience, and then is
// Unavailable; so is one that refuses, at once. One that comes back within it is waited for.
func TestBucketGone(t *testing.T) {
	s := s3test.Start(t)
	p := s3test.NewProxy(t, s)
	b := openBucket(t, p.URL(), func(o *Options) { o.Patience = 300 * time.Millisecond })
	data := text(1, 1000)
	put(t, b, "here", data)
	p.Script(func(*http.Request) s3test.Fault { return s3test.Fault{Status: 503} })
	wantKind(t, "put", b.Put(t.Context(), "k", 1000, bytes.NewReader(data)), fault.Unavailable)
	_, err := b.Open(t.Context(), "here", 0, -1)
	wantKind(t, "open", err, fault.Unavailable)
	if n := len(p.Seen()); n < 5 {
		t.Errorf("only %d requests within the patience", n)
	}
	_, err = b.Open(engine.Patient(t.Context(), 0), "here", 0, -1)
	wantKind(t, "open without patience", err, fault.Unavailable)
	if n := len(p.Seen()); n != 1 {
		t.Errorf("%d requests without patience", n)
	}
	for _, code := range []string{"AccessDenied", "SignatureDoesNotMatch"} {
		p.Script(func(*http.Request) s3test.Fault { return s3test.Fault{Status: 403, Code: code} })
		_, err = b.Open(t.Context(), "here", 0, -1)
		wantKind(t, code, err, fault.Unavailable)
		if n := len(p.Seen()); n != 1 {
			t.Errorf("%s: %d requests", code, n)
		}
	}
	p.Script(func(*http.Request) s3test.Fault { return s3test.Fault{Status: 404, Code: "NoSuchBucket"} })
	_, err = b.Open(t.Context(), "here", 0, -1)
	wantKind(t, "a bucket that is not there is no missing object", err, fault.Unavailable)

	p.Script(nil)
	b.opt.Patience = 20 * time.Second
	s.Kill()
	done := make(chan error, 1)
	go func() { _, err := read(t.Context(), b, "here", 0, -1); done <- err }()
	for b.Counts().Retries == 0 {
		runtime.Gosched()
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("it came back: %v", err)
	}
}

// TestBucketResumes: a body that breaks off again and again is read to its end, byte for byte,
// and each request begins where the last one ended.
func TestBucketResumes(t *testing.T) {
	s := s3test.Start(t)
	p := s3test.NewProxy(t, s)
	b := openBucket(t, p.URL())
	data := text(7, 900_000)
	put(t, b, "k", data)
	p.Seen()
	var ranges []string
	var mu sync.Mutex
	p.Script(func(r *http.Request) s3test.Fault {
		mu.Lock()
		defer mu.Unlock()
		ranges = append(ranges, r.Header.Get("Range"))
		return s3test.Fault{Cut: 100_000}
	})
	got, err := read(t.Context(), b, "k", 5, 800_000)
	if err != nil || !bytes.Equal(got, data[5:800_005]) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if len(ranges) < 8 || ranges[0] != "bytes=5-800004" || slices.Compact(slices.Clone(ranges))[0] == ranges[len(ranges)-1] {
		t.Errorf("requests for %q", ranges)
	}
	// A body that ends before it gives anything, for ever, is given up.
	p.Script(func(r *http.Request) s3test.Fault { return s3test.Fault{Cut: 1} })
	r, err := b.Open(engine.Patient(t.Context(), 0), "k", 0, -1)
	if err == nil {
		_, err = io.ReadAll(r)
	}
	wantKind(t, "nothing comes", err, fault.Unavailable)
}

// TestBucketKilledUpload: what a kill leaves of an object in parts is no object, and is removed
// when it is old.
func TestBucketKilledUpload(t *testing.T) {
	s := s3test.Start(t)
	p := s3test.NewProxy(t, s)
	b := openBucket(t, p.URL())
	p.Script(func(r *http.Request) s3test.Fault {
		if r.Method == "DELETE" || strings.Contains(r.URL.RawQuery, "partNumber=2") {
			return s3test.Fault{Status: 403, Code: "AccessDenied"}
		}
		return s3test.Fault{}
	})
	data := text(1, 2*partSize)
	wantKind(t, "put", b.Put(t.Context(), "k", 2*partSize, bytes.NewReader(data)), fault.Unavailable)
	p.Script(nil)
	_, err := b.Open(t.Context(), "k", 0, -1)
	wantKind(t, "half an object", err, fault.NotFound)
	if n, err := b.Abandon(t.Context(), time.Now().Add(-time.Hour)); n != 0 || err != nil {
		t.Errorf("%d young uploads removed, %v", n, err)
	}
	if n, err := b.Abandon(t.Context(), time.Now().Add(time.Hour)); n != 1 || err != nil {
		t.Errorf("%d uploads removed, %v", n, err)
	}
}

// TestBucketMemory: what is held does not grow with an object, nor with how many are on their
// way.
func TestBucketMemory(t *testing.T) {
	s := s3test.Start(t)
	const memory = 3 * partSize
	b := openBucket(t, s.URL(), func(o *Options) { o.Memory = memory })
	const size = 30 << 20
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for i := range 6 {
		wg.Go(func() {
			key := fmt.Sprint("k", i)
			if err := b.Put(t.Context(), key, size, &zeros{size}); err != nil {
				t.Error(err)
				return
			}
			r, err := b.Open(t.Context(), key, 0, -1)
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			if n, err := io.Copy(io.Discard, r); n != size || err != nil {
				t.Errorf("%d bytes, %v", n, err)
			}
		})
	}
	most := uint64(0)
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for ended := false; !ended; {
		select {
		case <-done:
			ended = true
		case <-time.After(50 * time.Millisecond):
		}
		runtime.GC()
		runtime.ReadMemStats(&now)
		most = max(most, now.HeapAlloc)
	}
	held := int64(most) - int64(before.HeapAlloc)
	t.Logf("at most %d MiB in use beside %d MiB of objects", held>>20, 6*size>>20)
	if held > memory+16<<20 {
		t.Errorf("%d MiB in use, %d are allowed for objects on their way", held>>20, memory>>20)
	}
}

type zeros struct{ left int }

func (z *zeros) Read(p []byte) (int, error) {
	if z.left == 0 {
		return 0, io.EOF
	}
	n := min(len(p), z.left)
	clear(p[:n])
	z.left -= n
	return n, nil
}

func TestRoom(t *testing.T) {
	r := newRoom(10)
	if err := r.take(t.Context(), 8); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	got := make(chan string, 2)
	var wg sync.WaitGroup
	wg.Go(func() {
		if r.take(ended, 5) == nil {
			got <- "gave up"
		}
	})
	for waiting(r) < 1 {
		runtime.Gosched()
	}
	wg.Go(func() {
		if r.take(t.Context(), 2) == nil {
			got <- "second"
		}
	})
	for waiting(r) < 2 {
		runtime.Gosched()
	}
	select {
	case who := <-got:
		t.Fatalf("%s did not wait for its turn", who)
	default:
	}
	cancel() // the one in front leaves, and the next one fits
	if who := <-got; who != "second" {
		t.Error(who)
	}
	wg.Wait()
	r.give(8)
	r.give(2)
	if r.free != 10 || len(r.queue) > 0 {
		t.Errorf("%d free, %d wait", r.free, len(r.queue))
	}
}

func waiting(r *room) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.queue)
}

func TestOptions(t *testing.T) {
	for _, endpoint := range []string{"", "s3.example.org", "ftp://s3.example.org", "https://s3.example.org/x", "https://u:p@s3.example.org"} {
		_, err := Open(Options{Endpoint: endpoint, Bucket: "b"})
		wantKind(t, endpoint, err, fault.Invalid)
	}
}
