package pebble

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
)

func chance(seed uint64, n int) []byte {
	b := make([]byte, n)
	rng := rand.NewChaCha8([32]byte{byte(seed)})
	_, _ = rng.Read(b)
	return b
}

// A body that a repair has lost a piece of can be put again: else who puts it is told that it is
// there, and it is lost.
func TestPutAfterRepair(t *testing.T) {
	for _, size := range []int{60_000, 3 * pieceBytes} {
		w := newReplaced(t)
		e := w.open()
		body, other := chance(1, size), chance(2, size)
		put := func(body []byte) {
			t.Helper()
			if err := e.Blobs().Put(ctx, sha256.Sum256(body), int64(len(body)), bytes.NewReader(body)); err != nil {
				t.Fatal(err)
			}
		}
		get := func(body []byte) error {
			r, err := e.Blobs().Open(ctx, sha256.Sum256(body), 0, -1)
			if err != nil {
				return err
			}
			got, err := io.ReadAll(r)
			if err == nil && !bytes.Equal(got, body) {
				err = fmt.Errorf("other bytes")
			}
			return err
		}
		put(body)
		put(other)
		if err := e.db.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		hurt := 0
		for file, b := range w.files("*.blob") {
			if at := bytes.Index(b, body[size-1000:]); at >= 0 {
				clear(b[at : at+512])
				w.write(file, b)
				hurt++
			}
		}
		if hurt != 1 {
			t.Fatalf("%d files damaged", hurt)
		}
		s, err := Repair(ctx, w.dir, w.away, w.opt, nil)
		if err != nil || !slices.ContainsFunc(s.Holes, func(h Hole) bool { return h.Bodies }) {
			t.Fatalf("%+v, %v", s, err)
		}
		e = w.open()
		if err := get(body); err == nil {
			t.Error("the body is there")
		}
		if err := get(other); err != nil {
			t.Errorf("the other body: %v", err)
		}
		left := 0
		if err := e.Blobs().List(ctx, func(name mail.BlobRef, _ time.Time, _ int64) bool { left++; return true }); err != nil || left != 1 {
			t.Errorf("%d bodies are listed, %v", left, err)
		}
		put(body)
		w.put(e, "key")
		if err := get(body); err != nil {
			t.Errorf("put again with success, and lost: %v", err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// files reads files of the store, by their paths.
func (w *replaced) files(pattern string) map[string][]byte {
	w.t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.dir, pattern))
	if err != nil {
		w.t.Fatal(err)
	}
	all := map[string][]byte{}
	for _, path := range paths {
		if all[path], err = os.ReadFile(path); err != nil {
			w.t.Fatal(err)
		}
	}
	return all
}

func (w *replaced) write(path string, b []byte) {
	w.t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		w.t.Fatal(err)
	}
}
