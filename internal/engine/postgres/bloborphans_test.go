package postgres

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/s3/s3test"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func blobBody(seed, size int) []byte {
	b := make([]byte, size)
	x := uint32(seed)*2654435761 + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}

func blobNamed(i int) mail.BlobRef { return mail.BlobRef{byte(i), byte(i >> 8), 31: byte(7 * i)} }

func putBlob(t testing.TB, e *Engine, i, size int) {
	t.Helper()
	data := blobBody(i, size)
	if err := e.Blobs().Put(t.Context(), blobNamed(i), int64(size), bytes.NewReader(data)); err != nil {
		t.Fatalf("put: %v", err)
	}
}

func readBlob(ctx context.Context, e *Engine, i int) ([]byte, error) {
	r, err := e.Blobs().Open(ctx, blobNamed(i), 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func haveBlob(t testing.TB, e *Engine, i, size int) {
	t.Helper()
	if got, err := readBlob(t.Context(), e, i); err != nil || !bytes.Equal(got, blobBody(i, size)) {
		t.Errorf("blob %d: %d bytes of %d, %v", i, len(got), size, err)
	}
}

func wantKind(t testing.TB, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: got %v, want a fault of kind %v", what, err, kind)
	}
}

// TestBlobOrphans: of uploads without a row those that are old go, by the clock of where they
// lie; those with a row stay however old they are, and so does what is not ours.
func TestBlobOrphans(t *testing.T) {
	s := s3test.Start(t)
	bucket := testBucket(t, s.URL(), "o/")
	e := openBlobs(t, Options{Over: 10, Objects: bucket})
	inDatabase := openBlobs(t, Options{URL: e.opt.URL, Over: 10})
	putBlob(t, e, 1, 100)
	putBlob(t, inDatabase, 2, 700_000)
	age := func() {
		t.Helper()
		for _, key := range s.Keys(t) {
			if err := s.Age(key, 49*time.Hour); err != nil {
				t.Fatal(err)
			}
		}
		e.sql(t, `UPDATE pieces SET at = at - 49*3600*1000`)
	}
	age()
	stray := func(i int) string {
		key := keyOf(blobNamed(i), e.blobs.newUpload())
		if err := bucket.Put(t.Context(), key, 5, strings.NewReader("stray")); err != nil {
			t.Fatal(err)
		}
		p := pieces{e.blobs.shelves()[0]}
		if err := p.put(t.Context(), blobNamed(i), e.blobs.newUpload(), 300_000, bytes.NewReader(make([]byte, 300_000))); err != nil {
			t.Fatal(err)
		}
		return key
	}
	stray(1) // of a blob that has a row, with another upload
	stray(3)
	for _, key := range []string{"README", "aa/other", clockKey + "dead"} {
		if err := bucket.Put(t.Context(), key, 1, strings.NewReader("x")); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want Orphaned) {
		t.Helper()
		if got, err := e.Orphans(t.Context()); got != want || err != nil {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		haveBlob(t, e, 1, 100)
		haveBlob(t, e, 2, 700_000)
	}
	expect(Orphaned{Uploads: 6}) // all too young
	age()
	young := stray(4)
	expect(Orphaned{Uploads: 8, Removed: 4, Bytes: 2*5 + 2*(262_144+4)})
	expect(Orphaned{Uploads: 4})
	keys := s.Keys(t)
	slices.Sort(keys)
	if len(keys) != 4 || !slices.Contains(keys, "o/"+young) || !slices.Contains(keys, "o/README") || !slices.Contains(keys, "o/aa/other") {
		t.Errorf("left: %q", keys)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.Orphans(ctx); err == nil {
		t.Error("with an ended context")
	}
}

// TestBlobForeignBucket: where a great part of a bucket is unknown to the database, it is
// somebody else's, and nothing is removed.
func TestBlobForeignBucket(t *testing.T) {
	e := openBlobs(t, Options{Over: 10, Objects: stranger(orphansFew + 1)})
	done, err := e.Orphans(t.Context())
	wantKind(t, "a foreign bucket", err, fault.Denied)
	if done.Removed > 0 {
		t.Errorf("%+v", done)
	}
	e = openBlobs(t, Options{Over: 10, Objects: stranger(orphansFew)})
	if done, err := e.Orphans(t.Context()); err != nil || done.Removed != orphansFew {
		t.Errorf("%+v, %v", done, err)
	}
}

// stranger is a bucket with many old objects that nobody knows.
type stranger int

func (stranger) Put(context.Context, string, int64, io.Reader) error { return nil }

func (stranger) Open(context.Context, string, int64, int64) (io.ReadCloser, error) {
	return nil, fault.New(fault.NotFound, "")
}

func (stranger) Remove(context.Context, string) error { return nil }

func (c stranger) List(_ context.Context, prefix string, fn func(string, time.Time, int64) bool) error {
	if prefix != "" {
		fn(prefix, time.Now(), 0)
		return nil
	}
	for i := range int(c) {
		if !fn(keyOf(blobNamed(i), "up"), time.Now().Add(-100*time.Hour), 1) {
			break
		}
	}
	return nil
}

// TestAttackR30 is what an object store may do: fail, be slow, lose answers, list late, lose
// objects, give other bytes. No row ever points to what was not confirmed; what is left goes when it
// is old; what is missing or wrong is an alarm, never an empty or a false body.
func TestAttackR30ObjectStore(t *testing.T) {
	s := s3test.Start(t)
	p := s3test.NewProxy(t, s)
	e := openBlobs(t, Options{Over: 10, Objects: testBucket(t, p.URL(), "r/")})
	n := 0
	for name, f := range map[string]s3test.Fault{
		"500": {Status: 500}, "503": {Status: 503}, "slow": {Held: 200 * time.Millisecond}, "lost answers": {Lost: true}, "cut": {Cut: 30_000},
	} {
		for _, method := range []string{"PUT", "GET", "DELETE"} {
			n++
			p.First(2, method, f)
			putBlob(t, e, n, 90_000)
			haveBlob(t, e, n, 90_000)
			if n%2 == 0 {
				if ok, err := e.Blobs().Delete(t.Context(), blobNamed(n), time.Now().Add(time.Hour)); !ok || err != nil {
					t.Errorf("%s: delete: %v, %v", name, ok, err)
				}
				_, err := readBlob(t.Context(), e, n)
				wantKind(t, "deleted", err, fault.NotFound)
			}
		}
	}
	p.Script(nil)
	if keys := s.Keys(t); len(keys) != n-n/2 {
		t.Errorf("%d objects for %d blobs", len(keys), n-n/2)
	}

	// It stays away: no row without an object, not even where the object came there.
	for i, f := range []s3test.Fault{{Status: 503}, {Lost: true}} {
		p.Script(func(*http.Request) s3test.Fault { return f })
		data := blobBody(100+i, 50_000)
		err := e.Blobs().Put(engine.Patient(t.Context(), 0), blobNamed(100+i), 50_000, bytes.NewReader(data))
		wantKind(t, "put", err, fault.Unavailable)
		_, err = readBlob(t.Context(), e, 100+i)
		wantKind(t, "not put", err, fault.NotFound)
	}
	p.Script(nil)
	putBlob(t, e, 101, 50_000) // and it does not stand in the way
	haveBlob(t, e, 101, 50_000)
	for _, key := range s.Keys(t) {
		if err := s.Age(key, 50*time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if done, err := e.Orphans(t.Context()); err != nil || done.Removed != 1 {
		t.Errorf("%+v, %v", done, err)
	}
	haveBlob(t, e, 101, 50_000)

	// A list that comes late: the time of the store is not known, and nothing is removed.
	p.Script(func(r *http.Request) s3test.Fault {
		if r.Method == "GET" && strings.Contains(r.URL.RawQuery, "clock") {
			return s3test.Fault{Status: 404, Code: "NoSuchKey"}
		}
		return s3test.Fault{}
	})
	if _, err := e.Orphans(t.Context()); err == nil {
		t.Error("swept without knowing the time")
	}
	p.Script(nil)

	// Missing, cut short, other bytes.
	file := func(i int) string {
		for _, key := range s.Keys(t) {
			if strings.Contains(key, fmt.Sprintf("/%s-", blobNamed(i))) {
				return s.File(key)
			}
		}
		t.Fatalf("no object of %d", i)
		return ""
	}
	harmed(t, file(1), func(b []byte) []byte { b[45_000] ^= 1; return b })
	harmed(t, file(3), func(b []byte) []byte { return b[:40_000] })
	harmed(t, file(5), func([]byte) []byte { return nil })
	for _, i := range []int{1, 3, 5} {
		_, err := readBlob(t.Context(), e, i)
		wantKind(t, "harmed", err, fault.Corrupt)
	}
	p.First(1, "GET", s3test.Fault{Flip: true})
	_, err := readBlob(t.Context(), e, 7)
	wantKind(t, "a byte that is another on its way", err, fault.Corrupt)
	haveBlob(t, e, 7, 90_000)
}
