package pebble

import (
	"bytes"
	"context"
	"io"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
)

func open(t testing.TB, fs vfs.FS, dir string) *Engine {
	t.Helper()
	e, err := Open(dir, Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

func TestRoundTrip(t *testing.T) {
	e := open(t, vfs.NewMem(), "data")
	ctx := context.Background()
	if err := e.Update(ctx, 7, func(w engine.Writer) error { return w.Put([]byte("k"), []byte("v")) }); err != nil {
		t.Fatal(err)
	}
	err := e.View(ctx, 7, func(r engine.Reader) error {
		v, ok, err := r.Get([]byte("k"))
		if err != nil || !ok || string(v) != "v" {
			t.Errorf("%q %v %v", v, ok, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	name := mail.BlobRef{1}
	if err := e.Blobs().Put(ctx, name, int64(len(body)), bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	r, err := e.Blobs().Open(ctx, name, 65_000, 900_000)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, body[65_000:965_000]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	open(t, nil, dir)
	if _, err := Open(dir, Options{}); !fault.Is(err, fault.Busy) {
		t.Errorf("%v", err)
	}
}
