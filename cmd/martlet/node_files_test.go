package main

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/martlet-mail/martlet/internal/engine"
	"github.com/martlet-mail/martlet/internal/engine/enginetest"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/node"
)

// testNodes are nodes a and b on one engine, and a process that has it alone.
func testNodes(t *testing.T) (nodes []*node.Node, alone *node.Node) {
	e, err := pebble.Open("store", pebble.Options{FS: vfs.NewMem(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	open := func(e engine.Engine, name string) *node.Node {
		n, err := node.Open(t.Context(), e, node.Options{Name: name, Lease: 15 * time.Second, Format: 1, Now: time.Now, Random: rand.Reader, Elapsed: func() time.Duration { return time.Since(begin) }})
		if err == nil {
			err = n.Join(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = n.Run(ctx) }()
		t.Cleanup(func() { stop(); <-done })
		return n
	}
	handles := enginetest.Nodes(e, 2)
	t.Cleanup(func() {
		for _, h := range handles {
			h.Close()
		}
	})
	for i, name := range []string{"a", "b"} {
		nodes = append(nodes, open(handles[i], name))
	}
	return nodes, open(e, "c")
}

// The storage of certificates on several nodes says the same as the one in a folder, key by
// key: package certmagic uses both.
func TestSharedCertificates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, _ := testNodes(t)
		ctx := t.Context()
		folder := &certmagic.FileStorage{Path: t.TempDir()}
		one, other := sharedFiles{nodes[0].Files()}, sharedFiles{nodes[1].Files()}
		for _, key := range []string{"certificates/ca/example.org/example.org.crt", "certificates/ca/example.org/example.org.key", "users/ca/a@example.org/a.json", "users/ca/default/default.json", "last"} {
			for _, s := range []certmagic.Storage{folder, one} {
				if err := s.Store(ctx, key, []byte("old")); err != nil {
					t.Fatal(err)
				}
				if err := s.Store(ctx, key, []byte(key)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := errors.Join(folder.Delete(ctx, "users/ca/default"), other.Delete(ctx, "users/ca/default"), other.Delete(ctx, "nothing")); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"last", "certificates", "certificates/ca/", "certificates/ca/example.org/example.org.key", "users/ca/default", "users/ca/default/default.json", "nothing", "certificates/c"} {
			want, wantErr := folder.Load(ctx, key)
			got, gotErr := other.Load(ctx, key)
			if wantErr == nil && (gotErr != nil || string(got) != string(want)) || errors.Is(wantErr, fs.ErrNotExist) && !errors.Is(gotErr, fs.ErrNotExist) {
				t.Errorf("%s: %q %v, in a folder %q %v", key, got, gotErr, want, wantErr)
			}
			if got, want := other.Exists(ctx, key), folder.Exists(ctx, key); got != want {
				t.Errorf("%s exists: %v, in a folder %v", key, got, want)
			}
			is, gotErr := other.Stat(ctx, key)
			was, wantErr := folder.Stat(ctx, key)
			if errors.Is(gotErr, fs.ErrNotExist) != errors.Is(wantErr, fs.ErrNotExist) || is.IsTerminal != was.IsTerminal || was.IsTerminal && is.Size != was.Size {
				t.Errorf("%s: %+v %v, in a folder %+v %v", key, is, gotErr, was, wantErr)
			}
			for _, deep := range []bool{false, true} {
				got, gotErr := other.List(ctx, key, deep)
				want, wantErr := folder.List(ctx, key, deep)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) && !was.IsTerminal || errors.Is(wantErr, fs.ErrNotExist) != errors.Is(gotErr, fs.ErrNotExist) && !was.IsTerminal {
					t.Errorf("%s has %q %v, in a folder %q %v", key, got, gotErr, want, wantErr)
				}
			}
		}
		testLock(t, one, other)
	})
}

func testLock(t *testing.T, one, other certmagic.Storage) {
	ctx := t.Context()
	if err := one.Lock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	had := make(chan error, 1)
	go func() { had <- other.Lock(ctx, "x") }()
	time.Sleep(time.Minute)
	select {
	case err := <-had:
		t.Fatalf("two have a lock (%v)", err)
	default:
	}
	if err := one.Unlock(ctx, "x"); err != nil {
		t.Fatal(err)
	}
	if err := <-had; err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := one.Lock(short, "x"); err == nil {
		t.Error("two have a lock")
	}
	if err := errors.Join(other.Unlock(ctx, "x"), one.Lock(ctx, "x"), one.Unlock(ctx, "x")); err != nil {
		t.Error(err)
	}
	if one.Unlock(ctx, "x") == nil {
		t.Error("a lock that nobody has was unlocked")
	}
}

// What a machine had comes along when it shares its store, and comes back when it does not any
// more: no key changes.
func TestCertificatesComeAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nodes, alone := testNodes(t)
		ctx, folder := t.Context(), t.TempDir()
		old := &certmagic.FileStorage{Path: folder}
		if err := errors.Join(old.Store(ctx, "a/b.key", []byte("key")), old.Store(ctx, "c", []byte("c"))); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := shareFolder(ctx, nodes[0].Files(), folder); err != nil {
				t.Fatal(err)
			}
		}
		if err := shareFolder(ctx, nodes[1].Files(), filepath.Join(folder, "nothing")); err != nil {
			t.Error(err)
		}
		if b, err := (sharedFiles{nodes[1].Files()}).Load(ctx, "a/b.key"); err != nil || string(b) != "key" {
			t.Errorf("%q %v", b, err)
		}
		back := filepath.Join(t.TempDir(), "acme")
		for range 2 {
			if err := keepFolder(ctx, alone.Files(), back); err != nil {
				t.Fatal(err)
			}
		}
		if b, err := os.ReadFile(filepath.Join(back, "a", "b.key")); err != nil || string(b) != "key" {
			t.Errorf("%q %v", b, err)
		}
	})
}
